"""The profile of the MemuStore: what it knows, what it recognises, and that the SQL files agree with it."""

from __future__ import annotations

import re

import apsw
import pytest

from mirror.core.errors import ConfigError
from mirror.core.tables import Column, Table
from mirror.core.values import Row
from mirror.postgres.migrate import sql_directory
from mirror.postgres.profiles.memustore import TABLES, map_table, recognise
from tests.support.memustore import DASHBOARD, statements, store_script


def table(name: str, *columns: str, key: tuple[str, ...] = ("id",)) -> Table:
    made = tuple(Column(column, "TEXT", "TEXT") for column in columns)
    return Table(name, 2, made, key, None, False, tuple(range(len(made))))


def known(*tables: Table, meta: list[Row] | None = None) -> bool:
    return recognise({each.name: each for each in tables}, lambda _: meta or [])


META = table("memu_meta", "key", "value", key=("key",))
BOARD = (
    table("tasks", "id", "title", "status", "created_at"),
    table("teams", "id", "name", "lead_session_key"),
    table("team_members", "team_id", "session_key", key=("team_id", "session_key")),
)


def test_recognition() -> None:
    assert known(META, meta=[("schema_version", "11")])
    assert known(META, meta=[("other", "x"), ("schema_version", 12)])
    assert known(*BOARD)
    assert not known()
    assert not known(META)
    assert not known(META, meta=[("schema_version", None)])
    assert not known(META, meta=[("schema_version", "v2")])
    assert not known(table("memu_meta", "k", "v"), meta=[("schema_version", "11")])
    assert not known(*BOARD[:2])
    assert not known(table("tasks", "id", "name"), *BOARD[1:])
    assert not known(table("memory_items", "id", "summary"), table("lessons", "id"))


def test_every_column_of_the_stores_is_known() -> None:
    """Those of the real DDL; the ones that are not in it came with no version that is known."""
    db = apsw.Connection(":memory:")
    for statement in store_script() + statements(DASHBOARD):
        if statement.startswith("CREATE TABLE"):
            db.execute(statement)
    for name, curated in TABLES.items():
        info = db.execute("SELECT name, pk FROM pragma_table_info(?)", (name,)).fetchall()
        assert {column for column, _ in info} == set(curated.columns), name
        assert tuple(column for column, pk in sorted(info, key=lambda row: row[1]) if pk) == curated.key, name


@pytest.mark.parametrize("name", TABLES)
def test_the_sql_has_each_column_in_its_type(name: str) -> None:
    script = (sql_directory() / "profiles" / "memustore" / "0001_tables.sql").read_text()
    body = re.search(rf"CREATE TABLE {name} \((.*?)\n\);", script, re.S)
    assert body is not None
    declared = dict(
        re.findall(r"^    (\w+) +(text|jsonb|bigint|boolean|double precision|timestamptz|vector)\b", body[1], re.M)
    )
    mapping = map_table(table(name, *TABLES[name].columns, key=TABLES[name].key), "public")
    assert mapping.curated
    for column in mapping.columns:
        assert declared[column.name] == column.pg_type.replace("timestamp with time zone", "timestamptz"), column


def test_what_is_not_known_is_held_as_any_other() -> None:
    mapping = map_table(table("lessons", "id", "search", "agent_id", "more"), "public")
    held = {column.name: (column.pg_type, column.codec) for column in mapping.columns}
    assert held == {
        "id": ("text", "strict"),
        "search_": ("text", ""),
        "source_agent_id": ("text", ""),
        "more": ("text", ""),
    }
    assert not map_table(table("dreams", "id"), "public").curated
    with pytest.raises(ConfigError):
        map_table(table("lessons", "id", key=()), "public")
