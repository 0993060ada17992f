"""Turn cells into rows, and two sets of cells into row changes."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from mirror.core.errors import FormatError
from mirror.core.imports import has_numpy
from mirror.core.rows import RowChange
from mirror.core.tables import Table
from mirror.core.values import Row, Value, identical
from mirror.sqlite.decode.differing import differing_cells
from mirror.sqlite.decode.generated import VirtualColumns
from mirror.sqlite.decode.pagemap import OVERFLOW_FIRST, MapUpdate
from mirror.sqlite.decode.plans import Plan, plan_of
from mirror.sqlite.format.btree import Cell, Geometry, ReadPage, cell_pointers
from mirror.sqlite.format.record import decode_pieces, decode_record, leading_bytes

if TYPE_CHECKING:  # it needs numpy
    from mirror.sqlite.decode.blocks import Cells, LeafReader, Paired

#: What identifies a row of a table: the rowid, or in a WITHOUT ROWID table the primary key's bytes.
Key = Any

#: WITHOUT ROWID: the number of old rows compared with the new ones at a time, with about 200 bytes in memory each.
PART_ROWS = 1 << 17
#: Bytes; of a longer primary key only the hash is kept, which is one byte longer than this.
_SHORT_KEY = 32
#: A longer payload is read in pieces, so that it is not in memory beside its values.
LARGE_BYTES = 1 << 20
#: Headers of records that are kept, of each table; and how often one is met before a plan is made, which takes as long
#: as some records. (A row that changes mostly has the same header before and after.)
_HEADERS, _TIMES_MET = 1024, 4
#: From so many pages on, a rowid table's leaves are compared in blocks: each block costs as much as some pages alone.
MANY_PAGES = 12
#: The same while numpy, which that needs, is not loaded: that takes 0.1 s, and 14 MB for as long as the process runs.
WORTH_LOADING = 256
#: Number of pages for which the result of comparing their cells is kept.
_KEPT = 32


class RowFormat:
    """How the records of one table are read as rows."""

    __slots__ = (
        "_added",
        "_alias",
        "_defaults",
        "_encoding",
        "_keys",
        "_met",
        "_order",
        "_plans",
        "_reals",
        "_stored",
        "_virtual",
        "table",
    )

    def __init__(
        self, table: Table, encoding: str, after: Table | None = None, carried: Sequence[int | None] = ()
    ) -> None:
        """``after``, ``carried``: give the rows the columns of this later table (see ``diff.carried_columns``)."""
        self.table = table
        self._encoding = encoding
        self._keys = len(table.collations)
        whole = table.declared
        self._stored = len(whole.storage)
        self._defaults: list[Value] = [whole.columns[i].default for i in whole.storage]
        self._reals = [at for at, i in enumerate(whole.storage) if whole.columns[i].affinity == "REAL"]
        alias = whole.rowid_alias
        self._alias = None if alias is None else whole.storage.index(whole.position(alias))
        # A key that names a column with two collations stores it twice.
        computed = [i for i in range(len(whole.columns)) if i not in whole.storage]
        inverse = [(*whole.storage, *computed).index(i) for i in range(len(whole.columns))]
        if table.whole is not None:
            inverse = [inverse[at] for at in table.places]
        self._virtual = VirtualColumns(whole, encoding) if any(at >= self._stored for at in inverse) else None
        self._order: list[int] | None = None if inverse == list(range(self._stored)) else inverse
        self._added: list[Value] = []
        if after is not None:
            self._order = [inverse[at] for at in carried if at is not None]
            self._added = [column.default for column in after.columns[len(self._order) :]]
        self._plans: dict[bytes, Plan] = {}
        self._met: dict[bytes, int] = {}

    def row(self, payload: bytes, rowid: Key) -> Row:
        """The row in a whole payload. Raises ``FormatError``."""
        plan = self._plans.get(payload[: payload[0]]) if payload else None
        if plan is None:
            return self._first_row(payload, rowid)
        try:
            values = plan.values(payload, self._encoding)
        except (UnicodeDecodeError, struct.error):
            return self._complete(decode_record(payload, self._encoding), rowid)
        return self._rearranged(values, rowid)

    def _first_row(self, payload: bytes, rowid: Key) -> Row:
        """The same without a plan: one is made when a header has been met some times, because many never are again."""
        values = decode_record(payload, self._encoding)
        if payload[0] < 0x80:
            head = payload[: payload[0]]
            times = self._met[head] = self._met.get(head, 0) + 1
            if times >= _TIMES_MET and (plan := plan_of(head, self._defaults, self._reals)):
                self._plans[head] = plan
            if len(self._met) >= _HEADERS:
                self._met.clear()
                self._plans.clear()
        return self._complete(values, rowid)

    def row_of(self, pieces: Iterator[bytes], rowid: Key) -> Row:
        """The same of a payload in pieces, for large ones."""
        return self._complete(decode_pieces(pieces, self._encoding), rowid)

    def _complete(self, values: list[Value], rowid: Key) -> Row:
        if len(values) != self._stored:
            if len(values) > self._stored:
                raise FormatError("decode a row", self.table.name, f"{len(values)} values for {self._stored} columns")
            values.extend(self._defaults[len(values) :])
        for at in self._reals:
            if type(values[at]) is int:
                values[at] = float(values[at])  # type: ignore[arg-type]
        return self._rearranged(values, rowid)

    def _rearranged(self, values: list[Value], rowid: Key) -> Row:
        if self._alias is not None:
            values[self._alias] = rowid
        if self._virtual is not None:
            values += self._virtual.of(values)
        if self._order is not None:
            values = [values[at] for at in self._order] + self._added
        return tuple(values)

    def key(self, payload: bytes) -> bytes | None:
        """WITHOUT ROWID: the row's key as bytes; None if the payload is the start of a longer one and cuts the key off.

        The primary key's columns are the first of the record.
        """
        key = leading_bytes(payload, self._keys)
        if key is None or len(key) <= _SHORT_KEY:
            return key
        return blake2b(key, digest_size=_SHORT_KEY + 1).digest()


class Long(NamedTuple):
    """A cell that has a part of its payload on overflow pages."""

    cell: Cell
    page: bytes
    pgno: int


#: Key and payload of a row; only the start of the payload if the third is not None.
Entry = tuple[Key, bytes, Long | None]
#: A row's key and its place: page and offset in one number.
Placed = tuple[int, Entry]


class RowReader:
    """The rows of one table in one state of the database."""

    __slots__ = ("_geometry", "form", "read")

    def __init__(self, form: RowFormat, geometry: Geometry, read: ReadPage) -> None:
        self.form = form
        self._geometry = geometry
        self.read = read

    def pointers(self, pgno: int) -> Sequence[int]:
        """Offsets of the cells on a page, in key order. Raises ``FormatError``."""
        return cell_pointers(self.read(pgno), pgno)

    def entries(self, pgno: int, pointers: Collection[int]) -> list[Entry]:
        """The rows in the cells at some offsets of a page, in that order. Raises ``FormatError``."""
        found: list[Entry] = []
        if not pointers:
            return found
        page = self.read(pgno)
        for rowid, payload, cell in self._geometry.payloads(page, pgno, pointers):
            key: Key = rowid
            if self.form.table.without_rowid:
                key = self.form.key(payload)
                if key is None and cell is not None:
                    key = self.form.key(self._geometry.payload(page, cell, self.read))
                if key is None:
                    raise FormatError("read a key", f"page {pgno}", "the record ends too early")
            found.append((key, payload, None if cell is None else Long(cell, page, pgno)))
        return found

    def leaves(self, damaged: Callable[[int, int], None]) -> LeafReader:
        """Reads its leaves in blocks; see there for ``damaged``."""
        from mirror.sqlite.decode.blocks import LeafReader

        return LeafReader(self.read, self._geometry, damaged)

    def entry(self, cells: Cells, at: int) -> Entry:
        """The row in a cell of a block."""
        rowid = int(cells.rowids[at])
        payload = cells.data[cells.starts[at] : cells.ends[at]]
        if not cells.long[at]:
            return rowid, payload, None
        base, offset = divmod(int(cells.heads[at]), cells.size)
        page = cells.data[base * cells.size : (base + 1) * cells.size]
        return rowid, payload, Long(self._geometry.table_leaf_cell(page, offset), page, int(cells.pages[at]))

    def row(self, entry: Entry, chain: list[int] | None = None) -> Row:
        """The row of an entry; its overflow pages are added to ``chain``. Raises ``FormatError``."""
        key, payload, long = entry
        if long is None:
            return self.form.row(payload, key)
        if long.cell.size > LARGE_BYTES:
            return self.form.row_of(self._geometry.pieces(long.page, long.cell, self.read, chain), key)
        return self.form.row(self._geometry.payload(long.page, long.cell, self.read, chain), key)


class RowDiff:
    """Compares cells of an old and a new state of one table and yields the rows that differ.

    ``dirty``: first pages of overflow chains that the page set touches, each with the page that had the cell:
    a cell with such a chain may have changed although its own bytes are the same. Overflow
    chains that are new, gone or moved are recorded in ``update``. Memory does not grow with the number of rows.
    ``reshaped``: a row may differ although its record does not, so all rows of both trees are read.
    """

    def __init__(
        self, old: RowReader, new: RowReader, dirty: Mapping[int, int], update: MapUpdate, *, reshaped: bool = False
    ) -> None:
        self._old = old
        self._new = new
        self._dirty = dirty
        self._update = update
        self.reshaped = reshaped
        self._index = old.form.table.without_rowid
        self._differing = _Differing(old, new, frozenset(dirty.values()))

    def pages(self, pages: Sequence[int]) -> Iterator[RowChange]:
        """Compare each page, in order of their numbers, with itself: for trees of which no page moved."""
        if not self._in_blocks(pages):
            yield from self._each_page(pages)
            return
        from mirror.sqlite.decode.blocks import paired

        olds, news = self._leaves(0, pages), self._leaves(1, pages)
        for first in range(0, len(pages), olds.at_once):
            some = pages[first : first + olds.at_once]
            old, new = olds.cells(some), news.cells(some)
            pairs = paired(old, new, on_one_page=True)
            if pairs is None:
                yield from self._each_page(some)
            else:
                yield from self._match_cells(pairs)

    def _each_page(self, pages: Sequence[int]) -> Iterator[RowChange]:
        for pgno in pages:
            gone, come = self._differing[pgno]
            yield from self._match(self._old.entries(pgno, gone), self._new.entries(pgno, come))

    def trees(self, old_pages: Sequence[int], new_pages: Sequence[int]) -> Iterator[RowChange]:
        """Compare the rows on two sets of pages, each in order of their numbers, by key."""
        if self._index:
            parts = 1 + sum(len(self._old.pointers(pgno)) for pgno in old_pages) // PART_ROWS
            for part in range(parts):
                yield from self._match_places(
                    _placed(self._old, old_pages, part, parts), _placed(self._new, new_pages, part, parts)
                )
        elif self._in_blocks(old_pages) and self._in_blocks(new_pages):
            yield from self._in_order(old_pages, new_pages)
        else:
            olds, news = self._ordered(0, old_pages, new_pages), self._ordered(1, new_pages, old_pages)
            for some_olds, some_news in _windows(olds, news):
                yield from self._match(some_olds, some_news)

    def _in_blocks(self, pages: Sequence[int]) -> bool:
        """Whether it is worth while to read these pages, in order of their numbers, in blocks; page 1 is not."""
        many = MANY_PAGES if has_numpy() else WORTH_LOADING
        return not (self._index or self.reshaped) and len(pages) >= many and pages[0] != 1

    def _in_order(self, old_pages: Sequence[int], new_pages: Sequence[int]) -> Iterator[RowChange]:
        """Compare the rows on two sets of leaves, in blocks, in the order of their rowids."""
        from mirror.sqlite.decode.blocks import paired, windows

        olds, news = self._leaves(0, new_pages), self._leaves(1, old_pages)
        for old, new in windows(
            olds.blocks(olds.by_first_rowid(old_pages)), news.blocks(news.by_first_rowid(new_pages))
        ):
            pairs = paired(old, new, on_one_page=False)
            if pairs is None:
                some_olds = [self._old.entry(old, at) for at in range(old.number)]
                yield from self._match(some_olds, [self._new.entry(new, at) for at in range(new.number)])
            else:
                yield from self._match_cells(pairs)

    def _leaves(self, side: int, others: Sequence[int]) -> LeafReader:
        """The leaves before (0) or after (1); ``others``: pages that are compared of the other state, in order."""
        rows = (self._old, self._new)[side]

        def damaged(pgno: int, offset: int) -> None:
            at = bisect_left(others, pgno)
            stayed = at < len(others) and others[at] == pgno
            if not stayed or offset in self._differing[pgno][side]:
                rows.entries(pgno, (offset,))
                raise FormatError("read a cell", f"page {pgno}", f"the one at offset {offset} leaves the page")

        return rows.leaves(damaged)

    def _match_cells(self, pairs: Paired) -> Iterator[RowChange]:
        """The same as :meth:`_match` for cells of blocks."""
        from mirror.sqlite.decode.blocks import changed

        old, new, gone, come = pairs
        row_before, row_after = self._old.form.row, self._new.form.row
        long = old.long | new.long
        if long.any():
            yield from self._match_long(old.chosen(long), new.chosen(long))
            old, new = old.chosen(~long), new.chosen(~long)
        for rowid, payload, new_payload in changed(old, new):
            before, after = row_before(payload, rowid), row_after(new_payload, rowid)
            if not identical(before, after):
                yield RowChange(rowid, before, after)
        for at in range(come.number):
            yield self._inserted(self._new.entry(come, at))
        for at in range(gone.number):
            yield self._deleted(self._old.entry(gone, at))

    def _match_long(self, olds: Cells, news: Cells) -> Iterator[RowChange]:
        for at in range(olds.number):
            old, new = self._old.entry(olds, at), self._new.entry(news, at)
            if not self._same(old, new) and (change := self._updated(old, new)):
                yield change
                del change  # it may be large, and the next one is read before it would be forgotten

    def _ordered(self, side: int, pages: Sequence[int], others: Sequence[int]) -> Iterator[list[Entry]]:
        """The rows on leaves of a rowid tree before (0) or after (1), in key order.

        Leaves do not overlap, so their first rowids order them. A cell that stayed on its page, which is one of
        the ``others`` then, is left out.
        """
        rows = (self._old, self._new)[side]

        def first(pgno: int) -> Key:
            found = rows.entries(pgno, rows.pointers(pgno)[:1])
            return found[0][0] if found else 0

        for pgno in sorted(pages, key=first):
            pointers = rows.pointers(pgno)
            at = bisect_left(others, pgno)
            if at < len(others) and others[at] == pgno and not self.reshaped:
                differing = self._differing[pgno][side]
                pointers = [pointer for pointer in pointers if pointer in differing]
            if pointers:
                yield rows.entries(pgno, pointers)

    def _match(self, olds: list[Entry], news: list[Entry]) -> Iterator[RowChange]:
        """The changes from some rows to others, if none of them is on any other page."""
        gone = {old[0]: old for old in olds}
        for new in news:
            old = gone.pop(new[0], None)
            if old is None:
                yield self._inserted(new)
            elif not self._same(old, new) and (change := self._updated(old, new)):
                yield change
                del change  # it may be large, and the next one is read before it would be forgotten
        for old in gone.values():
            yield self._deleted(old)

    def _match_places(self, olds: Iterator[Placed], news: Iterator[Placed]) -> Iterator[RowChange]:
        """The same, with only key and place of the old rows in memory: for more rows, and in any order."""
        places = {entry[0]: place for place, entry in olds}
        for _, new in news:
            place = places.pop(new[0], None)
            yield from self._match([] if place is None else [self._at(place)], [new])
        for place in places.values():
            yield self._deleted(self._at(place))

    def _at(self, place: int) -> Entry:
        return self._old.entries(place >> 16, (place & 0xFFFF,))[0]

    def _same(self, old: Entry, new: Entry) -> bool:
        if self.reshaped:
            return False
        _, old_payload, old_long = old
        _, new_payload, new_long = new
        if old_long is None or new_long is None:
            return old_payload == new_payload and old_long is new_long
        one, other = old_long.cell, new_long.cell
        if one.size != other.size or one.overflow != other.overflow or one.overflow in self._dirty:
            return False
        if old_payload != new_payload:
            return False
        if old_long.pgno != new_long.pgno:
            self._update.set(other.overflow, OVERFLOW_FIRST, new_long.pgno)
        return True

    def _inserted(self, new: Entry) -> RowChange:
        return RowChange(None if self._index else new[0], None, self._come(new))

    def _deleted(self, old: Entry) -> RowChange:
        return RowChange(None if self._index else old[0], self._gone(old), None)

    def _updated(self, old: Entry, new: Entry) -> RowChange | None:
        before, after = self._gone(old), self._come(new)
        return None if identical(before, after) else RowChange(None if self._index else new[0], before, after)

    def _gone(self, old: Entry) -> Row:
        if old[2] is None:
            return self._old.form.row(old[1], old[0])
        chain: list[int] = []
        row = self._old.row(old, chain)
        self._update.clear_chain(chain)
        return row

    def _come(self, new: Entry) -> Row:
        if new[2] is None:
            return self._new.form.row(new[1], new[0])
        chain: list[int] = []
        row = self._new.row(new, chain)
        self._update.set_chain(chain, new[2].pgno)
        return row


class _Differing(dict[int, tuple[set[int], set[int]]]):
    """By page: offsets of the cells that are only in the old state, and only in the new; the last few are kept.

    ``dirty``: pages of which all cells are to be compared.
    """

    def __init__(self, old: RowReader, new: RowReader, dirty: frozenset[int]) -> None:
        self._old = old
        self._new = new
        self._dirty = dirty

    def __missing__(self, pgno: int) -> tuple[set[int], set[int]]:
        if len(self) >= _KEPT:
            self.clear()
        before, after = self._old.read(pgno), self._new.read(pgno)
        kind = 100 if pgno == 1 else 0
        if pgno in self._dirty or before[kind] != after[kind]:
            found = set(self._old.pointers(pgno)), set(self._new.pointers(pgno))
        else:
            found = differing_cells(before, after, pgno)
        self[pgno] = found
        return found


def _windows(olds: Iterator[list[Entry]], news: Iterator[list[Entry]]) -> Iterator[tuple[list[Entry], list[Entry]]]:
    """Cut two runs of rows, both in the order of their rowids, into pieces with the same rowids."""
    old, new = next(olds, []), next(news, [])
    while old or new:
        old_cut, new_cut = len(old), len(new)
        if old and new:
            old_last, new_last = old[-1][0], new[-1][0]
            if old_last > new_last:
                old_cut = bisect_right(old, new_last, key=itemgetter(0))
            else:
                new_cut = bisect_right(new, old_last, key=itemgetter(0))
        yield old[:old_cut], new[:new_cut]
        old, new = old[old_cut:] or next(olds, []), new[new_cut:] or next(news, [])


def _placed(rows: RowReader, pages: Iterable[int], part: int, parts: int) -> Iterator[Placed]:
    """The rows on some pages that belong to part ``part`` of ``parts``, by the hash of their keys."""
    for pgno in pages:
        pointers = rows.pointers(pgno)
        for pointer, entry in zip(pointers, rows.entries(pgno, pointers), strict=True):
            if hash(entry[0]) % parts == part:
                yield pgno << 16 | pointer, entry
