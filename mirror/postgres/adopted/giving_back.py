"""What SQLite gets for a value of an application's own column: the inverse of :mod:`.codecs`.

Many values of SQLite become one of Postgres, so a column has a form in which its values are written
(:attr:`~mirror.core.adopted.Form.written`, as :mod:`.writing` names them). A value of Postgres may have no such form: a
fraction where the form has whole seconds, a clock that occurs twice. So several are offered, the best first, and who
asks takes the first one that becomes that very value again. Of a key only its own form is offered.

=========== ============================================================================================
kind        the value of Postgres
=========== ============================================================================================
timestamptz microseconds since 1970-01-01 in UTC; of timestamp those that its clock shows since then
date        days since then
time        microseconds since midnight
interval    microseconds
boolean     0 and 1
integers    integers; float4, float8: doubles
bytea       bytes
array       the text that ``to_json`` makes of it
all others  texts, as Postgres shows them; of numeric without zeros at its end
=========== ============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from mirror.core.adopted import Form, Kind
from mirror.core.values import Value
from mirror.postgres.adopted.instants import EPOCH, UNITS, zone_of
from mirror.postgres.adopted.times import offset_of

#: Kinds of which programs write values in one of several forms, and expect them in that.
SEVERAL: frozenset[Kind] = frozenset(
    ("timestamptz", "timestamp", "date", "time", "interval", "uuid", "boolean", "jsonb", "json", "numeric", "bytea")
)
#: What values of a kind become; the best first.
Offer = Callable[[Value], Iterator[Value]]

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
#: The names of forms of times: see :mod:`.writing`.
_DATED = re.compile(r"YYYY-MM-DD(?:([ T])HH:MM(:SS(?:(\[?)\.(\d)\]?)?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_OF_DAY = re.compile(r"HH:MM(:SS(?:(\[?)\.(\d)\]?)?)?", re.ASCII)
_DECIMAL = re.compile(r"decimal (\d+)", re.ASCII)
#: What is outside of texts in a document.
_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*")|\s+', re.DOTALL)
#: How times are written where nothing else is known, or nothing else does: as Python, Django and SQLAlchemy do; with an
#: offset, where the clock alone may be another moment.
_USUAL = "YYYY-MM-DD HH:MM:SS[.6]"
_EXACTLY = f"{_USUAL}+00:00"


@lru_cache(maxsize=4096)
def offers(form: Form) -> Offer:
    """What values that are not NULL become. Raises ``ValueError`` for a zone that is not known."""
    match form.kind:
        case "timestamptz" | "timestamp":
            return _moments(form)
        case "date":
            return _days(form)
        case "time":
            return lambda micros: _first(form, lambda name: _time_of_day(name, _whole(micros)), "HH:MM:SS[.6]")
        case "interval":
            return _durations(form)
        case "uuid":
            return lambda text: _first(form, lambda name: _uuid(name, str(text)), "hex")
        case "boolean":
            return lambda value: _first(form, lambda name: _boolean(name, _whole(value)), "integer")
        case "jsonb" | "json":
            return _documents(form)
        case "numeric":
            return lambda text: _first(form, lambda name: _number(name, str(text)), "integer", "real", "decimal")
        case "int2" | "int4" | "int8":
            return lambda value: _first(form, lambda name: _number(name, str(value)), "integer")
        case "bytea":
            return lambda value: _first(form, lambda name: _blob(name, value), "blob")
        case _:
            return lambda value: iter((value,))


def _first(form: Form, write: Callable[[str], Value], *others: str) -> Iterator[Value]:
    """The value as the column's form has it; unless only that counts, as others have it, too."""
    names = (form.only,) if form.only else dict.fromkeys((form.written, *others)) if form.written else others
    for name in names:
        try:
            value = write(name)
        except (ValueError, OverflowError):
            continue
        if value is not None and not (type(value) is int and not -(2**63) <= value < 2**63):
            yield value


def _whole(value: Value) -> int:
    assert isinstance(value, int)
    return value


# -- times -----------------------------------------------------------------------------------------------


def _moments(form: Form) -> Offer:
    zone, of_clock = zone_of(form.zone), form.kind == "timestamp"

    def write(name: str, micros: int) -> Value:
        if name in ("integer", "real"):
            if of_clock:
                moment = (EPOCH + timedelta(microseconds=micros)).replace(tzinfo=zone)
                micros -= (moment.utcoffset() or timedelta()) // timedelta(microseconds=1)
            return _in_unit(name, micros, form.unit)
        match = _DATED.fullmatch(name)
        if match is None:
            raise ValueError(name)
        clock, offset = EPOCH + timedelta(microseconds=micros), match[5]
        if of_clock and offset is not None:
            clock = clock.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
        if offset is not None:
            clock += offset_of(offset)
        elif not of_clock:
            clock = clock.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
        return _dated(match, clock)

    numbers = ("integer", "real") if form.unit in UNITS else ()
    return lambda micros: _first(form, lambda name: write(name, _whole(micros)), *numbers, _USUAL, _EXACTLY)


