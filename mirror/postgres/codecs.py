"""SQLite values as Postgres values and back.

An encoder takes one SQLite value and returns Postgres' text form of it (``None`` for NULL): one form
for prepared statements, where the server knows each parameter's type, and for COPY. It raises
:class:`Misfit` where the column would have to be jsonb to hold the value, and :class:`Reject` where
Postgres cannot hold it at all. What else a new codec needs: "Adding a codec" in ``mirror/README.md``.

The lossless JSON encoding, used in jsonb columns and in ``mirror.rejects``: integer -> integer
literal; real -> a number with a fraction or an exponent, so that 1 and 1.0 stay apart; -0.0 and
infinities -> ``{"real": ...}``; text -> string; blob -> ``{"blob": base64}``; text that is not
valid in the database's encoding -> ``{"text": base64}`` of its bytes; text with NUL, which jsonb has no string for (in
rejects it is a string) -> ``{"utf8": base64}`` of it in UTF-8; a virtual column that SQLite cannot compute (rejects
only) -> ``{"error": message}``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from mirror.core.values import BadText, Uncomputed, Value

Encoder = Callable[[Value], "str | None"]

#: A btree entry of Postgres has at most 2,704 bytes; a longer key is rejected here, before the server refuses it.
MAX_KEY_BYTES = 2600

#: Of strings in jsonb, in UTF-8, and of all elements of a document (``JENTRY_OFFLENMASK`` in Postgres' sources).
MAX_JSON_BYTES = 0x0FFFFFFF

#: Postgres allocates at most 0x3FFFFFFF bytes at once (``MaxAllocSize``): for a value with its header of 4 bytes,
#: and for a whole row before its values are moved out of it. The rest is room for headers of the row and its values.
MAX_ROW_BYTES = 0x3FFFFFFF - 0x10000

#: Of a row's values that Postgres cannot hold, so many bytes are kept in ``mirror.rejects``.
MAX_KEPT_BYTES = 64_000_000

#: So many bytes are a string of base64 for which a document has room.
_MAX_BASE64_BYTES = (MAX_JSON_BYTES - 16) // 4 * 3
#: Characters that are encoded at a time to see how long a text is.
_PART = 1 << 20

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

OVERSIZED = "larger than a row of Postgres can be (1 GB)"
OVERSIZED_JSON = "larger than jsonb can be (256 MB)"
BAD_TEXT = "text that is not valid in the database's encoding"
NUL_TEXT = "text with a NUL character"
LONG_KEY = "key too long for a Postgres index"


class Unfit(Exception):  # noqa: N818 - not an error of the program
    """A value that its column cannot hold; ``column`` is empty, or filled in by a caller that knows it."""

    def __init__(self, reason: str, column: str = "") -> None:
        self.reason = reason
        self.column = column
        super().__init__(reason, column)


class Misfit(Unfit):
    """The value would fit if the column were jsonb."""


class Reject(Unfit):
    """Postgres cannot hold the value in any type."""


class UnfitText(Reject):
    """Text that Postgres has no form for. It would fit if the column were :data:`~mirror.core.tables.ANY_TEXT`.

    In a key, text with NUL would fit if the column were jsonb.
    """


def real_text(value: float) -> str:
    """Take a finite real; return its shortest exact decimal, always recognisable as a real."""
    if value.is_integer() and abs(value) < 1e19:
        return f"{int(value)}.0"
    return repr(value)


def json_text(value: Value) -> str:
    """Take any SQLite value; return it in the lossless JSON encoding."""
    match value:
        case None:
            return "null"
        case str():
            return json.dumps(value)
        case int():
            return str(value)
        case float():
            if math.isinf(value):
                return '{"real":"Infinity"}' if value > 0 else '{"real":"-Infinity"}'
            if value == 0 and math.copysign(1, value) < 0:
                return '{"real":"-0.0"}'
            return real_text(value)
        case bytes():
            return f'{{"blob":"{base64.b64encode(value).decode()}"}}'
        case BadText():
            return f'{{"text":"{base64.b64encode(value.raw).decode()}"}}'
        case Uncomputed():
            return f'{{"error":{json.dumps(value.error)}}}'


def jsonb_text(value: Value) -> str:
    """Take any SQLite value; return it in the lossless JSON encoding, in the form that jsonb takes."""
    if isinstance(value, str) and "\0" in value:
        return f'{{"utf8":"{base64.b64encode(value.encode()).decode()}"}}'
    return json_text(value)


def json_array(values: Sequence[Value]) -> str:
    """Take values; return them as one JSON array in the lossless encoding."""
    return f"[{','.join(map(json_text, values))}]"


def json_object(names: Sequence[str], values: Sequence[Value], most: int = MAX_KEPT_BYTES) -> str:
    """Take column names and as many values; return one JSON object in the lossless encoding.

    Of values that take more than ``most`` bytes together, the last ones are left out, with their sizes in bytes.
    """
    left = most
    members = []
    for name, value in zip(names, values, strict=True):
        size = size_of(value)
        left -= size
        text = json_text(value) if left >= 0 else f'{{"left_out":{size}}}'
        if left < 0:
            left += size
        members.append(f"{json.dumps(name)}:{text}")
    return f"{{{','.join(members)}}}"


def size_of(value: Value) -> int:
    """How many bytes a value has in UTF-8; 8 for one that is neither text nor blob."""
    match value:
        case str():
            if value.isascii():
                return len(value)
            return sum(len(value[at : at + _PART].encode()) for at in range(0, len(value), _PART))
        case bytes():
            return len(value)
        case BadText():
            return len(value.raw)
        case _:
            return 8


def _check_size(value: Value, most: int, reason: str) -> None:
    if isinstance(value, str) and 4 * len(value) <= most:
        return
    if size_of(value) > most:
        raise Reject(reason)


def misfit(value: Value, pg_type: str) -> Unfit:
    """Describe a value by its kind only: errors go to logs, where contents do not belong."""
    if isinstance(value, Uncomputed):
        return Reject(f"SQLite cannot compute it ({value.error})")
    return Misfit(f"{kind_of(value)} in a column of type {pg_type}")


def kind_of(value: Value) -> str:
    """What a value is, for messages."""
    if isinstance(value, str) and "\0" in value:
        return "a text with NUL"
    return {int: "an integer", float: "a real", str: "a text", bytes: "a blob"}.get(type(value), "a text")


def _check_text(value: str) -> str:
    if "\0" in value:
        raise UnfitText(NUL_TEXT)
    if 4 * len(value) > MAX_ROW_BYTES:
        _check_size(value, MAX_ROW_BYTES, OVERSIZED)
    return value


def _bigint(value: Value) -> str | None:
    if type(value) is int:
        return str(value)
    if value is None:
        return None
    raise misfit(value, "bigint")


def _double(value: Value) -> str | None:
    if type(value) is float:
        return repr(value)
    if value is None:
        return None
    raise misfit(value, "double precision")


def _text(value: Value) -> str | None:
    if type(value) is str:
        return _check_text(value)
    if value is None:
        return None
    if isinstance(value, BadText):
        raise UnfitText(BAD_TEXT)
    raise misfit(value, "text")


def _bytea(value: Value) -> str | None:
    if type(value) is bytes:
        _check_size(value, MAX_ROW_BYTES, OVERSIZED)
        return "\\x" + value.hex()
    if value is None:
        return None
    raise misfit(value, "bytea")


def _boolean(value: Value) -> str | None:
    if type(value) is int and (value == 0 or value == 1):
        return "t" if value else "f"
    if value is None:
        return None
    raise misfit(value, "boolean")


def _numeric(value: Value) -> str | None:
    if type(value) is int:
        return str(value)
    if value is None:
        return None
    if type(value) is float:
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        if value != 0 or math.copysign(1, value) > 0:  # numeric has no negative zero
            return real_text(value)
    raise misfit(value, "numeric")


def _jsonb(value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, Uncomputed):
        raise misfit(value, "jsonb")
    check_json_size(value)
    return jsonb_text(value)


def check_json_size(value: Value) -> None:
    """Raise :class:`Reject` for a value that has no room in jsonb, in the lossless encoding."""
    plain = isinstance(value, str) and "\0" not in value
    _check_size(value, MAX_JSON_BYTES if plain else _MAX_BASE64_BYTES, OVERSIZED_JSON)


def _jsonb_key(value: Value) -> str | None:
    """A key: text that is not valid is rejected, because nobody could ask SQLite for the rows after it."""
    if isinstance(value, BadText):
        raise Reject(BAD_TEXT)
    return _jsonb(value)


#: The encoder of each Postgres type that a mapping may name.
ENCODERS: dict[str, Encoder] = {
    "bigint": _bigint,
    "double precision": _double,
    "text": _text,
    "bytea": _bytea,
    "boolean": _boolean,
    "numeric": _numeric,
    "jsonb": _jsonb,
}

#: Those that are others for a column of the key.
_KEY_ENCODERS: dict[str, Encoder] = {"jsonb": _jsonb_key}


def key_encoder(pg_type: str) -> Encoder:
    """The encoder of a column of a key, of a type without a codec; raises ``KeyError`` for an unknown type."""
    return _KEY_ENCODERS.get(pg_type) or ENCODERS[pg_type]


#: Bytes of one encoded key value in an index entry; types of fixed or small size count 16.
_KEY_SIZES: dict[str, Callable[[str], int]] = {
    "text": lambda text: len(text) if text.isascii() else len(text.encode()),
    "bytea": lambda text: len(text) // 2 - 1,
    "jsonb": len,
}


def check_key(pg_types: Sequence[str], encoded: Sequence[str | None]) -> None:
    """Take a key's types and encoded values; raise :class:`Reject` if no index entry can hold it."""
    size = 16 * (len(pg_types) - 1)
    for pg_type, text in zip(pg_types, encoded, strict=True):
        if text is not None and (measure := _KEY_SIZES.get(pg_type)):
            size += measure(text)
    if size > MAX_KEY_BYTES:
        raise Reject(LONG_KEY)


