"""The format of what a program's hooks send to the sidecar, for both ends.

After a line each way (:class:`mirror.core.messages.Hook`) come blocks: a 4-byte big-endian length, and so many bytes of
MessagePack, which are a list of messages:

============================================================== ==============================================
message                                                         meaning
============================================================== ==============================================
``("commit", time, agent, place, rows)``                       a transaction that was committed just now; rows: a
                                                                list of encoded rows, None: not all are known
``("lost", count)``                                            so many messages did not fit
============================================================== ==============================================

``time``: of the system-wide monotonic clock, in nanoseconds. ``place``: None, or

``("wal", salt1, salt2, frame)``, ``("file", counter, cookie, inode)``
    the commit before it: see :mod:`mirror.hook.place`.

Each row is encoded as a MessagePack array of its own, so that what is queued in the program has a known size and
cannot change any more:

``(op, table, rowid, new rowid, before, after)``
    ``op``: INSERT, UPDATE or DELETE; ``before`` and ``after``: the values in the order of the table's columns, or None
``(op, table, rowid)``
    only the key is known; after an update it is the new one

A value is what SQLite has: None, an integer of 64 bits, a float (with its sign at zero, and infinite, but never NaN),
text that is valid, bytes.

Tuples are encoded, and what is decoded is checked: a ``ValueError`` for anything that no hook sends, and for more than
the limits below. Nothing that is read here is executed.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec

#: Bytes of rows that may wait in a program.
LIMIT_BYTES = 64 << 20
#: Bytes of a block after which no further message is put into it.
FULL_BLOCK_BYTES = 4 << 20
#: Bytes of a block: the last message may have as many as may wait, and each row and message adds a few.
MOST_BLOCK_BYTES = LIMIT_BYTES + 2 * FULL_BLOCK_BYTES
#: Messages of a block, and rows of a transaction; of a larger one, only the commit is sent.
MOST_MESSAGES, MOST_ROWS = 1_000, 20_000
#: Characters of an agent's name.
MOST_NAME = 200

_Word = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Integer = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Values = Annotated[tuple[Any, ...], msgspec.Meta(max_length=32_767)]  # SQLite's SQLITE_MAX_COLUMN goes no higher


class WalPlace(msgspec.Struct, frozen=True, array_like=True, tag="wal"):
    """A commit in the WAL."""

    salt1: _Word
    salt2: _Word
    frame: _Word


class FilePlace(msgspec.Struct, frozen=True, array_like=True, tag="file"):
    """A commit of a file without a WAL."""

    counter: _Word
    cookie: _Word
    inode: Annotated[int, msgspec.Meta(ge=0)]


class Commit(msgspec.Struct, frozen=True, array_like=True, tag="commit"):
    """A transaction."""

    told_at: _Count
    agent: str | None
    place: WalPlace | FilePlace | None
    rows: Annotated[list[bytes], msgspec.Meta(max_length=MOST_ROWS)] | None


class Lost(msgspec.Struct, frozen=True, array_like=True, tag="lost"):
    """Messages that did not fit into the queue."""

    count: _Count


class HookedRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that a transaction has written, as its hook sent it."""

    op: Literal["INSERT", "UPDATE", "DELETE"]
    table: str
    rowid: _Integer
    new_rowid: _Integer | None = None
    """None: only the key is known."""
    before: _Values | None = None
    after: _Values | None = None


#: Encodes a row, given as a tuple. Called for each row that a program writes, so without a wrapper. Raises
#: ``TypeError``, ``ValueError`` (text that is not valid), ``OverflowError``.
encode_row = msgspec.msgpack.Encoder().encode
_encode = msgspec.msgpack.Encoder().encode
_rows = msgspec.msgpack.Decoder(HookedRow)
_blocks = msgspec.msgpack.Decoder(Annotated[list[Commit | Lost], msgspec.Meta(max_length=MOST_MESSAGES + 1)])


def encode_block(messages: list[tuple[Any, ...]]) -> bytes:
    """A block of messages, with its length in front."""
    data = _encode(messages)
    return len(data).to_bytes(4, "big") + data


def decode_block(data: bytes) -> list[Commit | Lost]:
    """The messages of a block (without its length); their rows are checked but stay encoded. Raises ``ValueError``."""
    messages: list[Commit | Lost] = _decoded(_blocks, data)
    for message in messages:
        if isinstance(message, Commit):
            for row in message.rows or ():
                decode_row(row)
    return messages


def decode_row(data: bytes) -> HookedRow:
    """Decode a row and check it. Raises ``ValueError``."""
    row: HookedRow = _decoded(_rows, data)
    if row.new_rowid is None:
        if row.before is not None or row.after is not None:
            raise ValueError("a row without its new key")
        return row
    if (row.before is None) is not (row.op == "INSERT") or (row.after is None) is not (row.op == "DELETE"):
        raise ValueError(f"{row.op} with other values than it has")
    for values in (row.before, row.after):
        for value in values or ():
            if not _is_sqlites(value):
                raise ValueError(f"SQLite has no such value: {value!r:.100}")
    return row


def _is_sqlites(value: Any) -> bool:
    kind = type(value)
    if kind is str or value is None or kind is bytes:
        return True
    if kind is float:
        return not math.isnan(value)
    return kind is int and bool(value < 1 << 63)  # MessagePack's unsigned integers go up to 64 bits


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (RecursionError, TypeError) as error:  # nested too deeply; a list as a key
        raise ValueError(str(error)) from error
