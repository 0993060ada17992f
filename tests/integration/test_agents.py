"""Many agents in one Postgres: side by side, each bound to its sources, none in another's way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.memustore import create_store, item, vector
from tests.support.mirrors import MirrorProcess
from tests.support.postgres import PostgresServer
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

MakeMirror = Callable[..., MirrorProcess]


def rows(dsn: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


@pytest.fixture
def two(folder: Path) -> Iterator[tuple[Writer, Writer]]:
    with create_store(folder / "a.db") as first, create_store(folder / "b.db") as second:
        yield first, second


def ends_with(mirror: MirrorProcess, capfd: pytest.CaptureFixture[str], told: str) -> None:
    mirror.start(wait=False)
    assert mirror.ends_within(30)
    assert told in capfd.readouterr().err


def test_equal_ids_live_side_by_side(
    two: tuple[Writer, Writer], make_mirror: MakeMirror, folder: Path, dsn: str
) -> None:
    first, second = two
    mirror = make_mirror(folder / "a.db", folder / "b.db")
    mirror.agents = {folder / "a.db": "ada", folder / "b.db": "bob"}
    first.run(item("1", "of ada"))
    second.run(item("1", "of bob"))
    mirror.start()
    mirror.check()
    assert rows(dsn, "SELECT agent_id, summary FROM memory_items ORDER BY 1") == [("ada", "of ada"), ("bob", "of bob")]
    assert rows(dsn, "SELECT agent_id FROM agents ORDER BY 1") == [("ada",), ("bob",)]
    first.run("DELETE FROM memory_items", *(item(str(n)) for n in range(700)))
    second.run(
        "UPDATE memory_items SET id = '2'", "DROP TABLE lessons", "ALTER TABLE entities DROP COLUMN relationship"
    )
    mirror.check()
    assert rows(dsn, "SELECT agent_id, count(*) FROM memory_items GROUP BY 1 ORDER BY 1") == [("ada", 700), ("bob", 1)]
    mirror.kill()
    first.run("DELETE FROM memory_items WHERE id > '3'")
    mirror.start()
    mirror.check()


@pytest.mark.slow
def test_a_load_of_one_leaves_the_others_alone(
    two: tuple[Writer, Writer], make_mirror: MakeMirror, folder: Path, dsn: str
) -> None:
    """Also the load of a source whose state directory is lost, which compares all of Postgres' rows."""
    first, second = two
    mirror = make_mirror(folder / "a.db", folder / "b.db")
    mirror.agents = {folder / "a.db": "ada", folder / "b.db": "bob"}
    first.run(item("1"), item("2"))
    second.run(item("1"), item("3"))
    mirror.start()
    mirror.check()
    mirror.stop()
    for path in (mirror.state_dir / "sources").glob("a.db-*/shadow.*"):
        path.unlink()
    first.run("DELETE FROM memory_items WHERE id = '2'")
    mirror.start()
    mirror.check()
    assert rows(dsn, "SELECT agent_id, id FROM memory_items ORDER BY 1, 2") == [
        ("ada", "1"),
        ("bob", "1"),
        ("bob", "3"),
    ]


