"""Times: ``timestamptz``, ``timestamp``, ``date`` and ``time``.

The texts that are times, all digits ASCII:

======== ==========================================================
day      ``YYYY-MM-DD``; alone it is midnight
clock    `` `` or ``T``, then ``HH:MM``, up to 23:59
seconds  ``:SS``, up to 59
fraction ``.f``, 1 to 9 digits, after seconds
offset   ``Z``, ``±HH:MM`` or ``±HHMM``, below 24 hours, after a clock
======== ==========================================================

What Postgres gets is always ``YYYY-MM-DD HH:MM:SS[.ffffff]``, of a timestamptz in UTC with ``+00:00`` behind it: no
setting reads that in another way, and one instant has one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, refuse, unheard
from mirror.postgres.adopted.instants import (
    OUTSIDE,
    clock_of_instant,
    exact_microseconds,
    half_even,
    instant,
    instant_of_clock,
    microseconds,
    places,
    zone_of,
)
from mirror.postgres.codecs import Reject

NOT_A_TIME = "a text that is not a time"
NO_SUCH_TIME = "a day that does not exist"
ZERO_DATE = "a zero date"
ZERO_IS_NULL = "a zero date is NULL"
NOT_MIDNIGHT = "a time that is not midnight in a column of days"
NOT_A_CLOCK = "a text that is not a time of day"
NO_UNIT = "a number in a column of times without a unit"
NEXT_DAY = "a time of day that rounds to 24:00"

_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_OFFSET = r"Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d"
#: Groups: day, clock to the minute, seconds with the colon, fraction, offset.
TEXT = re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:([ T]{_CLOCK})(?:(:[0-5]\d)(?:\.(\d{{1,9}}))?)?({_OFFSET})?)?", re.ASCII)
#: Groups: clock to the minute, seconds with the colon, fraction.
TIME = re.compile(rf"({_CLOCK})(?:(:[0-5]\d)(?:\.(\d{{1,9}}))?)?", re.ASCII)

_DAY = r"(?!0000)\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
#: Most days that exist, so that no calendar is asked: the 29th of February is not among them.
_SURE_DAY = re.compile(_DAY, re.ASCII)

#: A time just as Postgres gets it.
_AS_POSTGRES = re.compile(rf"{_DAY} {_CLOCK}:[0-5]\d(?:\.(?!000000)\d{{6}})?", re.ASCII)
#: Times as most programs write them. Groups: day, clock, fraction, offset.
_USUAL = re.compile(rf"({_DAY})[ T]({_CLOCK}:[0-5]\d)(?:\.(\d{{1,6}}))?({_OFFSET})?", re.ASCII)
_OF_UTC = frozenset(("Z", "+00:00", "-00:00"))


class Written(NamedTuple):
    """A time as a text has it."""

    clock: datetime
    """In whole seconds."""
    nanoseconds: int
    offset: timedelta | None


def read(text: str) -> Written | None:
    """What a text says, None for a zero date; raises :class:`Reject`."""
    match = TEXT.fullmatch(text)
    if match is None:
        raise Reject(NOT_A_TIME)
    day, minutes, seconds, fraction, offset = match.groups()
    if day == "0000-00-00":
        return None
    try:
        clock = datetime.fromisoformat(f"{day}{minutes or ' 00:00'}{seconds or ':00'}")
    except ValueError as error:
        raise Reject(NO_SUCH_TIME) from error
    return Written(clock, nanoseconds_of(fraction), None if offset is None else offset_of(offset))


def nanoseconds_of(fraction: str | None) -> int:
    """Of up to 9 digits after the point of a second."""
    return int(fraction.ljust(9, "0")) if fraction else 0


def rounded(second: int, nanoseconds: int, digits: int, note: Note) -> timedelta:
    """A fraction to ``digits`` places of a second, at most 6; at 0 places the second may be odd."""
    step = int(10 ** (9 - digits))
    if nanoseconds % step:
        note(places(digits))
    odd = second % 2 * 1_000_000_000
    return timedelta(microseconds=(half_even(odd + nanoseconds, step) * step - odd) // 1000)


def within_years(careful: Callable[[Value, Note], str | None], value: Value, note: Note) -> str | None:
    """Call a conversion; raises :class:`Reject` also where it leaves Python's years."""
    try:
        return careful(value, note)
    except OverflowError as error:
        raise Reject(OUTSIDE) from error


def digits_of(form: Form) -> int:
    """The places of a second that a column keeps."""
    return 6 if form.digits is None else form.digits


@lru_cache(maxsize=4096)
def offset_of(text: str) -> timedelta:
    """An offset from UTC."""
    if text == "Z":
        return timedelta(0)
    size = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return -size if text[0] == "-" else size


