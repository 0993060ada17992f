"""Moving sources of agents: a source whose tables have the agent's id in their keys, alone or with other agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

SCHEMA = (
    "CREATE TABLE parents(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE children(id INTEGER PRIMARY KEY, parent INT REFERENCES parents ON DELETE SET NULL)",
    "INSERT INTO parents VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO children VALUES (1, 1)",
)


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def postgres(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def move(cli: CommandLine, source: Path, number: int) -> None:
    """Into a phase, from 1 or back."""
    assert cli.run("parity", source).code == 0
    for _ in range(number - 1):
        done = cli.run("cutover", "advance", source, "--acknowledge", "backups")
        assert done.code == 0, done


def indexes(postgres: psycopg.Connection[tuple[Any, ...]]) -> list[list[str]]:
    """The columns of the unique indexes of ``parents`` that are not its key."""
    query = (
        "SELECT array(SELECT a.attname::text FROM unnest(i.indkey) k JOIN pg_attribute a"
        " ON a.attrelid = i.indrelid AND a.attnum = k) FROM pg_index i"
        " WHERE i.indrelid = 'parents'::regclass AND i.indisunique AND NOT i.indisprimary"
    )
    return [row[0] for row in postgres.execute(query.encode()).fetchall()]


def references(postgres: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
    query = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'children'::regclass AND contype = 'f'"
    )
    return [row[0] for row in postgres.execute(query).fetchall()]


def test_constraints_of_an_agent(
    cli: CommandLine, writer: Writer, database: Path, postgres: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Its id leads each of them."""
    writer.run(*SCHEMA)
    with cli.up(database, "--agent", "maya"):
        move(cli, database, 3)
        assert indexes(postgres) == [["agent_id", "name"]]
        made = "FOREIGN KEY (agent_id, parent) REFERENCES parents(agent_id, id) ON DELETE SET NULL (parent)"
        assert references(postgres) == [made]
        postgres.execute("INSERT INTO parents(agent_id, name) VALUES ('maya', 'c')")
        postgres.execute("DELETE FROM parents WHERE id = 1")
        assert cli.run("cutover", "rollback", database).code == 0
        assert indexes(postgres) == references(postgres) == []
        assert writer.run("SELECT name FROM parents ORDER BY name") == [["b"], ["c"]]
        assert writer.run("SELECT id, parent FROM children") == [[1, None]]
        assert cli.run("wait", "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0


def test_of_agents_that_share_tables_one_is_moved(
    cli: CommandLine, writer: Writer, database: Path, folder: Path, postgres: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Nothing is made there that would refuse the rows of the other one, whose mirror goes on."""
    other = folder / "other.db"
    writer.run(*SCHEMA)
    with (
        Writer(other) as theirs,
        cli.up(database, "--agent", "maya"),
    ):
        theirs.run("PRAGMA journal_mode=wal")
        theirs.run(*SCHEMA)
        with cli.up(other, "--agent", "otto"):
            done = cli.run("cutover", "plan", database, "--json", "--acknowledge", "backups")
            (verdict,) = json.loads(done.out)["sources"]
            rails = {rail["name"]: rail for rail in verdict["rails"]}
            assert rails["shared tables"]["level"] == "note"
            for missing in ("parents(name)", "parents.name", "children(parent) to parents"):
                assert missing in rails["shared tables"]["figure"]
            assert all("IDENTITY" in statement for statement in verdict["statements"])
            move(cli, database, 3)
            assert indexes(postgres) == references(postgres) == []
            postgres.execute("INSERT INTO parents(agent_id, name) VALUES ('maya', 'c')")
            # In an order that a foreign key and a unique index would refuse.
            theirs.transaction(
                "PRAGMA defer_foreign_keys=ON",
                "INSERT INTO children VALUES (2, 9)",
                "INSERT INTO parents VALUES (9, 'z')",
                "UPDATE parents SET name = 'x' WHERE id = 1",
                "UPDATE parents SET name = 'a' WHERE id = 2",
                "UPDATE parents SET name = 'b' WHERE id = 1",
            )
            assert cli.run("wait", other, "--timeout", LIMIT).code == 0
            assert cli.run("parity", other).code == 0
            until(lambda: ["c"] in writer.run("SELECT name FROM parents"))
            move(cli, other, 3)
            for agent in ("maya", "otto"):
                postgres.execute("INSERT INTO parents(agent_id, name) VALUES (%s, 'd')", (agent,))
            for source in (database, other):
                assert cli.run("cutover", "rollback", source).code == 0
                assert cli.run("wait", source, "--timeout", LIMIT).code == 0 and cli.run("parity", source).code == 0
            assert ["d"] in writer.run("SELECT name FROM parents")
            assert ["d"] in theirs.run("SELECT name FROM parents")
