"""Tests on a server that somebody names: it is used, left as it was, and left running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.postgres import VARIABLE, PostgresServer
from tests.support.source import Writer


@pytest.fixture
def given() -> Iterator[PostgresServer]:
    """A second server, which stands for whatever the variable names."""
    server = PostgresServer(own=True)
    yield server
    server.stop()


def test_it_is_used_and_left_as_it_was(given: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def what_there_is() -> tuple[object, ...]:
        with given.connect() as connection:
            databases = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
            roles = connection.execute("SELECT rolname FROM pg_roles ORDER BY 1").fetchall()
            settings = connection.execute("SELECT name, setting FROM pg_file_settings ORDER BY 1, 2").fetchall()
        return databases, roles, settings

    before = what_there_is()
    monkeypatch.setenv(VARIABLE, given.dsn)
    server = PostgresServer()
    dsns = [server.create_database() for _ in range(2)]
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True) as connection:
            (name, tables) = connection.execute(
                "SELECT current_database(), (SELECT count(*) FROM pg_tables WHERE schemaname = 'public')"
            ).fetchone() or ("", 0)
            assert f"dbname={name}" in dsn and tables == 0
            connection.execute(f'CREATE ROLE "{name}_clerk" LOGIN'.encode())
    assert len(set(dsns)) == 2
    for dsn in dsns:
        server.drop_database(dsn)
    server.stop()
    assert what_there_is() == before


def test_a_server_of_its_own_is_another_one(given: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what only a whole server can show; without the variable there is no other."""
    monkeypatch.setenv(VARIABLE, given.dsn)
    assert PostgresServer().dsn == given.dsn
    own = PostgresServer(own=True)
    assert own.dsn != given.dsn
    own.stop()
    monkeypatch.delenv(VARIABLE)
    default = PostgresServer()
    assert default.dsn != given.dsn
    default.stop()


def test_the_server_is_not_exchanged_for_an_empty_one(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    """Of a command that is not told where the tables are, an embedded server would say that all is well, or lost."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    named, unnamed = CommandLine(folder, dsn), CommandLine(folder)
    assert named.run("up", database, "--once").code == 0
    for words in (["up", database, "--once"], ["parity", database], ["rejects", "list"], ["dropped", "list"]):
        assert "is in a server that is not named now" in unnamed.run(*words).error
    assert not (unnamed.state_dir / "postgres").exists()
    assert named.run("parity", database).code == 0
