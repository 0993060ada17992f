"""JSON: ``jsonb`` and ``json``.

A text is JSON as RFC 8259 has it: white space is space, tab, line feed and carriage return; no NaN, no byte order
mark; ``\\ud800`` to ``\\udfff`` only in pairs. At most 500 arrays and objects lie in each other: Postgres' own limit
depends on its stack. Two members of one name are JSON. json keeps the text as it is; jsonb keeps the last of such
members, has no NUL in strings, and numbers as numeric holds them; it writes out what has an exponent, so that programs
read an integer for ``1e300``.
"""

from __future__ import annotations

import math
import re
from json import JSONDecoder
from typing import Any

import msgspec

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, refuse, unheard
from mirror.postgres.adopted.instants import NOT_FINITE
from mirror.postgres.adopted.numbers import DECIMAL, fits_numeric
from mirror.postgres.adopted.texts import check_size
from mirror.postgres.codecs import MAX_JSON_BYTES, OVERSIZED_JSON, Reject, size_of

NOT_JSON = "a text that is not JSON"
NOT_UTF8 = "a blob that is not JSON in UTF-8"
TOO_DEEP = "JSON of too many levels"
NUL = "JSON with a NUL character"
WRITTEN_OUT = "a number with an exponent is an integer"
TWICE = "of members of one name the last is kept"
OUT_OF_RANGE = "JSON with a number that numeric does not hold"

#: Arrays and objects in each other.
MAX_DEPTH = 500

#: Reads a document without making anything of it.
_CHECKER = msgspec.json.Decoder(msgspec.Raw)
#: What a document consists of, once it is known to be one: strings, brackets, numbers.
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{\]}]|-?\d[-+.0-9eE]*+', re.ASCII | re.DOTALL)
#: 0 for each digit, e for E.
_SHAPE = bytes.maketrans(b"0123456789E", b"0000000000e")
_MANY_DIGITS = b"0" * 5000
_EXPONENT = re.compile(r"\d[eE]", re.ASCII)
#: In jsonb, a value of so few bytes that it is read from one or two characters, with all that describes it.
_ROOM_OF_A_VALUE = 16


def jsonb(form: Form) -> Conversion:
    """Documents, read by Postgres."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is not str and type(value) is not bytes:
            text = _of_other(value)
            if text is not None and _is_written_out(text):
                note(WRITTEN_OUT)
            return text
        text = document(value)
        if note is not unheard:
            if _is_written_out(text):
                note(WRITTEN_OUT)
            if _has_a_name_twice(text):
                note(TWICE)
        if "\\u0000" in text or _may_be_out_of_range(text.encode().translate(_SHAPE, b"+-")):
            _check_tokens(text)
        _check_room(text)
        return text

    return convert


def json(form: Form) -> Conversion:
    """Documents, kept as they are written."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is not str and type(value) is not bytes:
            return _of_other(value)
        text = document(value)
        check_size(text)
        return text

    return convert


def document(value: str | bytes) -> str:
    """The text of a JSON document; raises :class:`Reject` for others, and for one that is too deep."""
    try:
        text = value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise Reject(NOT_UTF8) from error
    try:
        _CHECKER.decode(text)
    except RecursionError as error:
        raise Reject(TOO_DEEP) from error
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Reject(NOT_JSON if isinstance(value, str) else NOT_UTF8) from error
    if len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise Reject(TOO_DEEP)
    return text


def _of_other(value: Value) -> str | None:
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    if type(value) is not float:
        refuse(value, "JSON")
    if not math.isfinite(value):
        raise Reject(NOT_FINITE)
    return repr(value)


def _may_be_out_of_range(shape: bytes) -> bool:
    """Whether there is an exponent of 4 digits, or a number of 5000, in a document or in its strings."""
    return b"0e0000" in shape or _MANY_DIGITS in shape


def _is_written_out(text: str) -> bool:
    """Whether a number with an exponent has no digit after the point once it is written without it."""
    if _EXPONENT.search(text) is None:
        return False
    numbers = (DECIMAL.fullmatch(token[0]) for token in _TOKENS.finditer(text))
    return any(each and each[3] is not None and int(each[3]) >= len(each[2] or "") for each in numbers)


class _TwiceError(Exception):
    """An object has two members of one name."""


def _once(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) < len(members):
        raise _TwiceError


_ONCE = JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str)


def _has_a_name_twice(text: str) -> bool:
    """Whether an object in a document has two members of one name, however that is written."""
    if text.count(":") < 2:
        return False
    try:
        _ONCE.decode(text)
    except _TwiceError:
        return True
    return False


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _TOKENS.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def _check_tokens(text: str) -> None:
    """Raise :class:`Reject` for strings and numbers that jsonb does not hold."""
    for token in _TOKENS.finditer(text):
        found = token[0]
        if found[0] == '"':
            # A backslash that is itself escaped begins nothing.
            if "\\u0000" in found and "\\u0000" in found.replace("\\\\", ""):
                raise Reject(NUL)
        elif found[0] not in "[{]}":
            match = DECIMAL.fullmatch(found)
            if match is None or not fits_numeric(*match.groups()):
                raise Reject(OUT_OF_RANGE)


def _check_room(text: str) -> None:
    """Raise :class:`Reject` for a document that may be larger than jsonb can be."""
    if 4 * len(text) * _ROOM_OF_A_VALUE <= MAX_JSON_BYTES:
        return
    size = size_of(text)
    values = sum(map(text.count, ",:[{")) + 1
    if size + _ROOM_OF_A_VALUE * values > MAX_JSON_BYTES:
        raise Reject(OVERSIZED_JSON)