def test_a_source_is_bound_to_its_agent(
    two: tuple[Writer, Writer], make_mirror: MakeMirror, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror = make_mirror(folder / "a.db")
    mirror.agents = {folder / "a.db": "ada"}
    mirror.start()
    mirror.check()
    mirror.stop()
    mirror.agents = {folder / "a.db": "bob"}
    ends_with(mirror, capfd, "it is mirrored for the agent ada, not for bob -- leave --agent as it was")
    mirror.agents = {}
    mirror.start()
    mirror.check()
    assert mirror.status()["agent"] == "ada"


def test_two_sources_of_one_agent_do_not_mix(
    two: tuple[Writer, Writer], make_mirror: MakeMirror, folder: Path, dsn: str
) -> None:
    first, second = two
    first.run(item("1", "first"))
    second.run(item("1", "second"))
    one, other = make_mirror(folder / "a.db"), make_mirror(folder / "b.db", state="b")
    one.start()
    one.check()
    other.start()
    other.wait_applied()
    refused = {entry["table"]: entry for entry in other.status()["refusals"]}
    assert "memory_items" in refused and "another --agent" in refused["memory_items"]["next_step"]
    assert rows(dsn, "SELECT summary FROM memory_items") == [("first",)]
    other.kill()


def test_two_sources_of_one_agent_at_the_same_time(
    two: tuple[Writer, Writer], make_mirror: MakeMirror, folder: Path, dsn: str
) -> None:
    """Whoever comes second to a table waits for the first one's load, and is refused: never rows of both."""
    for writer, name in zip(two, ("first", "second"), strict=True):
        writer.transaction(*(item(f"{name} {number}") for number in range(300)))
    mirror = make_mirror(folder / "a.db", folder / "b.db")
    mirror.start()
    mirror.wait_applied()
    refused = [{entry["table"] for entry in mirror.status(source)["refusals"]} for source in mirror.sources]
    assert ("memory_items" in refused[0]) != ("memory_items" in refused[1])
    names = {key.split()[0] for (key,) in rows(dsn, "SELECT id FROM memory_items")}
    assert len(names) == 1
    for source, tables in zip(mirror.sources, refused, strict=True):
        if "memory_items" not in tables:
            assert mirror.parity(source).verdict == "equal"
            continue
        # It is tried again, and then told by whom.
        until(
            lambda source=source: "another --agent" in next_step_of(mirror, source, "memory_items"),
            alive=lambda: mirror.alive,
        )
    mirror.kill()


def next_step_of(mirror: MirrorProcess, source: Path, table: str) -> str:
    steps = {entry["table"]: entry["next_step"] for entry in mirror.status(source)["refusals"]}
    return str(steps[table])


def test_tables_without_a_profile_are_shared_too(make_mirror: MakeMirror, folder: Path, dsn: str) -> None:
    """One source widens a column while the other, in another process, still writes its old type."""
    with Writer(folder / "a.db") as first, Writer(folder / "b.db") as second:
        for writer in (first, second):
            writer.run(
                "PRAGMA journal_mode=WAL", "CREATE TABLE notes(id INTEGER PRIMARY KEY, n INTEGER, agent_id TEXT)"
            )
            writer.run("INSERT INTO notes VALUES (1, 1, 'x')", "CREATE TABLE log(line)", "INSERT INTO log VALUES ('l')")
        one, other = make_mirror(folder / "a.db"), make_mirror(folder / "b.db", state="b")
        one.agents, other.agents = {folder / "a.db": "ada"}, {folder / "b.db": "bob"}
        for mirror in (one, other):
            mirror.start()
            mirror.check()
        first.run("INSERT INTO notes VALUES (2, 'not a number', NULL)")
        one.check()
        second.run("INSERT INTO notes VALUES (2, 22, NULL)", "UPDATE notes SET n = 7 WHERE id = 1")
        second.run("ALTER TABLE notes ADD COLUMN more REAL DEFAULT 1.5", "ALTER TABLE log RENAME TO lines")
        other.check()
        one.check()
        found = rows(dsn, "SELECT agent_id, id, n, source_agent_id, more FROM notes ORDER BY 1, 2")
        assert found == [
            ("ada", 1, 1, "x", None),
            ("ada", 2, "not a number", None, None),
            ("bob", 1, 7, "x", 1.5),
            ("bob", 2, 22, None, 1.5),
        ]
        assert rows(dsn, "SELECT agent_id, _rowid, line FROM lines") == [("bob", 1, "l")]


@pytest.mark.parametrize("kind", ["curated", "generic"])
def test_a_table_of_another_kind_is_refused(
    make_mirror: MakeMirror, folder: Path, dsn: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A table of a familiar name never mixes with a MemuStore's, whichever was there first."""
    with create_store(folder / "a.db") as store, Writer(folder / "b.db") as other:
        store.run(item("1"))
        other.run("PRAGMA journal_mode=WAL", "CREATE TABLE memory_items(id TEXT PRIMARY KEY, summary)")
        other.run("INSERT INTO memory_items VALUES ('x', 'not a memory')", "CREATE TABLE fine(id INTEGER PRIMARY KEY)")
        curated, generic = make_mirror(folder / "a.db"), make_mirror(folder / "b.db", state="b")
        generic.agents = {folder / "b.db": "bob"}
        if kind == "curated":
            curated.start()
            curated.check()
        generic.start()
        generic.wait_applied()
        if kind == "curated":
            [refusal] = generic.status()["refusals"]
            assert refusal["table"] == "memory_items" and "--schema" in refusal["next_step"]
            assert rows(dsn, "SELECT id FROM memory_items") == [("1",)]
        else:
            ends_with(curated, capfd, '"memory_items" already exists -- rename or drop what has that name')
            assert rows(dsn, "SELECT id FROM memory_items") == [("x",)]
        generic.kill()


@pytest.mark.slow
def test_twenty_sources_one_of_them_stuck(make_mirror: MakeMirror, folder: Path, dsn: str) -> None:
    """What one waits for, nobody else does: every other's commit arrives while it is stuck."""
    paths = [folder / f"{number}.db" for number in range(20)]
    with ExitStack() as stack:
        writers = [stack.enter_context(create_store(path)) for path in paths]
        mirror = make_mirror(*paths)
        mirror.agents = {path: f"agent {number}" for number, path in enumerate(paths)}
        mirror.start()
        mirror.wait_applied()
        blocker = stack.enter_context(psycopg.connect(dsn))
        writers[0].run(item("here"))
        mirror.wait_applied()
        # Somebody works on a row of the first agent's and does not end.
        blocker.execute("UPDATE memory_items SET visibility = 'shared' WHERE agent_id = 'agent 0'")
        writers[0].run("DELETE FROM memory_items")
        for number, writer in enumerate(writers[1:], 1):
            writer.run(item(f"from {number}"))
            with mirror.control(paths[number]) as client:
                assert client.wait(LIMIT), client.status()
        assert rows(dsn, "SELECT count(*) FROM memory_items WHERE agent_id <> 'agent 0'") == [(19,)]
        assert rows(dsn, "SELECT count(*) FROM memory_items WHERE agent_id = 'agent 0'") == [(1,)]
        blocker.rollback()
        mirror.check()


def test_what_an_administrator_has_to_do_is_told(folder: Path) -> None:
    """Of a server of its own, because roles are the server's: the extension, the role, and that it is no superuser."""
    server = PostgresServer(own=True)
    try:
        with server.connect() as administrator, create_store(folder / "memory.db") as store:
            store.run(item("1", embedding=vector(1, 2)))
            administrator.execute("CREATE ROLE clerk LOGIN")
            administrator.execute("CREATE DATABASE office OWNER clerk")
            mirror = MirrorProcess(
                [folder / "memory.db"], make_conninfo(server.dsn, user="clerk", dbname="office"), folder / "state"
            )
            mirror.start()
            try:
                wait_waiting(mirror, "in this database: CREATE EXTENSION vector")
                with server.connect(make_conninfo(server.dsn, dbname="office")) as office:
                    office.execute("CREATE EXTENSION vector")
                wait_waiting(
                    mirror, "the role argent_app is missing -- as an administrator: CREATE ROLE argent_app LOGIN"
                )
                administrator.execute("CREATE ROLE argent_app LOGIN BYPASSRLS")
                wait_waiting(mirror, "can bypass row-level security")
                administrator.execute("ALTER ROLE argent_app NOBYPASSRLS")
                mirror.check()
            finally:
                mirror.end()
    finally:
        server.stop()


def wait_waiting(mirror: MirrorProcess, told: str) -> None:
    """Until it waits, for this reason."""
    mirror.status_when(lambda status: status["phase"] == "waiting" and told in status["last_error"])
