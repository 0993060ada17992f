"""The published position: never half of one, never one of a mirror that is gone, and no harm to who reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirror.core.positions import Lsn, Position, Salts
from mirror.core.published import (
    BEAT_SECONDS,
    POSITION_FILE,
    SILENT_SECONDS,
    SIZE,
    Published,
    PublishedReader,
    Publisher,
)
from tests.support.waiting import LIMIT, until

LINEAGE = "0f8fad5b-d9cb-469f-a165-70867728950e"


def at(number: int) -> Position:
    return Position(Lsn(number, number), Salts(number, number), float(number))


def published(reader: PublishedReader) -> Published:
    found = reader.read()
    assert found is not None
    return found


def test_what_is_published_is_read(folder: Path) -> None:
    reader = PublishedReader(folder)
    assert reader.read() is None
    publisher = Publisher(folder)
    assert not published(reader).following
    position = Position(Lsn(1 << 50, 77), Salts(0xFFFFFFFF, 1), 1764312345.678)
    publisher.publish(3, 9, LINEAGE, position, wal=True)
    found = published(reader)
    assert (found.following, found.wal, found.pid, found.source_id, found.epoch) == (True, True, os.getpid(), 3, 9)
    assert (found.position, found.lineage) == (position, LINEAGE)
    assert not found.is_silent(time.monotonic())
    assert published(reader) is found, "what has not changed is not read again"
    publisher.publish(3, 9, None, at(5), wal=False)
    found = published(reader)
    assert (found.following, found.wal, found.lineage, found.position) == (True, False, "", at(5))
    publisher.withdraw()
    assert published(reader)._replace(following=True) == found
    publisher.publish(3, 9, None, at(5), wal=False)
    assert published(reader).following
    publisher.close()
    publisher.close()
    assert not published(reader).following
    reader.close()


def test_another_mirror_takes_the_file_over(folder: Path) -> None:
    """Whoever has it open sees at once that nothing is followed: the first one may have been killed."""
    reader = PublishedReader(folder)
    killed = Publisher(folder)
    killed.publish(1, 1, LINEAGE, at(1), wal=True)
    before = published(reader)
    publisher = Publisher(folder)
    assert not published(reader).following
    publisher.publish(1, 2, LINEAGE, at(1), wal=True)
    assert published(reader).mirror != before.mirror
    assert os.stat(folder / POSITION_FILE).st_size == SIZE
    for each in (killed, publisher, reader):
        each.close()


@pytest.mark.parametrize("content", [b"", b"x" * 17, b"mirrpos1" + bytes(SIZE), bytes(SIZE)])
def test_a_file_that_is_something_else(folder: Path, content: bytes) -> None:
    (folder / POSITION_FILE).write_bytes(content)
    reader = PublishedReader(folder)
    assert reader.read() is None
    publisher = Publisher(folder)
    publisher.publish(1, 1, LINEAGE, at(1), wal=True)
    until(reader.read)
    assert published(reader).position == at(1)
    publisher.close()
    reader.close()


def test_a_deleted_folder_that_is_made_again(folder: Path) -> None:
    state = folder / "s"
    state.mkdir()
    publisher, reader = Publisher(state), PublishedReader(state)
    publisher.publish(1, 1, LINEAGE, at(1), wal=True)
    assert published(reader).following
    moved = folder / "moved"
    state.rename(moved)
    state.mkdir()
    publisher.renew()
    assert not published(PublishedReader(moved)).following, "who still has the old file open is not misled"
    publisher.publish(1, 1, LINEAGE, at(2), wal=True)
    until(lambda: published(reader).position == at(2))
    (state / POSITION_FILE).unlink()
    until(lambda: reader.read() is None)
    deadline = time.monotonic() + LIMIT
    while reader.read() is None:  # the next beat makes it again
        assert time.monotonic() < deadline
        publisher.publish(1, 1, LINEAGE, at(2), wal=True)
    assert published(reader).position == at(2)
    publisher.close()
    reader.close()


def test_a_beat_changes_nothing_else(folder: Path) -> None:
    publisher, reader = Publisher(folder), PublishedReader(folder)
    assert not publisher.beat(), "nothing was published"
    publisher.publish(1, 1, LINEAGE, at(1), wal=True)
    first = published(reader)
    assert publisher.beat()
    second = published(reader)
    assert second.beat > first.beat and second._replace(beat=first.beat) == first
    publisher.withdraw()
    assert not publisher.beat() and not published(reader).following
    publisher.publish(1, 1, LINEAGE, at(2), wal=True)
    (folder / POSITION_FILE).unlink()
    assert not all(publisher.beat() for _ in range(5)), "it sees that the file was deleted"
    publisher.publish(1, 1, LINEAGE, at(2), wal=True)
    until(lambda: reader.read() is not None)
    assert published(reader).position == at(2)
    publisher.close()
    reader.close()


def test_a_mirror_that_was_killed_falls_silent() -> None:
    found = Published(True, True, 1, 1, 1, 1, 1, 1, 1, 1, 1.0, 1000.0, LINEAGE)
    assert not found.is_silent(1000.0) and not found.is_silent(1000.0 + SILENT_SECONDS - 0.1)
    assert found.is_silent(1000.0 + SILENT_SECONDS + 0.1)
    assert found.is_silent(5.0), "its beat is from before the machine was started again"
    assert 2 * BEAT_SECONDS < SILENT_SECONDS


WRITER = """
import sys
from pathlib import Path
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.published import Publisher
publisher = Publisher(Path(sys.argv[1]))
number = 0
while True:
    number = (number * 1664525 + 1013904223) % (1 << 32)
    publisher.publish(number, number, None, Position(Lsn(number, number), Salts(number, number), number), wal=True)
