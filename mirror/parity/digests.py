"""Comparing a range of keys by one digest from each side, where reading the rows would take longer.

Postgres makes the digest of its rows itself, so that 32 bytes are sent instead of the rows. The digest is SHA-256
of the images of all rows in key order, and the image of a row is the images of its values, one after the other:

================================ ============================================================
value                            image
================================ ============================================================
NULL                             00
bigint, boolean                  01, int64 big-endian
double precision                 01, IEEE 754 big-endian
any other                        01, SHA-256 of: text in UTF-8; the bytes of a bytea; what
                                 ``vector_send`` gives; the text of numeric, jsonb, milliseconds
                                 and of what a boolean stands for
================================ ============================================================

Equal digests mean equal rows, because each image stands for one value of the source. Different ones prove nothing,
because one value may have several texts in jsonb: then the rows themselves are compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from hashlib import sha256
from itertools import chain
from struct import Struct
from typing import LiteralString

from mirror.parity import kinds
from mirror.parity.originals import document_alone, moment_shown
from mirror.parity.plan import MappedColumn
from mirror.parity.typed import posted_json
from mirror.parity.values import INT64_MAX, INT64_MIN, Cell, Cells, literal

_INTEGER = Struct(">q")
_REAL = Struct(">d")
_VECTOR_HEAD = Struct(">HH")

#: A slice of fewer rows that took less time does not count as a measurement.
_LEAST_ROWS, _LEAST_SECONDS = 1000, 0.05
#: Slices after which the slower way is measured again.
_TRY_AGAIN = 64


class Choice:
    """Which way to compare the next slice: the one that took less time a row when it was last measured."""

    def __init__(self) -> None:
        self._seconds: dict[bool, float] = {}
        self._slices = 0

    def by_digest(self) -> bool:
        """Whether to compare the next slice by its digest."""
        if len(self._seconds) < 2:
            return False in self._seconds
        better = self._seconds[True] < self._seconds[False]
        return better is not (self._slices % _TRY_AGAIN == 0)

    def took(self, rows: int, seconds: float, *, by_digest: bool) -> None:
        """Record how long (in seconds) a slice of so many rows took, and which way."""
        if rows >= _LEAST_ROWS or (rows and seconds >= _LEAST_SECONDS):
            self._slices += 1
            self._seconds[by_digest] = seconds / rows


def expression(column: MappedColumn) -> LiteralString:
    """SQL for the image of a column.

    ``{e}`` is the expression that parity selects for it, ``{c}`` the column, ``{v}`` pgvector's schema.
    """
    if column.codec == "vector":
        value: LiteralString = "sha256({v}.vector_send({c}))"
    elif column.codec in kinds.WORDS:
        value = "sha256(convert_to({e}, 'UTF8'))"
    elif column.pg_type in ("bigint", "boolean"):
        value = "int8send({e})"
    elif column.pg_type == "double precision":
        value = "float8send({e})"
    elif column.pg_type == "bytea":
        value = "sha256({e})"
    else:
        value = "sha256(convert_to({e}, 'UTF8'))"
    return "coalesce('\\x01'::bytea || " + value + ", '\\x00'::bytea)"


def digest_of(columns: Sequence[MappedColumn], rows: Sequence[Cells]) -> bytes | None:
    """The digest of the source's rows in key order; None where a value has no image: Postgres cannot hold it."""
    by_column = list(zip(*rows, strict=True)) if rows else []
    try:
        images = [_images(_encoder(column), values) for column, values in zip(columns, by_column, strict=bool(rows))]
        return sha256(b"".join(chain.from_iterable(zip(*images, strict=True)))).digest()
    except _NoImage:
        return None


class _NoImage(Exception):  # noqa: N818 - not an error
    """A value that Postgres cannot hold in this column, or that has no text of its own there."""


def _images(encode: Callable[[Cell], bytes], values: Sequence[Cell]) -> list[bytes]:
    return [b"\0" if value is None else b"\1" + encode(value) for value in values]


