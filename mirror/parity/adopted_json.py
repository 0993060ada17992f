"""Documents and arrays in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

The canonical value of ``json`` is its text. That of ``jsonb`` is a text of the document in which equal documents are
equal: members by their names, the last one of several; numbers as jsonb keeps them, so that ``1e2`` is ``100`` and
``1.0`` is not ``1``. That of an array is its bounds and its elements' canonical values. In an array a number with a
point or an exponent is a double, where it is not a numeric.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from mirror.core.adopted import Form
from mirror.parity.adopted_numbers import in_numeric
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, lossy
from mirror.parity.values import Cell, literal

#: Of an array.
_MOST_DIMENSIONS = 6
#: How deep a document may be nested.
_MOST_LEVELS = 500
#: Fewer digits than any limit of numeric.
_SHORT = 1000
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_EXPONENT = re.compile("[0-9][eE]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def _refuse(_: str) -> NoReturn:
    raise Misfit("no JSON")


def _number(text: str) -> msgspec.Raw:
    """A number in a document, as jsonb keeps it."""
    if len(text) < _SHORT and "e" not in text and "E" not in text and not text.startswith("-0"):
        return msgspec.Raw(text)  # most are written so
    number = format(in_numeric(text), "f")
    return msgspec.Raw(number[1:] if number[0] == "-" and not number.strip("-0.") else number)


_DOCUMENT = msgspec.json.Decoder(float_hook=_number)
_LONG_DOCUMENT = json.JSONDecoder(parse_constant=_refuse, parse_int=_number, parse_float=_number)
_CHECK = msgspec.json.Decoder(float_hook=lambda _: None)
#: Keeps all texts, those of names that come again too.
_LONG_CHECK = json.JSONDecoder(
    object_pairs_hook=list, parse_constant=_refuse, parse_int=lambda _: None, parse_float=lambda _: None
)
_VALUES = json.JSONDecoder(parse_constant=_refuse)
_NUMERICS = json.JSONDecoder(parse_constant=_refuse, parse_int=str, parse_float=str)


def document(text: str) -> str:
    """The canonical text of a document; raises ``ValueError``, ``RecursionError``, :class:`Misfit` for a number."""
    try:
        found = _DOCUMENT.decode(text)
    except msgspec.ValidationError:  # an integer of more digits than Python reads
        _check_long(text)
        found = _LONG_DOCUMENT.decode(text)
    return msgspec.json.encode(found, order="sorted").decode()


def _check_long(text: str) -> None:
    msgspec.json.encode(_LONG_CHECK.decode(text))  # raises ``ValueError`` for a surrogate that stands alone


def decoder(form: Form) -> Decode:
    """What makes canonical values of documents."""
    return _json if form.kind == "json" else _jsonb


def _jsonb(value: Cell) -> Cell | Lossy:
    """A document as jsonb keeps it."""
    text = _text_of(value)
    try:
        found = document(text)
    except (ValueError, RecursionError) as error:
        raise Misfit("no JSON") from error
    if "\\u0000" in text and _NUL.search(text):
        raise Misfit("a text with NUL")
    _check_levels(text)
    return lossy(
        found,
        "with an integer, where SQLite has a number with an exponent" if _has_whole_exponents(text) else "",
        "with the last of members of one name" if _quotes(found) < _quotes(text) else "",
    )


def _quotes(text: str) -> int:
    """Of a document, twice as many as its strings: a member that another takes the place of takes its name with it."""
    text = text.replace(r"\\", "")
    return text.count('"') - text.count(r"\"")


def _has_whole_exponents(text: str) -> bool:
    """Whether a document has a number with an exponent of which jsonb keeps no fraction: it is another type then."""
    if _EXPONENT.search(text) is None:
        return False
    numbers: list[str] = []
    json.loads(text, parse_int=lambda _: None, parse_float=numbers.append)
    return any("." not in format(in_numeric(number), "f") for number in numbers if "e" in number.lower())


def _json(value: Cell) -> Cell:
    """A document as json keeps it: its text."""
    text = _text_of(value)
    try:
        try:
            _CHECK.decode(text)
        except msgspec.ValidationError:
            _check_long(text)
    except (ValueError, RecursionError) as error:
        raise Misfit("no JSON") from error
    _check_levels(text)
    return text


def _check_levels(text: str) -> None:
    """Raises :class:`Misfit` for a document that is nested too deep."""
    if text.count("[") + text.count("{") <= _MOST_LEVELS:
        return
    level = 0
    for mark in _STRING.sub("", text):
        if mark in "[{":
            level += 1
            if level > _MOST_LEVELS:
                raise Misfit("nested too deep")
        elif mark in "]}":
            level -= 1


def _text_of(value: Cell) -> str:
    match value:
        case str():
            return value
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise Misfit("no JSON") from error
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case _:
            raise Misfit("no JSON")


# ------------------------------------------------------------------------------------------------ arrays


def array(form: Form, element: Decode) -> Decode:
    """What makes canonical values of arrays, by what makes those of their elements."""
    assert form.element is not None
    inner = form.element
    values = _NUMERICS if inner.kind == "numeric" else _VALUES

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            raise Misfit("no array")
        try:
            found = values.decode(value)
        except (ValueError, RecursionError) as error:
            raise Misfit("no array") from error
        if found is None:
            return Lossy(None, "as NULL, where SQLite has a JSON null")
        if not isinstance(found, list):
            raise Misfit("no array")
        sizes: list[int] = []
        elements = found
        while True:
            sizes.append(len(elements) // math.prod(sizes))
            if len(sizes) > _MOST_DIMENSIONS:
                raise Misfit("an array of too many dimensions")
            lists = [part for part in elements if isinstance(part, list)]
            if not lists:
                break
            if len(lists) < len(elements) or len({len(part) for part in lists}) > 1 or not lists[0]:
                raise Misfit("an array that is not rectangular")
            elements = [part for each in lists for part in each]
        cells: list[Cell] = []
        lost: dict[str, None] = {}
        for part in elements:
            cell = _element(part, inner, element)
            if isinstance(cell, Lossy):
                lost[cell.lost] = None
                cell = cell.cell
            cells.append(cell)
        bounds = "".join(f"[1:{size}]" for size in sizes) if elements else ""
        return lossy(array_text(bounds, cells), *lost)

    return decode


def _element(part: Any, form: Form, decode: Decode) -> Cell | Lossy:
    if part is None:
        return None
    if form.kind in ("json", "jsonb"):
        raise Misfit("no value of the array")
    if isinstance(part, bool):
        if form.kind != "boolean":
            raise Misfit("no value of the array")
        return int(part)
    if isinstance(part, dict) or (isinstance(part, float) and not math.isfinite(part)):
        raise Misfit("no value of the array")
    if isinstance(part, str) and not part.isascii():
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise Misfit("a surrogate that stands alone") from error
    return decode(part)


def array_text(bounds: str, cells: list[Cell]) -> str:
    """The canonical text of an array; ``bounds`` as Postgres writes them, empty without elements."""
    return f"{bounds}{{{', '.join(map(literal, cells))}}}"
