"""A file without a WAL: when its changes are announced, and what is said while they cannot be."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.capture import journal_follower
from mirror.capture.journal_follower import JournalFollower
from mirror.core.files import Stamp
from tests.support.spooling import opened
from tests.support.waiting import until


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[JournalFollower]:
    database = tmp_path / "source.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE t(a)")
    connection.close()
    (tmp_path / "spool").mkdir()
    spool = opened(tmp_path / "spool")
    follower = JournalFollower(database, spool)
    follower.open()
    until(follower.is_ready)
    follower.attach(1)
    yield follower
    follower.detach()
    spool.close()


def test_a_file_that_is_written_without_a_pause_is_behind(
    follower: JournalFollower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look sees another stamp: after a while that is said, with the time since which it is so."""
    monkeypatch.setattr(journal_follower, "STILL_SECONDS", 0.1)
    announced, stamps, began = follower.cursor, itertools.count(1), time.time()

    def look() -> bool:
        os.utime(tmp_path / "source.db", ns=(0, next(stamps)))
        follower.poll()
        return follower.behind is not None

    until(look)
    assert follower.behind is not None
    why, since = follower.behind
    assert "written without a pause" in why and began <= since <= time.time() - 0.1
    for _ in range(5):
        look()
        assert follower.behind == (why, since), "what is said stays the same"
    assert follower.cursor == announced and follower.target() is None

    def still() -> bool:
        follower.poll()
        return follower.behind is None

    until(still)
    assert follower.cursor.generation == announced.generation + 1 and follower.target() == follower.cursor.lsn


def test_a_commit_that_is_stamped_like_the_one_before(
    follower: JournalFollower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock for stamps stood still meanwhile: the change counter shows it."""
    path, announced = tmp_path / "source.db", follower.cursor
    stamp = Stamp.of(path)
    monkeypatch.setattr(Stamp, "of", lambda _: stamp)
    follower.poll()
    assert follower.cursor == announced and follower.target() == announced.lsn
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    assert follower.target() is None, "what was read meanwhile is not taken for whole"
    follower.poll()
    assert follower.cursor.generation == announced.generation + 1
    assert follower.cursor.changes == announced.changes + 1 and follower.target() == follower.cursor.lsn


def test_a_commit_that_begins_while_its_file_is_looked_at(
    follower: JournalFollower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has written page 1, with its counter, and not yet the others, while the clock for stamps stands still."""
    path, announced = tmp_path / "source.db", follower.cursor
    stamp = Stamp.of(path)
    monkeypatch.setattr(Stamp, "of", lambda _: stamp)

    def count() -> bool:
        with open(path, "r+b") as file:
            file.seek(24)
            counter = int.from_bytes(file.read(4), "big") + 1
            file.seek(24)
            file.write(counter.to_bytes(4, "big"))
        return False

    count()
    with monkeypatch.context() as at_the_lock:
        at_the_lock.setattr(follower, "_is_being_written", count)
        follower.poll()
    assert follower.cursor == announced and follower.target() is None
    follower.poll()
    assert follower.cursor.changes == announced.changes + 2 and follower.target() == follower.cursor.lsn
