"""The source as of the applied position: shadow, page map and schema, moving from batch to batch."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path

from mirror.capture.spool import Kind, SpoolPlace
from mirror.core.errors import FormatError
from mirror.core.faults import Faults, no_fault
from mirror.core.positions import Lsn, Position
from mirror.core.rows import RowChange
from mirror.core.rules import Rules
from mirror.core.tables import Table
from mirror.replica.batches import GapFound, Head, PageBatch, next_batch
from mirror.replica.copy import ReadFile, read_rediff, rediff
from mirror.replica.images import Image, Images
from mirror.replica.shadow import SavedPosition, Shadow
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.decode.diff import SCHEMA_TABLE, Decoded, Layout, all_rows, build_pagemap, decode
from mirror.sqlite.decode.pagemap import PageMap
from mirror.sqlite.decode.schema import Schema, read_schema
from mirror.sqlite.format.btree import Geometry
from mirror.sqlite.format.header import DatabaseHeader, schema_cookie

#: Re-diff files that may exist, and be open, before a save makes them unnecessary.
MOST_COMPARISONS = 64


class Replica:
    """What the mirror keeps of one source on its own disk, and the place in the spool that follows it.

    Thread: the source's own (the loop).
    """

    def __init__(
        self,
        folder: Path,
        spool: SpoolReader,
        images: Images,
        shadow: Shadow,
        pagemap: PageMap | None,
        head: Head,
    ) -> None:
        """``pagemap`` None: the shadow was just made; a thread maps it and writes it to disk."""
        page1 = shadow.read(1)
        header = DatabaseHeader.parse(page1)
        self.page_size = header.page_size
        self.leapt = False
        """Whether the pages are older than the position."""
        self._paged = head.lsn.generation
        """The generation of the pages."""
        self.lineage = shadow.saved.lineage
        self.head = head
        self._folder = folder
        self._spool = spool
        self._images = images
        self._shadow = shadow
        self._cookie = schema_cookie(page1)
        self._layout = Layout(Geometry(header.usable), header.encoding)
        self.schema: Schema = read_schema(shadow.read, self._layout.geometry, self._layout.encoding)
        self._pagemap = pagemap
        self._finishing = _Finishing(shadow, self.schema, self._layout) if pagemap is None else None

    @classmethod
    def open(cls, folder: Path, spool: SpoolReader, images: Images, faults: Faults = no_fault) -> Replica | None:
        """The replica as last saved; None if there is none that the spool continues.

        Raises ``StateError``, ``SourceError``.
        """
        opened = Shadow.open(folder, images, faults)
        if opened is None:
            return None
        shadow, pagemap = opened
        saved = shadow.saved
        place, first = saved.place, spool.first()
        begin = None if first is None else next(spool.records(first), None)
        if first is None:
            place = SpoolPlace(1, 0)  # the spool was lost: what will be in it begins with a gap
        elif begin is not None and begin.kind is Kind.GAP and begin.generation > saved.generation:
            place = first  # as above, and it does already
        elif begin is None or begin.generation > saved.generation or place < first:
            shadow.close()  # only a part of the spool is left, and it does not continue the shadow
            return None
        head = Head(saved.lsn, saved.salts, saved.committed_at, place)
        return cls(folder, spool, images, shadow, PageMap.from_bytes(pagemap), head)

    @classmethod
    def create(
        cls, folder: Path, spool: SpoolReader, images: Images, frames: PageBatch, pages: int, faults: Faults = no_fault
    ) -> Replica:
        """Make a replica of the copy that is in ``shadow.db``, overlaid with spooled frames.

        Its rows can be read; it counts, and can move, only after :meth:`finish`.
        """
        head = replace(frames.head, committed_at=frames.head.committed_at or time.time())
        saved = _saved(str(uuid.uuid4()), head, frames.page_size, pages)
        shadow = Shadow.create(folder, images, saved, frames.images, faults)
        return cls(folder, spool, images, shadow, None, head)

    def read_by(self, rules: Rules) -> None:
        """Read the tables by these rules from now on. Raises ``SourceError``, ``FormatError``."""
        if rules != self.schema.rules:
            self.schema = read_schema(self._shadow.read, self._layout.geometry, self._layout.encoding, rules)
        if self._finishing is not None:
            self._finishing.schema = self.schema
        elif self._map.roots() != {SCHEMA_TABLE.root, *self.schema.by_root}:
            # Other tables than it was made for.
            self._pagemap = build_pagemap(self._shadow.read_run, self.pages, self.schema, self._layout, {})

    def rows_sent(self) -> None:
        """Called when the rows of a table have been read, because then there is time to map a copy just made."""
        if self._finishing is not None:
            self._finishing.map_now()

    def finish(self, check: Callable[[], None], *, damaged: bool = False) -> dict[str, FormatError]:
        """Record that a copy just made is whole, once it is on disk and mapped; until then ``check`` is called.

        Returns the first damaged page of each table that has any, if the source is known to be ``damaged``: otherwise
        it is raised, because the copy may be wrong. Raises ``FormatError``, ``OSError``.
        """
        if self._finishing is None:
            return {}
        self._pagemap, found = self._finishing.result(check)
        if found and not damaged:
            raise next(iter(found.values()))
        self._shadow.commit(self._pagemap.to_bytes())
        self._finishing = None
        return found

    @property
    def _map(self) -> PageMap:
        assert self._pagemap is not None, "the copy has not been finished"
        return self._pagemap

    @property
    def database(self) -> Path:
        """The copy as a SQLite file; it describes the position only right after a save."""
        return Shadow.database(self._folder)

    @property
    def first_segment(self) -> int:
        """The spool is needed from here on."""
        return self._shadow.saved.place.segment

    @property
    def pages(self) -> int:
        """Size of the source in pages."""
        return self._shadow.pages

    @property
    def position(self) -> Position:
        """The position that the replica describes."""
        return Position(self.head.lsn, self.head.salts, self.head.committed_at)

    def read(self, pgno: int) -> bytes:
        """A page as of the position; empty after the end."""
        return self._shadow.read(pgno)

    def next(self, until: SpoolPlace | None, stop_at: Lsn | None = None) -> PageBatch | GapFound | None:
        """The next batch in the spool (see :func:`~mirror.replica.batches.next_batch`)."""
        return next_batch(self._spool, self.head, until, self._cookie, stop_at)

    def decode(
        self,
        images: Mapping[int, Image],
        rebuild: frozenset[str] = frozenset(),
        check: Callable[[], None] | None = None,
        *,
        compared: bool = False,
    ) -> Decoded:
        """Decode a batch's pages against the replica; ``check`` is called at each page read and may raise.

        ``compared``: the batch comes from comparing pages (see :func:`~mirror.sqlite.decode.diff.decode`).

        Raises ``FormatError`` and ``SourceError``, also while the result is read.
        """

        def new(pgno: int) -> bytes:
            if check is not None:
                check()
            image = images.get(pgno)
            return self.read(pgno) if image is None else self._images.read(image, self.page_size)

        return decode(self.read, new, images.keys(), self.schema, self._map, self._layout, rebuild, verify=compared)

    def rows(self, table: Table) -> Iterator[RowChange]:
        """All rows of a table at the position, as inserts; ``DamagedError`` after the last if not all can be read."""
        return all_rows(self.read, table, self.schema, self._layout)

    def advance(self, head: Head, images: Mapping[int, Image], pages: int, decoded: Decoded) -> None:
        """Move to the position after a batch, once all its changes have been read."""
        decoded.update.apply(self._map)
        self._shadow.advance(images, pages or self.pages)
        self.schema, self.head, self.leapt = decoded.schema, head, False
        self._paged = head.lsn.generation
        if 1 in images:
            self._cookie = schema_cookie(self.read(1))

    def forget_comparisons(self) -> None:
        """Delete the files of comparisons that were not applied: they describe no state that the pages went through.

        Called before anything is applied at a later position: a restart would take them for the way to it.
        """
        self._images.forget_rediffs(above=self._paged)

    def leap(self, position: Position, place: SpoolPlace | None) -> None:
        """Move the position alone: Postgres has the rows from hooks, and the pages stay at an older position.

        ``place``: in the spool, if the position is there. The pages move on with the next comparison, and until then
        nothing is saved.
        """
        self.head = Head(position.lsn, position.salts, position.committed_at, place or self.head.place)
        self.leapt = True

    def roll_forward(self, target: Lsn, until: SpoolPlace | None, check: Callable[[], None]) -> bool:
        """Move along the spool to a position without applying; False if the spool does not lead there, or to another
        form of the database.

        Raises ``FormatError`` where the spool is damaged.
        """
        while self.head.lsn < target:
            found = self.next(until, target)
            if isinstance(found, GapFound):
                images = read_rediff(self._folder, found.head.lsn.generation, self.page_size)
                while images is None:
                    # That comparison was never applied; the one after a later gap took its place.
                    found = self._next_gap(found.head, until, target)
                    if found is None:
                        return False
                    images = read_rediff(self._folder, found.head.lsn.generation, self.page_size)
                found = self.compared(found, images, next_batch(self._spool, found.head, until, None, target), None)
            if found is None or self.another_form(found):
                return False
            decoded = self.decode(found.images, check=check)
            for table in decoded.tables:
                for _ in table.rows:
                    pass
            self.advance(found.head, found.images, found.pages, decoded)
        return self.head.lsn == target

    def compare(self, read: ReadFile, generation: int, progress: Callable[[int], None]) -> dict[int, Image]:
        """Compare the source's file with the shadow: the images of the pages that differ, by page number.

        ``progress``: called with the bytes compared so far. Raises ``StateError``, and what ``progress`` raises.
        """
        return rediff(read, self._shadow, self.page_size, self._folder, generation, progress)

    def compared(
        self, gap: GapFound, images: dict[int, Image], frames: PageBatch | GapFound | None, file_size: int | None
    ) -> PageBatch | None:
        """The batch that a comparison after a gap makes: the pages that differ, and the frames since.

        ``file_size``: bytes of the database file that was compared; None: not known any more. None if that is needed.
        """
        head, pages, commits = gap.head, 0, 0
        if isinstance(frames, PageBatch):
            head, pages, commits = frames.head, frames.pages, frames.commits
            images = images | frames.images
        if not commits:
            # Nothing in the WAL, or just a reset of it: the file is the database, and page 1 says how long it is.
            header = DatabaseHeader.parse(self._images.read(images[1], self.page_size) if 1 in images else self.read(1))
            if file_size is None and not header.size_valid:
                return None
            pages = header.size_in(file_size or 0)
        kept = {pgno: image for pgno, image in images.items() if pgno <= pages}
        return PageBatch(head, kept, pages, commits, self.page_size, compared=True)

    def another_form(self, batch: PageBatch) -> str:
        """What a batch changes of that by which all pages are read, so that a whole copy has to be made; "" if nothing.

        It is fixed once a database has tables, but another content can be put in its place: restored by the backup API,
        or moved there.
        """
        if not batch.images:
            return ""
        size = batch.page_size
        if size == self.page_size and 1 in batch.images:
            header = DatabaseHeader.parse(self._images.read(batch.images[1], size))
            size, usable, encoding = header.page_size, header.usable, header.encoding
        else:
            usable, encoding = self._layout.geometry.usable, self._layout.encoding
        if size != self.page_size:
            return f"the page size changed from {self.page_size:,} to {size:,}"
        if encoding != self._layout.encoding:
            return f"the text encoding changed from {self._layout.encoding} to {encoding}"
        if usable != self._layout.geometry.usable:
            return f"the number of bytes that pages leave unused changed to {size - usable}"
        return ""

    def _next_gap(self, head: Head, until: SpoolPlace | None, target: Lsn) -> GapFound | None:
        """The gap after one whose pages were not compared; the commits in between were void."""
        found = next_batch(self._spool, head, until, None, target)
        while isinstance(found, PageBatch):
            found = next_batch(self._spool, found.head, until, None, target)
        return found

    def save_now_and_then(self, until: SpoolPlace | None) -> None:
        """Begin a save when one is due, note one that is done; ``until``: where the spool ends.

        It begins where a segment ends, because capture still appends to the last one and syncing that
        would hold it up; it begins elsewhere only when no segment ends for long. To be called also when nothing
        more is spooled: capture may wait for room. Raises ``StateError``.
        """
        self._note_save(wait=False)
        if self.leapt:
            return
        if self._shadow.save_due(self.head.place):
            between = until is not None and self.head.place.segment < until.segment
            if between or self._shadow.overdue(self.head.place):
                self._begin_save()
        elif self._images.comparisons > MOST_COMPARISONS and not self._shadow.saving:
            self._begin_save()

    @property
    def changed(self) -> bool:
        """Whether the position or a page differs from what is saved."""
        return not self.leapt and (self._shadow.changed or self._shadow.saved.lsn != self.head.lsn)

    @property
    def saving(self) -> bool:
        """Whether a save runs, or has yet to be noted."""
        return self._shadow.saving

    def save(self) -> None:
        """Save position, pages and page map, and prune the spool. Raises ``StateError``."""
        self._note_save(wait=True)
        self._begin_save()
        self._note_save(wait=True)

    def _begin_save(self) -> None:
        saved = _saved(self.lineage, self.head, self.page_size, self.pages)
        self._shadow.begin_save(saved, self._map.to_bytes())

    def _note_save(self, *, wait: bool) -> None:
        if self._shadow.end_save(wait=wait):
            saved = self._shadow.saved
            self._images.forget_rediffs(up_to=saved.generation)
            self._spool.prune(saved.place.segment)

    def close(self) -> None:
        """Close the shadow, after the thread that finishes a copy has ended."""
        if self._finishing is not None:
            self._finishing.give_up()
        self._shadow.close()


class _Finishing:
    """What a copy still needs before it counts, done by a thread of its own while the rows are loaded.

    The copy is written to disk at once, but mapped only after :meth:`map_now`: before that the two threads would take
    the interpreter from each other at every row, while Postgres waits; later Postgres builds the key and the loader
    waits.
    """

    def __init__(self, shadow: Shadow, schema: Schema, layout: Layout) -> None:
        self._shadow = shadow
        self.schema = schema
        """May be replaced until :meth:`map_now`."""
        self._layout = layout
        self._given_up = False
        self._map_now = threading.Event()
        self._done: Future[tuple[PageMap, dict[str, FormatError]]] = Future()
        # A daemon, so that a program that does not close its replica can still end.
        threading.Thread(target=self._run, name="mirror finish", daemon=True).start()

    def _run(self) -> None:
        try:
            self._shadow.sync()
            self._map_now.wait()
            damaged: dict[str, FormatError] = {}
            pagemap = build_pagemap(self._read, self._shadow.pages, self.schema, self._layout, damaged)
        except BaseException as error:
            self._done.set_exception(error)  # result() raises it
        else:
            self._done.set_result((pagemap, damaged))

    def _read(self, pgno: int, count: int) -> bytes:
        if self._given_up:
            raise CancelledError
        return self._shadow.read_run(pgno, count)

    def map_now(self) -> None:
        """Begin to map the copy, once it is on disk."""
        self._map_now.set()

    def result(self, check: Callable[[], None]) -> tuple[PageMap, dict[str, FormatError]]:
        """The page map, and where tables are damaged, once the copy is on disk.

        Raises what the thread raised, and what ``check`` raises.
        """
        self.map_now()
        while wait_for([self._done], 0.1).not_done:
            check()
        return self._done.result()

    def give_up(self) -> None:
        """End the thread, and return when it has ended."""
        self._given_up = True
        self.map_now()
        wait_for([self._done])


def _saved(lineage: str, head: Head, page_size: int, pages: int) -> SavedPosition:
    lsn = head.lsn
    return SavedPosition(
        lineage, lsn.generation, lsn.frame, head.salts, head.committed_at, head.place, page_size, pages
    )
