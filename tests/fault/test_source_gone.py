"""The source's file goes and comes back: the mirror waits, says so, and converges; it never mirrors half a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, remove
from tests.support.waiting import until

FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0})"
    " INSERT INTO t SELECT i, 'row ' || i || hex(randomblob(100)) FROM n"
)


@pytest.fixture
def backup(writer: Writer, database: Path, folder: Path) -> Path:
    """A copy of the source, in WAL mode, of some hundred pages; the source then goes on."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(3000), "PRAGMA wal_checkpoint(TRUNCATE)")
    copy = folder / "backup.db"
    shutil.copyfile(database, copy)
    writer.run("DELETE FROM t WHERE id % 3 = 0", "INSERT INTO t VALUES (10000, 'after the backup')")
    return copy


def wait_for(mirror: MirrorProcess, told: str) -> None:
    """Until the mirror waits, for this reason."""

    def waits(status: dict[str, Any]) -> bool:
        assert status["phase"] != "failed", status
        return status["phase"] == "waiting" and told in status["last_error"]

    assert "by itself" in mirror.status_when(waits)["last_error"]


def rows(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT * FROM t ORDER BY id").fetchall()


@pytest.mark.few(1)
@pytest.mark.parametrize("program", ["ended", "goes on"])
def test_restored_by_delete_and_copy(
    mirror: MirrorProcess, writer: Writer, database: Path, backup: Path, program: str
) -> None:
    mirror.start()
    mirror.wait_applied()
    if program == "ended":
        writer.close()
    remove(database)
    wait_for(mirror, "the file is gone")
    shutil.copyfile(backup, database)
    mirror.check()
    with Writer(database) as restored:
        restored.run("INSERT INTO t VALUES (20000, 'in the restored file')")
        mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("page_size", [4096, 512])
def test_created_anew_by_a_program(mirror: MirrorProcess, database: Path, backup: Path, page_size: int) -> None:
    mirror.start()
    mirror.wait_applied()
    remove(database)
    with Writer(database) as other:
        other.run(f"PRAGMA page_size={page_size}", "PRAGMA journal_mode=WAL")
        other.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'another file')")
        mirror.check()
        other.run("INSERT INTO t VALUES (2, 'more')")
        mirror.check()


def test_moved_away_and_back(mirror: MirrorProcess, writer: Writer, database: Path, backup: Path, folder: Path) -> None:
    mirror.start()
    mirror.wait_applied()
    writer.close()
    for suffix in ("", "-wal", "-shm"):
        os.replace(f"{database}{suffix}", f"{folder}/away{suffix}")
    wait_for(mirror, "the file is gone")
    for suffix in ("-wal", "-shm", ""):
        os.replace(f"{folder}/away{suffix}", f"{database}{suffix}")
    mirror.check()


def test_replaced_while_a_program_writes_into_the_deleted_file(
    mirror: MirrorProcess, writer: Writer, database: Path, backup: Path, folder: Path
) -> None:
    """Its commits never let the WAL index rest; the new file is noticed all the same."""
    mirror.start()
    mirror.wait_applied()
    writer.send(*["INSERT INTO t(v) VALUES (abs(random()))"] * 200_000)
    remove(database)
    shutil.copyfile(backup, folder / "new.db")
    os.replace(folder / "new.db", database)
    with psycopg.connect(mirror.dsn, autocommit=True) as connection:
        until(lambda: connection.execute("SELECT 1 FROM t WHERE id = 3").fetchone(), alive=lambda: mirror.alive)
    writer.kill()
    mirror.check()


