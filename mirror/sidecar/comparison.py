"""Comparing all pages of the source with the replica's, where the log is not contiguous or there is none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from mirror.core.errors import OldLogError, put_again
from mirror.core.faults import Faults
from mirror.postgres.ledger import Ledger
from mirror.replica.batches import GapFound, PageBatch, frames_until, last_gap
from mirror.replica.images import Images
from mirror.replica.replica import Replica
from mirror.replica.source_connection import SourceConnection
from mirror.replica.spool_reader import SpoolReader
from mirror.sidecar.capture_feed import CaptureFeed
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.table_repair import REPAIR
from mirror.sqlite.format.header import DatabaseHeader


class Comparison(NamedTuple):
    """The outcome of a comparison."""

    gap: GapFound
    """The last gap before it."""
    batch: PageBatch | None
    """What differs, and what was committed meanwhile. None: only a whole copy helps."""
    another_form: str = ""
    """Why only a whole copy helps."""
    unchanged: bool = False
    """Nothing differs, and capture had just begun: while it was not running nothing was changed."""


def compare_pages(
    replica: Replica,
    source: SourceConnection,
    feed: CaptureFeed,
    spool: SpoolReader,
    images: Images,
    gap: GapFound,
    status: SourceStatus,
    lost: Callable[[list[str]], None],
    another_schema: Callable[[bytes], bool],
    pump: Callable[[], None],
    progress: Callable[[int, int], None],
    faults: Faults,
) -> Comparison:
    """Compare the source, at one position after ``gap``.

    ``lost``: called with the reasons of gaps for which no comparison is needed, because another one follows them.
    ``another_schema``: whether the first page, which differs, says that the schema has changed unseen. ``pump``:
    as for :func:`~mirror.sidecar.first_copy.copy_source`. ``progress``: called with the bytes compared and those of the
    file; may raise. Raises ``SourceError``, ``StateError``, and ``OldLogError`` for a file that is not what the log
    beside it was written for.
    """
    while True:
        gap, passed = last_gap(spool, gap, feed.until)
        lost(passed)
        replica.forget_comparisons()
        read = source.reader()
        size, file_size = DatabaseHeader.parse(read.header()).page_size, read.size
        # A new log has other salts.
        same_log = gap.head.salts == replica.position.salts
        unsure = same_log and gap.reason == OldLogError.UNSURE
        if same_log and (gap.reason == OldLogError.SURE or (unsure and size != replica.page_size)):
            raise _old_log(source)
        if size != replica.page_size:
            return Comparison(gap, None, f"the page size changed from {replica.page_size:,} to {size:,}")
        differing = replica.compare(read, gap.head.lsn.generation, partial(_tell, progress, file_size))
        status.comparisons += 1
        faults("rediff:compared")
        target = feed.await_mark(pump)
        found = frames_until(spool, gap.head, feed.until, target)
        if not isinstance(found, GapFound):
            break
        lost([gap.reason])  # another gap came during the comparison: its result is void
        gap = found
    if unsure:
        logged = found.images if isinstance(found, PageBatch) else {}
        if any(pgno not in logged and pgno <= read.size // size for pgno in differing):
            raise _old_log(source)
    batch = replica.compared(gap, differing, found, read.size)
    assert batch is not None
    if why := replica.another_form(batch):
        return Comparison(gap, None, why)
    read.require_whole(batch.pages, size, batch.images, images)
    if 1 in batch.images and another_schema(images.read(batch.images[1], batch.page_size)):
        return Comparison(gap, None, "the schema changed while rows came by hooks")
    return Comparison(gap, batch, unchanged=not differing and found is None and feed.began_with(gap.head))


def _tell(progress: Callable[[int, int], None], total: int, done: int) -> None:
    progress(done, total)


def _old_log(source: SourceConnection) -> OldLogError:
    name = source.database.name
    return OldLogError(
        "follow the source",
        str(source.database),
        f"{name}-wal is the log of the file that was here before, through which SQLite reads this one:"
        f" {put_again(name)}",
        retryable=True,
    )


def record_gaps(ledger: Ledger, status: SourceStatus, generation: int, reasons: list[str]) -> list[int]:
    """Record gaps in Postgres and in the status; returns their keys. ``generation``: the one that was left.

    A reason that is empty, or a repair that was requested, is no gap: nothing was lost. Raises ``SinkError``.
    """
    lost = [reason for reason in reasons if reason not in ("", REPAIR)]
    if not lost:
        return []
    keys = ledger.record_gaps(generation, lost)
    for reason in lost:
        status.add_gap(generation, reason, datetime.now(UTC))
    return keys
