"""Hazards for the writer: it never waits for the mirror, fails because of it, or loses its WAL."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from tests.support.locks import CHECKPOINT, CONNECTED, READ_MARKS, RECOVER, WRITE, Lock, locks
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until


class Watch:
    """Reads ``/proc/locks`` over and over and keeps what the mirror's processes were seen to hold."""

    def __init__(self, mirror: MirrorProcess, files: list[Path]) -> None:
        self.seen: dict[Path, set[Lock]] = {file: set() for file in files}
        self.looks = 0
        self._mirror = mirror
        self._end = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            pids = {process.pid for process in self._mirror.processes()}
            for file, seen in self.seen.items():
                seen.update(lock for lock in locks(file) if lock.pid in pids)
            self.looks += 1


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    writer.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " INSERT INTO t SELECT i, 'row ' || i FROM n"
    )
    return writer


def churn(writer: Writer, turns: int) -> None:
    for turn in range(turns):
        writer.run(f"INSERT INTO t(v) VALUES ({turn})", f"UPDATE t SET v = -{turn} WHERE id = {turn % 9 + 1}")


@pytest.fixture
def impatient(database: Path, filled: Writer) -> Iterator[Writer]:
    """A program that fails at once where it would have to wait."""
    with Writer(database, busy=0) as writer:
        yield writer


@pytest.mark.linux
def test_hazard_02_no_read_transaction_is_held(mirror: MirrorProcess, impatient: Writer, database: Path) -> None:
    """From the first copy on, no checkpoint meets a read mark, and the WAL starts over as it does without a mirror."""
    wal, shm = Path(f"{database}-wal"), Path(f"{database}-shm")
    impatient.run("PRAGMA wal_autocheckpoint=100", "PRAGMA wal_checkpoint(TRUNCATE)")

    def restarted() -> bool:
        [[busy, _, _]] = impatient.run("PRAGMA wal_checkpoint(RESTART)")
        return busy == 0

    mirror.start(wait=False)
    meetings = 0
    with Watch(mirror, [database, shm]) as watch:
        while watch.looks < 250:
            churn(impatient, 20)
            if not restarted():  # it met the read of connecting, which ends by itself
                meetings += 1
                until(restarted)
        mirror.wait_applied()
    assert meetings <= 1
    assert {lock.exclusive for seen in watch.seen.values() for lock in seen} == {False}
    held = {byte for lock in watch.seen[shm] for byte in range(lock.first, lock.last + 1)}
    # It connects, and connecting reads once; it never writes, checkpoints or recovers.
    assert CONNECTED in held
    assert held <= {CONNECTED, *READ_MARKS}
    with Watch(mirror, [shm]) as watch:
        while watch.looks < 100:
            churn(impatient, 20)
    assert {(lock.first, lock.last) for lock in watch.seen[shm]} == {(CONNECTED, CONNECTED)}
    assert not {WRITE, CHECKPOINT, RECOVER} & held
    assert wal.stat().st_size < 120 * 4200


def test_hazard_03_the_mirror_runs_no_checkpoint(mirror: MirrorProcess, filled: Writer, database: Path) -> None:
    """Neither while it follows nor when it stops: the database file stays as the writer left it."""
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_autocheckpoint=0")
    before = hashlib.sha256(database.read_bytes()).digest(), database.stat().st_mtime_ns
    mirror.start()
    churn(filled, 100)
    mirror.check()
    logged = Path(f"{database}-wal").stat().st_size
    assert mirror.stop() == 0
    assert (hashlib.sha256(database.read_bytes()).digest(), database.stat().st_mtime_ns) == before
    assert Path(f"{database}-wal").stat().st_size == logged > 100 * 4096


def test_hazard_04_the_last_writer_to_close_does_not_delete_the_wal(
    make_mirror: Callable[..., MirrorProcess], database: Path
) -> None:
    """The mirror stays connected, so what was committed right before the program ended is still there."""
    mirror = make_mirror(database)
    for turn in range(10):
        with Writer(database) as writer:
            if turn == 0:
                writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
                mirror.start()
                mirror.wait_applied()
            writer.run(*(f"INSERT INTO t(v) VALUES ({turn})" for _ in range(50)))
        assert Path(f"{database}-wal").exists()
    mirror.check()
    assert mirror.status()["gaps"] == []


