"""Rows with large values: each is sent by itself, in binary form and in pieces.

A statement's parameters, and a row of a text COPY, are in memory whole in the client's library, which never returns
that memory, and a bytea doubles in its text form; a binary COPY of pieces needs no second copy of a value. It goes to
a table of texts and byteas, in which the binary form of every encoded value is that value in UTF-8; one INSERT then
casts them to the types of the table that is meant.

What Postgres holds: a value has less than 1 GB (``MaxAllocSize``), and so has a whole row, because it is in memory once
before long values are moved out of it (``heap_form_tuple``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg.sql import SQL, Composable, Identifier

from mirror.postgres.codecs import size_of
from mirror.postgres.ddl import type_sql
from mirror.postgres.target import Conn

#: Bytes of a row's encoded values, above which it is sent by itself.
LARGE_BYTES = 4_000_000

#: Bytes, or characters, that are sent at a time.
_PIECE = 1 << 16
_TABLE = Identifier("pg_temp", "mirror_large")
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_NOTHING = SQL("")
_END = b"\xff\xff"

#: One stored column's encoded value: as text, or a bytea's bytes.
Sent = str | bytes | None


def send(
    conn: Conn,
    into: Composable,
    names: Sequence[str],
    pg_types: Sequence[str],
    values: Sequence[Sent],
    on_conflict: Composable = _NOTHING,
) -> None:
    """Insert one row into a table, in a transaction that has begun.

    ``into``: the table; ``names``, ``pg_types``: its columns, and ``values`` encoded for these. ``on_conflict``: the
    rest of the INSERT. Raises psycopg's errors.
    """
    kinds = [(Identifier(f"c{at}"), SQL("bytea" if isinstance(v, bytes) else "text")) for at, v in enumerate(values)]
    columns = SQL(", ").join(SQL("{} {}").format(*kind) for kind in kinds)
    conn.execute(SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(Identifier("mirror_large"), columns))
    # Compressed once, in the table that is meant.
    plain = SQL(", ").join(SQL("ALTER COLUMN {} SET STORAGE EXTERNAL").format(name) for name, _ in kinds)
    conn.execute(SQL("ALTER TABLE {} {}").format(_TABLE, plain))
    with conn.cursor().copy(SQL("COPY {} FROM STDIN (FORMAT binary)").format(_TABLE)) as copy:
        copy.write(_HEAD + len(values).to_bytes(2, "big"))
        for value in values:
            for piece in _field(value):
                copy.write(piece)
        copy.write(_END)
    casts = SQL(", ").join(
        SQL("{}::{}").format(name, type_sql(pg_type)) for (name, _), pg_type in zip(kinds, pg_types, strict=True)
    )
    conn.execute(
        SQL("INSERT INTO {} ({}) SELECT {} FROM {} {}").format(
            into, SQL(", ").join(map(Identifier, names)), casts, _TABLE, on_conflict
        )
    )
    # The disk is given back at once, not at the end of the transaction, because the table is of this transaction.
    conn.execute(SQL("TRUNCATE {}").format(_TABLE))
    conn.execute(SQL("DROP TABLE {}").format(_TABLE))


def _field(value: Sent) -> Iterator[bytes]:
    """One field of a binary COPY: its size in bytes, and them."""
    if value is None:
        yield b"\xff\xff\xff\xff"
        return
    yield size_of(value).to_bytes(4, "big")
    if isinstance(value, bytes):
        view = memoryview(value)
        yield from (bytes(view[at : at + _PIECE]) for at in range(0, len(view), _PIECE))
    else:
        yield from (value[at : at + _PIECE].encode() for at in range(0, len(value), _PIECE))
