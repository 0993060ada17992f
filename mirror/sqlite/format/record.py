"""The record format: one row (or one index key) as bytes.

A header of varints, then the values' bodies back to back. The first varint is the size of the
header itself in bytes, each further one the serial type of a column:

===========  =========  =======================================
serial type  body size  value
===========  =========  =======================================
0            0          NULL
1 2 3 4 5 6  1 2 3 4 6 8  big-endian two's-complement integer
7            8          big-endian IEEE 754 double
8, 9         0          the integers 0 and 1
10, 11       --         never in a file
even >= 12   (n-12)/2   BLOB
odd >= 13    (n-13)/2   TEXT in the database's encoding
===========  =========  =======================================

A record may be shorter than its table has columns: ALTER TABLE ADD COLUMN leaves old records as
they are, and the reader fills in the defaults.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mirror.core.errors import FormatError
from mirror.core.values import BadText, Value
from mirror.sqlite.format.varint import read_varint

#: Size of the body by serial type, below 12.
_SIZE = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)
#: SQLite has at most 32,767 columns in a table, with at most 9 bytes for each.
_LONGEST_HEADER = 9 * 32_768
#: SQLite's limit in bytes, however it was built.
_LONGEST_VALUE = 2**31 - 1
_double = struct.Struct(">d").unpack_from


def decode_record(payload: bytes, encoding: str = "utf-8") -> list[Value]:
    """Decode one record into its values.

    Integers and reals come as they are stored (a REAL column stores whole numbers as integers);
    TEXT that is not valid in ``encoding`` comes as :class:`~mirror.core.values.BadText`.
    Raises ``FormatError`` for a record that SQLite cannot have written.
    """
    values: list[Value] = []
    append = values.append
    try:
        head_end = payload[0]
        at = 1
        if head_end >= 0x80:
            head_end, at = read_varint(payload, 0)
        body = head_end
        while at < head_end:
            kind = payload[at]
            at += 1
            if kind >= 0x80:
                low = payload[at]
                if low < 0x80:
                    kind = (kind & 0x7F) << 7 | low
                    at += 1
                else:
                    kind, at = read_varint(payload, at - 1)
            if kind >= 13 and kind & 1:
                end = body + ((kind - 13) >> 1)
                raw = payload[body:end]
                try:
                    append(raw.decode(encoding))
                except UnicodeDecodeError:
                    append(BadText(raw))
                body = end
            elif kind == 0:
                append(None)
            elif 1 <= kind <= 6:
                end = body + _SIZE[kind]
                append(int.from_bytes(payload[body:end], "big", signed=True))
                body = end
            elif kind == 7:
                append(_double(payload, body)[0])
                body += 8
            elif kind == 8:
                append(0)
            elif kind == 9:
                append(1)
            elif kind >= 12:
                end = body + ((kind - 12) >> 1)
                append(payload[body:end])
                body = end
            else:
                raise FormatError("decode a record", f"offset {at}", f"serial type {kind}")
    except (IndexError, OverflowError, struct.error):
        raise FormatError("decode a record", f"offset {len(payload)}", "the record ends too early") from None
    if body > len(payload) or at != head_end:
        raise FormatError(
            "decode a record",
            f"offset {at}",
            f"header of {head_end} and body to {body} in {len(payload)} bytes",
        )
    return values


def decode_pieces(pieces: Iterator[bytes], encoding: str = "utf-8") -> list[Value]:
    """The same of a record that comes in pieces, for large values: besides the values, at most one is in memory twice.

    Raises ``FormatError``.
    """
    source = _Pieces(pieces)
    head = bytes(source.take(1))
    while head[-1] >= 0x80 and len(head) < 9:
        head += source.take(1)
    size, at = read_varint(head, 0)
    if not at <= size <= _LONGEST_HEADER:
        raise FormatError("decode a record", "offset 0", f"a header of {size} bytes")
    head += source.take(size - at)
    values: list[Value] = []
    while at < size:
        start = at
        kind, at = read_varint(head, at)
        if kind < 12:
            body = b"" if not 0 <= kind < len(_SIZE) else source.take(_SIZE[kind])
            values += decode_record(bytes((1 + at - start,)) + head[start:at] + body)
            continue
        body = source.take((kind - 12) >> 1)
        if not kind & 1:
            values.append(bytes(body))
            continue
        try:
            values.append(body.decode(encoding))
        except UnicodeDecodeError:
            values.append(BadText(bytes(body)))
        del body
    return values


class _Pieces:
    """Bytes that come in pieces, taken in others."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def take(self, size: int) -> bytearray:
        """The next ``size`` bytes; raises ``FormatError`` if there are not as many."""
        if size > _LONGEST_VALUE:  # a damaged page may claim any size
            raise FormatError("decode a record", "header", f"a value of {size} bytes")
        found, at = bytearray(size), 0
        while at < size:
            if not self._left:
                self._left = memoryview(next(self._pieces, b""))
                if not self._left:
                    raise FormatError("decode a record", f"{size - at} bytes missing", "the record ends too early")
            part = self._left[: size - at]
            found[at : at + len(part)] = part
            at += len(part)
            self._left = self._left[len(part) :]
        return found


def leading_bytes(payload: bytes, columns: int) -> bytes | None:
    """Serial types and bodies of a record's first columns: equal for equal values, and for no others.

    None if the payload, which may be the start of a longer one, does not hold them. Raises ``FormatError``.
    """
    body, at = read_varint(payload, 0)
    head, types = body, at
    for _ in range(columns):
        if at >= head or at >= len(payload):
            return None
        kind = payload[at]
        at += 1
        if kind >= 0x80:
            kind, at = read_varint(payload, at - 1)
        if kind < 0:
            raise FormatError("read a key", f"offset {at}", f"serial type {kind}")
        body += (kind - 12) >> 1 if kind >= 12 else _SIZE[kind]
    return payload[types:at] + payload[head:body] if head <= body <= len(payload) else None