@pytest.mark.linux
def test_hazard_17_no_descriptor_is_closed_beside_a_connection(
    mirror: MirrorProcess, filled: Writer, database: Path
) -> None:
    """Whatever the mirror reads and closes, its connection keeps its locks, and so the WAL."""
    shm = Path(f"{database}-shm")
    filled.run("PRAGMA wal_checkpoint(TRUNCATE)")
    mirror.start()
    mirror.check()
    for reason in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM"):
        churn(filled, 30)
        filled.run(reason)
        mirror.check()
    connected = [process.pid for process in mirror.processes() if process.pid != mirror.capture().pid]
    held = {lock.pid for lock in locks(shm) if lock.first == CONNECTED}
    assert held & set(connected)
    assert mirror.capture().pid not in held, "the process that opens and closes files has a connection"


def test_hazard_18_the_mirror_closes_last_and_leaves_the_wal(
    make_mirror: Callable[..., MirrorProcess], database: Path
) -> None:
    """A writer that was killed left commits in the WAL; the mirror, the last to close, leaves them there."""
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror = make_mirror(database)
    mirror.start()
    churn(writer, 20)
    mirror.wait_applied()
    writer.kill()
    wal = Path(f"{database}-wal")
    before = wal.read_bytes()
    assert mirror.stop() == 0
    assert wal.read_bytes() == before
    mirror.start()
    mirror.check()
    assert mirror.status()["gaps"] == []


def test_a_writer_without_patience_is_never_refused(mirror: MirrorProcess, impatient: Writer, database: Path) -> None:
    """Start, first copy, parity, gap and comparison, stop: no statement fails, no checkpoint is kept from its end."""
    met = 0

    def ends(kind: str) -> bool:
        [[busy, _, _]] = impatient.run(f"PRAGMA wal_checkpoint({kind})")
        return busy == 0

    def work(*, beside_parity: bool = False, connecting: bool = False) -> None:
        nonlocal met
        churn(impatient, 10)
        for kind in ("PASSIVE", "FULL", "RESTART", "TRUNCATE"):
            # Parity reads for some milliseconds at a time; a checkpoint beside it may end early, as beside any reader.
            if not ends(kind) and not beside_parity:
                assert connecting  # which reads once, and ends by itself
                met += 1
                until(lambda kind=kind: ends(kind))

    mirror.start(wait=False)
    for _ in range(20):
        work(connecting=True)
    assert met <= 1
    mirror.wait_applied()
    with ThreadPoolExecutor(1) as executor:
        parity = executor.submit(mirror.parity)
        while not parity.done():
            work(beside_parity=True)
    # It may give up where the WAL is reset all the time, but it must not see what is not there.
    assert parity.result().verdict in ("equal", "not checked")
    capture = mirror.capture()
    capture.suspend()
    for _ in range(10):
        work()
    capture.resume()
    for _ in range(20):
        work()
    mirror.wait_applied()
    mirror.stop()
    work()
    mirror.start()
    for _ in range(20):
        work()


def test_the_wal_is_as_large_as_without_a_mirror(mirror: MirrorProcess, filled: Writer, database: Path) -> None:
    """The same work, with and without: as many checkpoints, seen as resets, and the same file at its end."""

    def resets() -> int:
        header = Path(f"{database}-wal").read_bytes()[:32]
        return int.from_bytes(header[12:16], "big")

    filled.run("PRAGMA wal_autocheckpoint=50")
    found = []
    for turn in range(2):
        if turn == 1:
            mirror.start()
            mirror.wait_applied()
        filled.run("PRAGMA wal_checkpoint(TRUNCATE)", "UPDATE t SET v = 0 WHERE id = 1")
        first = resets()
        for n in range(1000):
            filled.run(f"UPDATE t SET v = {n} WHERE id = {n % 500 + 1}")
        found.append((resets() - first, os.stat(f"{database}-wal").st_size))
    (alone, size_alone), (beside, size_beside) = found
    assert alone > 15
    assert (beside, size_beside) == (alone, size_alone)


def test_processes_of_a_mirror(mirror: MirrorProcess, filled: Writer) -> None:
    """What the watch looks at is all there is: the mirror and its capture process."""
    mirror.start()
    mirror.wait_applied()
    assert len(mirror.processes()) == 2
    assert mirror.capture() in psutil.Process(mirror.processes()[0].pid).children()
