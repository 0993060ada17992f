"""Cutting the spool into batches: whole commits, newest images, schema changes alone, gaps in their place."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.capture import spool as spool_module
from mirror.capture.spool import SpoolPlace, segment_path
from mirror.core.errors import FormatError
from mirror.core.positions import Lsn, Salts
from mirror.replica import batches as batches_module
from mirror.replica.batches import GapFound, Head, PageBatch, next_batch
from mirror.replica.images import Images
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.format.header import schema_cookie
from tests.support.spooling import Filler

COOKIE = bytes(4)
START = Head(Lsn(0, 0), Salts(0, 0), 0.0, SpoolPlace(1, 0))


class Source:
    """A spool being filled and read."""

    def __init__(self, tmp_path: Path) -> None:
        folder = tmp_path / "spool"
        self.filler = Filler(folder)
        self.reader = SpoolReader(folder)
        self.images = Images(tmp_path, self.reader)
        found = self.next(START)
        assert isinstance(found, GapFound)
        self.start = found.head
        """Behind the record that began generation 1."""

    def next(
        self,
        head: Head,
        cookie: bytes | None = COOKIE,
        until: SpoolPlace | None = None,
        stop_at: Lsn | None = None,
    ) -> PageBatch | GapFound | None:
        return next_batch(self.reader, head, until, cookie, stop_at)

    def batch(
        self,
        head: Head,
        cookie: bytes | None = COOKIE,
        until: SpoolPlace | None = None,
        stop_at: Lsn | None = None,
    ) -> PageBatch:
        """The next batch, which must be one of commits or of a reset."""
        found = self.next(head, cookie, until, stop_at)
        assert isinstance(found, PageBatch)
        return found

    def pages(self, batch: PageBatch) -> dict[int, bytes]:
        """The images of a batch."""
        return {pgno: self.images.read(image, batch.page_size) for pgno, image in batch.images.items()}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 3000)


def test_the_first_record_is_a_gap(source: Source) -> None:
    found = source.next(START)
    assert found == GapFound(source.start, "first sight of the source", inode=5)
    assert source.start.lsn == Lsn(1, 0)
    assert source.next(source.start) is None


def test_a_batch_holds_all_commits_and_the_newest_images(source: Source) -> None:
    first = source.filler.commit(2, 3, 4, size=4)
    second = source.filler.commit(3, 5, size=5)
    batch = source.batch(source.start)
    assert (batch.commits, batch.pages, batch.page_size) == (2, 5, 512)
    assert source.pages(batch) == first | second
    assert batch.head == Head(Lsn(1, 5), source.filler.cursor.salts, 1005.0, source.filler.spool.place)
    assert source.next(batch.head) is None


def test_a_page_written_twice_in_a_commit_counts_last(source: Source) -> None:
    written = source.filler.frames((2, 0), (3, 0), (2, 0), (4, 9))
    assert source.pages(source.batch(source.start)) == written


def test_half_a_commit_is_no_batch(source: Source) -> None:
    """Invariant 2; when the rest comes, the batch has all of it, whatever the records' borders."""
    parts = source.filler.frames((2, 0), (3, 0))
    assert source.next(source.start) is None
    parts |= source.filler.frames((4, 0))
    assert source.next(source.start) is None
    parts |= source.filler.frames((2, 9))
    batch = source.batch(source.start)
    assert batch.commits == 1
    assert source.pages(batch) == parts


def test_a_record_with_one_and_a_half_commits(source: Source) -> None:
    """The half is left for later, and the whole is not taken again."""
    source.filler.frames((2, 0), (3, 9), (2, 0), (4, 0))
    batch = source.batch(source.start)
    assert (batch.commits, set(batch.images), batch.head.lsn) == (1, {2, 3}, Lsn(1, 2))
    assert source.next(batch.head) is None
    source.filler.frames((5, 9))
    later = source.batch(batch.head)
    assert (later.commits, set(later.images), later.head.lsn) == (1, {2, 4, 5}, Lsn(1, 5))


