"""Documents and arrays in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

The canonical value of ``json`` is its text. That of ``jsonb`` is a text of the document in which equal documents are
equal: members by their names, the last one of several; numbers as jsonb keeps them, so that ``1e2`` is ``100`` and
``1.0`` is not ``1``. That of an array is its bounds and its elements' canonical values.

Readings of the vocabulary that it leaves open:

* a real in a column of JSON is the number that ``repr`` gives, an integer its digits;
* in an array JSON's true and false are 1 and 0 for elements that are boolean, and nothing else; a number with a point
  or an exponent is a double;
* a document that is null is NULL in a column of arrays, whatever their elements;
* an array of arrays without elements is not taken (Postgres has no such), nor one with elements of JSON but null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from mirror.core.adopted import Form
from mirror.parity.adopted_numbers import in_numeric
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, lossy
from mirror.parity.values import Cell, literal


def _refuse(_: str) -> NoReturn:
    raise Misfit("no JSON")


def _number(text: str) -> str:
    """A number in a document: with a NUL before it, which no text in jsonb has."""
    if len(text) < _SHORT and "e" not in text and "E" not in text and text[0] != "-":
        return f"\0{text}"  # most are as jsonb keeps them
    number = format(in_numeric(text), "f")
    return "\0" + (number[1:] if number[0] == "-" and not number.strip("-0.") else number)


_DOCUMENT = json.JSONDecoder(parse_constant=_refuse, parse_int=_number, parse_float=_number)
#: Fewer digits than any limit of numeric.
_SHORT = 1000
_EXPONENT = re.compile("[0-9][eE]")
_VALUES = json.JSONDecoder(parse_constant=_refuse)
_TEXTS = json.JSONDecoder(parse_constant=_refuse, parse_int=float, parse_float=float)


def document(text: str) -> str:
    """The canonical text of a document; raises ``ValueError``, ``RecursionError``, :class:`Misfit` for a number."""
    return msgspec.json.encode(_DOCUMENT.decode(text), order="sorted").decode()


def decoder(form: Form) -> Decode:
    """What makes canonical values of documents."""
    return _json if form.kind == "json" else _jsonb


def _jsonb(value: Cell) -> Cell | Lossy:
    """A document as jsonb keeps it."""
    text = _text_of(value)
    try:
        found = document(text)
        if "\\u0000" in text and any("\0" in part for part in _texts(_TEXTS.decode(text))):
            raise Misfit("a text with NUL")
    except (ValueError, RecursionError) as error:  # also of a surrogate that stands alone
        raise Misfit("no JSON") from error
    if _EXPONENT.search(text) is not None and _has_whole_exponents(text):
        return Lossy(found, "with an integer, where SQLite has a number with an exponent")
    return found


def _has_whole_exponents(text: str) -> bool:
    """Whether a document has a number with an exponent of which jsonb keeps no fraction: it is another type then."""
    numbers: list[str] = []
    json.loads(text, parse_float=numbers.append)
    return any(_EXPONENT.search(each) and "." not in format(in_numeric(each), "f") for each in numbers)


def _json(value: Cell) -> Cell:
    """A document as json keeps it: its text."""
    text = _text_of(value)
    try:
        _TEXTS.decode(text)
    except (ValueError, RecursionError) as error:
        raise Misfit("no JSON") from error
    return text


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


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    if isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


# ------------------------------------------------------------------------------------------------ arrays


def array(form: Form, element: Decode) -> Decode:
    """What makes canonical values of arrays, by what makes those of their elements."""
    assert form.element is not None
    inner = form.element

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            raise Misfit("no array")
        try:
            found = _VALUES.decode(value)
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
    if isinstance(part, dict):
        raise Misfit("no value of the array")
    return decode(part)


def array_text(bounds: str, cells: list[Cell]) -> str:
    """The canonical text of an array; ``bounds`` as Postgres writes them, empty without elements."""
    return f"{bounds}{{{', '.join(map(literal, cells))}}}"
