"""Instants and wall clocks: numbers since 1970, zones with their gaps and folds, and rounding half to even.

Instants and clocks are :class:`datetime` without a zone, an instant in UTC. Python's years are 1 to 9999; what leaves
them raises ``OverflowError`` here.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from mirror.postgres.adopted.conversion import Note
from mirror.postgres.codecs import Reject

EPOCH = datetime(1970, 1, 1)
#: Microseconds of a unit.
UNITS = {"s": 1_000_000, "ms": 1000, "us": 1}

OUTSIDE = "a time outside of the years 1 to 9999"
NEVER = "a clock that its zone never shows"
TWICE = "the clock occurs twice in its zone; the first is taken"
OFFSET = "the offset is not kept"
NOT_FINITE = "a number that is not finite"


def places(digits: int) -> str:
    """The loss of a fraction of a second."""
    return f"rounded to {digits} places of a second"


def zone_of(name: str) -> tzinfo:
    """An IANA name's zone; raises ``KeyError`` (``ZoneInfoNotFoundError``) or ``ValueError`` for another name."""
    return UTC if name in ("UTC", "Etc/UTC") else ZoneInfo(name)


def half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to a fraction, of two as near the even one; ``denominator`` is positive."""
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole & 1):
        return whole + 1
    return whole


def exact_microseconds(number: float, unit: str) -> tuple[int, int]:
    """What a number of ``unit`` is in microseconds, as numerator and denominator; raises :class:`Reject`."""
    if type(number) is int:
        return number * UNITS[unit], 1
    if not math.isfinite(number):
        raise Reject(NOT_FINITE)
    numerator, denominator = number.as_integer_ratio()
    return numerator * UNITS[unit], denominator


def microseconds(number: float, unit: str, digits: int, note: Note) -> int:
    """A number of ``unit`` in microseconds, rounded to ``digits`` places of a second.

    Of an integer it is a loss if that changes it, of a real if the double nearest to the result is another: hardly any
    double is exactly the decimal that it is written as. Raises :class:`Reject`, ``OverflowError``.
    """
    numerator, denominator = exact_microseconds(number, unit)
    step = int(10 ** (6 - digits))
    if denominator == 1 and numerator % step == 0:
        return numerator
    rounded = half_even(numerator, denominator * step) * step
    if type(number) is int or rounded / UNITS[unit] != number:
        note(places(digits))
    return rounded


def instant(micros: int) -> datetime:
    """The instant so many microseconds after 1970 began."""
    return EPOCH + timedelta(0, 0, micros)


def instant_of_clock(clock: datetime, zone: tzinfo, note: Note) -> datetime:
    """When ``zone`` shows a clock; the first time if it does so twice. Raises :class:`Reject` if it never does."""
    if zone is UTC:
        return clock
    first, second = zone.utcoffset(clock), zone.utcoffset(clock.replace(fold=1))
    assert first is not None and second is not None
    if first < second:  # the offset before a gap, and the one after it
        raise Reject(NEVER)
    if first > second:
        note(TWICE)
    return clock - first


def clock_of_instant(moment: datetime, zone: tzinfo, note: Note, written: timedelta | None = None) -> datetime:
    """What ``zone`` shows at an instant, which was ``written`` with an offset."""
    if zone is UTC:
        shown, offset = moment, timedelta(0)
    else:
        aware = moment.replace(tzinfo=UTC).astimezone(zone)
        shown, offset = aware.replace(tzinfo=None, fold=0), aware.utcoffset() or timedelta(0)
        if aware.fold:
            note(TWICE)
    if written is not None and written != offset:
        note(OFFSET)
    return shown
