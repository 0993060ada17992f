"""Cut the spool into batches: whole commits, as many as there are, as page images by page number."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from mirror.capture.spool import RECORD_HEADER_SIZE, Kind, Record, SpoolPlace
from mirror.core.errors import FormatError, SourceError
from mirror.core.positions import Lsn, Salts
from mirror.replica.images import Image, image_at
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.format.header import HEADER_SIZE, schema_cookie
from mirror.sqlite.format.wal import FRAME_HEADER_SIZE

#: A batch ends at the first commit after this many frames.
BATCH_FRAMES = 16384
_FRAME = struct.Struct(">II").unpack_from


@dataclass(frozen=True, slots=True)
class Head:
    """How far the spool has been consumed."""

    lsn: Lsn
    salts: Salts
    committed_at: float
    place: SpoolPlace
    """Reading goes on here, without the frames up to ``lsn``."""


@dataclass(frozen=True, slots=True)
class PageBatch:
    """One or more whole commits."""

    head: Head
    """The position after the batch."""
    images: dict[int, Image]
    """Newest image of each page that the commits wrote."""
    pages: int
    """Size of the database after the batch, in pages; 0 if the batch is empty."""
    commits: int
    page_size: int
    compared: bool = False
    """It comes from comparing pages: one of the two states may be none that SQLite has committed."""


@dataclass(frozen=True, slots=True)
class GapFound:
    """The next record of the spool begins a generation for which pages have to be compared."""

    head: Head
    """The start of the new generation."""
    reason: str
    """Why contiguity could not be proved; empty for a database that has no WAL: it changed, nothing was lost."""
    counter: int = 0
    """For a database without a WAL: its change counter then."""
    inode: int = 0
    """For a database without a WAL: the file's inode."""


def next_batch(
    spool: SpoolReader,
    head: Head,
    until: SpoolPlace | None,
    cookie: bytes | None,
    stop_at: Lsn | None = None,
) -> PageBatch | GapFound | None:
    """Read the next batch after ``head``; None when there is no whole commit up to ``until``.

    A commit that changes the schema (its page 1 has another cookie than ``cookie``) makes a batch of
    its own, so that each schema change is applied at its commit; with ``cookie`` None it does not, and
    the batch goes on to the end. ``stop_at``: no commit after this position is taken.
    A batch also ends where its segment ends, if a commit ends there. A batch without commits, which only a
    reset makes, has no images. Raises ``FormatError`` where the spool is damaged.
    """
    images: dict[int, Image] = {}
    pending: dict[int, Image] = {}
    pending_cookie = cookie
    at, pages, commits, frames, page_size = head, 0, 0, 0, 0
    seen = head.lsn.generation, head.lsn.frame

    def result() -> PageBatch | None:
        return PageBatch(at, images, pages, commits, page_size) if at != head else None

    for record in spool.records(head.place, until):
        if record.kind is Kind.START:
            if commits and cookie is not None:
                return result()  # so that now and then a position is between two segments
            continue
        if record.kind is not Kind.FRAMES:
            if record.generation <= head.lsn.generation:
                continue  # the record that began the generation we are in
            cursor = record.cursor()
            start = Head(Lsn(cursor.generation, 0), cursor.salts, record.time, record.end)
            if stop_at is not None and start.lsn > stop_at:
                break
            if record.kind in (Kind.GAP, Kind.CHANGE):
                return result() or GapFound(start, cursor.reason, cursor.changes, cursor.inode)
            # Frames after the last commit of a finished generation were never committed.
            pending = {}
            at = replace(start, committed_at=at.committed_at)
            seen = start.lsn.generation, 0
            continue
        if (record.generation, record.first_frame) > (seen[0], seen[1] + 1):
            # What was in between was deleted: this is never taken for contiguous.
            raise FormatError("read the spool", f"segment {record.place.segment}", f"records after {seen} are missing")
        seen = max(seen, (record.generation, record.first_frame + record.count - 1))
        step = len(record.payload) // record.count
        page_size = step - FRAME_HEADER_SIZE
        first, last = _wanted(record, head.lsn, stop_at)
        base = image_at(record.place.segment, record.place.offset + RECORD_HEADER_SIZE)
        for index in range(first, last):
            frame = index * step
            page = frame + FRAME_HEADER_SIZE
            pgno, size = _FRAME(record.payload, frame)
            pending[pgno] = base + page
            frames += 1
            if pgno == 1 and cookie is not None:
                pending_cookie = schema_cookie(record.payload[page : page + HEADER_SIZE])
            if not size:
                continue
            alone = pending_cookie != cookie
            if alone and commits:
                return result()
            if images:
                images.update(pending)
            else:
                images = pending
            pending = {}
            pages = size
            commits += 1
            place = record.end if index + 1 == record.count else record.place
            at = Head(Lsn(record.generation, record.first_frame + index), at.salts, record.time, place)
            if alone or (frames >= BATCH_FRAMES and cookie is not None):
                return result()
        if last < record.count:
            break
    return result()


def last_gap(spool: SpoolReader, found: GapFound, until: SpoolPlace | None) -> tuple[GapFound, list[str]]:
    """The last gap (or change of a database without a WAL) that the spool has, and the reasons of those before it.

    One comparison is enough for all of them, also for the commits in between. Raises ``FormatError`` where the spool is
    damaged.
    """
    passed: list[str] = []
    while True:
        later = next_batch(spool, found.head, until, None)
        while isinstance(later, PageBatch):
            later = next_batch(spool, later.head, until, None)
        if later is None:
            return found, passed
        passed.append(found.reason)
        found = later


def frames_until(spool: SpoolReader, start: Head, until: SpoolPlace | None, target: Lsn) -> PageBatch | GapFound | None:
    """All commits from the start of a generation to ``target`` as one batch; None if there are none.

    :class:`GapFound` if contiguity was lost in between. Raises ``SourceError`` if the spool ends before.
    """
    found = next_batch(spool, start, until, None, target)
    reached = found.head.lsn if isinstance(found, PageBatch) else start.lsn
    if isinstance(found, GapFound) or reached == target:
        return found
    later = next_batch(spool, found.head, until, None, target) if found is not None else None
    if isinstance(later, GapFound):
        return later
    raise SourceError("read the spool", detail=f"it ends at {reached} instead of {target}", retryable=True)


def _wanted(record: Record, after: Lsn, until: Lsn | None) -> tuple[int, int]:
    """Which frames of a record are after one position and not after another: a range of their indexes."""
    first, last = 0, record.count
    if record.generation <= after.generation:
        first = last if record.generation < after.generation else max(0, after.frame + 1 - record.first_frame)
    if until is not None and record.generation >= until.generation:
        last = 0 if record.generation > until.generation else min(last, until.frame + 1 - record.first_frame)
    return first, last
