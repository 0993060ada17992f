"""What is fixed for a database may change all the same: another content is put in its place."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import psycopg
import pytest

from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling, put_in_place
from tests.support.waiting import LIMIT

FILL = filling("i, 'row ' || i")
#: The content that comes: other tables, and "ö" takes other bytes in each encoding.
NEW = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
    "INSERT INTO t VALUES (1, 'one ö'), (3, 'three')",
    "CREATE TABLE fresh(k TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "INSERT INTO fresh VALUES ('k1 ö', 1)",
)


def make(path: Path, *pragmas: str, mode: str = "WAL") -> Path:
    with Writer(path) as writer:
        writer.run(*(f"PRAGMA {pragma}" for pragma in pragmas), f"PRAGMA journal_mode={mode}", *NEW)
    return path


def texts(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT to_jsonb(v) #>> '{}' FROM t ORDER BY id").fetchall()
    return [text for (text,) in found]


def restore(backup: Path, database: Path) -> None:
    """Copy a database into a live one by SQLite's backup API."""
    from_, to = sqlite3.connect(backup), sqlite3.connect(database)
    from_.backup(to)
    from_.close()
    to.close()


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_backup_in_another_encoding_is_restored(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path, dsn: str, encoding: str, mode: str
) -> None:
    writer.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 50))
    mirror.start()
    mirror.wait_applied()
    restore(make(folder / "backup.db", f"encoding='{encoding}'"), database)
    mirror.check()
    assert texts(dsn) == ["one ö", "three"]
    with Writer(database) as program:
        program.run("INSERT INTO t VALUES (9, 'nine ö')")
        mirror.check()
    assert texts(dsn) == ["one ö", "three", "nine ö"]


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_the_encoding_is_set_before_the_first_table(mirror: MirrorProcess, writer: Writer, dsn: str, mode: str) -> None:
    writer.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id)", "DROP TABLE t", "VACUUM")
    mirror.start()
    mirror.wait_applied()
    writer.run("PRAGMA encoding='UTF-16le'", *NEW)
    mirror.check()
    assert texts(dsn) == ["one ö", "three"]


@pytest.mark.few(1)
@pytest.mark.parametrize("pragma", ["encoding='UTF-16be'", "page_size=1024", "auto_vacuum=1"])
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_another_file_is_put_in_its_place(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path, dsn: str, pragma: str, down: bool
) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 50))
    mirror.start()
    mirror.wait_applied()
    if down:
        mirror.stop()
    writer.close()
    put_in_place(make(folder / "other.db", pragma), database)
    if down:
        mirror.start()
    mirror.status_when(lambda status: bool(status["gaps"] and status["phase"] == "following"))
    mirror.check()
    assert texts(dsn) == ["one ö", "three"]


def test_pages_leave_bytes_unused(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path, dsn: str
) -> None:
    """As the checksum extension of SQLite does, by VACUUM; here it comes by rename."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 50))
    mirror.start()
    mirror.wait_applied()
    writer.close()
    other = make(folder / "other.db", mode="DELETE")
    reserve(other)
    put_in_place(other, database)
    mirror.status_when(lambda status: "unused changed to 8" in status["resyncs"][-1] and status["phase"] == "following")
    mirror.check()
    assert texts(dsn) == ["one ö", "three"]


def reserve(path: Path) -> None:
    """Set 8 reserved bytes a page in an empty file's header and fill it again: no statement of sqlite3 can."""
    with sqlite3.connect(path) as connection:
        statements = [sql for sql in connection.iterdump() if not sql.startswith(("BEGIN", "COMMIT"))]
    connection.close()
    path.unlink()
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("CREATE TABLE x(a)")
        connection.execute("DROP TABLE x")
        connection.execute("VACUUM")
    connection.close()
    data = bytearray(path.read_bytes())
    assert len(data) == 4096
    data[20] = 8
    # The b-tree of page 1 has no cells: where they would begin moves to the end of what is usable.
    data[105:107] = (4096 - 8).to_bytes(2, "big")
    path.write_bytes(data)
    with sqlite3.connect(path, isolation_level=None) as connection:
        for sql in statements:
            connection.execute(sql)
    connection.close()
    assert path.read_bytes()[20] == 8


