"""Times as callers write them, in what is kept and in filters: one grammar, so that all stores mean the same.

``YYYY-MM-DD``, or ``YYYY-MM-DDTHH:MM``, maybe with ``:SS`` and a fraction of the second, maybe with ``Z`` or an offset
of up to 14 hours (``+05:30``); a space may stand for the ``T``. Without an offset it is UTC. A date alone is its first
moment. The day has to be a real one, and the year, in UTC, from 1 to 9999.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:Z|([+-])(\d\d):(\d\d))?)?", re.ASCII
)
_MOST_OFFSET = timedelta(hours=14)

#: What a time needs to be, for messages.
NEEDED = "a time as 2026-11-23T00:05:04.442Z: a real day, the years 1 to 9999, an offset of 14 hours at most"
#: The first and the last millisecond of the years 1 to 9999, in milliseconds since 1970.
FIRST_MILLI, LAST_MILLI = -62_135_596_800_000, 253_402_300_799_999


@lru_cache(maxsize=256)
def utc(text: str) -> str | None:
    """A time in UTC to the microsecond, ``YYYY-MM-DD HH:MM:SS.ffffff``, as all stores read it; None for no time."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    micros = int((fraction or "")[:6].ljust(6, "0"))
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset > _MOST_OFFSET or int(minutes or 0) > 59:
        return None
    try:
        local = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros
        )  # fmt: skip
        moment = local + offset if sign == "-" else local - offset
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(" ", "microseconds")
