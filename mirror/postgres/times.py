"""Times of SQLite as Postgres' ``timestamptz``, in the text form of ``datetime.isoformat`` for UTC, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

#: Numbers from here on, either sign, are milliseconds since 1970; nearer to zero, seconds.
LEAST_MILLISECONDS = 100_000_000_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d:?[0-5]\d)?)?", re.ASCII)


class NotATimeError(ValueError):
    """A text that is not a time in ISO 8601."""


def of_text(text: str) -> str:
    """A text in ISO 8601, UTC where it has no offset; digits after the sixth of a second are cut off.

    Raises :class:`NotATimeError`, and another ``ValueError`` for a time that does not exist.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise NotATimeError(text)
    day, clock, seconds, fraction, offset = match.groups()
    digits = (fraction or "").ljust(6, "0")
    zone = "+00:00" if offset in (None, "Z") else offset
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}{seconds or ':00'}.{digits}{zone}")
        return moment.astimezone(UTC).isoformat()
    except OverflowError as error:
        raise ValueError(text) from error


def of_number(value: float) -> str | None:
    """A Unix time; None outside of the years 1 to 9999. Of a real, to the microsecond at or before it."""
    unit = MILLISECOND if abs(value) >= LEAST_MILLISECONDS else 1000 * MILLISECOND
    try:
        if isinstance(value, int):
            return (EPOCH + value * unit).isoformat()
        numerator, denominator = value.as_integer_ratio()
        return (
            EPOCH + timedelta(microseconds=numerator * (unit // timedelta(microseconds=1)) // denominator)
        ).isoformat()
    except OverflowError:
        return None


def canonical(iso: str) -> str:
    """The text that stands for a time: ``YYYY-MM-DD HH:MM:SS`` for a whole second, else ``…THH:MM:SS.mmmZ``."""
    moment = iso.removesuffix("+00:00")
    seconds, point, fraction = moment.partition(".")
    if not point:
        return seconds.replace("T", " ")
    return f"{seconds}.{fraction[:3]}Z" if fraction.endswith("000") else f"{seconds}.{fraction}Z"