def _days(form: Form) -> Offer:
    zone = zone_of(form.zone)

    def write(name: str, days: int) -> Value:
        midnight = EPOCH + timedelta(days=days)
        match = _DATED.fullmatch(name)
        if match is not None and match[5] is None:
            return _dated(match, midnight)
        moment = midnight.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
        if match is not None:
            return _dated(match, moment + offset_of(match[5]))
        return _in_unit(name, (moment - EPOCH) // timedelta(microseconds=1), form.unit)

    return lambda days: _first(form, lambda name: write(name, _whole(days)), "YYYY-MM-DD")


def _durations(form: Form) -> Offer:
    def write(name: str, micros: int) -> Value:
        if name in ("integer", "real"):
            return _in_unit(name, micros, form.unit)
        if name == "clock":
            return str(timedelta(microseconds=micros))
        if name == "iso":
            sign, size = "-" if micros < 0 else "", abs(micros)
            days, rest = divmod(size, _DAY)
            seconds, fraction = divmod(rest, _SECOND)
            return f"{sign}P{days}DT{seconds}{f'.{fraction:06}' if fraction else ''}S"
        match = _DATED.fullmatch(name)
        if match is None or match[5] is not None:
            raise ValueError(name)
        return _dated(match, EPOCH + timedelta(microseconds=micros))

    names = ("integer", "real") if form.unit in UNITS else (_USUAL,) if form.unit == "datetime" else (form.unit,)
    return lambda micros: _first(form, lambda name: write(name, _whole(micros)), *names)


def _in_unit(name: str, micros: int, unit: str) -> Value:
    size = UNITS.get(unit)
    if size is None:
        raise ValueError(unit)
    whole, rest = divmod(micros, size)
    if name == "real":
        return micros / size
    return None if rest else whole


def _dated(match: re.Match[str], clock: datetime) -> str:
    between, seconds, optional, digits, offset = match.groups()
    day = f"{clock.date():%Y-%m-%d}".rjust(10, "0")
    if between is None:
        if (clock - EPOCH) % timedelta(days=1):
            raise ValueError(day)
        return day
    return f"{day}{between}{_clock(clock, seconds, optional, digits)}{offset or ''}"


def _time_of_day(name: str, micros: int) -> Value:
    match = _OF_DAY.fullmatch(name)
    if match is None:
        raise ValueError(name)
    return _clock(EPOCH + timedelta(microseconds=micros), *match.groups())


def _clock(clock: datetime, seconds: str | None, optional: str | None, digits: str | None) -> str:
    """``digits``: of the fraction, None without one; ``optional``: whether one of zero is left out."""
    text, micros = f"{clock:%H:%M:%S}", clock.microsecond
    if seconds is None:
        if clock.second or micros:
            raise ValueError(text)
        return text[:5]
    if digits is None or (optional and not micros):
        if micros:
            raise ValueError(text)
        return text
    fraction = f"{micros:06}000"
    if fraction[int(digits) :].strip("0"):
        raise ValueError(text)
    return f"{text}.{fraction[: int(digits)]}"


# -- all else --------------------------------------------------------------------------------------------


def _uuid(name: str, text: str) -> Value:
    digits = text.replace("-", "")
    if name == "blob":
        return bytes.fromhex(digits)
    plain = name.removeprefix("urn ").removesuffix(" upper")
    if plain not in ("hex", "dashed"):
        raise ValueError(name)
    written = digits if plain == "hex" else text
    if name.endswith(" upper"):
        written = written.upper()
    return f"urn:uuid:{written}" if name.startswith("urn ") else written


def _boolean(name: str, value: int) -> Value:
    written: dict[str, tuple[Value, Value]] = {
        "integer": (0, 1),
        "real": (0.0, 1.0),
        "letter": ("f", "t"),
        "word": ("false", "true"),
    }
    if name not in written:
        raise ValueError(name)
    return written[name][value]


def _documents(form: Form) -> Offer:
    def write(name: str, text: str) -> Value:
        if form.kind == "jsonb" and name.startswith("compact"):
            text = _BLANKS.sub(r"\1", text)
        return text.encode() if name.endswith("blob") else text

    return lambda text: _first(form, lambda name: write(name, str(text)), "")


def _number(name: str, text: str) -> Value:
    if name == "integer":
        return int(text)
    if name == "real":
        return float(text)
    match, (whole, _, fraction) = _DECIMAL.fullmatch(name), text.partition(".")
    if match is None:
        if name != "decimal":
            raise ValueError(name)
        return text
    if len(fraction) > int(match[1]):
        raise ValueError(text)
    fraction = fraction.ljust(int(match[1]), "0")
    return f"{whole}.{fraction}" if fraction else whole


def _blob(name: str, value: Value) -> Value:
    assert isinstance(value, bytes)
    return value.decode() if name == "text" else value
