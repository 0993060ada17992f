"""B-tree pages, their cells, and the overflow chains of long payloads.

Page header (at offset 100 on page 1, at 0 elsewhere):

======  ====  ====================================================================================
offset  size  field
======  ====  ====================================================================================
0       1     2 interior index, 5 interior table, 10 leaf index, 13 leaf table
1       2     first freeblock
3       2     number of cells
5       2     start of the cell content area
7       1     fragmented free bytes
8       4     interior pages only: the right-most child
======  ====  ====================================================================================

After it an array of 2-byte cell offsets in key order. Cells:

=================  ====================================================================
page               cell
=================  ====================================================================
leaf table 13      varint payload size, varint rowid, payload, [4-byte overflow page]
interior table 5   4-byte left child, varint rowid (the largest below that child)
leaf index 10      varint payload size, payload, [4-byte overflow page]
interior index 2   4-byte left child, varint payload size, payload, [4-byte overflow page]
=================  ====================================================================

Of a payload of P bytes on pages of U usable bytes the page holds all if P <= X, with X = U-35
(table leaf) or (U-12)*64/255-23 (index); else K = M+(P-M) % (U-4) bytes if K <= X, else M bytes,
with M = (U-12)*32/255-23. The rest is in a chain of overflow pages: 4 bytes number of the next
page (0: the last), then up to U-4 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mirror.core.errors import FormatError
from mirror.sqlite.format.varint import read_varint

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
_KINDS = frozenset((INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF))

_CHILD = struct.Struct(">I").unpack_from

ReadPage = Callable[[int], bytes]


class Cell(NamedTuple):
    """The place of one cell's payload on its page; offsets and sizes in bytes."""

    rowid: int
    """0 for cells of index b-trees."""
    size: int
    """Bytes of payload, overflow included."""
    start: int
    """Offset of the payload on the page."""
    local: int
    """Bytes of payload on the page."""
    overflow: int
    """First overflow page, 0 when all payload is on the page."""
    end: int
    """Offset after the cell."""


#: What identifies a row: rowid (0 in index b-trees), the payload on the page, and the cell's description where the
#: payload on the page is not all of it.
Payload = tuple[int, bytes, Cell | None]


def page_kind(page: bytes, pgno: int) -> int:
    """The type byte of a b-tree page; raises ``FormatError`` if it is none."""
    at = 100 if pgno == 1 else 0
    kind = page[at] if at < len(page) else -1
    if kind not in _KINDS:
        raise FormatError("read a b-tree page", f"page {pgno}", f"page type {kind}" if page else "after the end")
    return kind


def is_interior(kind: int) -> bool:
    """Whether pages of this type have children."""
    return kind <= TABLE_INTERIOR


def cell_pointers(page: bytes, pgno: int) -> tuple[int, ...]:
    """Offsets of the cells on a b-tree page, in key order; raises ``FormatError``."""
    base = 100 if pgno == 1 else 0
    if len(page) < base + 12:
        raise FormatError("read a b-tree page", f"page {pgno}", f"{len(page)} bytes")
    count = (page[base + 3] << 8) | page[base + 4]
    start = base + (12 if page[base] <= TABLE_INTERIOR else 8)
    try:
        pointers: tuple[int, ...] = struct.unpack_from(f">{count}H", page, start)
    except struct.error:
        raise FormatError("read a b-tree page", f"page {pgno}", f"{count} cells on {len(page)} bytes") from None
    if pointers and min(pointers) < start + 2 * count:
        raise FormatError("read a b-tree page", f"page {pgno}", f"cell pointer {min(pointers)} inside the header")
    if pointers and max(pointers) > len(page) - 4:  # no cell is shorter than 4 bytes
        raise FormatError("read a b-tree page", f"page {pgno}", f"cell pointer {max(pointers)} outside the page")
    return pointers


def children(page: bytes, pgno: int) -> list[int]:
    """Child pages of an interior page, left to right; raises ``FormatError``."""
    result: list[int] = [_CHILD(page, pointer)[0] for pointer in cell_pointers(page, pgno)]
    result.append(int.from_bytes(page[108:112] if pgno == 1 else page[8:12], "big"))
    if 0 in result:
        raise FormatError("read a b-tree page", f"page {pgno}", "page 0 as a child")
    return result


