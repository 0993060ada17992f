"""Whether a key is once in a table, where one of two states may be none that SQLite has committed.

A file that is overwritten in place, with a pause, is for a moment half the one content and half the other. Such a tree
may have a key twice, on a page of each. Compared by pages, a row that goes from one of them is gone, though the other
page still has it; and one that comes may be there already. So where pages were compared, each key that goes is looked
up in the tree as it is now, and each that comes in the tree as it was.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from mirror.core.errors import FormatError
from mirror.core.rows import RowChange
from mirror.core.tables import Table
from mirror.core.values import Row
from mirror.sqlite.decode.rows import RowReader
from mirror.sqlite.decode.trees import walk
from mirror.sqlite.format.btree import ReadPage, cell_pointers, children, is_interior, page_kind
from mirror.sqlite.format.varint import read_varint

#: Interior pages deep at most: a tree that is deeper goes in a circle.
_DEEPEST = 40
#: Rowids that are looked up together; a leaf has some hundred at most.
_ROWIDS = 10_000
#: Keys of a WITHOUT ROWID table that are looked up together, in one reading of all its rows.
_KEYS = 100_000


def once(
    changes: Iterator[RowChange], table: Table, old_root: int, old: RowReader, new: RowReader
) -> Iterator[RowChange]:
    """The changes of a table. Raises ``FormatError``, after the change or after others, if a key is in a state twice.

    Of WITHOUT ROWID tables only keys that go are looked up, in all rows of the new state. Memory does not grow with
    the number of changes.
    """
    gone, come = _Rowids(table, table.root, new), _Rowids(table, old_root, old)
    keys = _Keys(table, new)
    for change in changes:
        yield change
        if change.rowid is None:
            if change.after is None and change.before is not None:
                keys.add(change.before)
        elif change.before is None:
            come.add(change.rowid)
        elif change.after is None:
            gone.add(change.rowid)
        del change  # it may be large, and the next one is read before it would be forgotten
    for looked_up in (gone, come, keys):
        looked_up.finish()


class _Rowids:
    """Rowids that a state must not have."""

    def __init__(self, table: Table, root: int, state: RowReader) -> None:
        self._table = table
        self._root = root
        self._state = state
        self._waiting: list[int] = []

    def add(self, rowid: int) -> None:
        self._waiting.append(rowid)
        if len(self._waiting) >= _ROWIDS:
            self.finish()

    def finish(self) -> None:
        """Look up those that wait. Raises ``FormatError`` if the state has one."""
        if (found := _first_found(sorted(self._waiting), self._root, self._state)) is not None:
            raise _twice(self._table, f"the rowid {found}")
        self._waiting.clear()


class _Keys:
    """Primary keys of a WITHOUT ROWID table that its new state must not have."""

    def __init__(self, table: Table, state: RowReader) -> None:
        self._table = table
        self._state = state
        self._places = [table.position(name) for name in table.primary_key] if table.without_rowid else []
        self._waiting: set[tuple[object, ...]] = set()

    def add(self, row: Row) -> None:
        self._waiting.add(self._key(row))
        if len(self._waiting) >= _KEYS:
            self.finish()

    def finish(self) -> None:
        """Look up those that wait. Raises ``FormatError`` if the state has one."""
        if self._waiting and any(self._key(row) in self._waiting for row in _rows(self._table.root, self._state)):
            raise _twice(self._table, "a key")
        self._waiting.clear()

    def _key(self, row: Row) -> tuple[object, ...]:
        # 1, 1.0 and 0.0, -0.0 are equal, and a row may go from one to the other: then one goes and one comes.
        return tuple((type(value := row[at]), repr(value) if type(value) is float else value) for at in self._places)


def _twice(table: Table, what: str) -> FormatError:
    return FormatError("compare a table", table.name, f"{what} was on two pages: its tree was out of order")


def _rows(root: int, state: RowReader) -> Iterator[Row]:
    for pgno in walk(root, state.read, interior=True):
        for entry in state.entries(pgno, state.pointers(pgno)):
            yield state.row(entry)


def _first_found(rowids: list[int], root: int, state: RowReader) -> int | None:
    """The first of some rowids, in order, that a table has; None if it has none of them."""
    at = 0
    while at < len(rowids):
        leaf, last = _leaf_of(rowids[at], root, state.read)
        end = len(rowids) if last is None else bisect_left(rowids, last + 1, at)
        there = {key for key, _, _ in state.entries(leaf, state.pointers(leaf))}
        for rowid in rowids[at:end]:
            if rowid in there:
                return rowid
        at = max(end, at + 1)
    return None


def _leaf_of(rowid: int, root: int, read: ReadPage) -> tuple[int, int | None]:
    """The leaf on which a rowid has its place, and the largest rowid that has its place there; None: all larger."""
    pgno, last = root, None
    for _ in range(_DEEPEST):
        page = read(pgno)
        if not is_interior(page_kind(page, pgno)):
            return pgno, last
        pointers = cell_pointers(page, pgno)
        low, high = 0, len(pointers)
        while low < high:
            middle = (low + high) // 2
            if read_varint(page, pointers[middle] + 4)[0] < rowid:
                low = middle + 1
            else:
                high = middle
        if low < len(pointers):
            last = read_varint(page, pointers[low] + 4)[0]
        pgno = children(page, pgno)[low]
    raise FormatError("look up a row", f"root page {root}", "its pages do not form a tree")
