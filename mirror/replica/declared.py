"""What a source declares besides tables and columns: keys, references, NOT NULL, indexes, views, triggers.

Read through SQL, by commands that look at a source for a moment. Nothing is written, and no read transaction outlasts
a statement.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from mirror.core.errors import SourceError

#: Milliseconds to wait for a lock.
_BUSY_MS = 2000


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One part of an index."""

    column: str | None
    """None: an expression."""
    collation: str
    """In capitals: BINARY, NOCASE, RTRIM, or one of the program's own."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a table; also that of a UNIQUE or PRIMARY KEY constraint."""

    name: str
    unique: bool
    partial: bool
    """Whether it has only the rows that fulfil a condition."""
    parts: tuple[KeyPart, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key."""

    columns: tuple[str, ...]
    referred: str
    """Name of the table that it refers to, in the letters of its definition; there may be no such table."""
    referred_columns: tuple[str, ...]
    """Empty: the primary key."""
    on_delete: str
    """As SQLite reports it: NO ACTION, CASCADE, SET NULL and so on."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What one table declares."""

    name: str
    not_null: tuple[str, ...]
    primary_key: tuple[str, ...]
    """In key order."""
    given_id: str | None
    """The INTEGER PRIMARY KEY column: SQLite gives it a number where a program names none."""
    last_id: int
    """The highest number ever given, if the table is AUTOINCREMENT and has had rows; else 0."""
    indexes: tuple[Index, ...]
    references: tuple[Reference, ...]
    triggers: int


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a source declares."""

    tables: dict[str, Declared] = field(default_factory=dict)
    views: tuple[str, ...] = ()

    def table(self, name: str) -> Declared | None:
        """The table of a name, in any letters, as SQLite finds it."""
        wanted = name.lower()
        return next((table for each, table in self.tables.items() if each.lower() == wanted), None)


def open_to_read(source: Path, *, wal: bool) -> apsw.Connection:
    """Open a source for reading; outside WAL mode, where every reader blocks writers, without any lock.

    Raises apsw's errors.
    """
    if not wal:
        name = f"file:{quote(str(source))}?immutable=1"
        return apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(_BUSY_MS)
    connection.execute("PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0")
    return connection


def read_declarations(source: Path) -> Declarations:
    """What a source declares now. Raises ``SourceError``."""
    try:
        with closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as probe:
            probe.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            wal = probe.read("main", 0, 18, 2)[1] == b"\2\2"  # without a statement, which could take a lock
        with closing(open_to_read(source, wal=wal)) as connection:
            return _read(connection)
    except apsw.Error as error:
        detail = f"{type(error).__name__}: {error}"
        step = "run it again when no program changes the file"
        raise SourceError("read the source's constraints", str(source), detail, next_step=step) from error


def _read(connection: apsw.Connection) -> Declarations:
    schema: list[tuple[str, str, str]] = list(connection.execute("SELECT type, name, tbl_name FROM sqlite_schema"))
    last: dict[str, int] = {}
    if any(name == "sqlite_sequence" for _, name, _ in schema):
        found = connection.execute("SELECT name, seq FROM sqlite_sequence")
        last = {name: number for name, number in found if isinstance(number, int)}
    triggers = Counter(table.lower() for kind, _, table in schema if kind == "trigger")
    listed = connection.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    names = [str(name) for (name,) in listed]
    tables = {
        name: _table(connection, name, last.get(name, 0), triggers[name.lower()])
        for name in names
        if not name.lower().startswith("sqlite_")
    }
    return Declarations(tables, tuple(name for kind, name, _ in schema if kind == "view"))


def _table(connection: apsw.Connection, name: str, last_id: int, triggers: int) -> Declared:
    columns: list[Any] = list(
        connection.execute('SELECT name, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1', (name,))
    )
    key = tuple(column for _, column in sorted((pk, column) for column, _, pk in columns if pk))
    indexes = list(connection.execute('SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (name,)))
    keyed = any(origin == "pk" for _, _, origin, _ in indexes)
    references: dict[int, list[Any]] = {}
    for row in connection.execute(
        'SELECT id, "table", "from", "to", on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq', (name,)
    ):
        references.setdefault(row[0], []).append(row)
    return Declared(
        name,
        not_null=tuple(column for column, not_null, _ in columns if not_null),
        primary_key=key,
        given_id=key[0] if len(key) == 1 and not keyed else None,
        last_id=last_id,
        indexes=tuple(
            Index(index, bool(unique), bool(partial), _parts(connection, index))
            for index, unique, _, partial in indexes
        ),
        references=tuple(
            Reference(
                tuple(column for _, _, column, _, _ in rows),
                rows[0][1],
                tuple(column for _, _, _, column, _ in rows if column is not None),
                rows[0][4],
            )
            for rows in references.values()
        ),
        triggers=triggers,
    )


def _parts(connection: apsw.Connection, index: str) -> tuple[KeyPart, ...]:
    found = connection.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,))
    return tuple(KeyPart(name, str(collation).upper()) for name, collation in found)
