"""A WAL whose frames are not what SQLite writes: the mirror says what is in its way, and goes on once it is gone."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.sqlite.format.walindex import BOTH_COPIES, WalIndexHeader
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer


@contextmanager
def capture_stopped(mirror: MirrorProcess) -> Iterator[None]:
    """Capture sees nothing of what happens meanwhile."""
    capture = mirror.capture_pid
    os.kill(capture, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(capture, signal.SIGCONT)


def overwrite_frames(database: Path, first: int, salts: bytes) -> None:
    """Other salts and sums in the headers of all frames from one on; the pages stay."""
    wal = Path(f"{database}-wal")
    with open(wal, "r+b") as file:
        for at in range(32 + (first - 1) * 4120, os.stat(wal).st_size, 4120):
            file.seek(at + 8)
            file.write(salts + bytes(8))


def test_damage_is_told_and_ends_with_the_next_reset(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'a')")
    mirror.start()
    mirror.wait_applied()
    frames = (os.stat(f"{database}-wal").st_size - 32) // 4120
    with capture_stopped(mirror):
        writer.run("INSERT INTO t VALUES (2, 'b')")
        overwrite_frames(database, frames + 1, b"nonsense")
    status = mirror.status_when(lambda status: status["last_error"] is not None)
    assert status["phase"] == "waiting"
    assert f"frame {frames + 1}" in status["last_error"]
    assert "checkpoint" in status["last_error"]
    writer.run("PRAGMA wal_checkpoint(RESTART)", "INSERT INTO t VALUES (3, 'c')")
    mirror.check()
    status = mirror.status_when(lambda status: status["last_error"] is None)
    assert status["phase"] == "following"


def test_committed_frames_without_salts(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    """As SQLite 3.40 leaves them: followed, and so is what comes behind them."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'a')")
    mirror.start()
    mirror.wait_applied()
    frames = (os.stat(f"{database}-wal").st_size - 32) // 4120
    with capture_stopped(mirror):
        writer.run("INSERT INTO t VALUES (2, 'b')", "INSERT INTO t VALUES (3, 'c')")
        overwrite_frames(database, frames + 1, bytes(8))
    mirror.check()
    writer.run("INSERT INTO t VALUES (4, 'd')")
    mirror.check()
    mirror.kill()
    writer.run("INSERT INTO t VALUES (5, 'e')")
    mirror.start()
    mirror.check()
    assert mirror.status()["interruptions"] == 0


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", range(8))
def test_bytes_changed_at_random(mirror: MirrorProcess, writer: Writer, database: Path, seed: int) -> None:
    """Never a wrong row, and equal after the next reset.

    What changes is headers of any frames and texts in those not yet captured, so that the program, which tests no
    checksum, can still read its file.
    """
    chance = random.Random(seed)
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "PRAGMA wal_autocheckpoint=0")
    mirror.start()
    wal = Path(f"{database}-wal")
    for turn in range(4):
        mirror.wait_applied()
        index = WalIndexHeader.parse(Path(f"{database}-shm").read_bytes()[:BOTH_COPIES])
        assert index is not None
        unread = 32 + index.last_frame * 4120
        with capture_stopped(mirror):
            writer.run(*(f"INSERT INTO t(v) VALUES (printf('%.*c', {chance.randrange(9000)}, '~'))" for _ in range(5)))
            data = bytearray(wal.read_bytes())
            middles = range(unread + 1, len(data) - 1)
            texts = [at for at in middles if data[at - 1] == data[at] == data[at + 1] == ord("~")]
            heads = [at + chance.randrange(8, 24) for at in range(32, len(data), 4120)]  # salts and sums
            places = chance.sample(texts, min(len(texts), 3)) + chance.sample(heads, min(len(heads), 2))
            with open(wal, "r+b") as file:
                for at in places:
                    file.seek(at)
                    file.write(b"#" if data[at] == ord("~") else bytes([data[at] ^ chance.randrange(1, 256)]))
        if turn % 2:
            mirror.kill()
            mirror.start()
        writer.run("PRAGMA wal_checkpoint(RESTART)", f"INSERT INTO t(v) VALUES ('after {turn}')")
        mirror.check()