def _encoder(column: MappedColumn) -> Callable[[Cell], bytes]:
    """The function that makes the image of a value that is not NULL, or raises :class:`_NoImage`."""
    return _BY_CODEC.get(column.codec) or _BY_TYPE.get(column.pg_type, _text)


def _integer(value: Cell) -> bytes:
    if not isinstance(value, int):
        raise _NoImage
    return _INTEGER.pack(value)


def _double(value: Cell) -> bytes:
    if not isinstance(value, float):
        raise _NoImage
    return _REAL.pack(value)


def _text(value: Cell) -> bytes:
    if not isinstance(value, str):
        raise _NoImage
    return sha256(value.encode()).digest()


def _blob(value: Cell) -> bytes:
    if not isinstance(value, bytes):
        raise _NoImage
    return sha256(value).digest()


def _numeric(value: Cell) -> bytes:
    # A whole double has the same text in numeric as SQLite's integer of that value.
    if not isinstance(value, int | float) or (
        isinstance(value, float) and value.is_integer() and INT64_MIN <= value <= INT64_MAX
    ):
        raise _NoImage
    return _text(_digits(value))


def _jsonb(value: Cell) -> bytes:
    match value:
        case int():
            return _text(str(value))
        case str() if "\0" not in value:
            return _text(json.dumps(value, ensure_ascii=False))
        case float():
            written = literal(value)
            return _text(written.replace(":", ": ") if written.startswith("{") else _digits(value, written))
        case bytes():
            return _text(literal(value).replace(":", ": "))
        case _:
            raise _NoImage


def _digits(value: float, written: str | None = None) -> str:
    """A number as Postgres writes it: without an exponent."""
    return format(Decimal(written or repr(value)), "f")


def _millis(value: Cell) -> bytes:
    if not isinstance(value, int):
        raise _NoImage
    return _text(str(value))


def _json(value: Cell) -> bytes:
    if not isinstance(value, str):
        raise _NoImage
    return _text(posted_json(value))


def _bytes(value: Cell) -> bytes:
    if not isinstance(value, str):
        raise _NoImage
    return sha256(b"~" + value.encode()).digest()


def _number(value: Cell) -> bytes:
    image = kinds.number_image(value)
    if image is None:
        raise _NoImage
    return image


def _moment(value: Cell) -> bytes:
    if isinstance(value, str) and moment_shown(value) == value:
        return _text(f"~{value}")
    if not isinstance(value, int):
        raise _NoImage
    return _text(f"={value}\n{moment_shown(value) or 'NULL'}")


def _escaped(value: Cell) -> bytes:
    if not isinstance(value, str) or "\0" in value:
        raise _NoImage
    return _text(f"~{value}")


def _document(value: Cell) -> bytes:
    if isinstance(value, int):
        return _text(f"~{value}")
    if isinstance(value, float):
        written = literal(value)
        if written.startswith("{"):
            raise _NoImage
        return _text(f"~{_digits(value, written)}")
    posted = document_alone(value)
    if posted is None:
        raise _NoImage
    return _text(posted)


def _vector(value: Cell) -> bytes:
    if not isinstance(value, bytes) or len(value) % 4 or not value:
        raise _NoImage
    number = len(value) // 4
    if number > 0xFFFF:
        raise _NoImage
    words = Struct(f"<{number}I").unpack(value)
    return sha256(_VECTOR_HEAD.pack(number, 0) + Struct(f">{number}I").pack(*words)).digest()


_BY_CODEC = {
    "millis": _millis,
    "time": _text,
    "json": _json,
    "vector": _vector,
    "document": _document,
    "escaped": _escaped,
    "bytes": _bytes,
    "moment": _moment,
    "number": _number,
    **dict.fromkeys(kinds.WORDS, _text),
}
_BY_TYPE = {
    "bigint": _integer,
    "boolean": _integer,
    "double precision": _double,
    "bytea": _blob,
    "numeric": _numeric,
    "jsonb": _jsonb,
}
