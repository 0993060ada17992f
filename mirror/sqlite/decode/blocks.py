"""Many leaves of a rowid table at a time: their cells are found with numpy, and those of two states paired by rowid.

A page has some twenty to two hundred cells, and a large commit touches a few on each of many pages. Cell by cell, in
Python, to find the rows that differ takes longer than to decode them. Here each step is one call for all
cells of a block of pages; what is left for each cell is to compare the bytes of two payloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mirror.core.errors import FormatError
from mirror.sqlite.format.btree import TABLE_LEAF, Geometry, ReadPage, cell_pointers

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Bytes of the pages that are read together.
_BLOCK_BYTES = 1 << 19
#: After the last page, so that the head of a cell at its very end can be read like any other.
_PADDING = bytes(32)
#: To gather the seven bits of each byte of a varint: which of a pair of bytes, of a pair of these, and so on.
_PAIRS = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(shift))
    for low, high, shift in (
        (0x007F_007F_007F_007F, 0x7F00_7F00_7F00_7F00, 1),
        (0x0000_3FFF_0000_3FFF, 0x3FFF_0000_3FFF_0000, 2),
        (0x0000_0000_0FFF_FFFF, 0x0FFF_FFFF_0000_0000, 4),
    )
)
_HIGH_BITS = np.uint64(0x8080_8080_8080_8080)


class Cells(NamedTuple):
    """Cells of some leaves of a rowid table; each array has one entry for a cell."""

    data: bytes
    """The pages, back to back. The places below are offsets in it."""
    size: int
    """Bytes of a page."""
    pages: Numbers
    """Page numbers."""
    rowids: Numbers
    heads: Numbers
    """Where the cells begin."""
    starts: Numbers
    """Where their payloads begin."""
    ends: Numbers
    """Where the parts of their payloads that are on the page end."""
    long: Flags
    """Whether there is another part, on overflow pages; the number of the first is the four bytes at the end."""

    @property
    def number(self) -> int:
        """How many they are."""
        return len(self.rowids)

    def chosen(self, which: slice | Numbers | Flags) -> Cells:
        """Some of them."""
        _, _, pages, rowids, heads, starts, ends, long = self
        return Cells(
            self.data, self.size, pages[which], rowids[which], heads[which], starts[which], ends[which], long[which]
        )


_NO_NUMBERS = np.zeros(0, np.int64)
NO_CELLS = Cells(b"", 1, *(_NO_NUMBERS,) * 5, np.zeros(0, np.bool_))


class LeafReader:
    """Reads leaves of a rowid table in one state, none of which is page 1."""

    def __init__(self, read: ReadPage, geometry: Geometry, damaged: Callable[[int, int], None]) -> None:
        """``damaged`` is called with page number and offset of a cell that leaves its page.

        It raises ``FormatError``, or the cell is left out.
        """
        self._read = read
        self._geometry = geometry
        self._damaged = damaged
        self.at_once = max(1, _BLOCK_BYTES // geometry.usable)

    def blocks(self, pages: Sequence[int]) -> Iterator[Cells]:
        """All cells of some pages, in that order, a block of pages at a time; none is empty. Raises ``FormatError``."""
        for first in range(0, len(pages), self.at_once):
            found = self.cells(pages[first : first + self.at_once])
            if found.number:
                yield found

    def by_first_rowid(self, pages: Sequence[int]) -> list[int]:
        """Some pages in the order of their first rowids. Raises ``FormatError``."""
        firsts = np.zeros(len(pages), np.int64)  # 0 for a page without rows
        for at in range(0, len(pages), self.at_once):
            some = pages[at : at + self.at_once]
            found = self.cells(some, only_first=True)
            there = np.isin(np.array(some, np.int64), found.pages)
            firsts[at : at + len(some)][there] = found.rowids
        return [pages[at] for at in np.argsort(firsts, kind="stable").tolist()]

    def cells(self, pages: Sequence[int], *, only_first: bool = False) -> Cells:
        """The cells of some pages, or the first of each. Raises ``FormatError``."""
        images = [self._read(pgno) for pgno in pages]
        size = max(map(len, images))
        for pgno, image in zip(pages, images, strict=True):
            if len(image) < max(size, self._geometry.usable):
                raise _no_leaf(pgno, image)
        data = b"".join((*images, _PADDING))
        block = np.frombuffer(data, np.uint8, len(pages) * size).reshape(-1, size)
        counts = block[:, 3].astype(np.int64) << 8 | block[:, 4]
        wrong = (block[:, 0] != TABLE_LEAF) | (8 + 2 * counts > size)
        if wrong.any():
            at = int(wrong.argmax())
            raise _no_leaf(pages[at], images[at])
        lowest = 8 + 2 * counts
        if only_first:
            counts = np.minimum(counts, 1)
        most = int(counts.max())
        arrays = np.ndarray((len(pages), most), ">u2", data, 8, (size, 2))
        pointers = arrays[np.arange(most) < counts[:, None]].astype(np.int64)
        owners = np.repeat(np.arange(len(pages)), counts)
        outside = (pointers < lowest[owners]) | (pointers > size - 4)
        if outside.any():
            at = int(owners[outside.argmax()])
            raise _no_leaf(pages[at], images[at])
        return self._parsed(data, size, np.array(pages, np.int64)[owners], owners * size, pointers)

    def _parsed(self, data: bytes, size: int, pages: Numbers, bases: Numbers, pointers: Numbers) -> Cells:
        """The cells at some offsets of their pages, which begin at ``bases``."""
        geometry = self._geometry
        heads = bases + pointers
        sizes, at = _varints(data, heads)
        # That of a damaged cell may be anywhere; it is found to be wrong below.
        rowids, starts = _varints(data, at)
        long = sizes > geometry.table_max
        local = sizes
        if long.any():
            spilt = geometry.local_min + (sizes - geometry.local_min) % (geometry.usable - 4)
            local = np.where(long, np.where(spilt <= geometry.table_max, spilt, geometry.local_min), sizes)
        ends = starts + local
        cells = Cells(data, size, pages, rowids, heads, starts, ends, long)
        bad = (sizes < 0) | (ends + 4 * long > bases + geometry.usable)
        if bad.any():
            for pgno, pointer in zip(pages[bad].tolist(), pointers[bad].tolist(), strict=True):
                self._damaged(pgno, pointer)
            return cells.chosen(~bad)
        return cells


def _no_leaf(pgno: int, page: bytes) -> FormatError:
    """Why a page cannot be read as a leaf of a rowid table."""
    try:
        cell_pointers(page, pgno)
    except FormatError as error:
        return error
    return FormatError("read a b-tree page", f"page {pgno}", f"{len(page)} bytes, page type {page[0]}")


def _varints(data: bytes, at: Numbers) -> tuple[Numbers, Numbers]:
    """The varints at some offsets, and the offsets after them."""
    # Their first eight bytes as one number each, from any offset.
    words = np.ndarray((len(data) - 7,), ">u8", data, strides=(1,))[at].astype(np.uint64)
    # Of the bytes without the high bit the first is the last of a varint: its bit is the highest, 64, 56, ..., 8, or 0.
    last = np.frexp((~words & _HIGH_BITS).astype(np.float64))[1].astype(np.int64)
    lengths = 9 - last // 8
    words >>= np.maximum(last - 8, 0).astype(np.uint64)
    for low, high, shift in _PAIRS:
        words = words & low | (words & high) >> shift
    nine = last == 0
    if nine.any():
        ninth = np.frombuffer(data, np.uint8)[at[nine] + 8].astype(np.uint64)
        words[nine] = words[nine] << np.uint64(8) | ninth
    return words.view(np.int64), at + lengths


class Paired(NamedTuple):
    """Cells of two states by what became of them."""

    old: Cells
    new: Cells
    """Those with the rowids of ``old``, in the same order."""
    gone: Cells
    """Only in the old state."""
    come: Cells
    """Only in the new one."""


def paired(old: Cells, new: Cells, *, on_one_page: bool) -> Paired | None:
    """Pair cells of two states by rowid; None if a state has a rowid twice.

    ``on_one_page``: those on other pages are no pair.
    """
    old, new = _ordered(old), _ordered(new)
    olds, news = old.rowids, new.rowids
    if (olds[1:] == olds[:-1]).any() or (news[1:] == news[:-1]).any():
        return None
    if not old.number or not new.number:
        return Paired(NO_CELLS, NO_CELLS, old, new)
    at = np.searchsorted(news, olds)
    at[at == len(news)] = 0
    same = news[at] == olds
    if on_one_page:
        same &= new.pages[at] == old.pages
    met = at[same]
    alone = np.ones(len(news), np.bool_)
    alone[met] = False
    return Paired(old.chosen(same), new.chosen(met), old.chosen(~same), new.chosen(alone))


def _ordered(cells: Cells) -> Cells:
    """Cells in the order of their rowids, which they mostly have."""
    if (cells.rowids[1:] > cells.rowids[:-1]).all():
        return cells
    return cells.chosen(np.argsort(cells.rowids, kind="stable"))


def changed(old: Cells, new: Cells) -> Iterator[tuple[int, bytes, bytes]]:
    """Of as many cells of each state, whose payloads are whole: rowid and both payloads of those that differ."""
    before, after = old.data, new.data
    for rowid, start, end, new_start, new_end in zip(
        *(array.tolist() for array in (old.rowids, old.starts, old.ends, new.starts, new.ends)), strict=True
    ):
        if before[start:end] != after[new_start:new_end]:
            yield rowid, before[start:end], after[new_start:new_end]


def windows(olds: Iterator[Cells], news: Iterator[Cells]) -> Iterator[tuple[Cells, Cells]]:
    """Cut two runs of cells, both in the order of their rowids, into pieces with the same rowids."""
    old, new = next(olds, NO_CELLS), next(news, NO_CELLS)
    while old.number or new.number:
        old_cut, new_cut = old.number, new.number
        if old_cut and new_cut:
            if old.rowids[-1] > new.rowids[-1]:
                old_cut = int(np.searchsorted(old.rowids, new.rowids[-1], "right"))
            else:
                new_cut = int(np.searchsorted(new.rowids, old.rowids[-1], "right"))
        yield old.chosen(slice(old_cut)), new.chosen(slice(new_cut))
        old = old.chosen(slice(old_cut, None)) if old_cut < old.number else next(olds, NO_CELLS)
        new = new.chosen(slice(new_cut, None)) if new_cut < new.number else next(news, NO_CELLS)
