"""Moments, clocks and durations for :mod:`mirror.parity.adopted_times`: texts, numbers, rounding, zones."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from mirror.core.adopted import Form
from mirror.parity.adopted_terms import Misfit, places
from mirror.parity.values import Cell

SECOND = 10**6
DAY = 86_400 * SECOND
EPOCH_DAY = date(1970, 1, 1).toordinal()
#: Microseconds since 1970 of the first and the last moment of the years 1 to 9999.
FIRST = (1 - EPOCH_DAY) * DAY
LAST = (date.max.toordinal() - EPOCH_DAY + 1) * DAY - 1
#: Microseconds of the units of numbers.
UNITS = {"s": SECOND, "ms": 1000, "us": 1}

_CLOCK = r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.]([0-9]{1,9}))?)?)"
_TIME = re.compile(_CLOCK)
_MOMENT = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:[ T]{_CLOCK}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?")
#: Of intervals.
MOST_DAYS = 999_999_999
_ZERO_DATE = "0000-00-00"
_DURATION_CLOCK = re.compile(r"(-)?(?:([0-9]{1,9}) days?, )?([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.]([0-9]{1,9}))?")
_DURATION_ISO = re.compile(
    r"(-)?P(?=[0-9T])(?:([0-9]{1,16})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,16})H)?(?:([0-9]{1,16})M)?(?:([0-9]{1,16})(?:[.]([0-9]{1,9}))?S)?)?"
)
#: More than any number that is a time, and microseconds of an interval.
_MOST = 10**20
_SECOND_OF_TWO = "at the second of two moments with that clock"
_FIRST_OF_TWO = "at a clock that occurs twice"


def zone_of(name: str) -> tzinfo | None:
    """A zone; None: UTC. Raises ``ValueError``."""
    if name in ("UTC", "Etc/UTC"):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # also of a name that is none
        raise ValueError(f"unknown time zone {name}") from error


def written(text: str) -> tuple[int, int | None]:
    """Of a text: nanoseconds that its clock shows since 1970; its offset in microseconds, None without one."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise Misfit("no time")
    day, clock, fraction, offset = match.groups()
    nanos = _day(day)
    if clock is not None:
        nanos += _clock(clock[:8]) + _fraction(fraction)
    return nanos, None if offset is None else _offset(offset)


def is_zero_date(text: str) -> bool:
    """Whether a text is a time but for its date, which is 0000-00-00."""
    if not text.startswith(_ZERO_DATE):
        return False
    try:
        written("1970-01-01" + text.removeprefix(_ZERO_DATE))
    except Misfit:
        return False
    return True


@lru_cache(maxsize=100_000)
def _day(text: str) -> int:
    """Nanoseconds from 1970 to the beginning of a day."""
    try:
        return (date.fromisoformat(text).toordinal() - EPOCH_DAY) * DAY * 1000
    except ValueError as error:
        raise Misfit("no such day") from error


@lru_cache(maxsize=1000)
def _offset(text: str) -> int:
    """Microseconds by which a clock is ahead of UTC."""
    if text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise Misfit("no such offset")
    return (hours * 60 + minutes) * 60 * SECOND * (-1 if text[0] == "-" else 1)


def time_of_day(text: str) -> int:
    """Nanoseconds since midnight."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise Misfit("no time of day")
    return _clock(match[1][:8]) + _fraction(match[2])


@lru_cache(maxsize=100_000)
def _clock(text: str) -> int:
    """Nanoseconds since midnight, of hours, minutes and perhaps whole seconds."""
    hours, minutes, seconds = int(text[:2]), int(text[3:5]), int(text[6:] or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise Misfit("no such time of day")
    return ((hours * 60 + minutes) * 60 + seconds) * 10**9


def _fraction(digits: str | None) -> int:
    """Nanoseconds of a fraction's digits."""
    return int(digits.ljust(9, "0")) if digits else 0


