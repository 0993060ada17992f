"""Cells to rows, and two sets of cells to row changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from mirror.decode.pagemap import OVERFLOW_FIRST, MapUpdate
from mirror.errors import FormatError
from mirror.fileformat.btree import Cell, Geometry, ReadPage, cell_pointers, is_interior
from mirror.fileformat.record import decode_record
from mirror.model import Row, RowChange, Table, Value


class RowDecoder:
    """Turns the cells of one table, in one state of the database, into rows."""

    __slots__ = (
        "_alias",
        "_defaults",
        "_encoding",
        "_order",
        "_reals",
        "_stored",
        "geometry",
        "read",
        "table",
    )

    def __init__(self, table: Table, geometry: Geometry, encoding: str, read: ReadPage) -> None:
        self.table = table
        self.geometry = geometry
        self.read = read
        self._encoding = encoding
        self._stored = len(table.storage)
        self._defaults: list[Value] = [table.columns[i].default for i in table.storage]
        self._reals = [at for at, i in enumerate(table.storage) if table.columns[i].affinity == "REAL"]
        self._alias = None if table.rowid_alias is None else table.position(table.rowid_alias)
        # A key that names a column with two collations stores it twice.
        inverse = [table.storage.index(i) for i in range(len(table.columns))]
        self._order = None if inverse == list(range(self._stored)) else inverse

    def cells(self, page: bytes, pgno: int) -> Iterator[Cell]:
        """The cells of a page that hold rows, in key order."""
        if self.table.without_rowid:
            interior = is_interior(page[100 if pgno == 1 else 0])
            for pointer in cell_pointers(page, pgno):
                yield self.geometry.index_cell(page, pointer, interior)
        else:
            for pointer in cell_pointers(page, pgno):
                yield self.geometry.table_leaf_cell(page, pointer)

    def row(self, page: bytes, cell: Cell, chain: list[int] | None = None) -> Row:
        """The row in a cell; its overflow pages are added to ``chain``. Raises ``FormatError``."""
        if cell.overflow:
            payload = self.geometry.payload(page, cell, self.read, chain)
        else:
            payload = page[cell.start : cell.end]
        values = decode_record(payload, self._encoding)
        if len(values) != self._stored:
            if len(values) > self._stored:
                raise FormatError("decode a row", self.table.name, f"{len(values)} values for {self._stored} columns")
            values.extend(self._defaults[len(values) :])
        for at in self._reals:
            if type(values[at]) is int:
                values[at] = float(values[at])  # type: ignore[arg-type]
        if self._alias is not None:
            values[self._alias] = cell.rowid
        if self._order is not None:
            values = [values[at] for at in self._order]
        return tuple(values)


class _Place(NamedTuple):
    cell: Cell
    page: bytes
    pgno: int


class RowDiff:
    """Compares cells of an old and a new state of one table and yields the rows that differ.

    ``dirty``: first pages of overflow chains that the page set touches: a cell with such a chain may
    have changed although its own bytes are the same. Overflow chains that come, go or move are
    recorded in ``update``.
    """

    def __init__(self, old: RowDecoder, new: RowDecoder, dirty: frozenset[int], update: MapUpdate) -> None:
        self._old = old
        self._new = new
        self._dirty = dirty
        self._update = update

    def pages(self, pages: Iterable[int]) -> Iterator[RowChange]:
        """Compare each page with itself: for trees whose pages stayed where they were."""
        for pgno in pages:
            before, after = self._old.read(pgno), self._new.read(pgno)
            if self._dirty or self._old.table.without_rowid:
                olds = [_Place(cell, before, pgno) for cell in self._old.cells(before, pgno)]
                news = [_Place(cell, after, pgno) for cell in self._new.cells(after, pgno)]
            else:
                old_at, new_at = differing_cells(before, after, pgno)
                parse = self._old.geometry.table_leaf_cell
                olds = sorted(_Place(parse(before, at), before, pgno) for at in old_at)
                news = sorted(_Place(parse(after, at), after, pgno) for at in new_at)
            yield from self._by_key(olds, news) if self._old.table.without_rowid else self._merge(olds, news)

    def trees(self, old_pages: Iterable[int], new_pages: Iterable[int]) -> Iterator[RowChange]:
        """Compare the rows on two sets of pages, by key."""
        if self._old.table.without_rowid:
            yield from self._by_key(list(_Cells(self._old, old_pages)), _Cells(self._new, new_pages))
        else:
            yield from self._merge(
                _Cells(self._old, self._in_order(self._old, old_pages)),
                _Cells(self._new, self._in_order(self._new, new_pages)),
            )

    @staticmethod
    def _in_order(rows: RowDecoder, pages: Iterable[int]) -> list[int]:
        """Leaves of a rowid tree in key order: they do not overlap, so by their first rowids."""
        keyed = []
        for pgno in pages:
            page = rows.read(pgno)
            pointers = cell_pointers(page, pgno)
            if pointers:
                keyed.append((rows.geometry.table_leaf_cell(page, pointers[0]).rowid, pgno))
        return [pgno for _, pgno in sorted(keyed)]

    def _merge(self, olds: Iterable[_Place], news: Iterable[_Place]) -> Iterator[RowChange]:
        """Both sides ordered by rowid; memory does not depend on their length."""
        left, right = iter(olds), iter(news)
        old, new = next(left, None), next(right, None)
        while old is not None or new is not None:
            if new is None or (old is not None and old.cell.rowid < new.cell.rowid):
                assert old is not None
                yield RowChange(old.cell.rowid, self._gone(old), None)
                old = next(left, None)
            elif old is None or old.cell.rowid > new.cell.rowid:
                yield RowChange(new.cell.rowid, None, self._come(new))
                new = next(right, None)
            else:
                if not self._same(old, new):
                    before, after = self._gone(old), self._come(new)
                    if not identical(before, after):
                        yield RowChange(new.cell.rowid, before, after)
                old, new = next(left, None), next(right, None)

    def _by_key(self, olds: list[_Place], news: Iterable[_Place]) -> Iterator[RowChange]:
        """WITHOUT ROWID: rows matched by their primary key; ``news`` is read twice.

        Holds the old cells of the compared pages in memory, of the new ones only what is not among them.
        """
        known = {_raw(place): place for place in olds}
        kept: set[bytes] = set()
        for new in news:
            raw = _raw(new)
            old = known.get(raw)
            if old is not None and self._same(old, new):
                kept.add(raw)
        gone: dict[Row, tuple[_Place, Row]] = {}
        key_at = [self._old.table.position(name) for name in self._old.table.primary_key]
        for raw, old in known.items():
            if raw not in kept:
                row = self._gone(old)
                gone[tuple(row[at] for at in key_at)] = old, row
        for new in news:
            if _raw(new) in kept:
                continue
            after = self._come(new)
            found = gone.pop(tuple(after[at] for at in key_at), None)
            if found is None:
                yield RowChange(None, None, after)
            elif not identical(found[1], after):
                yield RowChange(None, found[1], after)
        for _, row in gone.values():
            yield RowChange(None, row, None)

    def _same(self, old: _Place, new: _Place) -> bool:
        one, other = old.cell, new.cell
        if one.size != other.size or one.overflow != other.overflow or one.overflow in self._dirty:
            return False
        if old.page[one.start : one.end] != new.page[other.start : other.end]:
            return False
        if other.overflow and old.pgno != new.pgno:
            self._update.set(other.overflow, OVERFLOW_FIRST, new.pgno)
        return True

    def _gone(self, old: _Place) -> Row:
        if not old.cell.overflow:
            return self._old.row(old.page, old.cell)
        chain: list[int] = []
        row = self._old.row(old.page, old.cell, chain)
        self._update.clear_chain(chain)
        return row

    def _come(self, new: _Place) -> Row:
        if not new.cell.overflow:
            return self._new.row(new.page, new.cell)
        chain: list[int] = []
        row = self._new.row(new.page, new.cell, chain)
        self._update.set_chain(chain, new.pgno)
        return row


class _Cells:
    """The cells on some pages, read from the pages anew at each iteration."""

    def __init__(self, rows: RowDecoder, pages: Iterable[int]) -> None:
        self._rows = rows
        self._pages = list(pages)

    def __iter__(self) -> Iterator[_Place]:
        for pgno in self._pages:
            page = self._rows.read(pgno)
            for cell in self._rows.cells(page, pgno):
                yield _Place(cell, page, pgno)


def _raw(place: _Place) -> bytes:
    return place.page[place.cell.start : place.cell.end]


def identical(before: Row, after: Row) -> bool:
    """Whether two rows are the same to the bit: 1 is not 1.0, -0.0 is not 0.0."""
    if before != after:
        return False
    for one, other in zip(before, after, strict=True):
        if type(one) is not type(other) or (type(one) is float and one == 0.0 and str(one) != str(other)):
            return False
    return True


def differing_cells(old: bytes, new: bytes, pgno: int) -> tuple[set[int], set[int]]:
    """Offsets of the cells of a table leaf that are not the same in two images of the page.

    A cell at the same offset in both images is the same unless a byte differs between its offset
    and the next cell's (of either image). So only what changed has to be parsed.
    """
    if old == new:
        return set(), set()
    old_at, new_at = set(cell_pointers(old, pgno)), set(cell_pointers(new, pgno))
    common = old_at & new_at
    if common:
        bounds = sorted(old_at | new_at)
        bounds.append(len(old))
        for start, end in pairwise(bounds):
            if old[start:end] != new[start:end]:
                common.discard(start)
    return old_at - common, new_at - common
