"""Hazards of following: resets, spills, stale files, replaced files, power cuts."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from mirror.sqlite.format.wal import (
    FRAME_HEADER_SIZE,
    WAL_HEADER_SIZE,
    WalHeader,
    checksum_words,
    frame_checksum,
    frame_offset,
)
from mirror.sqlite.format.walindex import BOTH_COPIES, WalIndexHeader
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling, put_in_place
from tests.support.waiting import until

FILL = filling("i, 'row ' || i")


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 2000))
    return writer


@pytest.fixture
def running(mirror: MirrorProcess, filled: Writer) -> MirrorProcess:
    mirror.start()
    mirror.wait_applied()
    return mirror


def work(writer: Writer, turns: int = 10) -> None:
    for turn in range(turns):
        writer.run(f"INSERT INTO t(v) VALUES ({turn})", f"UPDATE t SET v = 'changed' WHERE id = {turn + 1}")
        writer.run(f"DELETE FROM t WHERE id = {turn + 100}")


@pytest.mark.parametrize(
    ("between", "gaps"),
    [
        # The leftovers of the old generation are still there, all of them: nothing is lost.
        (("PRAGMA wal_checkpoint(RESTART)", "INSERT INTO t(v) VALUES ('first of the new one')"), 0),
        # A whole generation came and went, or leftovers were overwritten, or cut off: told, and compared.
        (("PRAGMA wal_checkpoint(RESTART)", FILL.format(1, 1000), "PRAGMA wal_checkpoint(RESTART)"), 1),
        (("PRAGMA wal_checkpoint(RESTART)", FILL.format(1, 30_000)), 1),
        (("PRAGMA wal_checkpoint(TRUNCATE)",), 1),
    ],
)
def test_hazard_01_the_wal_is_reset_before_it_was_read(
    running: MirrorProcess, filled: Writer, between: tuple[str, ...], gaps: int
) -> None:
    capture = running.capture()
    capture.suspend()
    work(filled)
    filled.run(*between)
    work(filled, 1)
    capture.resume()
    running.check()
    assert len(running.status()["gaps"]) == gaps
    assert len(running.status()["resyncs"]) == 1, "only the first copy"


@pytest.mark.few(2)
@pytest.mark.parametrize("resets", [1, 2, 3])
@pytest.mark.parametrize("recreated", [False, True])
def test_hazard_05_resets_while_nobody_watched(
    make_mirror: Callable[..., MirrorProcess], database: Path, resets: int, *, recreated: bool
) -> None:
    """Neither one reset more in the header nor new random salts prove anything: the pages are compared."""
    mirror = make_mirror(database)
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500))
    mirror.start()
    mirror.wait_applied()
    mirror.kill()
    for _ in range(resets):
        if recreated:
            writer.close()
            assert not Path(f"{database}-wal").exists()
            writer = Writer(database)
        else:
            writer.run("PRAGMA wal_checkpoint(RESTART)")
        work(writer, 3)
    mirror.start()
    mirror.check()
    assert len(mirror.status()["gaps"]) == 1
    writer.close()


def test_hazard_06_a_spilled_transaction_that_is_not_committed(
    running: MirrorProcess, filled: Writer, database: Path, dsn: str
) -> None:
    """Frames with right salts stand in the file, and are rolled back or written over."""
    commits = running.status()["commits"]
    with Writer(database) as other:
        for end in ("ROLLBACK", "COMMIT"):
            before = Path(f"{database}-wal").stat().st_size
            other.run("PRAGMA cache_size=5", "BEGIN", FILL.format(10_000, 40_000), "UPDATE t SET v = 'spilled'")
            assert Path(f"{database}-wal").stat().st_size > before + 50 * 4096 or end == "COMMIT"
            running.wait_applied()
            assert running.status()["commits"] == commits
            with psycopg.connect(dsn) as connection:
                query = "SELECT count(*) FROM t WHERE to_jsonb(v) = to_jsonb('spilled'::text)"
                assert connection.execute(query).fetchall() == [(0,)]
            other.run(end)
    running.check()
    assert running.status()["commits"] == commits + 1
    assert running.status()["gaps"] == []


def test_hazard_07_a_commit_frame_that_is_not_published_yet(
    running: MirrorProcess, filled: Writer, database: Path
) -> None:
    """Its salts and checksums are right and it is marked as a commit; only the WAL index does not have it."""
    work(filled)
    running.wait_applied()
    wal = Path(f"{database}-wal")
    log = wal.read_bytes()
    index = WalIndexHeader.parse(Path(f"{database}-shm").read_bytes()[:BOTH_COPIES])
    assert index is not None
    head = WalHeader.parse(log[:WAL_HEADER_SIZE])
    offset = frame_offset(index.last_frame, head.page_size)
    size = FRAME_HEADER_SIZE + head.page_size
    last = log[offset : offset + size]
    page = bytearray(last[FRAME_HEADER_SIZE:])
    page[-1] ^= 0xFF
    seeds = frame_checksum(last)
    words = struct.unpack(f"{'>' if head.big_endian else '<'}{2 + len(page) // 4}I", last[:8] + bytes(page))
    frame = last[:16] + struct.pack(">2I", *checksum_words(words, seeds)) + bytes(page)
    descriptor = os.open(wal, os.O_WRONLY)
    os.pwrite(descriptor, frame, offset + size)
    os.close(descriptor)
    # The program has the index open, so what that does not have is not committed.
    running.status_when(lambda status: bool(status["gaps"] and status["phase"] == "following"))
    running.check()
    commits = running.status()["commits"]
    filled.run("INSERT INTO t(v) VALUES ('in its place')")
    running.check()
    assert running.status()["commits"] == commits + 1
    assert [gap["reason"] for gap in running.status()["gaps"]] == ["its WAL has a commit that its index does not know"]


def test_a_program_dies_before_it_publishes_its_commit(running: MirrorProcess, filled: Writer, database: Path) -> None:
    """Nobody has the index but the mirror, which lets go of it: the commit counts, as it would without a mirror."""
    work(filled)
    running.wait_applied()
    shm = Path(f"{database}-shm")
    before = shm.read_bytes()
    capture = running.capture()
    capture.suspend()
    filled.run("INSERT INTO t(v) VALUES ('not published')")
    filled.kill()
    with open(shm, "r+b") as file:
        file.write(before[:BOTH_COPIES])
    capture.resume()
    running.status_when(lambda status: bool(status["gaps"] and status["phase"] == "following"))
    running.check()
    with Writer(database) as program:
        assert program.run("SELECT count(*) FROM t WHERE v = 'not published'") == [[1]]


def test_hazard_08_a_wal_rewritten_at_the_same_size(running: MirrorProcess, filled: Writer, database: Path) -> None:
    """Nothing that ``stat`` tells of size changes: frames and salts do."""
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_autocheckpoint=0")
    sizes = set()
    for turn in range(20):
        filled.run(f"UPDATE t SET v = {turn} WHERE id = 5")
        running.wait_applied()
        sizes.add(Path(f"{database}-wal").stat().st_size)
        filled.run("PRAGMA wal_checkpoint(RESTART)")
    assert len(sizes) == 1
    running.check()
    assert running.status()["gaps"] == []


def test_hazard_16_the_database_file_is_newer_than_what_was_decoded(
    running: MirrorProcess, filled: Writer, dsn: str
) -> None:
    """Postgres is held up while commits reach the file by checkpoints: what was before comes from the shadow."""
    with psycopg.connect(dsn) as blocker:
        blocker.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        for _ in range(5):
            work(filled)
            filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
            with running.control() as client:
                assert not client.wait(0.0)  # asks capture, so that it has read before the next checkpoint
        filled.run("DELETE FROM t WHERE id % 2", "PRAGMA wal_checkpoint(TRUNCATE)")
    running.check()


def test_hazard_19_writes_while_the_mirror_is_down(running: MirrorProcess, filled: Writer) -> None:
    """With the WAL still there it goes on where it was; after a reset it compares."""
    for reset, gaps in ((False, 0), (True, 1)):
        running.kill()
        filled.run("INSERT INTO t VALUES (77777, 'comes')", "DELETE FROM t WHERE id = 77777")
        work(filled)
        if reset:
            filled.run("PRAGMA wal_checkpoint(RESTART)", FILL.format(1, 900))
        running.start()
        running.check()
        assert len(running.status()["gaps"]) == gaps


@pytest.mark.parametrize("checkpointed", [False, True])
def test_hazard_20_a_power_cut_puts_postgres_ahead_of_the_source(
    make_mirror: Callable[..., MirrorProcess], database: Path, folder: Path, dsn: str, *, checkpointed: bool
) -> None:
    """The source lost commits that Postgres has (synchronous=NORMAL): Postgres goes back to what the source says."""
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500))
    mirror = make_mirror(database)
    mirror.start()
    work(writer)
    mirror.wait_applied()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{database}{suffix}", folder / f"survives{suffix}")
    writer.run("INSERT INTO t VALUES (90000, 'lost')", "UPDATE t SET v = 'lost' WHERE id < 50")
    if checkpointed:
        writer.run("PRAGMA wal_checkpoint(RESTART)", "INSERT INTO t VALUES (90001, 'lost')")
    mirror.wait_applied()
    mirror.kill()
    writer.kill()
    for suffix in ("", "-wal"):
        shutil.copyfile(folder / f"survives{suffix}", f"{database}{suffix}")
    Path(f"{database}-shm").unlink()
    mirror.start()
    mirror.check()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM t WHERE v = to_jsonb('lost'::text)").fetchall() == [(0,)]
    with Writer(database) as writer:
        work(writer)
        mirror.check()


def test_hazard_24_the_file_is_replaced(running: MirrorProcess, filled: Writer, database: Path, folder: Path) -> None:
    """The same path, another inode: noticed while it runs, and compared."""
    other = folder / "other.db"
    with Writer(other) as program:
        program.run(
            "PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)"
        )
    filled.close()
    put_in_place(other, database)
    with Writer(database) as program:
        program.run("INSERT INTO t VALUES (3, 4)")
        running.check()
        assert len(running.status()["gaps"]) == 1


def test_a_backlog_of_gaps_is_compared_once(running: MirrorProcess, filled: Writer) -> None:
    """Only the last one counts; a comparison for each took most of a minute after seconds of hasty checkpoints."""
    before = running.status()
    loop, capture, spool = psutil.Process(running.pid), running.capture(), running.state_dir / "sources"

    def spooled() -> int:
        return sum(path.stat().st_size for path in spool.glob("*/spool/*"))

    loop.suspend()
    for _ in range(12):
        capture.suspend()
        work(filled, 2)
        filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
        seen = spooled()
        capture.resume()
        until(lambda seen=seen: spooled() > seen)
    loop.resume()
    running.check()
    after = running.status()
    # What was spooled late may end the wait for the next gap, which is then one with it.
    assert 9 <= len(after["gaps"]) - len(before["gaps"]) <= 12
    assert after["comparisons"] - before["comparisons"] <= 2
    assert after["resyncs"] == before["resyncs"]


#: A program with an index of its own: exclusive mode over a VFS that takes no POSIX locks. It commits for each line.
OUTSIDER = """
import apsw, sys
c = apsw.Connection(sys.argv[1], vfs="unix-none")
c.execute("PRAGMA locking_mode=EXCLUSIVE")
for line in sys.stdin:
    c.execute(line)
    print("done", flush=True)
