"""What is selected in Postgres for a column of an application's own table, and the canonical value that it becomes.

Times and networks are selected as Postgres sends them, which is exact and knows no style of dates:

=========================== ==========================================================================
``timestamptz_send`` …      microseconds since 2000-01-01, 8 bytes; infinite: the ends of the range
``date_send``               days since 2000-01-01, 4 bytes; infinite: the ends of the range
``time_send``               microseconds since midnight, 8 bytes
``interval_send``           microseconds, 8 bytes; days, 4 bytes; months, 4 bytes
``inet_send``, ``cidr_…``   family, bits of the mask, whether it is a cidr, number of bytes; the bytes
=========================== ==========================================================================

All integers are big-endian and signed (src/backend/utils/adt of Postgres: timestamp.c, date.c, network.c). Of an array
its bounds are selected, and a JSON array of its elements' texts, of bytes in hexadecimal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Any, LiteralString

from mirror.core.adopted import Form, form_of_codec
from mirror.parity.adopted_json import array_text, document
from mirror.parity.adopted_moments import DAY, EPOCH_DAY, FIRST, LAST
from mirror.parity.adopted_terms import Misfit
from mirror.parity.adopted_values import network_text
from mirror.parity.adopted_vectors import of_text
from mirror.parity.shown import value_of
from mirror.parity.values import INT64_MAX, INT64_MIN, Cell, Foreign

_EPOCH_2000 = 10_957
_INT32_MAX, _INT32_MIN = 2**31 - 1, -(2**31)
_EIGHT, _FOUR, _DOUBLE = Struct(">q"), Struct(">i"), Struct(">d")
_INTERVAL = Struct(">qii")

_TEXT: LiteralString = "{c}::text"
_INTEGER: LiteralString = "{c}::int8"
#: By kind: what to select for column {c}; of all others its text.
_EXPRESSIONS: dict[str, LiteralString] = {
    "timestamptz": "timestamptz_send({c})",
    "timestamp": "timestamp_send({c})",
    "date": "date_send({c})",
    "time": "time_send({c})",
    "interval": "interval_send({c})",
    "boolean": "{c}::int4::int8",
    "numeric": "trim_scale({c})::text",
    "int2": _INTEGER,
    "int4": _INTEGER,
    "int8": _INTEGER,
    "float4": "{c}::float8",
    "float8": "{c}::float8",
    "bytea": "{c}::bytea",
    "inet": "inet_send({c})",
    "cidr": "cidr_send({c})",
}
_SENT = frozenset(("timestamptz", "timestamp", "date", "time", "interval", "bytea", "inet", "cidr"))
_ARRAY: tuple[LiteralString, LiteralString] = (
    "CASE WHEN {c} IS NOT NULL THEN (SELECT coalesce(array_dims({c}), '') || ' ' || coalesce(json_agg(",
    " ORDER BY mirror_at)::text, '[]') FROM unnest({c}) WITH ORDINALITY AS mirror_of(mirror_element, mirror_at)) END",
)
_ELEMENT: LiteralString = "mirror_element"


def expression(codec: str) -> LiteralString:
    """What to select for column {c} of a codec of an adopted column; to be fetched in binary form."""
    form = form_of_codec(codec)
    if form.kind != "array" or form.element is None:
        return _EXPRESSIONS.get(form.kind, _TEXT)
    before, after = _ARRAY
    return before + _of_element(form.element.kind) + after


def _of_element(kind: str) -> LiteralString:
    """The text of an element."""
    selected = _EXPRESSIONS.get(kind, _TEXT).replace("{c}", _ELEMENT)
    if kind in _SENT:
        return "encode(" + selected + ", 'hex')"
    if kind in ("float4", "float8"):
        return "encode(float8send(" + selected + "), 'hex')"
    return "(" + selected + ")::text"


Convert = Callable[[Any], Cell]


@lru_cache(maxsize=4096)
def converter(codec: str) -> Convert | None:
    """What makes the canonical value of what was selected, which is not None; None: it is the value."""
    form = form_of_codec(codec)
    found = _array(form.element) if form.kind == "array" and form.element is not None else _CONVERTERS.get(form.kind)
    return None if found is None else _unless_null(found)


def _unless_null(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _array(form: Form) -> Convert:
    whole, read = _CONVERTERS.get(form.kind), _READ.get(form.kind)
    if form.kind in _SENT:
        read = bytes.fromhex

    def element(text: str | None) -> Cell:
        if text is None:
            return None
        value = text if read is None else read(text)
        return value if whole is None else whole(value)

    def convert(text: str) -> Cell:
        bounds, _, elements = text.partition(" ")
        return array_text(bounds, [element(each) for each in json.loads(elements)])

    return convert


def _moment(data: bytes) -> Cell:
    micros: int = _EIGHT.unpack(data)[0]
    if micros in (INT64_MAX, INT64_MIN):
        return Foreign("infinity" if micros > 0 else "-infinity")
    return micros + _EPOCH_2000 * DAY


def _date(data: bytes) -> Cell:
    days: int = _FOUR.unpack(data)[0]
    if days in (_INT32_MAX, _INT32_MIN):
        return Foreign("infinity" if days > 0 else "-infinity")
    return days + _EPOCH_2000


def _time(data: bytes) -> Cell:
    return int(_EIGHT.unpack(data)[0])


def _interval(data: bytes) -> Cell:
    micros, days, months = _INTERVAL.unpack(data)
    if months in (_INT32_MAX, _INT32_MIN):
        return Foreign("infinity" if months > 0 else "-infinity")
    if months:
        return Foreign(f"{months} months {days} days {micros} microseconds")
    return int(micros + days * DAY)


def _numeric(text: str) -> Cell:
    return Foreign(text) if text[-1].isalpha() else text


def _network(data: bytes) -> Cell:
    return network_text(data[4:], data[1], cidr=bool(data[2]))


def _document(text: str) -> Cell:
    try:
        return document(text)
    except (ValueError, RecursionError, Misfit):  # none that was mirrored: deeper than any that is read
        return Foreign(text)


_CONVERTERS: dict[str, Convert] = {
    "timestamptz": _moment,
    "timestamp": _moment,
    "date": _date,
    "time": _time,
    "interval": _interval,
    "numeric": _numeric,
    "inet": _network,
    "cidr": _network,
    "jsonb": _document,
    "vector": of_text,
    "halfvec": of_text,
}
#: Of elements that are not bytes and not texts: what reads their texts.
_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("int2", "int4", "int8", "boolean"), int),
    **dict.fromkeys(("float4", "float8"), lambda text: _DOUBLE.unpack(bytes.fromhex(text))[0]),
}


# ------------------------------------------------------------------------------------------ for people


def shown(codec: str, cell: Cell) -> Any:
    """A canonical value as JSON (:mod:`mirror.parity.shown`): times as texts, documents as they are."""
    kind = form_of_codec(codec).kind
    if not isinstance(cell, int):
        return value_of(cell)
    match kind:
        case "boolean":
            return bool(cell)
        case "timestamptz" | "timestamp" if FIRST <= cell <= LAST:
            time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=cell)
            return (time if kind == "timestamptz" else time.replace(tzinfo=None)).isoformat(" ")
        case "date" if 1 <= cell + EPOCH_DAY <= date.max.toordinal():
            return date.fromordinal(cell + EPOCH_DAY).isoformat()
        case "time" | "interval":
            sign, micros = "-" if cell < 0 else "", abs(cell)
            seconds, rest = divmod(micros, 10**6)
            text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            return f"{text}.{rest:06}" if rest else text
        case _:
            return value_of(cell)
