"""Virtual columns: their values, and which may have others in another version of SQLite."""

from __future__ import annotations

import pytest

from mirror.sqlite.decode.generated import VirtualColumns
from mirror.sqlite.decode.schema import SchemaRow, parse_schema


@pytest.mark.parametrize(
    ("expression", "depends"),
    [
        ("r || ''", True),
        ("CAST(r AS TEXT)", True),
        ("CAST(r AS BLOB)", True),
        ("CAST(s AS REAL) || ''", True),
        ("CAST(s AS NUMERIC) || ''", True),
        ("abs(s) || ''", True),
        ("x || ''", True),
        ("printf('%s', r)", True),
        ("s || 'x'", False),
        ("lower(s)", False),
        ("CAST(s AS INTEGER) || ''", False),
        ("CAST(s AS BLOB)", False),
        ("r * 2", False),
        ("id + 1", False),
    ],
)
def test_by_version(expression: str, depends: bool) -> None:
    definition = f"CREATE TABLE t(id INTEGER PRIMARY KEY, r REAL, s TEXT, x REAL AS (s), v AS ({expression}))"
    table = parse_schema([SchemaRow("table", "t", "t", 2, definition)]).tables["t"]
    assert ("v" in table.by_version) is depends


def test_a_real_that_becomes_the_text_of_its_column() -> None:
    definition = "CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT, v TEXT AS (CAST(s AS REAL)), w REAL AS (s))"
    table = parse_schema([SchemaRow("table", "t", "t", 2, definition)]).tables["t"]
    assert table.by_version == ("v",)


@pytest.mark.parametrize("strict", ["", " STRICT"])
def test_a_real_stays_one(strict: str) -> None:
    """SQLite keeps a real that is whole as an integer, and in STRICT tables RETURNING gives it as that."""
    definition = f"CREATE TABLE t(x ANY, v REAL AS (x = 'a'), w REAL AS (x = 'a') STORED){strict}"
    table = parse_schema([SchemaRow("table", "t", "t", 2, definition)]).tables["t"]
    found = VirtualColumns(table, "utf-8").of(["a", 1.0])
    assert found == [1.0] and type(found[0]) is float
