"""The newest commit by the WAL index: right at once, and without harm to the process's own connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from mirror.core.positions import Salts
from mirror.storage import newest as module
from mirror.storage.newest import NewestCommit, WalIndex
from mirror.storage.reads import Reason
from tests.support.source import Writer, put_in_place


@pytest.fixture
def index(writer: Writer, database: Path) -> WalIndex:
    writer.run("CREATE TABLE t(x)")
    return WalIndex(database)


def commit(index: WalIndex) -> NewestCommit:
    found = index.newest()
    assert isinstance(found, NewestCommit)
    return found


def test_each_commit_is_seen_at_once(index: WalIndex, writer: Writer) -> None:
    before = commit(index)
    assert commit(index) is before
    for _ in range(50):
        writer.run("INSERT INTO t VALUES (1)")
        after = commit(index)
        assert after.salts == before.salts and after.frame > before.frame and after.changes == before.changes + 1
        before = after
    writer.run("BEGIN", "INSERT INTO t VALUES (1)")
    assert commit(index) == before
    writer.run("ROLLBACK")
    writer.run("PRAGMA wal_checkpoint(RESTART)")
    assert commit(index)._replace(stamp=before.stamp) == before
    writer.run("INSERT INTO t VALUES (1)")
    assert commit(index).salts != before.salts and commit(index).frame == 1
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert commit(index).frame == 0 and commit(index).changes == before.changes + 1


def test_no_index(database: Path) -> None:
    index = WalIndex(database)
    assert index.newest() is Reason.NO_INDEX
    with Writer(database) as writer:
        writer.run("CREATE TABLE t(x)")
        assert index.newest() is Reason.NO_INDEX
        writer.run("PRAGMA journal_mode=WAL", "SELECT * FROM t")
        assert commit(index).salts == Salts(0, 0)
    assert index.newest() is Reason.NO_INDEX


def test_other_files_have_other_names(index: WalIndex, writer: Writer, database: Path, folder: Path) -> None:
    before = commit(index)
    writer.close()
    with Writer(database) as again:
        again.run("INSERT INTO t VALUES (1)")
        opened = commit(index)
        assert opened.files[:2] == before.files[:2] and opened.files[2:] != before.files[2:]
    other = folder / "other.db"
    with Writer(other) as made:
        made.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(x)")
    put_in_place(other, database)
    with Writer(database) as again:
        again.run("INSERT INTO t VALUES (1)")
        assert commit(index).files[:2] != before.files[:2]


def test_an_index_between_two_states(index: WalIndex, database: Path, folder: Path) -> None:
    """A program was stopped while it wrote it."""
    copy = folder / "copy.db"
    copy.touch()
    data = bytearray(Path(f"{database}-shm").read_bytes())
    data[60] ^= 1
    Path(f"{copy}-shm").write_bytes(data)
    assert WalIndex(copy).newest() is Reason.UNSETTLED
    data[60] ^= 1
    Path(f"{copy}-shm").write_bytes(data)
    assert commit(WalIndex(copy)).frame == commit(index).frame
    Path(f"{copy}-shm").write_bytes(b"abc")
    assert WalIndex(copy).newest() is Reason.UNSETTLED


PROGRAM = """
import fcntl, gc, struct, sys
from pathlib import Path
import apsw
from mirror.storage.newest import WalIndex

database = Path(sys.argv[1])
connection = apsw.Connection(str(database))
connection.execute("BEGIN")
connection.execute("SELECT * FROM t").fetchall()
for _ in range(3):
    index = WalIndex(database)
    index.newest()
    del index
    gc.collect()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_process_keeps_its_locks(index: WalIndex, writer: Writer, database: Path) -> None:
    """Hazard 17: it has a read transaction; afterwards the log cannot be reset, so its locks are still there."""
    writer.run("INSERT INTO t VALUES (1)")
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert program.stdout is not None and program.stdout.readline() == b"ready\n"
        writer.run("PRAGMA busy_timeout=0", "INSERT INTO t VALUES (2)")
        before = commit(index)
        ((busy, *_),) = writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
        assert busy == 1 and commit(index).salts == before.salts
    finally:
        program.communicate()
    ((busy, *_),) = writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert busy == 0


def test_one_descriptor_for_each_index_and_no_more_than_allowed(
    index: WalIndex, database: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    first = commit(index)
    count = len(os.listdir("/proc/self/fd"))
    assert {commit(WalIndex(database)) for _ in range(20)} == {first}
    assert len(os.listdir("/proc/self/fd")) == count
    monkeypatch.setattr(module, "MOST_INDEXES", len(module._opened))
    other = apsw.Connection(str(folder / "other.db"))
    other.execute("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").fetchall()
    assert WalIndex(folder / "other.db").newest() is Reason.UNREADABLE
    assert commit(WalIndex(database)) == first
    other.close()
