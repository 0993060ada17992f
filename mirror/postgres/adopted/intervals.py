"""Durations: ``interval``.

By the form's unit:

============ ========================================================================================
``s ms us``  integers and reals of seconds, milliseconds, microseconds
``datetime`` text of a time without an offset (:mod:`.times`), less 1970-01-01, as SQLAlchemy writes
``clock``    ``[-][D day[s], ]H:MM:SS[.f]``, as Python writes a timedelta: H up to 23, and the sign is
             that of the days alone; without days it is that of the whole
``iso``      ``[-]P[nD][T[nH][nM][n[.f]S]]``, at least one of them
============ ========================================================================================

What Postgres gets is ``±D days +S[.ffffff] seconds`` with S below 86400, as Python's timedelta has them. Both signs
are written: ``IntervalStyle = sql_standard`` takes a sign in front for that of the whole if it is the only one.
"""

from __future__ import annotations

import re
from datetime import timedelta

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, refuse, unheard
from mirror.postgres.adopted.instants import EPOCH, UNITS, microseconds
from mirror.postgres.adopted.times import digits_of, nanoseconds_of, read, rounded
from mirror.postgres.codecs import Reject

NOT_A_DURATION = "a text that is not a duration"
TOO_LONG = "a duration of more than 999999999 days"
WITH_OFFSET = "a duration with an offset"
NO_UNIT = "a number in a column of durations without a unit of numbers"
ZERO_DATE = "a zero date in a column of durations"

#: Groups: sign, days, hours, minutes, seconds, fraction.
CLOCK = re.compile(r"(-)?(?:(\d{1,9}) days?, )?(\d|[01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?", re.ASCII)
#: The same groups.
ISO = re.compile(
    r"(-)?P(?=.*\d[DHMS]\Z)(?:(\d{1,16})D)?"
    r"(?:T(?=\d)(?:(\d{1,16})H)?(?:(\d{1,16})M)?(?:(\d{1,16})(?:\.(\d{1,9}))?S)?)?",
    re.ASCII,
)


def interval(form: Form) -> Conversion:
    """Durations."""
    digits = digits_of(form)

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        try:
            return text_of(duration(value, note))
        except OverflowError as error:
            raise Reject(TOO_LONG) from error

    def duration(value: Value, note: Note) -> timedelta:
        if type(value) is int or type(value) is float:
            if form.unit in UNITS:
                return timedelta(microseconds=microseconds(value, form.unit, digits, note))
            raise Reject(NO_UNIT)
        if type(value) is str:
            if form.unit == "datetime":
                return _since_epoch(value, digits, note)
            if form.unit == "clock":
                return _parts(CLOCK.fullmatch(value), digits, note, of_days=True)
            if form.unit == "iso":
                return _parts(ISO.fullmatch(value), digits, note, of_days=False)
        return refuse(value, "durations")

    return convert


def text_of(duration: timedelta) -> str:
    """A duration as every IntervalStyle reads it."""
    fraction = f".{duration.microseconds:06}" if duration.microseconds else ""
    return f"{duration.days:+} days +{duration.seconds}{fraction} seconds"


def _since_epoch(text: str, digits: int, note: Note) -> timedelta:
    found = read(text)
    if found is None:
        raise Reject(ZERO_DATE)
    if found.offset is not None:
        raise Reject(WITH_OFFSET)
    return found.clock - EPOCH + rounded(found.clock.second, found.nanoseconds, digits, note)


def _parts(match: re.Match[str] | None, digits: int, note: Note, *, of_days: bool) -> timedelta:
    """``of_days``: whether the sign is that of the days, where there are any."""
    if match is None:
        raise Reject(NOT_A_DURATION)
    sign, days, hours, minutes, seconds, fraction = match.groups()
    whole = timedelta(days=int(days or 0))
    rest = timedelta(hours=int(hours or 0), minutes=int(minutes or 0), seconds=int(seconds or 0))
    rest += rounded(int(seconds or 0), nanoseconds_of(fraction), digits, note)
    if sign is None:
        return whole + rest
    return rest - whole if of_days and days is not None else -whole - rest