def test_back_in_rollback_mode(
    mirror: MirrorProcess, writer: Writer, database: Path, backup: Path, folder: Path, dsn: str
) -> None:
    mirror.start()
    mirror.wait_applied()
    before = rows(dsn)
    writer.close()
    remove(database)
    with Writer(backup) as other:
        other.run("PRAGMA journal_mode=DELETE")
    shutil.copyfile(backup, database)
    mirror.check()
    assert mirror.status()["capture"] == "pages"
    assert rows(dsn) != before
    with Writer(database, busy=0) as other:
        # Looking at it takes no lock: a program that cannot wait is never refused.
        other.run(*["INSERT INTO t(v) VALUES (abs(random()))"] * 100)
        mirror.check()
        other.run("PRAGMA journal_mode=WAL")
        other.run(*["INSERT INTO t(v) VALUES (abs(random()))"] * 100)
        mirror.check()
    assert mirror.status()["capture"] == "WAL"


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda whole: b"", "empty"),
        (lambda whole: whole[:50], "not finished"),
        (lambda whole: whole[: len(whole) // 2 + 1000], "not finished"),
        (lambda whole: os.urandom(len(whole)), "encrypted"),
    ],
    ids=["empty", "torn header", "half", "encrypted"],
)
def test_back_but_not_whole(
    mirror: MirrorProcess,
    writer: Writer,
    database: Path,
    backup: Path,
    dsn: str,
    content: Callable[[bytes], bytes],
    told: str,
) -> None:
    mirror.start()
    mirror.wait_applied()
    before = rows(dsn)
    writer.close()
    remove(database)
    database.write_bytes(content(backup.read_bytes()))
    wait_for(mirror, told)
    assert not Path(f"{database}-wal").exists()
    assert rows(dsn) == before
    database.write_bytes(backup.read_bytes())
    mirror.check()


def test_half_copied_beside_the_log_of_the_old_file(
    mirror: MirrorProcess, writer: Writer, backup: Path, database: Path, dsn: str
) -> None:
    """Together they are what the log was written for, once the copy is whole; not before."""
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = database.read_bytes()
    writer.run("INSERT INTO t VALUES (20000, 'in the log')")
    mirror.start()
    mirror.wait_applied()
    before = rows(dsn)
    writer.kill()
    database.unlink()
    with open(database, "wb", buffering=0) as file:
        file.write(whole[: len(whole) // 2])
        wait_for(mirror, "not finished")
        assert rows(dsn) == before
        file.write(whole[len(whole) // 2 :])
    mirror.check()
    assert rows(dsn) == before


def test_stops_while_it_waits(mirror: MirrorProcess, database: Path, backup: Path) -> None:
    mirror.start()
    mirror.wait_applied()
    remove(database)
    wait_for(mirror, "the file is gone")
    assert mirror.stop() == 0


def test_gone_while_the_mirror_was_down(mirror: MirrorProcess, writer: Writer, database: Path, backup: Path) -> None:
    """At its start the mirror waits for it as well."""
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    writer.close()
    remove(database)
    mirror.start()
    mirror.status_when(lambda status: status["phase"] == "waiting" and "no such file yet" in status["last_error"])
    with Writer(database) as other:
        other.run("PRAGMA journal_mode=WAL", "CREATE TABLE u(v)", "INSERT INTO u VALUES (1)")
        mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("known", [False, True])
def test_free_pages_at_the_end_need_not_be_there(
    make_mirror: Callable[..., MirrorProcess], database: Path, known: bool
) -> None:
    """Nobody reads a free page, so SQLite opens a file that ends before some, by the size that the WAL tells."""
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "PRAGMA secure_delete=OFF")
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'stays')")
    writer.run("CREATE TABLE big(v)", "INSERT INTO big VALUES (zeroblob(900000))")
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    mirror = make_mirror(database)
    if known:
        mirror.start()
        mirror.check()
        mirror.stop()
        writer.run("UPDATE t SET v = 'stays on'", "PRAGMA wal_checkpoint(TRUNCATE)")
    writer.run("DROP TABLE big")
    whole = database.stat().st_size // 4096
    wal = Path(f"{database}-wal").read_bytes()
    end = max(int.from_bytes(wal[at : at + 4]) for at in range(32, len(wal), 24 + 4096))
    assert end < whole, "the free pages have frames"
    writer.kill()
    with database.open("r+b") as file:
        file.truncate(end * 4096)
    with Writer(database) as again:
        assert again.run("SELECT count(*) FROM t") == [[1]]
        mirror.start()
        mirror.check()
