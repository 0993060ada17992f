"""Arrays: text of a JSON array as Postgres' text form of one.

Each element is what the form of the elements takes. true and false go where that is boolean, and nowhere else. A
number goes by its text into numeric, elsewhere as an integer or a double; an object nowhere. Arrays in each other are
one array of several dimensions, at most 6, if all of one depth have one length, which is not 0: Postgres has no empty
ones in others. An array of JSON takes null alone, because there an array in it could be either. The document null is
NULL: a column of JSON holds it for the absence that a column of arrays has NULL for (SQLAlchemy writes it so).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, clean_text, unheard
from mirror.postgres.adopted.json_values import document
from mirror.postgres.codecs import MAX_ROW_BYTES, OVERSIZED, Reject, size_of
from mirror.postgres.json_forms import Number

NULL = "a JSON null is NULL"
NOT_AN_ARRAY = "a text that is not a JSON array"
RAGGED = "an array that is not rectangular"
TOO_DEEP = "an array of more than 6 dimensions"
EMPTY_INSIDE = "an array with an empty one in it"
ODD_ELEMENT = "an array with an element of another type"
OF_JSON = "an array of JSON values"
OUT_OF_RANGE = "an array with a number out of range"

MAX_DIMENSIONS = 6
#: An integer of more digits fits no type but numeric.
_LONGEST_INTEGER = 400
#: What an element takes at most beside its text.
_ROOM_OF_AN_ELEMENT = 24


def array(form: Form, conversion: Callable[[Form], Conversion]) -> Conversion:
    """Arrays of what ``conversion`` makes of the elements' form."""
    element = form.element
    assert element is not None, "an array has a form of its elements"
    convert_element = conversion(element)
    kind = element.kind
    number: Callable[[str], Value] = str if kind == "numeric" else _real
    integer: Callable[[str], Value] = str if kind == "numeric" else _integer

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        found = _parsed(document(clean_text(value, "arrays")))
        if found is None:
            note(NULL)
            return None
        shape = _shape(found, MAX_DIMENSIONS)
        if shape == (0,):
            return "{}"
        encoded = encode(found, len(shape), note)
        if size_of(encoded) + _ROOM_OF_AN_ELEMENT * math.prod(shape) > MAX_ROW_BYTES:
            raise Reject(OVERSIZED)
        return encoded

    def encode(items: list[Any], depth: int, note: Note) -> str:
        if depth > 1:
            return "{" + ",".join(encode(item, depth - 1, note) for item in items) + "}"
        return "{" + ",".join(quoted(convert_element(value_of(item), note)) for item in items) + "}"

    def value_of(item: object) -> Value:
        if item is None:
            return None
        if kind in ("jsonb", "json"):
            raise Reject(OF_JSON)
        if isinstance(item, Number):
            return integer(item) if item.lstrip("-").isdigit() else number(item)
        if isinstance(item, bool) and kind == "boolean":
            return int(item)
        if isinstance(item, str):
            return item
        raise Reject(ODD_ELEMENT)

    return convert


def quoted(text: str | None) -> str:
    """An element: in quotes always, so that neither NULL nor a brace nor space is read as such."""
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parsed(text: str) -> list[Any] | None:
    try:
        found = json.loads(text, parse_int=Number, parse_float=Number)
    except RecursionError as error:
        raise Reject(TOO_DEEP) from error
    if found is not None and not isinstance(found, list):
        raise Reject(NOT_AN_ARRAY)
    return found


def _shape(items: list[Any], dimensions: int) -> tuple[int, ...]:
    """The lengths by depth; raises :class:`Reject` for more than so many dimensions, and where lengths differ."""
    inner = [item for item in items if isinstance(item, list)]
    if not inner:
        return (len(items),)
    if len(inner) < len(items):
        raise Reject(RAGGED)
    if dimensions == 1:
        raise Reject(TOO_DEEP)
    first, *others = {_shape(item, dimensions - 1) for item in inner}
    if others:
        raise Reject(RAGGED)
    if 0 in first:
        raise Reject(EMPTY_INSIDE)
    return (len(items), *first)


def _real(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Reject(OUT_OF_RANGE)
    return number


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise Reject(OUT_OF_RANGE)
    return int(text)
