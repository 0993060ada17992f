"""Times of SQLite in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

Canonical values are integers: of ``timestamptz`` microseconds since 1970-01-01 in UTC; of ``timestamp`` those that its
clock shows since then; of ``date`` days since then; of ``time`` microseconds since midnight; of ``interval``
microseconds.
"""

from __future__ import annotations

from mirror.core.adopted import Form
from mirror.parity.adopted_moments import (
    DAY,
    FIRST,
    LAST,
    MOST_DAYS,
    ahead_of,
    clock_of,
    duration_clock,
    duration_iso,
    exact_number,
    of_number,
    rounding,
    time_of_day,
    written,
    zone_of,
)
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, lossy
from mirror.parity.values import Cell

_NO_OFFSET = "without their offset"


def decoder(form: Form) -> Decode:
    """What makes canonical values of a kind that is a time; raises ``ValueError`` for a zone that is not known."""
    match form.kind:
        case "timestamptz":
            return _timestamptz(form)
        case "timestamp":
            return _timestamp(form)
        case "date":
            return _date(form)
        case "time":
            return _time(form)
        case _:
            return _interval(form)


def _timestamptz(form: Form) -> Decode:
    zone, rounded, number = zone_of(form.zone), rounding(form), of_number(form)

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            micros, lost = number(value)
            return _in_years(micros, lost)
        nanos, offset = written(value)
        micros, cut = rounded(nanos)
        if offset is not None:
            return _in_years(micros - offset, cut)
        if zone is None:
            return _in_years(micros, cut)
        ahead, twice = ahead_of(nanos // 1000, zone)
        return _in_years(micros - ahead, twice, cut)

    return decode


def _timestamp(form: Form) -> Decode:
    zone, rounded, number = zone_of(form.zone), rounding(form), of_number(form)

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            micros, lost = number(value)
            clock, twice = clock_of(micros, zone)
            return _in_years(clock, lost, twice)
        nanos, offset = written(value)
        micros, cut = rounded(nanos)
        if offset is None:
            return _in_years(micros, cut)
        clock, twice = clock_of(micros - offset, zone)
        return _in_years(clock, "" if clock == micros else _NO_OFFSET, twice, cut)

    return decode


def _date(form: Form) -> Decode:
    zone, exact = zone_of(form.zone), exact_number(form)

    def decode(value: Cell) -> Cell | Lossy:
        lost = twice = ""
        if isinstance(value, str):
            nanos, offset = written(value)
            micros, rest = divmod(nanos, 1000)
            if offset is not None:
                clock, twice = clock_of(micros - offset, zone)
                lost = "" if clock == micros else _NO_OFFSET
                micros = clock
        else:
            above, below = exact(value)
            whole, rest = divmod(above, below)
            micros, twice = clock_of(whole, zone)
        days, clock = divmod(micros, DAY)
        if clock or rest:
            raise Misfit("not at midnight")
        if not FIRST <= micros <= LAST:
            raise Misfit("not in the years 1 to 9999")
        return lossy(days, lost, twice)

    return decode


def _time(form: Form) -> Decode:
    rounded = rounding(form)

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            raise Misfit("no time of day")
        micros, lost = rounded(time_of_day(value))
        if micros >= DAY:
            raise Misfit("rounded to 24:00")
        return lossy(micros, lost)

    return decode


def _interval(form: Form) -> Decode:
    rounded, number = rounding(form), of_number(form)

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            return _in_range(*number(value))
        if form.unit == "datetime":
            nanos, offset = written(value)
            if offset is not None:
                raise Misfit("an interval has no offset")
        elif form.unit == "clock":
            nanos = duration_clock(value)
        elif form.unit == "iso":
            nanos = duration_iso(value)
        else:
            raise Misfit("no interval")
        return _in_range(*rounded(nanos))

    return decode


def _in_range(micros: int, lost: str) -> Cell | Lossy:
    if not -MOST_DAYS <= micros // DAY <= MOST_DAYS:
        raise Misfit("an interval out of range")
    return lossy(micros, lost)


def _in_years(micros: int, first: str, second: str = "", third: str = "") -> Cell | Lossy:
    if not FIRST <= micros <= LAST:
        raise Misfit("not in the years 1 to 9999")
    return lossy(micros, first, second, third) if first or second or third else micros
