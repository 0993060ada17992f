"""Times of SQLite in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

Canonical values are integers: of ``timestamptz`` microseconds since 1970-01-01 in UTC; of ``timestamp`` those that its
clock shows since then; of ``date`` days since then; of ``time`` microseconds since midnight; of ``interval``
microseconds.

Readings of the vocabulary that it leaves open:

* a time in a unit is the number that a real's shortest decimal is: 1767225600.1 loses nothing;
* years 1 to 9999 are those of the text and those of the result;
* a ``timestamp`` and a ``date`` lose an offset that is written and not the zone's at that time (``Z`` is that of UTC);
* what a fraction is rounded up to must be in range as well: 23:59:59.9999999 is no ``time``;
* an interval as ``datetime`` has no offset; its integers may also be of seconds and milliseconds, by their unit;
* in ``clock`` the sign is that of the days where there are days (``-1 day, 23:59:59`` is one second less than
  nothing), as Python writes them; in ``iso`` it is that of the whole.
"""

from __future__ import annotations

from datetime import tzinfo

from mirror.core.adopted import Form
from mirror.parity.adopted_moments import (
    DAY,
    FIRST,
    LAST,
    SECOND,
    UNITS,
    clock_of,
    duration_clock,
    duration_iso,
    exact_number,
    moment_of,
    of_number,
    rounding,
    time_of_day,
    written,
    zone_of,
)
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, lossy
from mirror.parity.values import Cell

#: Past 999999999 days.
_LONGEST = 10**9 * DAY
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
        lost = ""
        if offset is not None:
            nanos -= offset * 1000
        elif zone is not None:
            before, lost = moment_of(nanos // 1000, zone)
            nanos = before * 1000 + nanos % 1000
        micros, cut = rounded(nanos)
        return _in_years(micros, lost, cut)

    return decode


def _timestamp(form: Form) -> Decode:
    zone, rounded, number = zone_of(form.zone), rounding(form), of_number(form)

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            micros, lost = number(value)
            clock, twice = clock_of(micros, zone)
            return _in_years(clock, lost, twice)
        nanos, offset = written(value)
        lost = twice = ""
        if offset is not None:
            clock, lost, twice = _shown(nanos // 1000, offset, zone)
            nanos = clock * 1000 + nanos % 1000
        micros, cut = rounded(nanos)
        return _in_years(micros, lost, twice, cut)

    return decode


def _date(form: Form) -> Decode:
    zone, exact = zone_of(form.zone), exact_number(form)

    def decode(value: Cell) -> Cell | Lossy:
        lost = twice = ""
        if isinstance(value, str):
            nanos, offset = written(value)
            micros, rest = divmod(nanos, 1000)
            if offset is not None:
                micros, lost, twice = _shown(micros, offset, zone)
        else:
            seconds = exact(value)
            rest = int(seconds != int(seconds))
            micros, twice = clock_of(int(seconds) * SECOND, zone)
        days, clock = divmod(micros, DAY)
        if clock or rest:
            raise Misfit("not at midnight")
        if not FIRST <= micros <= LAST:
            raise Misfit("not in the years 1 to 9999")
        return lossy(days, lost, twice)

    return decode


def _shown(clock: int, offset: int, zone: tzinfo | None) -> tuple[int, str, str]:
    """What clocks of a zone show when another shows this, with this offset; and the losses."""
    moment = clock - offset
    shown, twice = clock_of(moment, zone)
    return shown, "" if shown - moment == offset else _NO_OFFSET, twice


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
    rounded, number = rounding(form), of_number(form, most=_LONGEST)

    def decode(value: Cell) -> Cell | Lossy:
        if isinstance(value, int) and form.unit in UNITS:
            nanos = value * UNITS[form.unit] * 1000
        elif isinstance(value, float) and form.unit in UNITS:
            return lossy(*number(value))
        elif not isinstance(value, str):
            raise Misfit("no interval")
        elif form.unit == "datetime":
            nanos, offset = written(value)
            if offset is not None:
                raise Misfit("an interval has no offset")
        elif form.unit == "clock":
            nanos = duration_clock(value)
        elif form.unit == "iso":
            nanos = duration_iso(value)
        else:
            raise Misfit("no interval")
        micros, lost = rounded(nanos)
        if not DAY - _LONGEST <= micros < _LONGEST:
            raise Misfit("an interval out of range")
        return lossy(micros, lost)

    return decode


def _in_years(micros: int, first: str, second: str = "", third: str = "") -> Cell | Lossy:
    if not FIRST <= micros <= LAST:
        raise Misfit("not in the years 1 to 9999")
    return lossy(micros, first, second, third) if first or second or third else micros
