"""ALTER TABLE ... ADD COLUMN with every kind of default: followed live, a table is what its first copy is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.support.mirrors import MirrorProcess
from tests.support.quick import quick
from tests.support.source import Writer, WriterError
from tests.support.waiting import LIMIT

TYPES = ("", "INTEGER", "VARCHAR(3)", "BLOB", "REAL", "DECIMAL(5,2)", "BOOLEAN", "DATETIME", "JSON", "ANY")
DEFAULTS = (
    "NULL", "0", "1", "5", "-5", "+5", "9223372036854775807", "9223372036854775808", "1.5", "-0.0", "0.1", "1e999",
    "-1e999", "1e15", "''", "'abc'", "'5'", "'1.5'", "' 5 '", "'1e3'", "'{\"a\": 1}'", "'2024-01-01'", "x''", "x'00ff'",
    "x'616263'", "TRUE", "FALSE", "(1 + 2)", "('a' || 'b')", "(-x'31')", "CURRENT_TIMESTAMP", "\"quoted\"", "bare",
    "'it''s'", "'ü\U0001f600'", "'a' NOT NULL", "2 CHECK (k > 0)", "'A' COLLATE NOCASE",
)  # fmt: skip
STRICT_TYPES = ("INTEGER", "TEXT", "BLOB", "REAL", "ANY")
KINDS = {"plain": "", "keyed": "WITHOUT ROWID", "strict": "STRICT"}

_COLUMNS: LiteralString = (
    "SELECT table_name, column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = %s ORDER BY 1, column_name = '_original', ordinal_position"
)


def shape_and_rows(dsn: str, schema: str) -> dict[str, tuple[list[str], list[str]]]:
    """By table, its columns with their types, and its rows as text."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    with psycopg.connect(dsn) as connection:
        for table, column, kind in connection.execute(_COLUMNS, (schema,)).fetchall():
            if "__dropped_" not in table and "__dropped_" not in column:
                found.setdefault(table, ([], []))[0].append(f"{column} {kind}")
        for table, (_, rows) in found.items():
            names = [Identifier(column.partition(" ")[0]) for column in found[table][0]]
            query = SQL("SELECT ROW({})::text FROM {} ORDER BY 1").format(
                SQL(", ").join(names), Identifier(schema, table)
            )
            rows += [row[0] for row in connection.execute(query)]
    return found


@pytest.mark.parametrize("kind", quick("strict", among=sorted(KINDS)))
def test_live_and_first_copy_agree(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, kind: str
) -> None:
    """Rows from before keep short records, later ones have the column."""
    types = STRICT_TYPES if kind == "strict" else TYPES
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF")
        tables = [(f"t{number}", name) for number, name in enumerate(types)]
        made = [f"CREATE TABLE {table}(k INTEGER PRIMARY KEY, v TEXT) {KINDS[kind]}" for table, _ in tables]
        writer.transaction(*made, *(f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b')" for table, _ in tables))
        mirror = make_mirror(database)
        mirror.start()
        mirror.wait_applied()
        added = 0
        for number, default in enumerate(DEFAULTS):
            for table, name in tables:
                try:
                    writer.run(f"ALTER TABLE {table} ADD COLUMN c{number} {name} DEFAULT {default}")
                except WriterError:  # not with rows, or not in a strict table
                    continue
                added += 1
            if not number % 8:
                mirror.wait_applied()
        assert added > len(DEFAULTS) * len(tables) // 2
        for table, _ in tables:
            with suppress(WriterError):  # a strict table shows a default that it would not take now
                writer.run(f"INSERT INTO {table}(k, v) VALUES (3, 'c')")
            with suppress(WriterError):
                writer.run(f"UPDATE {table} SET v = 'bb' WHERE k = 2")
        mirror.wait_applied()
        if kind == "keyed":  # all rows are sent again, value by value
            with mirror.control() as control:
                control.retry(LIMIT)
        mirror.check()
        again = make_mirror(database, state="again", schema="again")
        again.start()
        again.check()
    followed, copied = shape_and_rows(dsn, "public"), shape_and_rows(dsn, "again")
    assert len(followed) == len(tables)
    assert followed == copied
