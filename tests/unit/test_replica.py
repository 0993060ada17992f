"""A copy just made: its rows can be read at once; it counts only when it is on disk and mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.capture.spool import SpoolPlace
from mirror.core.errors import FormatError
from mirror.core.positions import Lsn
from mirror.replica.batches import GapFound, Head, PageBatch, frames_until
from mirror.replica.copy import read_rediff
from mirror.replica.images import Images, image_at
from mirror.replica.replica import Replica
from mirror.replica.shadow import SAVE_SEGMENTS, Shadow
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.decode.diff import build_pagemap
from tests.support.spooling import Filler
from tests.support.sqlite import Pages, new_database, runs


class State:
    """A state directory with a copy of a database in it."""

    def __init__(self, folder: Path, data: bytes) -> None:
        self.folder = folder
        self.pages = Pages.of(data)
        (folder / "shadow.db").write_bytes(data)
        self.filler = Filler(folder / "spool")
        self.spool = SpoolReader(folder / "spool")
        self.images = Images(folder, self.spool)

    def create(self) -> Replica:
        head = Head(Lsn(1, 0), self.filler.cursor.salts, 1.0, self.filler.spool.place)
        frames = PageBatch(head, {}, self.pages.count, 0, self.pages.header.page_size)
        return Replica.create(self.folder, self.spool, self.images, frames, self.pages.count)

    def saved(self) -> Shadow | None:
        opened = Shadow.open(self.folder, self.images)
        return opened and opened[0]

    def close(self) -> None:
        self.images.close()
        self.spool.close()


def database() -> bytes:
    connection = new_database(page_size=512)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    connection.executemany("INSERT INTO t VALUES (?, zeroblob(?))", [(n, n % 700) for n in range(3000)])
    return connection.serialize("main")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path, database())
    yield made
    made.close()


def test_a_copy_counts_when_it_is_finished(place: State) -> None:
    replica = place.create()
    (table,) = replica.schema.tables.values()
    assert sum(1 for _ in replica.rows(table)) == 3000
    assert place.saved() is None
    replica.finish(lambda: None)
    replica.finish(lambda: None)  # nothing is left to do
    replica.close()
    again = Replica.open(place.folder, place.spool, place.images)
    assert again is not None and again.position == replica.position
    pages = place.pages
    expected = build_pagemap(runs(pages.read), pages.count, again.schema, pages.layout)
    opened = Shadow.open(place.folder, place.images)
    assert opened is not None and opened[1] == expected.to_bytes()
    opened[0].close()
    again.close()


def test_a_copy_given_up_does_not_count(place: State) -> None:
    place.create().close()
    assert place.saved() is None


def test_a_copy_that_is_damaged_never_counts(tmp_path: Path) -> None:
    """SQLite itself would not notice: the load must not be committed."""
    data = bytearray(database())
    leaf = next(at for at in range(512 * 5, len(data), 512) if data[at] == 13)
    data[leaf] = 10
    place = State(tmp_path, bytes(data))
    replica = place.create()
    with pytest.raises(FormatError):
        replica.finish(lambda: None)
    assert place.saved() is None
    replica.close()
    place.close()


def test_a_comparison_is_kept_when_only_a_reset_follows_the_gap(place: State) -> None:
    """A batch without commits says nothing of the database's size: the pages that differ all count."""
    replica = place.create()
    place.filler.gap("the WAL was reset: 9 commits overwritten")
    gap = replica.next(None)
    assert isinstance(gap, GapFound)
    place.filler.reset()
    frames = frames_until(place.spool, gap.head, None, place.filler.cursor.lsn)
    assert isinstance(frames, PageBatch) and frames.commits == 0
    images = {7: image_at(-gap.head.lsn.generation, 8), place.pages.count: image_at(-gap.head.lsn.generation, 528)}
    batch = replica.compared(gap, images, frames, None)
    assert batch is not None
    assert (batch.images, batch.pages, batch.head) == (images, place.pages.count, frames.head)
    replica.close()


def test_a_comparison_that_was_not_applied_goes_when_postgres_leaps(place: State) -> None:
    """Rows came by hooks instead. Left behind, a restart would take its pages for the way to a later position."""
    replica = place.create()
    replica.finish(lambda: None)
    data = place.pages.data
    changed = data[:-1] + bytes([data[-1] ^ 1])
    replica.compare(lambda at, amount: changed[at : at + amount], 3, lambda done: None)
    replica.leap(replace(replica.position, lsn=Lsn(4, 2)), None)
    assert replica.leapt and not replica.changed, "nothing is saved of a position to which the pages have not come"
    replica.forget_comparisons()
    assert read_rediff(place.folder, 3, replica.page_size) is None
    replica.close()


@pytest.mark.parametrize("between", [True, False], ids=["where a segment ends", "within one"])
def test_the_spool_is_pruned_although_nothing_more_comes(
    place: State, between: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capture may be waiting for that."""
    monkeypatch.setattr("mirror.capture.spool.SEGMENT_BYTES", 1000)
    replica = place.create()
    replica.finish(lambda: None)
    begin = place.filler.spool.place
    while place.filler.spool.place.segment <= begin.segment + SAVE_SEGMENTS:
        place.filler.commit(2, 3)
        if not between or place.filler.spool.place.segment <= begin.segment + SAVE_SEGMENTS:
            head = Head(place.filler.cursor.lsn, place.filler.cursor.salts, 1.0, place.filler.spool.place)
    replica.head = head
    replica.save_now_and_then(place.filler.spool.place)
    assert replica._shadow._saving is not None
    replica._shadow._saving.done.result()
    replica.save_now_and_then(place.filler.spool.place)
    assert place.spool.first() == SpoolPlace(head.place.segment, 0)
    replica.close()


def test_two_gaps_with_nothing_committed_between_them(place: State) -> None:
    """Postgres got what was compared after the second. Frames behind the first are in the spool, void."""
    replica = place.create()
    replica.finish(lambda: None)
    place.filler.gap("the WAL was reset: 1 commits overwritten")
    place.filler.frames((3, 0), (4, 0))
    place.filler.gap("the WAL was reset before capture had caught up with it")
    reached = place.filler.cursor.lsn
    data = (place.folder / "shadow.db").read_bytes()
    seen: list[int] = []
    assert replica.compare(lambda offset, size: data[offset : offset + size], reached.generation, seen.append) == {}
    assert seen == [*range(0, len(data), 1 << 20)]
    assert replica.roll_forward(reached, None, lambda: None)
    assert replica.head.lsn == reached
    replica.close()
