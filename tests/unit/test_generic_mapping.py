"""The generic mapping: names, types and keys."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mirror.core.errors import ConfigError
from mirror.core.tables import ANY_VALUE, Affinity, Column, Table
from mirror.postgres.profiles.generic import map_table, pg_name


def table(
    columns: Sequence[tuple[str, str, Affinity]],
    key: tuple[str, ...] = (),
    *,
    name: str = "t",
    without_rowid: bool = False,
) -> Table:
    """Build a table of columns given as (name, declared type, affinity)."""
    made = tuple(Column(*column) for column in columns)
    return Table(name, 2, made, key, None, without_rowid, tuple(range(len(made))))


@pytest.mark.parametrize(
    ("declared", "affinity", "pg_type"),
    [
        ("INTEGER", "INTEGER", "bigint"),
        ("UNSIGNED BIG INT", "INTEGER", "bigint"),
        ("VARCHAR(10)", "TEXT", "text"),
        ("BLOB", "BLOB", "bytea"),
        ("mediumblob", "BLOB", "bytea"),
        ("", "BLOB", "jsonb"),
        ("ANY", "NUMERIC", "jsonb"),
        ("DOUBLE PRECISION", "REAL", "double precision"),
        ("BOOLEAN", "NUMERIC", "boolean"),
        ("bool", "NUMERIC", "boolean"),
        ("DECIMAL(10,2)", "NUMERIC", "numeric"),
        ("numeric", "NUMERIC", "numeric"),
        ("DATE", "NUMERIC", "text"),
        ("DATETIME", "NUMERIC", "text"),
        ("TIMESTAMP WITH TIME ZONE", "NUMERIC", "text"),
        ("timestamp(6)", "NUMERIC", "text"),
        ("JSON", "NUMERIC", "jsonb"),
        ("STRING", "NUMERIC", "jsonb"),
        ("UUID", "NUMERIC", "jsonb"),
        ("bytea", "NUMERIC", "bytea"),
        ("VARBINARY(16)", "NUMERIC", "bytea"),
    ],
)
def test_types(declared: str, affinity: Affinity, pg_type: str) -> None:
    """The declared type decides, by affinity and by name."""
    mapping = map_table(table([("c", declared, affinity)]), "public")
    assert mapping.columns[0].pg_type == pg_type


def test_overrides() -> None:
    """Columns named as misfits are jsonb; the others keep their type."""
    mapping = map_table(table([("a", "INTEGER", "INTEGER"), ("b", "TEXT", "TEXT")]), "s", overrides={"a": ANY_VALUE})
    assert [c.pg_type for c in mapping.columns] == ["jsonb", "text"]
    assert (mapping.schema, mapping.name) == ("s", "t")


def test_keys() -> None:
    """The declared key in its own order; without one, or where it is refused, _rowid."""
    source = table([("a", "TEXT", "TEXT"), ("b", "TEXT", "TEXT")], ("b", "a"))
    mapping = map_table(source, "public")
    assert mapping.key == ("b", "a")
    assert [c.not_null for c in mapping.columns] == [True, True]
    by_rowid = map_table(source, "public", rowid_key=True)
    assert by_rowid.key is None
    assert not any(c.not_null for c in by_rowid.columns)
    assert map_table(table([("a", "TEXT", "TEXT")]), "public").key is None


def test_no_rowid_to_key_on() -> None:
    """A WITHOUT ROWID table has no rowid."""
    with pytest.raises(ConfigError):
        map_table(table([("a", "TEXT", "TEXT")], ("a",), without_rowid=True), "public", rowid_key=True)


def test_names_that_postgres_has_taken() -> None:
    """System columns get an underscore, and so does _rowid where the mirror needs it."""
    columns: list[tuple[str, str, Affinity]] = [
        (name, "TEXT", "TEXT") for name in ("xmin", "xmin_", "_rowid", "CTID", "")
    ]
    assert [c.name for c in map_table(table(columns), "public").columns] == [
        "xmin__", "xmin_", "_rowid_", "CTID", "_",
    ]  # fmt: skip
    keyed = map_table(table([("_rowid", "TEXT", "TEXT")], ("_rowid",)), "public")
    assert (keyed.columns[0].name, keyed.key) == ("_rowid", ("_rowid",))


def test_long_names() -> None:
    """Names past 63 bytes are shortened, the same way each time, and stay apart."""
    first, second = "é" * 40 + "1", "é" * 40 + "2"
    assert pg_name("a" * 63) == "a" * 63
    assert pg_name(first) == pg_name(first) != pg_name(second)
    assert len(pg_name(first).encode()) <= 63
    mapping = map_table(table([(first, "TEXT", "TEXT"), (second, "TEXT", "TEXT")], name=first), "public")
    assert mapping.name == pg_name(first)
    assert len({c.name for c in mapping.columns}) == 2
