"""All rows of a table, also of one with damaged pages: those are left out and counted, and all other rows are given.

A row counts only where its rowid belongs: above all rows before it, and within the limits that the interior pages
above it set. So a damaged pointer that leads into another table, or back, gives no row twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mirror.core.errors import DamagedError, FormatError
from mirror.core.rows import RowChange
from mirror.core.tables import Table
from mirror.sqlite.decode.rows import Entry, RowReader
from mirror.sqlite.format.btree import TABLE_INTERIOR, ReadPage, cell_pointers, children, is_interior, page_kind
from mirror.sqlite.format.varint import read_varint

_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


class _Part(NamedTuple):
    """A page of a tree, and the rowids that rows below it may have: above ``low``, up to ``high``."""

    pgno: int
    low: int
    high: int


def readable_rows(table: Table, rows: RowReader) -> Iterator[RowChange]:
    """All rows that can be read, as inserts; raises :class:`DamagedError` at the end if any could not be."""
    salvage = _Salvage(table, rows)
    yield from salvage.rows()
    if salvage.damaged:
        places = "" if salvage.damaged == 1 else f"{salvage.damaged:,} places, first "
        raise DamagedError("read all rows", table.name, f"{places}{salvage.first}")


class _Salvage:
    def __init__(self, table: Table, rows: RowReader) -> None:
        self._table = table
        self._reader = rows
        self._read: ReadPage = rows.read
        self._odd = 0 if table.without_rowid else 1  # the kinds of a table's pages are odd, of an index's even
        self._met: set[int] = set()
        self.first = ""
        self.damaged = 0

    def _note(self, pgno: int, what: str) -> None:
        self.damaged += 1
        self.first = self.first or f"page {pgno}: {what}"

    def rows(self) -> Iterator[RowChange]:
        stack = [_Part(self._table.root, _LOWEST - 1, _HIGHEST)]
        while stack:
            part = stack.pop()
            try:
                interior = self._kind(part.pgno)
                below = self._below(part) if interior else []
                pointers = () if interior and not self._table.without_rowid else self._reader.pointers(part.pgno)
            except FormatError as error:
                self._note(part.pgno, error.detail)
                continue
            stack.extend(reversed(below))
            yield from self._rows_of(part, pointers)

    def _kind(self, pgno: int) -> bool:
        """Whether a page is interior."""
        kind = page_kind(self._read(pgno), pgno)
        if kind & 1 != self._odd:
            raise FormatError("walk a b-tree", f"page {pgno}", f"page type {kind}")
        interior = is_interior(kind)
        # A leaf of rowids that comes again has none within its limits.
        if interior or not self._odd:
            if pgno in self._met:
                raise FormatError("walk a b-tree", f"page {pgno}", "it is reached twice")
            self._met.add(pgno)
        return interior

    def _below(self, part: _Part) -> list[_Part]:
        page, pgno = self._read(part.pgno), part.pgno
        kids = children(page, pgno)
        if page[100 if pgno == 1 else 0] != TABLE_INTERIOR:
            return [_Part(kid, _LOWEST - 1, _HIGHEST) for kid in kids]
        limits = [read_varint(page, pointer + 4)[0] for pointer in cell_pointers(page, pgno)]
        lows = [part.low, *(max(part.low, limit) for limit in limits)]
        highs = [*(min(part.high, limit) for limit in limits), part.high]
        return [_Part(*each) for each in zip(kids, lows, highs, strict=True)]

    def _rows_of(self, part: _Part, pointers: Sequence[int]) -> Iterator[RowChange]:
        last = part.low
        for entry in self._entries(part.pgno, pointers):
            if self._odd:
                if not last < entry[0] <= part.high:
                    self._note(part.pgno, f"the rowid {entry[0]} is out of order")
                    continue
                last = entry[0]
            try:
                row = self._reader.row(entry)
            except FormatError as error:
                self._note(part.pgno, error.detail)
                continue
            yield RowChange(entry[0] if self._odd else None, None, row)
            del row  # it may be large, and the next one is read before it would be forgotten

    def _entries(self, pgno: int, pointers: Sequence[int]) -> Iterator[Entry]:
        try:
            yield from self._reader.entries(pgno, pointers)
            return
        except FormatError:
            pass  # one of them: found below
        for pointer in pointers:
            try:
                found = self._reader.entries(pgno, (pointer,))
            except FormatError as error:
                self._note(pgno, error.detail)
            else:
                yield from found