def test_a_place_bounds_what_is_read(source: Source) -> None:
    """Capture's last word, not the end of the file, which may be half written."""
    source.filler.commit(2)
    until = source.filler.spool.place
    source.filler.commit(3)
    batch = source.batch(source.start, until=until)
    assert set(batch.images) == {2}
    assert source.next(batch.head, until=until) is None


@pytest.mark.parametrize("frame", range(1, 8))
def test_a_position_bounds_what_is_taken(source: Source, frame: int) -> None:
    """Commits at 2, 3 and 6; a position within a commit does not take it."""
    source.filler.frames((2, 0), (3, 9), (4, 9), (5, 0))
    source.filler.frames((5, 0), (6, 9))
    last = max((commit for commit in (2, 3, 6) if commit <= frame), default=0)
    found = source.next(source.start, stop_at=Lsn(1, frame))
    if not last:
        assert found is None
        return
    assert isinstance(found, PageBatch)
    assert found.head.lsn == Lsn(1, last)
    rest = source.next(found.head)
    assert (rest is None) == (last == 6)


def test_a_schema_change_is_a_batch_of_its_own(source: Source) -> None:
    """What came before it, it, and what comes after are three batches."""
    source.filler.commit(2)
    source.filler.commit(1, 3)  # page 1 with the old cookie
    source.filler.cookie = 7
    source.filler.commit(4, 1, 5)
    source.filler.commit(6)
    source.filler.commit(1, 7)
    first = source.batch(source.start)
    assert (first.commits, set(first.images)) == (2, {1, 2, 3})
    second = source.batch(first.head)
    assert (second.commits, set(second.images)) == (1, {1, 4, 5})
    cookie = schema_cookie(source.pages(second)[1])
    third = source.batch(second.head, cookie)
    assert (third.commits, set(third.images)) == (2, {1, 6, 7})
    assert source.next(third.head, cookie) is None


def test_a_schema_change_across_records(source: Source) -> None:
    source.filler.commit(2)
    source.filler.cookie = 7
    source.filler.frames((1, 0), (3, 0))
    source.filler.frames((4, 9), (5, 9))
    first = source.batch(source.start)
    assert set(first.images) == {2}
    second = source.batch(first.head)
    assert (set(second.images), second.commits) == ({1, 3, 4}, 1)
    assert set(source.batch(second.head, schema_cookie(source.pages(second)[1])).images) == {5}