def encode(pg_type: str, value: Value) -> str | None:
    """Encode one value for a column of ``pg_type``; raises :class:`Misfit`, :class:`Reject`."""
    return ENCODERS[pg_type](value)


def decode(pg_type: str, value: Any) -> Value:
    """Take what psycopg read from a column of ``pg_type``; return the SQLite value it stands for.

    Raises ``ValueError`` for a jsonb document or a NaN that no SQLite value encodes to.
    """
    if value is None:
        return None
    match pg_type:
        case "boolean":
            return int(value)
        case "bytea":
            return bytes(value)
        case "numeric":
            return _from_decimal(value)
        case "jsonb":
            return from_json(value)
        case _:
            return value  # type: ignore[no-any-return]


def _from_decimal(value: Decimal) -> int | float:
    exponent = value.as_tuple().exponent
    if value.is_nan():
        raise ValueError("NaN stands for no SQLite value")
    if exponent == 0 and _INT64_MIN <= value <= _INT64_MAX:
        return int(value)
    return float(value)


def from_json(value: object) -> Value:
    """Undo the lossless JSON encoding of one parsed document; raises ``ValueError`` if it stands for no value."""
    match value:
        case bool():
            pass
        case int():
            return value if _INT64_MIN <= value <= _INT64_MAX else float(value)
        case float() | str():
            return value
        case {"blob": str(encoded), **rest} if not rest:
            return _from_base64(encoded)
        case {"text": str(encoded), **rest} if not rest:
            return BadText(_from_base64(encoded))
        case {"utf8": str(encoded), **rest} if not rest:
            return _from_base64(encoded).decode()
        case {"real": "Infinity" | "-Infinity" | "-0.0" as real, **rest} if not rest:
            return float(real)
    raise ValueError(f"a JSON {type(value).__name__} that stands for no SQLite value")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64 in a blob") from error
