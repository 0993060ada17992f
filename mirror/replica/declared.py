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
from mirror.core.quote import quoted
from mirror.core.sql_words import Token, condition_of, deferred_keys, hides_conflicts
from mirror.core.tables import Affinity
from mirror.sqlite.decode.schema import affinity

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
    condition: tuple[Token, ...] = ()
    """What follows WHERE in the statement of one that is partial."""


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
    on_update: str
    """Likewise."""
    deferred: bool | None
    """Whether it is checked only at the end of a transaction; None: that could not be found in the statement."""


@dataclass(frozen=True, slots=True)
class DeclaredColumn:
    """How values of a column are compared, and what a row has in it that names none."""

    affinity: Affinity
    collation: str
    """In capitals."""
    default: str | None
    """The expression of its DEFAULT; None: NULL."""


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
    highest_id: int | None
    """The highest number that a row has; None: there is no row, or nobody gives numbers."""
    indexes: tuple[Index, ...]
    references: tuple[Reference, ...]
    triggers: int
    columns: dict[str, DeclaredColumn]
    """By name, lower case."""
    conflicts: bool
    """Whether a constraint has ON CONFLICT IGNORE or REPLACE."""


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


def has_wal(source: Path) -> bool:
    """Whether a source is in WAL mode; found without a statement, which could take a lock. Raises apsw's errors."""
    with closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as probe:
        probe.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return probe.read("main", 0, 18, 2)[1] == b"\2\2"


def read_declarations(source: Path) -> Declarations:
    """What a source declares now. Raises ``SourceError``."""
    try:
        with closing(open_to_read(source, wal=has_wal(source))) as connection:
            return _read(connection)
    except apsw.Error as error:
        detail = f"{type(error).__name__}: {error}"
        step = "run it again when no program changes the file"
        raise SourceError("read the source's constraints", str(source), detail, next_step=step) from error


def _read(connection: apsw.Connection) -> Declarations:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
    schema: list[tuple[str, str, str, str | None]] = list(connection.execute(query))
    last: dict[str, int] = {}
    if any(name == "sqlite_sequence" for _, name, _, _ in schema):
        found = connection.execute("SELECT name, seq FROM sqlite_sequence")
        last = {name: number for name, number in found if isinstance(number, int)}
    triggers = Counter(table.lower() for kind, _, table, _ in schema if kind == "trigger")
    statements = {(kind, name): sql or "" for kind, name, _, sql in schema}
    listed = connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    names = [(str(name), bool(strict)) for name, strict in listed]
    tables = {
        name: _table(connection, name, strict, statements, last.get(name, 0), triggers[name.lower()])
        for name, strict in names
        if not name.lower().startswith("sqlite_")
    }
    return Declarations(tables, tuple(name for kind, name, _, _ in schema if kind == "view"))


def _table(
    connection: apsw.Connection,
    name: str,
    strict: bool,
    statements: dict[tuple[str, str], str],
    last_id: int,
    triggers: int,
) -> Declared:
    """``statements``: by type and name, the text in the schema."""
    columns: list[Any] = list(
        connection.execute(
            'SELECT name, "notnull", pk, type, dflt_value FROM pragma_table_xinfo(?) WHERE hidden <> 1', (name,)
        )
    )
    key = tuple(column for _, column in sorted((pk, column) for column, _, pk, _, _ in columns if pk))
    indexes = list(connection.execute('SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (name,)))
    keyed = any(origin == "pk" for _, _, origin, _ in indexes)
    given_id = key[0] if len(key) == 1 and not keyed else None
    return Declared(
        name,
        not_null=tuple(column for column, not_null, *_ in columns if not_null),
        primary_key=key,
        given_id=given_id,
        last_id=last_id,
        highest_id=None if given_id is None else _highest(connection, name, given_id),
        indexes=tuple(
            Index(
                index,
                bool(unique),
                bool(partial),
                _parts(connection, index),
                condition_of(statements.get(("index", index), "")) if partial else (),
            )
            for index, unique, _, partial in indexes
        ),
        references=_references(connection, name, statements.get(("table", name), "")),
        triggers=triggers,
        columns={
            column.lower(): DeclaredColumn(
                # ANY is no type of its own, except in STRICT tables, where nothing is converted.
                "BLOB" if strict and kind.upper() == "ANY" else affinity(kind or ""),
                str(connection.column_metadata("main", name, column)[1]).upper(),
                default,
            )
            for column, _, _, kind, default in columns
        },
        conflicts=hides_conflicts(statements.get(("table", name), "")),
    )


def _highest(connection: apsw.Connection, table: str, column: str) -> int | None:
    """One row of the b-tree is read."""
    [(number,)] = connection.execute(f"SELECT max({quoted(column)}) FROM {quoted(table)}")
    return number if isinstance(number, int) else None


def _references(connection: apsw.Connection, name: str, statement: str) -> tuple[Reference, ...]:
    references: dict[int, list[Any]] = {}
    for row in connection.execute(
        'SELECT id, "table", "from", "to", on_delete, on_update FROM pragma_foreign_key_list(?) ORDER BY id, seq',
        (name,),
    ):
        references.setdefault(row[0], []).append(row)
    deferred: list[bool | None] = [*deferred_keys(statement)]
    if len(deferred) != len(references):
        deferred = [None] * len(references)
    return tuple(
        Reference(
            tuple(column for _, _, column, _, _, _ in rows),
            rows[0][1],
            tuple(column for _, _, _, column, _, _ in rows if column is not None),
            rows[0][4],
            rows[0][5],
            deferred[-1 - number],  # SQLite lists the last one first
        )
        for number, rows in references.items()
    )


def _parts(connection: apsw.Connection, index: str) -> tuple[KeyPart, ...]:
    found = connection.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,))
    return tuple(KeyPart(name, str(collation).upper()) for name, collation in found)
