"""Make the page map of a whole database, for a copy just made: every page of it is read once.

Most of a database's pages are leaves with cells that have no overflow chain. Whether a cell has one follows from
its first bytes; so pages are read and tested in blocks, with numpy, and only cells that may
have a chain are parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mirror.core.errors import FormatError
from mirror.sqlite.decode.pagemap import OVERFLOW_FIRST, OVERFLOW_MORE, TREE, PageMap
from mirror.sqlite.format.btree import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Geometry,
    cell_pointers,
    children,
    page_kind,
)

#: Reads ``(page number, count)``: the bytes of consecutive pages; fewer at the end.
ReadRun = Callable[[int, int], bytes]

_BLOCK_BYTES = 1 << 19
#: Bytes at the start of a cell that show whether it has a chain: at most a child's number and a varint.
_HEAD_BYTES = 13


def map_tree(
    root: int,
    read: ReadRun,
    geometry: Geometry,
    index: bool,
    pagemap: PageMap,
    damaged: list[FormatError] | None = None,
) -> None:
    """Enter all pages of a tree, and the overflow chains of its cells, into a page map.

    ``index``: a WITHOUT ROWID table. Raises ``FormatError``; unless there is a list for them: then a page that is
    damaged is entered, because the tree reaches it, and left at that.
    """
    _TreeMapper(root, read, geometry, index, pagemap, damaged).run()


class _TreeMapper:
    def __init__(
        self,
        root: int,
        read: ReadRun,
        geometry: Geometry,
        index: bool,
        pagemap: PageMap,
        damaged: list[FormatError] | None,
    ) -> None:
        self._root = root
        self._damaged = damaged
        self._read = read
        self._geometry = geometry
        self._index = index
        self._pagemap = pagemap
        self._leaf, self._interior = (INDEX_LEAF, INDEX_INTERIOR) if index else (TABLE_LEAF, TABLE_INTERIOR)
        self._interiors: set[int] = set()
        self._size = len(read(root, 1))

    def run(self) -> None:
        if self._size < self._geometry.usable:
            self._note(FormatError("map a b-tree", f"root page {self._root}", f"{self._size} bytes"))
            return
        at_once = max(1, _BLOCK_BYTES // self._size)
        # Taken from the end: the list has at most the children of one block of pages for each level.
        waiting = [self._root]
        while waiting:
            part = sorted(waiting[-at_once:])
            del waiting[-at_once:]
            try:
                waiting += self._map_pages(np.array(part, np.int64))
            except FormatError as error:
                self._note(error)
                for pgno in part:  # by itself each is mapped, or is the one that is damaged
                    waiting += self._map_page(pgno)

    def _note(self, error: FormatError) -> None:
        """Keep an error, if there is a list for them; else raise it."""
        if self._damaged is None:
            raise error
        # Without its traceback: the frames in it would keep pages in memory.
        self._damaged.append(error.with_traceback(None))

    def _map_page(self, pgno: int) -> list[int]:
        try:
            return self._map_pages(np.array([pgno], np.int64))
        except FormatError as error:
            self._note(error)
            # Entered, so that it is noticed when the page changes; unless it is beyond the end.
            if len(self._read(pgno, 1)) == self._size:
                self._pagemap.set(pgno, TREE, self._root)
            return []

    def _map_pages(self, pgnos: NDArray[np.int64]) -> list[int]:
        """Enter some pages; return the children of those that are interior."""
        data = self._read_pages(pgnos)
        kinds = np.frombuffer(data, np.uint8)[:: self._size]
        if pgnos[0] == 1:
            kinds = kinds.copy()
            kinds[0] = data[100]
        interior = kinds == self._interior
        found: list[int] = []
        met: set[int] = set()
        for at in np.flatnonzero(interior | (kinds != self._leaf)).tolist():
            pgno, page = int(pgnos[at]), data[at * self._size : (at + 1) * self._size]
            kind = page_kind(page, pgno)
            if kind != self._interior:
                raise FormatError("map a b-tree", f"root page {self._root}", f"page {pgno} of type {kind}")
            if pgno in self._interiors or pgno in met:
                raise FormatError("map a b-tree", f"root page {self._root}", f"page {pgno} is reached twice")
            met.add(pgno)
            found += children(page, pgno)
        self._interiors |= met
        self._pagemap.set_all(pgnos, TREE, self._root)
        self._map_chains(pgnos, data, ~interior)
        if self._index:
            self._map_chains(pgnos, data, interior)
        return found

    def _read_pages(self, pgnos: NDArray[np.int64]) -> bytes:
        runs = np.split(pgnos, np.flatnonzero(np.diff(pgnos) != 1) + 1)
        parts = [self._read(int(run[0]), len(run)) for run in runs]
        for run, part in zip(runs, parts, strict=True):
            if len(part) != len(run) * self._size:
                missing = int(run[0]) + len(part) // self._size
                raise FormatError("map a b-tree", f"root page {self._root}", f"page {missing} is after the end")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _map_chains(self, pgnos: NDArray[np.int64], data: bytes, chosen: NDArray[np.bool_]) -> None:
        """Enter the overflow chains of the chosen pages, all leaves or all interior pages of an index."""
        geometry, pagemap = self._geometry, self._pagemap

        def read(pgno: int) -> bytes:
            return self._read(pgno, 1)

        for at, pointer in self._long_cells(pgnos, data, np.flatnonzero(chosen)):
            page = data[at * self._size : (at + 1) * self._size]
            try:
                if self._index:
                    cell = geometry.index_cell(page, pointer, page[0] == INDEX_INTERIOR)
                else:
                    cell = geometry.table_leaf_cell(page, pointer)
                if cell.overflow:
                    kind, ref = OVERFLOW_FIRST, int(pgnos[at])
                    for link in geometry.chain(cell, read):
                        pagemap.set(link, kind, ref)
                        kind, ref = OVERFLOW_MORE, link
            except FormatError as error:
                self._note(error)

    def _pointers(self, page: bytes, pgno: int) -> tuple[int, ...]:
        """Offsets of a page's cells; none if the page is damaged, which is noted."""
        try:
            return cell_pointers(page, pgno)
        except FormatError as error:
            self._note(error)
            return ()

    def _long_cells(self, pgnos: NDArray[np.int64], data: bytes, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """The cells that may have a chain: the index of the page in the block, and the cell's offset on it."""
        size = self._size
        if len(rows) and pgnos[rows[0]] == 1:  # page 1 begins with the file's header
            yield from ((int(rows[0]), pointer) for pointer in self._pointers(data[:size], 1))
            rows = rows[1:]
        if not len(rows):
            return
        array = np.frombuffer(data, np.uint8)
        inside = array[rows[0] * size] == INDEX_INTERIOR
        start, before = (12, 4) if inside else (8, 0)
        block = array.reshape(-1, size)
        counts = block[rows, 3].astype(np.int64) << 8 | block[rows, 4]
        ends = start + 2 * counts
        wrong = ends > size
        if not wrong.any():
            most = int(counts.max())
            bytes_ = block[rows, start : start + 2 * most].astype(np.int64)
            pairs = bytes_[:, 0::2] << 8 | bytes_[:, 1::2]
            pointers = pairs[np.arange(most) < counts[:, None]]
            owners = np.repeat(np.arange(len(rows)), counts)
            wrong[owners[(pointers < ends[owners]) | (pointers > size - 4)]] = True
        if wrong.any():
            for at in rows[wrong].tolist():
                self._pointers(data[at * size : (at + 1) * size], int(pgnos[at]))
            yield from self._long_cells(pgnos, data, rows[~wrong])
            return
        # A cell so near to the end of its page that its head may be cut off is parsed.
        parsed = pointers > size - _HEAD_BYTES
        heads = rows[owners] * size + np.where(parsed, 0, pointers + before)
        first, second = array[heads].astype(np.int64), array[heads + 1].astype(np.int64)
        payload = np.where(first < 0x80, first, (first & 0x7F) << 7 | second)
        limit = self._geometry.index_max if self._index else self._geometry.table_max
        parsed |= (payload > limit) | ((first >= 0x80) & (second >= 0x80))
        yield from zip(rows[owners[parsed]].tolist(), pointers[parsed].tolist(), strict=True)
