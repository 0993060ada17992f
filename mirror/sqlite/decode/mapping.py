"""Make the page map of a whole database, for a copy just made: every page of it is read once.

Most of a database's pages are leaves with cells that have no overflow chain. Whether a cell has one follows from
its first bytes; so these alone are looked at, and only cells that may have a chain are parsed. (That takes some 3 ms a
megabyte, two to three times as long as with numpy, and little beside the rest of a first copy. In return the mirror's
process need not hold numpy in memory.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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

#: Bytes of consecutive pages that are read at once.
_BLOCK_BYTES = 1 << 19
#: After an interior page: the size of a cell at its very end, which it would leave, is to be looked at, too.
_PADDING = b"\xff" * 5


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
        limit = geometry.index_max if index else geometry.table_max
        #: A cell whose size begins with a lower byte than the first has no chain; than the second: if it has two bytes.
        self._suspect, self._long = (limit + 1, limit + 1) if limit < 0x80 else (0x80, 0x80 | limit >> 7)

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
            for pgno, page in self._pages(part):
                try:
                    waiting += self._map_page(pgno, page)
                except FormatError as error:
                    self._note(error)
                    # Entered, so that it is noticed when the page changes; unless it is beyond the end.
                    if len(page) == self._size:
                        self._pagemap.set(pgno, TREE, self._root)

    def _note(self, error: FormatError) -> None:
        """Keep an error, if there is a list for them; else raise it."""
        if self._damaged is None:
            raise error
        # Without its traceback: the frames in it would keep pages in memory.
        self._damaged.append(error.with_traceback(None))

    def _pages(self, pgnos: list[int]) -> Iterator[tuple[int, bytes]]:
        """Some pages, in order of their numbers; those after the end are shorter."""
        size, at = self._size, 0
        while at < len(pgnos):
            first, count = pgnos[at], 1
            while at + count < len(pgnos) and pgnos[at + count] == first + count:
                count += 1
            data = self._read(first, count)
            for offset in range(count):
                yield first + offset, data[offset * size : (offset + 1) * size]
            at += count

    def _map_page(self, pgno: int, page: bytes) -> list[int]:
        """Enter a page and the chains of its cells; return its children."""
        if len(page) != self._size:
            raise FormatError("map a b-tree", f"root page {self._root}", f"page {pgno} is after the end")
        kind = page_kind(page, pgno)
        found: list[int] = []
        if kind == self._interior:
            if pgno in self._interiors:
                raise FormatError("map a b-tree", f"root page {self._root}", f"page {pgno} is reached twice")
            found = children(page, pgno)
            self._interiors.add(pgno)
        elif kind != self._leaf:
            raise FormatError("map a b-tree", f"root page {self._root}", f"page {pgno} of type {kind}")
        self._pagemap.set(pgno, TREE, self._root)
        if self._index or kind == self._leaf:
            for pointer in self._long_cells(pgno, page, kind):
                self._map_chain(pgno, page, pointer)
        return found

    def _map_chain(self, pgno: int, page: bytes, pointer: int) -> None:
        """Enter the overflow chain of the cell at an offset, if it has one."""
        geometry = self._geometry
        try:
            if self._index:
                cell = geometry.index_cell(page, pointer, page[0] == INDEX_INTERIOR)
            else:
                cell = geometry.table_leaf_cell(page, pointer)
            if cell.overflow:
                kind, ref = OVERFLOW_FIRST, pgno
                for link in geometry.chain(cell, lambda link: self._read(link, 1)):
                    self._pagemap.set(link, kind, ref)
                    kind, ref = OVERFLOW_MORE, link
        except FormatError as error:
            self._note(error)

    def _long_cells(self, pgno: int, page: bytes, kind: int) -> list[int]:
        """Offsets of the cells that may have a chain. Raises ``FormatError``."""
        suspect, long = self._suspect, self._long
        # Sizes, at the offsets of the cells.
        sizes = page[4:] + _PADDING if kind == INDEX_INTERIOR else page
        found = [pointer for pointer in cell_pointers(page, pgno) if sizes[pointer] >= suspect]
        return [pointer for pointer in found if sizes[pointer] >= long or sizes[pointer + 1] >= 0x80]