def timestamptz(form: Form) -> Conversion:
    """Instants."""
    zone, digits = zone_of(form.zone), digits_of(form)
    in_utc = zone is UTC
    at_once, usual = in_utc and digits == 6, _USUAL.fullmatch
    unchanged: frozenset[str | None] = _OF_UTC | {None} if in_utc else _OF_UTC

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is str:
            if at_once and _AS_POSTGRES.fullmatch(value) is not None:
                return value + "+00:00"
            if (match := usual(value)) is not None:
                day, clock, fraction, offset = match.groups()
                if fraction is None or len(fraction) <= digits:
                    if offset not in unchanged:
                        day, clock = converted(f"{day} {clock}", offset, note)
                    return f"{day} {clock}{_micros(fraction)}+00:00"
        return within_years(carefully, value, note)

    def converted(clock: str, offset: str | None, note: Note) -> list[str]:
        moment = datetime.fromisoformat(clock)
        try:
            whole = instant_of_clock(moment, zone, note) if offset is None else moment - offset_of(offset)
        except OverflowError as error:
            raise Reject(OUTSIDE) from error
        return whole.isoformat(" ").split(" ")

    def carefully(value: Value, note: Note) -> str | None:
        if type(value) is str:
            found = _or_null(read(value), form, note)
            if found is None:
                return None
            whole = instant_of_clock(found.clock, zone, note) if found.offset is None else found.clock - found.offset
            whole += rounded(found.clock.second, found.nanoseconds, digits, note)
            return whole.isoformat(" ") + "+00:00"
        if type(value) is int or type(value) is float:
            return instant(_of_number(value, form, digits, note)).isoformat(" ") + "+00:00"
        return None if value is None else refuse(value, "times")

    return convert


def timestamp(form: Form) -> Conversion:
    """Wall clocks."""
    zone, digits = zone_of(form.zone), digits_of(form)
    at_once, usual = digits == 6, _USUAL.fullmatch
    unchanged: frozenset[str | None] = _OF_UTC | {None} if zone is UTC else frozenset((None,))

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is str:
            if at_once and _AS_POSTGRES.fullmatch(value) is not None:
                return value
            if (match := usual(value)) is not None:
                day, clock, fraction, offset = match.groups()
                if offset in unchanged and (fraction is None or len(fraction) <= digits):
                    return f"{day} {clock}{_micros(fraction)}"
        return within_years(carefully, value, note)

    def carefully(value: Value, note: Note) -> str | None:
        if type(value) is str:
            found = _or_null(read(value), form, note)
            if found is None:
                return None
            fine = rounded(found.clock.second, found.nanoseconds, digits, note)
            if found.offset is None:
                return str(found.clock + fine)
            return str(clock_of_instant(found.clock - found.offset + fine, zone, note, found.offset))
        if type(value) is int or type(value) is float:
            return str(clock_of_instant(instant(_of_number(value, form, digits, note)), zone, note))
        return None if value is None else refuse(value, "times")

    return convert


def date(form: Form) -> Conversion:
    """Days; of times only midnight."""
    zone = zone_of(form.zone)

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is str and _SURE_DAY.fullmatch(value) is not None:
            return value
        return within_years(carefully, value, note)

    def carefully(value: Value, note: Note) -> str | None:
        if type(value) is str:
            found = _or_null(read(value), form, note)
            if found is None:
                return None
            clock = found.clock
            if found.offset is not None:
                clock = clock_of_instant(clock - found.offset, zone, note, found.offset)
            return _day(clock, found.nanoseconds)
        if type(value) is int or type(value) is float:
            if not form.unit:
                raise Reject(NO_UNIT)
            numerator, denominator = exact_microseconds(value, form.unit)
            micros, rest = divmod(numerator, denominator)
            return _day(clock_of_instant(instant(micros), zone, note), rest)
        return None if value is None else refuse(value, "days")

    return convert


def time(form: Form) -> Conversion:
    """Times of day."""
    digits = digits_of(form)

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is not str:
            return None if value is None else refuse(value, "times of day")
        match = TIME.fullmatch(value)
        if match is None:
            raise Reject(NOT_A_CLOCK)
        clock, seconds, fraction = match.groups()
        if fraction is None or len(fraction) <= digits:
            return f"{clock}{seconds or ':00'}{_micros(fraction)}"
        moment = datetime.fromisoformat(f"1970-01-01 {clock}{seconds}")
        moment += rounded(moment.second, nanoseconds_of(fraction), digits, note)
        if moment.day != 1:
            raise Reject(NEXT_DAY)
        return str(moment.time())

    return convert


def _micros(fraction: str | None) -> str:
    """At most 6 digits after the point as :class:`datetime` shows them."""
    if fraction is None:
        return ""
    filled = fraction.ljust(6, "0")
    return "" if filled == "000000" else f".{filled}"


def _or_null(found: Written | None, form: Form, note: Note) -> Written | None:
    if found is None:
        if not form.empty_is_null:
            raise Reject(ZERO_DATE)
        note(ZERO_IS_NULL)
    return found


def _of_number(value: float, form: Form, digits: int, note: Note) -> int:
    if not form.unit:
        raise Reject(NO_UNIT)
    return microseconds(value, form.unit, digits, note)


def _day(clock: datetime, rest: int) -> str:
    if rest or (clock.hour, clock.minute, clock.second, clock.microsecond) != (0, 0, 0, 0):
        raise Reject(NOT_MIDNIGHT)
    return str(clock.date())
