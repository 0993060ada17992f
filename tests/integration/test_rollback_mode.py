"""Sources in a rollback-journal mode: followed without a lock, by comparing pages while the file stands still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

MODES = ("DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF")


@pytest.fixture
def plain(database: Path) -> Iterator[Writer]:
    """A program that never waits for a lock, with a source in DELETE mode."""
    with Writer(database, busy=0) as writer:
        writer.run("PRAGMA journal_mode=DELETE")
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'before')")
        yield writer


@pytest.fixture
def mirror(database: Path, plain: Writer, make_mirror: Callable[..., MirrorProcess]) -> MirrorProcess:
    return make_mirror(database)


def values(dsn: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT v FROM t ORDER BY id").fetchall()]


@pytest.mark.few(3)
@pytest.mark.parametrize("mode", MODES)
def test_every_journal_mode(mirror: MirrorProcess, plain: Writer, dsn: str, mode: str) -> None:
    plain.run(f"PRAGMA journal_mode={mode}")
    mirror.start()
    mirror.wait_applied()
    assert values(dsn) == ["before"]
    plain.run("INSERT INTO t VALUES (2, 'after')")
    mirror.wait_applied()
    assert values(dsn) == ["before", "after"]
    plain.run("DELETE FROM t", "CREATE TABLE u(k TEXT PRIMARY KEY) WITHOUT ROWID", "INSERT INTO u VALUES ('x')")
    plain.run("VACUUM")
    mirror.check()
    status = mirror.status()
    assert (status["capture"], status["gaps"], status["phase"]) == ("pages", [], "following")


def test_what_is_not_committed_is_never_seen(mirror: MirrorProcess, plain: Writer, dsn: str) -> None:
    """A transaction larger than the cache writes into the file long before it commits, or takes all of it back."""
    mirror.start()
    mirror.wait_applied()
    before = mirror.status()["applied"]
    plain.run("PRAGMA cache_size=10", "BEGIN")
    plain.run(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO t SELECT i, hex(randomblob(100)) FROM n"
    )
    with mirror.control() as client:
        assert not client.wait(0.3), "a state that nobody committed"
    assert mirror.status()["applied"] == before
    assert values(dsn) == ["before"]
    plain.run("ROLLBACK")
    mirror.wait_applied()
    assert values(dsn) == ["before"]
    plain.run("BEGIN", "UPDATE t SET v = 'committed'")
    plain.run("COMMIT")
    mirror.wait_applied()
    assert values(dsn) == ["committed"]


def test_a_writer_that_died_leaves_a_hot_journal(
    mirror: MirrorProcess, plain: Writer, dsn: str, database: Path
) -> None:
    """Its half-written pages are not taken; the next program that opens the file rolls them back."""
    mirror.start()
    mirror.wait_applied()
    plain.run("PRAGMA cache_size=10", "BEGIN")
    plain.run(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO t SELECT i, hex(randomblob(100)) FROM n"
    )
    os.kill(plain.pid, signal.SIGKILL)
    with mirror.control() as client:
        assert not client.wait(0.3)
    assert values(dsn) == ["before"]
    with Writer(database) as other:
        other.run("INSERT INTO t VALUES (2, 'after')")
        mirror.check()
    assert values(dsn) == ["before", "after"]


def test_a_writer_without_patience_is_never_refused(mirror: MirrorProcess, plain: Writer) -> None:
    """With busy_timeout=0 any lock of ours would make one of these fail; parity runs beside it, too."""
    mirror.start()
    for turn in range(2, 600):
        plain.run(f"INSERT INTO t VALUES ({turn}, 'row {turn}')", f"UPDATE t SET v = 'changed' WHERE id = {turn // 2}")
        if turn % 100 == 0:
            plain.send(*(f"UPDATE t SET v = {n} WHERE id = 1" for n in range(50)))
            mirror.parity()
            plain.answer()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["snapshot:copied", "rediff:compared", "apply:before-commit", "apply:after-commit"])
def test_killed_at_a_seam(mirror: MirrorProcess, plain: Writer, seam: str) -> None:
    mirror.start(kill_at=seam, wait=False)
    turn = 1
    # Some commits, then a pause: a file that is written without any cannot be copied.
    while not mirror.ends_within(0.1):
        for _ in range(10):
            turn += 1
            plain.run(f"INSERT INTO t VALUES ({turn}, 'row {turn}')", f"DELETE FROM t WHERE id = {turn - 3}")
    mirror.wait_killed()
    plain.run(f"INSERT INTO t VALUES ({turn + 1}, 'while nobody looked')")
    mirror.start()
    mirror.check()


def test_the_program_changes_to_wal_and_back(mirror: MirrorProcess, plain: Writer, dsn: str) -> None:
    mirror.start()
    mirror.wait_applied()
    plain.run("PRAGMA journal_mode=WAL", "INSERT INTO t VALUES (2, 'in WAL mode')")
    mirror.wait_applied()
    assert mirror.status()["capture"] == "WAL"
    plain.run("INSERT INTO t VALUES (3, 'and on')")
    mirror.check()
    assert mirror.stop() == 0
    plain.run("PRAGMA journal_mode=DELETE", "INSERT INTO t VALUES (4, 'and back')")
    mirror.start()
    mirror.check()
    assert mirror.status()["capture"] == "pages"
    assert values(dsn) == ["before", "in WAL mode", "and on", "and back"]


def test_killed_several_changes_behind_the_shadow(mirror: MirrorProcess, plain: Writer) -> None:
    """Each comparison's pages say what differs from the one before: all of them are needed, in order."""
    plain.run("CREATE TABLE u(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO u VALUES (1, 'before')")
    mirror.start()
    mirror.wait_applied()
    for statement in ("INSERT INTO u VALUES (2, 'two')", "INSERT INTO t VALUES (2, 'two')", "DROP TABLE u"):
        plain.run(statement)
        mirror.wait_applied()
    mirror.kill()
    plain.run("DELETE FROM t WHERE id = 2", "CREATE TABLE u(id INTEGER PRIMARY KEY, v TEXT)")
    mirror.start()
    mirror.check()
    assert mirror.status()["resyncs"] == []