c.close()
"""


class Outsider:
    """A process that runs statements on a database, and that no user of its WAL index sees."""

    def __init__(self, database: Path) -> None:
        command = [sys.executable, "-c", OUTSIDER, str(database)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, statement: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """It commits again and again."""
        over = threading.Event()

        def write() -> None:
            while not over.wait(0.05):
                self.run("INSERT INTO t(v) VALUES ('unseen')")

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        self._process.communicate()


def follows(status: dict[str, Any]) -> bool:
    return bool(status["phase"] == "following" and status["last_error"] is None)


def is_told(status: dict[str, Any]) -> bool:
    return status["phase"] == "waiting" and "commits that its index does not know" in (status["last_error"] or "")


@pytest.mark.few(1)
@pytest.mark.parametrize("first", ["the mirror", "the program"])
def test_commits_that_the_index_does_not_know(
    mirror: MirrorProcess, filled: Writer, database: Path, first: str
) -> None:
    """They are told within a second or two, nothing calls Postgres up to date, and at last it is equal."""
    if first == "the mirror":
        mirror.start()
        mirror.wait_applied()
    filled.close()  # it would go on with the index that it has
    outsider = Outsider(database)
    outsider.run("INSERT INTO t(v) VALUES ('unseen')")
    if first == "the program":
        mirror.start()
        mirror.wait_applied()
    # One commit may be of a program that has died: the mirror lets SQLite build the index again, with it.
    with outsider.writing():
        mirror.status_when(is_told)
        with mirror.control() as client:
            assert not client.wait(0.5)
        report = mirror.parity()
        assert report.verdict == "not checked" and "index does not know" in str(report.to_json())
    # In a pause, the mirror looks at what is there, and nothing is lost of it.
    outsider.run("DELETE FROM t WHERE id % 7 = 0 AND v <> 'unseen'")
    mirror.status_when(follows)
    mirror.check()
    with outsider.writing():
        mirror.status_when(is_told)
    outsider.close()
    mirror.status_when(follows)
    with Writer(database) as writer:
        writer.run("INSERT INTO t(v) VALUES ('and on')")
        mirror.check()
    with psycopg.connect(mirror.dsn) as connection:
        found = connection.execute("SELECT count(*) > 1 FROM t WHERE v::text LIKE '%unseen%'")
        assert found.fetchone() == (True,)


def test_a_rolled_back_spill_is_no_commit(running: MirrorProcess, filled: Writer, database: Path) -> None:
    """A large transaction writes to the WAL before it is rolled back: that is nothing to tell."""
    filled.run("PRAGMA cache_size=5")
    before = running.status()
    for _ in range(3):
        filled.run("BEGIN IMMEDIATE", "UPDATE t SET v = hex(randomblob(300))", "ROLLBACK")
        time.sleep(0.3)  # several looks
    filled.run("INSERT INTO t(v) VALUES ('x')")
    running.check()
    after = running.status()
    assert after["interruptions"] == before["interruptions"] and after["gaps"] == before["gaps"]


def test_the_file_is_changed_past_its_wal(running: MirrorProcess, filled: Writer, database: Path) -> None:
    """By another engine, or ``cp``: pages are compared, though no commit is in the WAL."""
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
    running.check()
    data = bytearray(database.read_bytes())
    at = data.rfind(b"row 1234")
    data[at : at + 8] = b"row 4321"
    with open(database, "r+b") as file:
        file.seek(at)
        file.write(data[at : at + 8])
    running.status_when(lambda status: any("past its WAL" in gap["reason"] for gap in status["gaps"]))
    running.check()
    assert len(running.status()["gaps"]) == 1
    with psycopg.connect(running.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM t WHERE v::text LIKE '%row 4321%'").fetchone() == (1,)
