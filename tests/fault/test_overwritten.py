"""The source's file is overwritten in place while programs have it open: that is reported, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling
from tests.support.waiting import until

FILL = filling("i, 'row ' || i")


def overwrite(database: Path, data: bytes) -> None:
    """As ``head -c ... > database`` and ``cp backup database`` do: the same file, with other content."""
    with open(database, "r+b") as file:
        file.truncate(0)
        file.write(data)


def is_reported(status: dict[str, Any]) -> bool:
    return status["phase"] == "waiting" and "no database any more" in (status["last_error"] or "")


def rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*) FROM t").fetchone()
    assert found is not None
    return int(found[0])


# (An empty file is an empty database in the other modes.)
@pytest.mark.few(1)
@pytest.mark.parametrize(("mode", "what"), [("WAL", "noise"), ("WAL", "nothing"), ("DELETE", "noise")])
def test_the_header_is_no_database(
    mirror: MirrorProcess, writer: Writer, database: Path, dsn: str, mode: str, what: str
) -> None:
    """A failure with a next step, logged once; Postgres keeps its rows; it goes on once the file is put right."""
    writer.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500))
    mirror.start()
    mirror.wait_applied()
    if mode == "WAL":
        writer.run("PRAGMA wal_checkpoint(PASSIVE)")
    right = database.read_bytes()
    overwrite(database, os.urandom(40_000) if what == "noise" else b"")
    report = mirror.status_when(is_reported)
    assert "put the file back" in report["last_error"] and "by itself" in report["last_error"]
    assert rows(dsn) == 500
    # Whoever looks at the file next says the same, and does not take what is there for an empty database.
    before = report["interruptions"]
    mirror.kill_capture()
    mirror.status_when(lambda status: status["interruptions"] > before + 2 and is_reported(status))
    assert rows(dsn) == 500
    overwrite(database, right)
    mirror.status_when(lambda status: bool(status["phase"] == "following" and status["last_error"] is None))
    writer.run("INSERT INTO t VALUES (1000, 'and on')")
    mirror.check()
    assert rows(dsn) == 501


def test_another_database_is_put_back(mirror: MirrorProcess, writer: Writer, database: Path, dsn: str) -> None:
    """What is put back need not be what was there: pages are compared, because no WAL shows what has changed."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500), "PRAGMA wal_checkpoint(TRUNCATE)")
    backup = database.read_bytes()
    writer.run("DELETE FROM t WHERE id > 400", "PRAGMA wal_checkpoint(TRUNCATE)")
    mirror.start()
    mirror.wait_applied()
    assert rows(dsn) == 400
    overwrite(database, b"\xa5" * 40_000)
    mirror.status_when(is_reported)
    overwrite(database, backup)
    mirror.status_when(lambda status: bool(status["phase"] == "following" and status["last_error"] is None))
    mirror.check()
    assert rows(dsn) == 500


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_format_that_sqlite_cannot_read(
    mirror: MirrorProcess, writer: Writer, database: Path, dsn: str, mode: str
) -> None:
    """As another engine leaves it, whose newer rows are in a log of its own: said while it is so, and at a start."""
    writer.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500))
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    mirror.start()
    mirror.wait_applied()
    versions = database.read_bytes()[18:20]

    def put(bytes_: bytes) -> None:
        with open(database, "r+b") as file:
            file.seek(18)
            file.write(bytes_)

    put(b"\xff\xff")
    report = mirror.status_when(lambda status: status["phase"] == "waiting" and "255" in (status["last_error"] or ""))
    assert "SQLite cannot read" in report["last_error"]
    with mirror.control() as client:
        assert not client.wait(0.5)
    mirror.stop()
    mirror.start(wait=False)
    until(lambda: not mirror.alive)
    put(versions)
    mirror.start()
    writer.run("INSERT INTO t VALUES (1000, 'and on')")
    mirror.check()
    put(b"\xff\xff")
    mirror.status_when(lambda status: status["phase"] == "waiting" and "255" in (status["last_error"] or ""))
    put(versions)
    mirror.status_when(lambda status: bool(status["phase"] == "following" and status["last_error"] is None))
    writer.run("INSERT INTO t VALUES (1001, 'and on')")
    mirror.check()
    assert rows(dsn) == 502


def made(path: Path, mode: str, ddl: str, values: str, *more: str) -> bytes:
    """A database of 3,000 rows."""
    with Writer(path) as writer:
        writer.run(f"PRAGMA journal_mode={mode}", ddl, filling(values).format(1, 3000), *more)
        if mode == "WAL":
            writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST"])
def test_a_lower_change_counter(
    make_mirror: Callable[..., MirrorProcess], database: Path, folder: Path, dsn: str, mode: str
) -> None:
    """Without a WAL, an older backup is copied over the file: it has had fewer commits."""
    ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"
    older = made(folder / "older.db", mode, ddl, "i, 'older ' || i")
    made(database, mode, ddl, "i, 'row ' || i", *(f"UPDATE t SET v = 'x' WHERE id = {i}" for i in range(9)))
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    overwrite(database, older)
    until(lambda: mirror.status()["comparisons"] > 0)
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM t WHERE v LIKE 'older%'").fetchone() == (3000,)


KINDS = {
    "rowid": ("CREATE TABLE t(id INTEGER PRIMARY KEY, v, b)", "i, '{} ' || i, randomblob(50)"),
    "text": (
        "CREATE TABLE t(id TEXT PRIMARY KEY, v, b) WITHOUT ROWID",
        "printf('k%06d', i), '{} ' || i, randomblob(50)",
    ),
    "none": ("CREATE TABLE t(id, v, b)", "i, '{} ' || i, randomblob(50)"),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_of_it_for_a_while(
    make_mirror: Callable[..., MirrorProcess], database: Path, folder: Path, mode: str, kind: str
) -> None:
    """A copy that stands still half-way: the tree then has keys twice, and none is lost when it goes on."""
    ddl, values = KINDS[kind]
    other = made(folder / "other.db", mode, ddl, values.format("n"), *(f"PRAGMA user_version={i}" for i in range(20)))
    made(database, mode, ddl, values.format("longer"))
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    half = len(other) // 2 // 4096 * 4096
    with open(database, "r+b", buffering=0) as file:
        file.write(other[:half])
        until(lambda: mirror.status()["comparisons"] > 0 or mirror.status()["resyncs"][1:])
        mirror.status_when(lambda status: status["phase"] in ("following", "waiting"))
        file.write(other[half:])
        file.truncate(len(other))
    mirror.status_when(
        lambda status: status["phase"] == "following" and not status["last_error"] and not status["refusals"]
    )
    mirror.check()