@pytest.mark.slow
def test_many_changes_keep_few_files(mirror: MirrorProcess, plain: Writer) -> None:
    """Each comparison keeps its pages until the shadow is saved: that must come in time."""
    mirror.start()
    for turn in range(2, 202):
        plain.run(f"INSERT INTO t VALUES ({turn}, 'row {turn}')")
        mirror.wait_applied()
    assert len(list(mirror.state_dir.glob("sources/*/rediff-*.pages"))) < 150
    mirror.kill()
    plain.run("DELETE FROM t WHERE id % 3 = 0")
    mirror.start()
    mirror.check()


def test_auto_vacuum_moves_pages_at_every_commit(database: Path, make_mirror: Callable[..., MirrorProcess]) -> None:
    with Writer(database) as writer:
        writer.run("PRAGMA auto_vacuum=FULL", "PRAGMA journal_mode=DELETE")
        writer.run("CREATE TABLE c(key TEXT PRIMARY KEY, value BLOB)")
        mirror = make_mirror(database)
        mirror.start()
        for turn in range(40):
            writer.run(
                (f"INSERT OR REPLACE INTO c VALUES ('k{turn % 9}', ?)", (b"x" * 3000 * (turn % 5),)),
                f"DELETE FROM c WHERE key = 'k{(turn + 4) % 9}'",
            )
        mirror.check()


def is_behind(words: str) -> Callable[[dict[str, Any]], bool]:
    def good(status: dict[str, Any]) -> bool:
        return status["phase"] == "waiting" and words in (status["last_error"] or "") and status["lag_seconds"] > 0

    return good


def test_a_transaction_that_has_only_begun_holds_nothing_up(mirror: MirrorProcess, plain: Writer) -> None:
    """What it has written is in its memory: the file has what was committed before."""
    mirror.start()
    mirror.wait_applied()
    plain.run(
        "INSERT INTO t(v) VALUES ('seen')", "BEGIN IMMEDIATE", "INSERT INTO t(v) VALUES ('unseen')",
        "UPDATE t SET v = 'unseen'",
    )  # fmt: skip
    mirror.wait_applied()
    with psycopg.connect(mirror.dsn) as postgres:
        seen = "SELECT count(*) FILTER (WHERE v = 'seen'), count(*) FILTER (WHERE v = 'unseen') FROM t"
        assert postgres.execute(seen).fetchone() == (1, 0)
    plain.run("COMMIT")
    mirror.check()


def test_a_lock_that_is_held_is_told(mirror: MirrorProcess, plain: Writer) -> None:
    """Exclusive locking mode: what it commits cannot be read, so Postgres is behind, and nothing says otherwise."""
    mirror.start()
    mirror.wait_applied()
    plain.run("PRAGMA locking_mode=EXCLUSIVE", "INSERT INTO t(v) VALUES ('unseen')")
    told = mirror.status_when(is_behind("holds a lock for writing"))
    assert told["behind_since"] <= time.time() - told["lag_seconds"] + 0.1 and "NORMAL" in told["last_error"]
    with mirror.control() as client:
        assert not client.wait(0.2)
    plain.run("INSERT INTO t(v) VALUES ('more')", "PRAGMA locking_mode=NORMAL", "SELECT count(*) FROM t")
    mirror.check()
    after = mirror.status_when(lambda status: status["phase"] == "following")
    assert (after["last_error"], after["lag_seconds"]) == (None, 0.0)
