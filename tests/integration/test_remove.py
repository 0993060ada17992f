"""``mirror remove``: what is mirrored no more, and what goes with it; nothing of others."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.folders import known_sources, resolve
from tests.support.commands import CommandLine
from tests.support.memustore import create_store, item
from tests.support.source import Writer
from tests.support.waiting import LIMIT


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def make(path: Path, *statements: str) -> Path:
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", *statements)
    return path


@pytest.fixture
def shop(folder: Path) -> Path:
    tables = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "CREATE TABLE u(t REFERENCES t)", "CREATE TABLE gone(x)"
    return make(folder / "shop.db", *tables, "INSERT INTO t VALUES (1, 'a'), (2, 'b')")


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def tables(dsn: str, schema: str = "public") -> list[str]:
    query = f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' ORDER BY 1"
    return [name for (name,) in rows(dsn, query)]


def records(dsn: str) -> dict[str, int]:
    """The number of rows of each table of the mirror that names a source."""
    found = rows(
        dsn,
        "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE a.attname = 'source_id' AND c.relnamespace = 'mirror'::regnamespace AND c.relkind = 'r'",
    )
    return {name: rows(dsn, f"SELECT count(*) FROM mirror.{name}")[0][0] for (name,) in found}


def test_without_a_mirror_that_runs(cli: CommandLine, shop: Path, dsn: str) -> None:
    """It is forgotten, and its tables and its copy stay, so that `mirror up` goes on; a dry run changes nothing."""
    assert cli.run("up", shop, "--once").code == 0
    assert "would not be mirrored any more" in cli.run("remove", shop, "--dry-run").out
    assert known_sources(cli.state_dir) == [resolve(shop)]
    done = cli.run("remove", shop)
    assert done.code == 0 and "its tables in Postgres stay" in done.out
    assert known_sources(cli.state_dir) == [] and tables(dsn) == ["gone", "t", "u"]
    assert "is not mirrored with this state directory" in cli.run("remove", shop).error
    with cli.up(shop):
        (report,) = json.loads(cli.run("status", "--json").out)["sources"]
        assert report["resyncs"] == []
    assert cli.run("parity", shop).code == 0


def test_with_its_tables(cli: CommandLine, shop: Path, dsn: str, folder: Path) -> None:
    """A dry run lists tables, rows and folder, and changes nothing; then all goes, and nothing of others."""
    other = make(folder / "other.db", "CREATE TABLE o(id INTEGER PRIMARY KEY)", "INSERT INTO o VALUES (1)")
    with cli.up(shop, other):
        with Writer(shop) as writer:
            writer.run("DROP TABLE gone", "INSERT INTO u VALUES (char(0))")
        assert cli.run("wait", shop, "--timeout", LIMIT).code == 0
        rows(dsn, "CREATE TABLE mine(x int)")
        rows(dsn, "INSERT INTO t VALUES (7, 'by hand')")
        (kept,) = [name for name in tables(dsn) if name.startswith("gone__dropped_")]
        dry = cli.run("remove", shop, "--drop-tables", "--dry-run")
        assert dry.code == 0 and all(f"public.{name}" in dry.out for name in ("t", "u", kept)), dry
        assert str(cli.source_folder(shop)) in dry.out and "nothing was changed" in dry.out
        assert "1 row that others wrote" in dry.out
        assert tables(dsn) == sorted([kept, "mine", "o", "t", "u"])
        assert cli.run("wait", shop, "--timeout", LIMIT).code == 0, "it runs on"
        done = json.loads(cli.run("remove", shop, "--drop-tables", "--json", "--yes").out)["sources"]
        assert [each["name"] for each in done[0]["tables"]] == [f"public.{name}" for name in (kept, "t", "u")]
        assert tables(dsn) == ["mine", "o"] and not cli.source_folder(shop).exists()
        assert records(dsn)["sources"] == 1
        assert cli.run("parity", other).code == 0, "the mirror goes on with the other"
        assert cli.run("remove", shop, "--drop-tables", "--yes").code == 2
        assert cli.run("add", shop).code == 0, "and begins with it anew"
        assert cli.run("wait", shop, "--timeout", LIMIT).code == 0
        assert cli.run("parity", shop, other).code == 0


def test_what_others_made_stays(cli: CommandLine, shop: Path, dsn: str) -> None:
    """A view and a foreign key keep all of it, and are named; the table u goes with neither."""
    assert cli.run("up", shop, "--once").code == 0
    rows(dsn, "CREATE VIEW v AS SELECT * FROM t")
    rows(dsn, "CREATE TABLE notes(t bigint REFERENCES t)")
    refused = cli.run("remove", shop, "--drop-tables", "--yes")
    assert refused.code == 2 and "view public.v" in refused.out and "foreign key notes_t_fkey" in refused.err, refused
    assert tables(dsn) == ["gone", "notes", "t", "u"] and known_sources(cli.state_dir) == [resolve(shop)]
    rows(dsn, "DROP VIEW v")
    rows(dsn, "DROP TABLE notes")
    last = cli.run("remove", shop, "--drop-tables", "--yes")
    assert last.code == 0 and "it was the last source" in last.out and "DROP SCHEMA mirror CASCADE" in last.out
    assert tables(dsn) == [] and not any(records(dsn).values())


@pytest.mark.parametrize("step", ["unlisted", "forgotten", "postgres"])
def test_killed_in_between(cli: CommandLine, shop: Path, dsn: str, folder: Path, step: str) -> None:
    """What a command that was killed after each of its steps leaves: given again, it completes that."""
    config = folder / "mirror.json"
    config.write_text(json.dumps({"sources": [] if step == "unlisted" else [str(shop)]}))
    flags = ("--config", config, "--state-dir", cli.state_dir)
    assert cli.run("up", shop, *flags, "--once").code == 0
    here = cli.source_folder(shop)
    if step == "forgotten":
        (here / "source").unlink()
    elif step == "postgres":
        saved = {file.relative_to(here): file.read_bytes() for file in here.rglob("*") if file.is_file()}
        assert cli.run("remove", shop, *flags, "--drop-tables", "--yes").code == 0
        for name, content in saved.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(content)
    assert cli.run("remove", shop, *flags, "--drop-tables", "--yes").code == 0
    assert not here.exists() and tables(dsn) == [] and not any(records(dsn).values())
    assert json.loads(config.read_text())["sources"] == []


def test_agents_that_share_tables(cli: CommandLine, dsn: str, folder: Path) -> None:
    """Only the rows of one agent go; those of the other stay, equal; the tables stay, too."""
    paths = folder / "a.db", folder / "b.db"
    for path in paths:
        with create_store(path) as store:
            store.run(
                item("1", f"of {path.name}"), "CREATE TABLE own(id INTEGER PRIMARY KEY)", "INSERT INTO own VALUES (1)"
            )
    for path, agent in zip(paths, ("ada", "bob"), strict=True):
        assert cli.run("up", path, "--agent", agent, "--once").code == 0
    assert rows(dsn, "SELECT agent_id FROM memory_items ORDER BY 1") == [("ada",), ("bob",)]
    done = cli.run("remove", paths[0], "--drop-tables", "--yes")
    assert done.code == 0 and "the rows of ada go" in done.out and "last source" not in done.out, done
    assert rows(dsn, "SELECT agent_id, summary FROM memory_items") == [("bob", "of b.db")]
    assert rows(dsn, "SELECT agent_id FROM own") == [("bob",)]
    assert cli.run("parity", paths[1]).code == 0
    done = cli.run("remove", paths[1], "--drop-tables", "--yes")
    assert "empty tables of the memory store" in done.out and "DROP ROLE argent_app" in done.out
    assert rows(dsn, "SELECT count(*) FROM memory_items") == [(0,)] and "own" not in tables(dsn)


def test_asked_on_a_terminal(cli: CommandLine, shop: Path, dsn: str) -> None:
    """No is 1, and changes nothing; ``--yes`` does not ask."""
    assert cli.run("up", shop, "--once").code == 0
    for more in ((), ("--json",)):
        error = cli.run("remove", shop, "--drop-tables", *more).error
        assert "there is nobody to ask -- `mirror remove " in error and "--dry-run` says what would go" in error
    assert tables(dsn) != []
    for given, code in ((b"n\n", 1), (b"y\n", 0)):
        terminal, end = pty.openpty()
        process = cli.start("remove", shop, "--drop-tables", stdin=end, stdout=subprocess.PIPE)
        os.close(end)
        os.write(terminal, given)
        out, _ = process.communicate(timeout=LIMIT)
        os.close(terminal)
        assert process.returncode == code and "Drop all that Postgres has of shop.db?" in out, out
        assert (tables(dsn) == []) is (code == 0)
    assert cli.run("up", shop, "--once").code == 0
    assert cli.run("remove", shop, "--drop-tables", "--yes").code == 0 and tables(dsn) == []


def test_one_that_another_mirror_holds(cli: CommandLine, shop: Path, dsn: str, folder: Path) -> None:
    """With another state directory, on another machine say: it has to end first."""
    with cli.up(shop):
        refused = cli.run("remove", shop, "--drop-tables", "--yes", "--state-dir", folder / "other")
        assert "another mirror holds it" in refused.err.splitlines()[-1] and refused.code == 2
        assert cli.run("parity", shop).code == 0


def test_a_table_of_somebody_in_the_place_of_the_mirrors(cli: CommandLine, shop: Path, dsn: str) -> None:
    """It stays, whatever its name."""
    assert cli.run("up", shop, "--once").code == 0
    rows(dsn, "DROP TABLE u")
    rows(dsn, "CREATE TABLE u(_rowid bigint PRIMARY KEY, t bigint)")
    assert (
        "public.u stays: it is not known to be the mirror's own"
        in cli.run("remove", shop, "--drop-tables", "--dry-run").out
    )
    assert cli.run("remove", shop, "--drop-tables", "--yes").code == 0
    assert tables(dsn) == ["u"]
