"""Reads all values of a source, some thousand rows at a time, so that no read transaction lasts long.

Its program may write meanwhile: each part then shows another state. What is counted is what was seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from mirror.core.errors import SourceError
from mirror.core.quote import quoted
from mirror.core.rules import NO_RULES, Rules, folded
from mirror.core.sql_values import decoded, with_classes
from mirror.core.tables import Table
from mirror.core.values import Row
from mirror.postgres.codecs import json_array
from mirror.postgres.source_copy import stand_in
from mirror.replica.declared import Declarations, open_to_read, read_declarations
from mirror.replica.source_connection import OpenSource
from mirror.sqlite.decode.schema import Schema, SchemaRow, parse_schema

#: Seconds that reading one part may take, and the rows that it has at first, at least and at most.
_PART_SECONDS = 0.04
_FIRST_ROWS, _FEWEST_ROWS, _MOST_ROWS = 1_000, 100, 16_000
_COLLATIONS = frozenset(("BINARY", "NOCASE", "RTRIM"))


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a table."""

    rows: list[Row]
    """Each with the values of the columns that were asked for."""
    names: list[Row]
    """As many: what each is called by, the rowid or the values of a WITHOUT ROWID table's key."""

    def columns(self) -> list[Sequence[Any]]:
        """The values by column."""
        return list(zip(*self.rows, strict=True)) if self.rows else []


class Source:
    """A source that is open for reading. Made by :func:`open_source`."""

    def __init__(self, path: Path, connection: apsw.Connection, declarations: Declarations) -> None:
        self.path = path
        self.declarations = declarations
        self._db = connection
        self._encoding = str(connection.pragma("encoding")).lower()
        self._rows = [
            SchemaRow(*row)
            for row in connection.execute("SELECT type, name, tbl_name, ifnull(rootpage, 0), sql FROM sqlite_schema")
        ]

    def schema(self, rules: Rules = NO_RULES) -> Schema:
        """The tables, without the columns that the rules leave out. Raises ``SourceError``."""
        return parse_schema(self._rows, rules)

    def uniques(self, table: str) -> list[tuple[str, ...]]:
        """The columns of each unique index of a table that has all rows and no expression."""
        declared = self.declarations.table(table)
        if declared is None:
            return []
        columns = [
            tuple(part.column for part in index.parts if part.column is not None)
            for index in declared.indexes
            if index.unique and not index.partial and all(part.column is not None for part in index.parts)
        ]
        return [*columns, declared.primary_key] if declared.primary_key else columns

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """All that is read in the block is what the file has now. Programs' checkpoints cannot begin the log anew
        meanwhile: only where none is to write. Raises ``apsw.Error``.
        """
        self._db.execute("BEGIN")
        try:
            self._db.execute("SELECT 1 FROM sqlite_schema").fetchall()
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def read(self, query: str, values: Sequence[str] = ()) -> Iterator[Any]:
        """The rows of a query, one by one. Raises ``apsw.Error``, and ``SourceError`` for text that is not valid."""
        try:
            yield from self._db.execute(query, values)
        except UnicodeDecodeError as error:
            raise SourceError("read the source", str(self.path), f"it has text that is not valid: {error}") from error

    @property
    def statements(self) -> dict[str, str]:
        """How each table of the file was made, by name."""
        return {row.name: row.sql or "" for row in self._rows if row.kind == "table"}

    def name_of_rowid(self, table: Table) -> str | None:
        """How SQL names the rowid; None: there is none, or all its names are columns' names."""
        if table.without_rowid:
            return None
        taken = {folded(column.name) for column in table.declared.columns} | {folded(each) for each in table.left_out}
        free = (name for name in ("rowid", "_rowid_", "oid") if name not in taken)
        return next(free, None if table.rowid_alias is None else quoted(table.rowid_alias))

    def parts(self, table: Table, columns: Sequence[str]) -> Iterator[Part]:
        """All rows of a table, as parts. Raises ``apsw.Error``, of a damaged table too."""
        rowid = self.name_of_rowid(table)
        keys = [rowid] if rowid is not None else [quoted(name) for name in table.primary_key]
        if not keys:
            raise apsw.SQLError(f"no name is left for the rowid of {table.name}")
        names = [quoted(name) for name in columns]
        last: Row | None = None
        # By an order that only the program knows nothing can be found again: such a table is read at once.
        known = all(collation.upper() in _COLLATIONS for collation in table.collations)
        most = _FIRST_ROWS if known else -1
        while True:
            began = time.monotonic()
            part = self._part(table.name, keys, names, last, most)
            took = time.monotonic() - began
            if part.rows:
                yield part
            if len(part.rows) < most or not known:
                return
            if rowid is not None and last is not None and not last < part.names[-1]:
                raise apsw.CorruptError("its b-tree leads back")  # SQLite would read it for ever
            last = part.names[-1]
            if took < _PART_SECONDS / 2:
                most = min(most * 2, _MOST_ROWS)
            elif took > _PART_SECONDS:
                most = max(most // 2, _FEWEST_ROWS)

    def _part(self, table: str, keys: list[str], names: list[str], last: Row | None, most: int) -> Part:
        key = ", ".join(keys)
        after = "" if last is None else f" WHERE ({key}) > ({', '.join('?' * len(keys))})"
        rest = f" FROM {quoted(table)}{after} ORDER BY {key} LIMIT {most}"
        bindings: Any = last or ()
        width = len(keys)
        if self._encoding == "utf-8":  # from others SQLite repairs broken text
            try:
                rows: list[Any] = self._db.execute(f"SELECT {', '.join([*keys, *names])}{rest}", bindings).fetchall()
                return Part([row[width:] for row in rows], [row[:width] for row in rows])
            except UnicodeDecodeError:
                pass  # a text in this part is not valid: it is read as bytes
        parts = [*keys, with_classes(names)] if names else keys
        rows = self._db.execute(f"SELECT {', '.join(parts)}{rest}", bindings).fetchall()
        read = [decoded(row[width:], self._encoding) if names else () for row in rows]
        return Part(read, [row[:width] for row in rows])

    def texts(self, table: str, columns: Sequence[str]) -> frozenset[tuple[str, ...]] | None:
        """The rows of a small table as texts; None: there is no such table, or it lacks a column."""
        declared = self.declarations.table(table)
        if declared is None or any(folded(name) not in declared.columns for name in columns):
            return None
        listed = ", ".join(f"CAST({quoted(name)} AS TEXT)" for name in columns)
        rows: list[Any] = self._db.execute(f"SELECT {listed} FROM {quoted(declared.name)}").fetchall()
        return frozenset(rows)


def shown_key(values: Row) -> str:
    """A key as ``mirror.rejects`` has it."""
    return json_array(values)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """A source for as long as the block runs. Raises ``SourceError``, also for SQLite's errors in the block."""
    opened = OpenSource(path)  # raises if it cannot be followed: network, encryption, locks, rights
    try:
        wal = opened.in_wal_mode
    finally:
        opened.close()
    declarations = read_declarations(path)
    try:
        connection = open_to_read(path, wal=wal)
        try:
            connection.collation_needed(stand_in)
            yield Source(path, connection, declarations)
        finally:
            connection.close()
    except apsw.Error as error:
        detail = f"{type(error).__name__}: {error}"
        raise SourceError(
            "read the source", str(path), detail, next_step="run it again; else `mirror doctor`"
        ) from error