def test_without_a_cookie_all_commits_are_one_batch(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a gap the comparison needs everything at once."""
    monkeypatch.setattr(batches_module, "BATCH_FRAMES", 2)
    for cookie in (0, 7, 8, 8):
        source.filler.cookie = cookie
        source.filler.commit(1, 2, 3)
    assert source.batch(source.start, None).commits == 4


def test_a_batch_ends_behind_enough_frames(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a commit, however large that is."""
    monkeypatch.setattr(batches_module, "BATCH_FRAMES", 4)
    for _ in range(3):
        source.filler.commit(2, 3, 4)
    first = source.batch(source.start)
    assert first.head.lsn == Lsn(1, 6)
    assert source.batch(first.head).head.lsn == Lsn(1, 9)


def test_a_batch_goes_on_behind_a_reset(source: Source) -> None:
    """A reset misses nothing: one batch may span it, and one alone moves the position."""
    source.filler.commit(2)
    source.filler.reset()
    source.filler.commit(3)
    batch = source.batch(source.start)
    assert (batch.commits, set(batch.images), batch.head.lsn) == (2, {2, 3}, Lsn(2, 1))
    assert batch.head.salts == source.filler.cursor.salts
    source.filler.reset()
    empty = source.batch(batch.head)
    assert (empty.commits, empty.images, empty.pages) == (0, {}, 0)
    assert empty.head.lsn == Lsn(3, 0)
    assert empty.head.committed_at == batch.head.committed_at
    assert source.next(empty.head) is None


def test_frames_that_were_never_committed_end_with_their_generation(source: Source) -> None:
    """Neither a reset nor a gap makes them part of the next commit."""
    source.filler.frames((2, 9), (8, 0))
    source.filler.reset()
    source.filler.commit(3)
    batch = source.batch(source.start)
    assert set(batch.images) == {2, 3}
    source.filler.frames((9, 0))
    source.filler.gap("lost")
    source.filler.commit(4)
    found = source.next(batch.head)
    assert isinstance(found, GapFound)
    assert set(source.batch(found.head).images) == {4}


def test_a_gap_ends_a_batch_and_is_then_found(source: Source) -> None:
    source.filler.commit(2)
    source.filler.gap("the WAL was reset: 3 commits overwritten")
    source.filler.commit(3)
    batch = source.batch(source.start)
    assert set(batch.images) == {2}
    found = source.next(batch.head)
    assert isinstance(found, GapFound)
    assert (found.reason, found.head.lsn) == ("the WAL was reset: 3 commits overwritten", Lsn(2, 0))
    assert set(source.batch(found.head).images) == {3}


def test_a_gap_behind_the_bound_is_not_found(source: Source) -> None:
    source.filler.commit(2)
    source.filler.gap("later")
    batch = source.batch(source.start, stop_at=Lsn(1, 1))
    assert source.next(batch.head, stop_at=Lsn(1, 1)) is None
    assert isinstance(source.next(batch.head, stop_at=Lsn(2, 0)), GapFound)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("seed", range(8))
def test_any_way_of_reading_gives_the_same_pages(tmp_path: Path, seed: int) -> None:
    """Random commits, records, segments, resets; read in random steps while it grows: nothing lost or twice."""
    r = random.Random(seed)
    source = Source(tmp_path)
    truth: dict[int, bytes] = {}
    taken: dict[int, bytes] = {}
    head, committed, seen = source.start, 0, 0
    for _ in range(60):
        if r.random() < 0.15:
            source.filler.reset()
        for _ in range(r.randrange(4)):
            parts = [r.randrange(1, 30) for _ in range(r.randrange(1, 12))]
            if r.random() < 0.1:
                source.filler.cookie += 1
            border = r.randrange(len(parts))
            if border:
                truth |= source.filler.frames(*((pgno, 0) for pgno in parts[:border]))
            truth |= source.filler.commit(*parts[border:], size=30)
            committed += 1
        bound = Lsn(source.filler.cursor.generation, r.randrange(40)) if r.random() < 0.3 else None
        until = source.filler.spool.place if r.random() < 0.5 else None
        while True:
            cookie = schema_cookie(taken[1]) if 1 in taken else COOKIE
            found = source.next(head, cookie, until, bound)
            if found is None:
                break
            assert isinstance(found, PageBatch)
            assert found.head.lsn > head.lsn
            assert bound is None or found.head.lsn <= bound
            head = found.head
            seen += found.commits
            taken |= source.pages(found)
        if bound is None:
            assert taken == truth
            assert seen == committed
            assert head.lsn == source.filler.cursor.lsn


def test_frames_that_do_not_follow_are_never_taken_for_contiguous(source: Source) -> None:
    """Somebody deleted what lay between: a hole in a generation, a beginning that is missing."""
    source.filler.commit(2)
    first = source.batch(source.start)
    source.filler.commit(3)
    second = source.batch(first.head)
    source.filler.commit(4)
    source.filler.reset()
    reset = source.filler.spool.place
    source.filler.commit(5)
    for place in (second.head.place, reset):
        with pytest.raises(FormatError, match="are missing"):
            source.next(replace(first.head, place=place))


def test_a_segment_that_is_gone_is_no_end(source: Source) -> None:
    source.filler.commit(2)
    until = source.filler.spool.place
    source.reader.close()
    segment_path(source.filler.folder, until.segment).unlink()
    with pytest.raises(FormatError, match="gone"):
        source.next(source.start, until=until)
