"""Tests on a server that somebody names: it is used, left as it was, and left running."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mirror.core.remembered_server import SERVER_FILE
from mirror.postgres.embedded import start_embedded
from tests.support.commands import CommandLine
from tests.support.pasted import commands_in
from tests.support.postgres import VARIABLE, PostgresServer
from tests.support.source import Writer
from tests.support.waiting import LIMIT


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
    """Where an earlier mirror has kept no server: an embedded one would say that all is well, or lost."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    named, unnamed = CommandLine(folder, dsn), CommandLine(folder)
    assert named.run("up", database, "--once").code == 0
    (named.state_dir / SERVER_FILE).unlink()
    for words in (["up", database, "--once"], ["parity", database], ["rejects", "list"], ["dropped", "list"]):
        assert "is in a server that is not named now" in unnamed.run(*words).error
    assert not (unnamed.state_dir / "postgres").exists()
    assert named.run("parity", database).code == 0
    assert named.run("up", database, "--once").code == 0 and unnamed.run("parity", database).code == 0, "kept now"


def test_it_is_remembered(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    """Only the mirror that runs was told which it is: other shells, and the steps that are printed, need not be."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    named, unnamed = CommandLine(folder, dsn), CommandLine(folder)
    with named.up(database):
        assert unnamed.run("parity", database).code == 0
        assert unnamed.run("rejects", "list").code == 0
        assert "remembered from the last `mirror up`" in unnamed.run("config", "show").out
        assert "remembered from the last `mirror up`" in unnamed.run("doctor", database).out
        ended = unnamed.run("down")
    writer.run("INSERT INTO t VALUES (2)")
    (step,) = [step for step in commands_in(ended.out) if step.startswith("mirror up ")]
    again = unnamed.run(*shlex.split(step)[1:], "--once")
    assert again.code == 0 and "copied into Postgres" not in again.err, again
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    assert not (unnamed.state_dir / "postgres").exists()


def test_nothing_is_copied_before(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    """Killed at any point, the state directory has no position in a server that it does not remember."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    cli = CommandLine(folder, dsn)
    (cli.state_dir / SERVER_FILE).mkdir(parents=True)
    assert "it is a directory, not a file" in cli.run("up", database, "--once").err
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT to_regclass('public.t')").fetchone() == (None,)
    (cli.state_dir / SERVER_FILE).rmdir()
    assert cli.run("up", database, "--once").code == 0 and (cli.state_dir / SERVER_FILE).is_file()


def test_another_one_takes_its_place(
    folder: Path, dsn: str, postgres_server: PostgresServer, database: Path, writer: Writer
) -> None:
    """A first copy is made there, and a line says so; what is not mirrored there is named; the embedded one is not
    started in its place.
    """
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    other = folder / "other.db"
    with Writer(other) as more:
        more.run("PRAGMA journal_mode=WAL", "CREATE TABLE o(id INTEGER PRIMARY KEY)")
    second = postgres_server.create_database()
    first, moved, unnamed = CommandLine(folder, dsn), CommandLine(folder, second), CommandLine(folder)
    begun = first.run("up", database, other, "--once")
    assert begun.code == 0 and "later commands need no --postgres" in begun.err, begun
    assert "takes the place of" not in first.run("up", database, "--once").err
    done = moved.run("up", database, "--once")
    assert done.code == 0 and "for the first time" in done.err, done
    names = [f"the database {conninfo_to_dict(each)['dbname']} at " for each in (dsn, second)]
    (line,) = [line for line in done.err.splitlines() if "takes the place of" in line]
    assert "WARNING" in line and line.index(names[1]) < line.index(names[0]), line
    assert "other.db is in" in done.err
    assert unnamed.run("up", database, other, "--once").code == 0
    assert unnamed.run("parity").code == 0
    for each in (dsn, second):
        with psycopg.connect(each) as connection:
            assert connection.execute("SELECT count(*) FROM mirror.sources").fetchone() == (2,)
    postgres_server.drop_database(second)


def test_one_that_wants_a_password(folder: Path, given: PostgresServer, database: Path, writer: Writer) -> None:
    """It is not kept, and who lacks it is told; a password file, or its variable, will do."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    with given.connect() as connection:
        connection.execute("CREATE ROLE clerk SUPERUSER LOGIN PASSWORD 'very-5ecret'")
        (rules,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        path = Path(str(rules))
        path.write_text(f"local all clerk scram-sha-256\n{path.read_text()}")
        connection.execute("SELECT pg_reload_conf()")
    plain = make_conninfo(given.dsn, user="clerk")
    named, unnamed = CommandLine(folder, make_conninfo(plain, password="very-5ecret")), CommandLine(folder)
    begun = named.run("up", database, "--once")
    assert begun.code == 0 and "but its password: put that into ~/.pgpass" in begun.err, begun
    for path in named.state_dir.rglob("*"):
        assert not path.is_file() or b"very-5ecret" not in path.read_bytes(), path
    for words in (["up", database], ["parity", database], ["psql", "--", "-c", "SELECT 1"]):
        error = unnamed.run(*words).error
        assert "wants the password that was given then" in error and "~/.pgpass" in error, error
    assert unnamed.run("parity", database, env={"PGPASSWORD": "very-5ecret"}).code == 0
    (folder / ".pgpass").write_text("*:*:*:clerk:very-5ecret\n")
    (folder / ".pgpass").chmod(0o600)
    assert unnamed.run("parity", database).code == 0


def test_a_program_that_was_given_it(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    """By enable_mirror(): the mirror outlives the program, and commands find where; another program need not say it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    cli = CommandLine(folder)
    for given in (f", postgres={dsn!r}", ""):
        program = f"import mirror; made = mirror.enable_mirror({str(database)!r}{given}); assert made.wait({LIMIT})"
        command = [sys.executable, "-c", program]
        subprocess.run(command, env=cli.environment(), cwd=folder, check=True, timeout=2 * LIMIT)
        assert cli.run("parity", database).code == 0
        assert cli.run("down").code == 0
        writer.run("INSERT INTO t SELECT max(id) + 1 FROM t")
    assert not (cli.state_dir / "postgres").exists()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_the_embedded_server_of_the_directory_is_not_remembered(folder: Path, database: Path, writer: Writer) -> None:
    """Also where it is given by its connection string: its socket goes with it, and it is found anyway."""
    cli = CommandLine(folder)
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with start_embedded(cli.state_dir) as server:
        assert cli.run("up", database, "--once", "--postgres", server.dsn).code == 0
    assert not (cli.state_dir / SERVER_FILE).exists()
    assert cli.run("parity", database).code == 0
