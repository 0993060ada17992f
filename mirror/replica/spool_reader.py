"""Read the spool: records in order, single page images at a place, and pruning.

Capture appends to the segments in another process at the same time. The format of the records, and what capture
guarantees of them, is in :mod:`mirror.capture.spool`.

Guaranteed: a record is given only if it is whole and undamaged; what is damaged before a place that capture has
reported is an error, never the end. Segments are deleted here only, in ascending order.

Not guaranteed: that a page image read by its place is undamaged (:meth:`SpoolReader.page` tests nothing), and that
what capture appends is on disk: :meth:`SpoolReader.sync` does that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mirror.capture.spool import Record, SpoolPlace, read_record, segment_path, segments
from mirror.core.errors import FormatError
from mirror.core.faults import Faults, no_fault
from mirror.core.imports import load_numpy

#: Bytes that are read at once. A record that is longer is read by itself.
AHEAD_BYTES = 1 << 16
#: A source is busy from so many frames in so many seconds on. Testing and comparing their pages is faster with numpy,
#: which is loaded then: it takes 14 MB of memory that a process whose sources are all quiet does without.
BUSY_FRAMES, BUSY_SECONDS = 2048, 4.0


class SpoolReader:
    """Reads the spool from a place on, and single pages at any place in it.

    Keeps the segments that it has read open until they are pruned. Thread: one at a time.
    """

    def __init__(self, folder: Path, faults: Faults = no_fault) -> None:
        """``faults`` is called with the name of each place at which tests kill the process."""
        self._folder = folder
        self._faults = faults
        self._open: dict[int, int] = {}
        self._frames, self._since = 0, 0.0

    def _descriptor(self, number: int) -> int:
        found = self._open.get(number)
        if found is None:
            found = self._open[number] = os.open(segment_path(self._folder, number), os.O_RDONLY)
        return found

    def first(self) -> SpoolPlace | None:
        """The start of the oldest segment; None for an empty spool."""
        numbers = segments(self._folder)
        return SpoolPlace(numbers[0], 0) if numbers else None

    def records(self, place: SpoolPlace, until: SpoolPlace | None = None) -> Iterator[Record]:
        """The records from ``place`` to ``until`` (to the end of what is whole, if None).

        Raises ``FormatError`` where a record before ``until`` is damaged.
        """
        ahead, begin = b"", place
        while until is None or place < until:
            try:
                descriptor = self._descriptor(place.segment)
                at = place.offset - begin.offset
                if begin.segment != place.segment or at >= len(ahead):
                    last = until is not None and until.segment == place.segment
                    size = min(AHEAD_BYTES, until.offset - place.offset) if until is not None and last else AHEAD_BYTES
                    ahead, begin, at = os.pread(descriptor, size, place.offset), place, 0
                record = read_record(descriptor, place, ahead, at)
            except FileNotFoundError as error:
                if until is None:
                    return
                raise FormatError("read the spool", f"segment {place.segment}", "it is gone") from error
            if record is not None:
                self._count(record)
                yield record
                place = record.end
            elif place.offset == os.fstat(self._descriptor(place.segment)).st_size:
                place = SpoolPlace(place.segment + 1, 0)
            elif until is None:
                return
            else:
                raise FormatError("read the spool", f"segment {place.segment}, offset {place.offset}", "it is damaged")

    def _count(self, record: Record) -> None:
        """Notice that the source is busy."""
        if not self._since <= record.time < self._since + BUSY_SECONDS:
            self._frames, self._since = 0, record.time
        self._frames += record.count
        if self._frames >= BUSY_FRAMES:
            load_numpy()

    def page(self, place: SpoolPlace, page_size: int) -> bytes:
        """``page_size`` bytes at a place; raises ``FileNotFoundError`` when its segment was pruned."""
        return os.pread(self._descriptor(place.segment), page_size, place.offset)

    def prune(self, keep: int) -> None:
        """Delete the segments before number ``keep``; raises ``OSError``."""
        for number in segments(self._folder):
            if number >= keep:
                break
            descriptor = self._open.pop(number, None)
            if descriptor is not None:
                os.close(descriptor)
            segment_path(self._folder, number).unlink()
            self._faults("prune:segment")

    def sync(self, numbers: Iterable[int]) -> None:
        """Write the segments with these numbers to disk, so that they survive a power cut; raises ``OSError``."""
        for number in numbers:
            os.fsync(self._descriptor(number))

    def close(self) -> None:
        """Close all segments."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