def duration_clock(text: str) -> int:
    """Nanoseconds of ``1 day, 2:03:04.5`` and the like."""
    match = _DURATION_CLOCK.fullmatch(text)
    if match is None:
        raise Misfit("no interval")
    sign, days, hours, minutes, seconds, fraction = match.groups()
    h, m, s = int(hours), int(minutes), int(seconds)
    if h > 23 or m > 59 or s > 59:
        raise Misfit("no interval")
    nanos = ((h * 60 + m) * 60 + s) * 10**9 + _fraction(fraction)
    if days is None:
        return -nanos if sign else nanos
    return int(days) * DAY * 1000 * (-1 if sign else 1) + nanos


def duration_iso(text: str) -> int:
    """Nanoseconds of ``P1DT2H3M4.5S`` and the like."""
    match = _DURATION_ISO.fullmatch(text)
    if match is None:
        raise Misfit("no interval")
    sign, days, hours, minutes, seconds, fraction = match.groups()
    whole = int(days or 0) * 86_400 + int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    nanos = whole * 10**9 + _fraction(fraction)
    return -nanos if sign else nanos


def exact_number(form: Form) -> Callable[[Cell], tuple[int, int]]:
    """Gives the microseconds that a number stands for, exactly: what is to be divided, and by what."""
    unit = UNITS.get(form.unit)

    def exact(value: Cell) -> tuple[int, int]:
        if unit is None or not isinstance(value, int | float):
            raise Misfit("no time")
        if not -_MOST <= value <= _MOST:
            raise Misfit("out of range")
        above, below = value.as_integer_ratio()
        return above * unit, below

    return exact


def of_number(form: Form) -> Callable[[Cell], tuple[int, str]]:
    """Gives the microseconds that a number stands for, rounded, and the loss."""
    exact, digits = exact_number(form), 6 if form.digits is None else form.digits
    unit, step, word = UNITS.get(form.unit, 0), 10 ** (6 - digits), places(digits)

    def decode(value: Cell) -> tuple[int, str]:
        if step == 1 and type(value) is int and unit:
            return value * unit, ""
        above, below = exact(value)
        micros, kept = _half_even(above, below * step)
        micros *= step
        # A real has lost nothing if it is the double of the result.
        return micros, "" if kept or (isinstance(value, float) and micros / unit == value) else word

    return decode


def rounding(form: Form) -> Callable[[int], tuple[int, str]]:
    """Makes microseconds of nanoseconds, to the digits that the column keeps: half to even."""
    digits = 6 if form.digits is None else form.digits
    unit, step, word = 10 ** (9 - digits), 10 ** (6 - digits), places(digits)

    def rounded(nanos: int) -> tuple[int, str]:
        if not nanos % unit:
            return nanos // 1000, ""
        return _half_even(nanos, unit)[0] * step, word

    return rounded


def _half_even(above: int, below: int) -> tuple[int, bool]:
    """A quotient, half to even, and whether it is exact."""
    whole, rest = divmod(above, below)
    if 2 * rest > below or (2 * rest == below and whole % 2):
        whole += 1
    return whole, not rest


def ahead_of(clock: int, zone: tzinfo) -> tuple[int, str]:
    """Microseconds by which clocks of a zone are ahead of UTC when they show this, first of two times; and the loss."""
    shown = datetime(1970, 1, 1) + timedelta(microseconds=clock)
    first, second = zone.utcoffset(shown), zone.utcoffset(shown.replace(fold=1))
    assert first is not None
    assert second is not None
    if first < second:
        raise Misfit("a clock that never shows this")
    return first // timedelta(microseconds=1), "" if first == second else _FIRST_OF_TWO


def clock_of(micros: int, zone: tzinfo | None) -> tuple[int, str]:
    """What clocks of a zone show at a moment; and the loss, where they have shown it before."""
    if not FIRST <= micros <= LAST:
        raise Misfit("not in the years 1 to 9999")
    if zone is None:
        return micros, ""
    try:
        shown = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).astimezone(zone)
    except OverflowError as error:
        raise Misfit("not in the years 1 to 9999") from error
    offset = shown.utcoffset()
    assert offset is not None
    return micros + offset // timedelta(microseconds=1), _SECOND_OF_TWO if shown.fold else ""