"""


def test_nobody_reads_half_a_position(folder: Path) -> None:
    """Beside a mirror that does nothing but publish: all fields are always of one position."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)])
    try:
        reader = PublishedReader(folder)
        until(lambda: (found := reader.read()) is not None and found.following, alive=lambda: writer.poll() is None)
        seen, deadline = set[int](), time.monotonic() + LIMIT
        while len(seen) < 5000:
            assert time.monotonic() < deadline and writer.poll() is None
            found = reader.read()
            if found is None:
                continue  # the writer was put to sleep half-way
            assert len({found.source_id, found.epoch, *found[6:11]}) == 1, found
            seen.add(found.epoch)
    finally:
        writer.kill()
        writer.wait()


def test_programs_that_are_moved_read_it(folder: Path) -> None:
    """Moving, moved, still moved while no mirror runs, moved back."""
    reader, publisher = PublishedReader(folder), Publisher(folder)
    publisher.moving = True
    publisher.publish(3, 9, LINEAGE, at(1), wal=True, in_phases=True)
    found = published(reader)
    assert (found.following, found.moving, found.sealed, found.in_phases) == (True, True, False, True)
    publisher.withdraw()
    found = published(reader)
    assert (found.following, found.moving) == (False, True), "a moment in which nothing is followed ends no move"
    publisher.say_moved(sealed=True)
    found = published(reader)
    assert (found.moving, found.sealed, found.in_phases, found.source_id) == (False, True, True, 3)
    publisher.close()
    assert published(reader).sealed
    publisher = Publisher(folder)
    found = published(reader)
    assert (found.sealed, found.in_phases, found.source_id, found.following) == (True, True, 3, False)
    publisher.say_moved(sealed=False)
    found = published(reader)
    assert (found.sealed, found.in_phases, found.source_id) == (False, True, 3)
    publisher.publish(3, 10, LINEAGE, at(2), wal=True)
    found = published(reader)
    assert (found.following, found.moving, found.sealed, found.in_phases) == (True, False, False, False)
    publisher.close()
    reader.close()


def test_a_move_ends_with_its_mirror(folder: Path) -> None:
    """Whether it stops or is killed: then the lock on the file holds, or nothing."""
    reader, publisher = PublishedReader(folder), Publisher(folder)
    publisher.moving = True
    publisher.publish(3, 9, LINEAGE, at(1), wal=True)
    found = published(reader)
    assert found.moving
    assert not found._replace(beat=found.beat - SILENT_SECONDS - BEAT_SECONDS).moving
    publisher.close()
    found = published(reader)
    assert (found.moving, found.moves, found.sealed, found.source_id) == (False, True, False, 3), "Postgres is asked"
    reader.close()


@pytest.mark.parametrize("moving", [False, True])
def test_a_mirror_that_starts_says_what_the_one_before_said_of_phases(folder: Path, moving: bool) -> None:
    """Until it has seen what the source is. Of a move in whose middle that was killed nothing is sure."""
    reader, killed = PublishedReader(folder), Publisher(folder)
    killed.moving = moving
    killed.publish(3, 9, LINEAGE, at(1), wal=True, in_phases=True)
    publisher = Publisher(folder)
    found = published(reader)
    assert (found.following, found.moving, found.moves, found.in_phases, found.sealed, found.source_id) == (
        False, False, moving, True, False, 3
    )  # fmt: skip
    publisher.publish(3, 10, LINEAGE, at(2), wal=True, in_phases=True)
    found = published(reader)
    assert (found.following, found.moves, found.in_phases) == (True, False, True)
    publisher.close()
    reader.close()