@pytest.mark.few(1)
@pytest.mark.parametrize("form", ["none", "old"])
@pytest.mark.parametrize("when", ["first", "meanwhile"])
def test_the_size_in_the_header_is_not_valid(
    mirror: MirrorProcess, writer: Writer, database: Path, form: str, when: str
) -> None:
    """As libraries older than 3.7.0, and other engines, leave it: the database has as many pages as the file."""
    writer.run("PRAGMA journal_mode=DELETE", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    if when == "meanwhile":
        mirror.start()
        mirror.wait_applied()
    writer.run(FILL.format(1, 2000))
    writer.close()
    spoil_size(database, form)
    if when == "first":
        mirror.start()
    mirror.check()
    with Writer(database) as program:
        program.run("DELETE FROM t WHERE id % 3 = 0")
    spoil_size(database, form)
    mirror.check()
    mirror.stop()
    mirror.start()
    mirror.check()


def spoil_size(database: Path, form: str) -> None:
    data = bytearray(database.read_bytes()[:100])
    change = int.from_bytes(data[24:28], "big") + 1
    data[24:28] = change.to_bytes(4, "big")
    if form == "none":
        data[28:32] = data[92:96] = data[96:100] = bytes(4)
    else:
        data[28:32], data[92:96] = (2).to_bytes(4, "big"), (change - 1).to_bytes(4, "big")
    with open(database, "r+b") as file:
        file.write(data)


@pytest.mark.few(1)
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_another_content_is_copied_over_the_file(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path, dsn: str, down: bool
) -> None:
    """The same file, so many pages as before, and no WAL to show it: the program was stopped."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500), "PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(database, folder / "edited.db")
    with Writer(folder / "edited.db") as program:
        program.run("UPDATE t SET v = upper(v)", "PRAGMA wal_checkpoint(TRUNCATE)")
    mirror.start()
    mirror.wait_applied()
    writer.run("UPDATE t SET v = 'Row 1' WHERE id = 1", "PRAGMA wal_checkpoint(TRUNCATE)")
    mirror.wait_applied()
    if down:
        mirror.stop()
        shutil.copyfile(database, folder / "kept")
        keep = Path(f"{database}-wal").read_bytes()
    writer.close()
    if down:
        Path(f"{database}-wal").write_bytes(keep)
    shutil.copyfile(folder / "edited.db", database)
    if down:
        mirror.start()
    mirror.status_when(lambda status: bool(status["gaps"] and status["phase"] == "following"))
    mirror.check()
    assert texts(dsn)[:2] == ["ROW 1", "ROW 2"]
    with Writer(database) as program:
        assert program.run("PRAGMA integrity_check") == [["ok"]]
        program.run("UPDATE t SET v = 'and on' WHERE id = 2")
        mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_another_file_is_put_beside_the_old_log(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path, dsn: str, mode: str, down: bool
) -> None:
    """The mirror's connection has kept the log when the program closed, and SQLite reads the new file through it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500))
    mirror.start()
    mirror.wait_applied()
    writer.close()
    if down:
        mirror.stop()
    wal, shm = Path(f"{database}-wal"), Path(f"{database}-shm")
    assert wal.stat().st_size
    os.replace(make(folder / "new.db", mode=mode), database)
    if down and mode == "DELETE":
        mirror.log = folder / "log"
        mirror.start(wait=False)
        assert mirror.ends_within(LIMIT)
        assert "source.db-wal is the log" in mirror.log.read_text()
    else:
        if down:
            mirror.start()
        told = mirror.status_when(lambda status: "source.db-wal is the log" in (status["last_error"] or ""))
        assert told["phase"] == "waiting" and "delete source.db-wal and source.db-shm" in told["last_error"]
        with mirror.control() as client:
            assert not client.wait(0.2)
    wal.unlink()
    shm.unlink()
    if not mirror.alive:
        mirror.log = None
        mirror.start()
    mirror.status_when(lambda status: status["phase"] == "following" and status["last_error"] is None)
    mirror.check()
    assert texts(dsn) == ["one ö", "three"]


def test_another_content_with_the_same_header_is_put_beside_the_old_log(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path
) -> None:
    """Only its pages show that it is not what the log was written for; a copy of what the file was is."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500), "PRAGMA wal_checkpoint(TRUNCATE)")
    writer.run("UPDATE t SET v = 'in the log' WHERE id = 500")
    mirror.start()
    mirror.wait_applied()
    writer.close()
    before = database.read_bytes()
    other = folder / "other.db"
    other.write_bytes(before[: 4096 * 2] + before[4096 * 2 :].replace(b"row 3", b"ROW 3"))
    assert other.read_bytes() != before
    os.replace(other, database)
    mirror.status_when(lambda status: "source.db-wal is the log" in (status["last_error"] or ""))
    other.write_bytes(before)
    os.replace(other, database)
    mirror.status_when(lambda status: status["phase"] == "following" and status["last_error"] is None)
    mirror.check()