class Geometry:
    """The payload limits that follow from the usable bytes of a page (see the module's text)."""

    __slots__ = ("index_max", "local_min", "table_max", "usable")

    def __init__(self, usable: int) -> None:
        self.usable = usable
        self.table_max = usable - 35
        self.index_max = (usable - 12) * 64 // 255 - 23
        self.local_min = (usable - 12) * 32 // 255 - 23

    def _local(self, size: int, limit: int) -> int:
        if size <= limit:
            return size
        local = self.local_min + (size - self.local_min) % (self.usable - 4)
        return local if local <= limit else self.local_min

    def table_leaf_cell(self, page: bytes, offset: int) -> Cell:
        """The table-leaf cell at ``offset``; raises ``FormatError`` when it leaves the page."""
        try:
            size = page[offset]
            at = offset + 1
            if size >= 0x80:
                low = page[at]
                if low < 0x80:
                    size = ((size & 0x7F) << 7) | low
                    at += 1
                else:
                    size, at = read_varint(page, offset)
            rowid = page[at]
            if rowid >= 0x80:
                rowid, at = read_varint(page, at)
            else:
                at += 1
        except IndexError:
            raise FormatError("read a cell", f"offset {offset}", "it starts outside the page") from None
        return self._cell(page, rowid, size, at, self.table_max)

    def index_cell(self, page: bytes, offset: int, interior: bool) -> Cell:
        """The index cell at ``offset`` (if ``interior``, a child pointer comes first); raises ``FormatError``."""
        size, at = read_varint(page, offset + 4 if interior else offset)
        return self._cell(page, 0, size, at, self.index_max)

    def _cell(self, page: bytes, rowid: int, size: int, start: int, limit: int) -> Cell:
        if 0 <= size <= limit:
            end = start + size
            if end <= self.usable:
                return Cell(rowid, size, start, size, 0, end)
        local = self._local(size, limit)
        end = start + local + (4 if local < size else 0)
        if size < 0 or end > self.usable:
            raise FormatError("read a cell", f"offset {start}", f"payload of {size} bytes leaves the page")
        overflow = int.from_bytes(page[end - 4 : end], "big")
        return Cell(rowid, size, start, local, overflow, end)

    def payloads(self, page: bytes, pgno: int, pointers: Iterable[int]) -> list[Payload]:
        """The cells at some offsets of a page with payloads; raises ``FormatError`` when one leaves the page.

        Gives the same as the two methods above, for many cells: short ones, which most are, are parsed inline.
        """
        kind = page[100 if pgno == 1 else 0]
        table, child = kind == TABLE_LEAF, 4 if kind == INDEX_INTERIOR else 0
        limit, usable = self.table_max if table else self.index_max, self.usable
        found: list[Payload] = []
        try:
            for offset in pointers:
                at = offset + child
                size = page[at]
                at += 1
                if size >= 0x80:
                    size = (size & 0x7F) << 7 | page[at]
                    at += 1
                    long = page[at - 1] >= 0x80
                else:
                    long = False
                rowid = 0
                if table:
                    rowid = page[at]
                    at += 1
                    if rowid >= 0x80:
                        # Two and three bytes are parsed inline too: they go up to two million.
                        second, third = page[at], page[at + 1]
                        if second < 0x80:
                            rowid = (rowid & 0x7F) << 7 | second
                            at += 1
                        elif third < 0x80:
                            rowid = (rowid & 0x7F) << 14 | (second & 0x7F) << 7 | third
                            at += 2
                        else:
                            rowid, at = read_varint(page, at - 1)
                end = at + size
                if not long and size <= limit and end <= usable:
                    found.append((rowid, page[at:end], None))
                    continue
                cell = self.table_leaf_cell(page, offset) if table else self.index_cell(page, offset, child > 0)
                local = page[cell.start : cell.start + cell.local]
                found.append((cell.rowid, local, cell if cell.local < cell.size else None))
        except IndexError:
            raise FormatError("read a cell", f"page {pgno}", "it starts outside the page") from None
        return found

    def chain(self, cell: Cell, read: ReadPage) -> Iterator[int]:
        """The overflow pages of a cell, in order; raises ``FormatError`` when they are no chain of its size."""
        for pgno, _ in self._links(cell, read):
            yield pgno

    def _links(self, cell: Cell, read: ReadPage) -> Iterator[tuple[int, bytes]]:
        pgno = cell.overflow
        # A cell may claim any size, so a ring must be noticed: some page met at a power of two comes again.
        met, steps, power = 0, 0, 1
        for missing in range(cell.size - cell.local, 0, 4 - self.usable):
            page = read(pgno) if pgno else b""
            if len(page) < self.usable or pgno == met:
                raise FormatError("follow an overflow chain", f"page {cell.overflow}", f"{missing} bytes missing")
            steps += 1
            if steps == power:
                met, steps, power = pgno, 0, 2 * power
            yield pgno, page
            pgno = int.from_bytes(page[:4], "big")

    def payload(self, page: bytes, cell: Cell, read: ReadPage, chain: list[int] | None = None) -> bytes:
        """The whole payload of a cell; its overflow pages are read with ``read`` and added to ``chain``.

        Raises ``FormatError`` when the chain is shorter than the payload.
        """
        return b"".join(self.pieces(page, cell, read, chain))

    def pieces(self, page: bytes, cell: Cell, read: ReadPage, chain: list[int] | None = None) -> Iterator[bytes]:
        """The same in pieces, each read when it is asked for."""
        yield page[cell.start : cell.start + cell.local]
        missing = cell.size - cell.local
        room = self.usable - 4
        for pgno, link in self._links(cell, read):
            if chain is not None:
                chain.append(pgno)
            yield link[4 : 4 + min(room, missing)]
            missing -= room
