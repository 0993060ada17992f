"""Which pages of a table's b-tree hold rows that a page set may have changed: diff by reachability.

Pages that a DELETE frees are not logged, and a logged page may hold another table's dead rows. So
the pages in the log are not enough: what counts is which pages each tree *reaches* before and
after. Whenever a page joins or leaves a tree, the interior page that points to it is logged;
comparing the children of the logged interior pages, old against new, and following the differences
downwards, finds every page that joined or left, at a cost that depends on the change alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import NamedTuple

from mirror.core.errors import FormatError
from mirror.sqlite.format.btree import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    ReadPage,
    children,
    is_interior,
    page_kind,
)


class TreeChange(NamedTuple):
    """The part of one b-tree that a page set touches.

    ``old_rows`` / ``new_rows``, in order: pages on which cells must be compared, as reached before and after (with
    interior pages in index b-trees, which have rows too). ``left`` / ``joined``: pages that the
    tree does not reach any more, or did not reach before. ``paired``: no page moved, so each page's rows can be
    compared with the same page's.
    """

    old_rows: tuple[int, ...]
    new_rows: tuple[int, ...]
    left: frozenset[int]
    joined: frozenset[int]
    paired: bool


def _kind(page: bytes, pgno: int) -> int:
    return page[100 if pgno == 1 else 0] if page else 0


_NONE = array("I")


class _Children:
    """Children of interior pages of one tree in one state, parsed once. (There are too many leaves to keep them.)"""

    def __init__(self, read: ReadPage, index: bool) -> None:
        self._read = read
        self._leaf, self._interior = (INDEX_LEAF, INDEX_INTERIOR) if index else (TABLE_LEAF, TABLE_INTERIOR)
        self._known: dict[int, array[int]] = {}
        self._wrong: dict[int, FormatError] = {}

    def of(self, pgno: int) -> array[int]:
        """The children of a page; none for a leaf, and for a page that cannot belong to this tree."""
        found = self._known.get(pgno)
        if found is None:
            found = _NONE
            page = self._read(pgno)
            kind = _kind(page, pgno)
            if kind == self._leaf:
                return found
            try:
                if kind != self._interior:
                    raise FormatError("compare a b-tree", f"page {pgno}", f"page type {kind}")
                found = array("I", children(page, pgno))
            except FormatError as error:
                # Without its traceback: the frames in it would keep the page in memory.
                self._wrong[pgno] = error.with_traceback(None)
            self._known[pgno] = found
        return found

    def check(self, pages: Iterable[int]) -> None:
        """Raise the ``FormatError`` of a page that was found to belong to the tree, but cannot."""
        for pgno in pages:
            self.of(pgno)
            if pgno in self._wrong:
                raise self._wrong[pgno]


def compare_tree(root: int, touched: Sequence[int], old: ReadPage, new: ReadPage, index: bool) -> TreeChange:
    """Compare one tree that has the same root page before and after.

    ``touched``: pages of this tree, as the old state reaches it, that the page set replaces (or
    of which it touches overflow chains). ``index``: a WITHOUT ROWID table. Raises ``FormatError``.
    """
    leaf = INDEX_LEAF if index else TABLE_LEAF
    # Nearly all touched pages were leaves and still are. What follows looks at the others alone.
    inner = frozenset(p for p in touched if not _kind(old(p), p) == leaf == _kind(new(p), p))
    removed: frozenset[int] = frozenset()
    joined: frozenset[int] = frozenset()
    if not inner:
        pages = tuple(sorted(touched))
        return TreeChange(pages, pages, removed, joined, True)
    before, after = _Children(old, index), _Children(new, index)
    # Each round follows what the last one found to have joined or left, one level further down.
    for _ in range(2 * 20 * (len(touched) + 2)):
        gone: set[int] = set()
        come: set[int] = set()
        for p in chain(inner, removed, joined):
            old_kids = before.of(p) if p in inner or p in removed else _NONE
            new_kids = after.of(p) if p in joined or (p in inner and p not in removed) else _NONE
            if old_kids != new_kids:
                gone.update(set(old_kids).difference(new_kids))
                come.update(set(new_kids).difference(old_kids))
        if gone - come == removed and come - gone == joined:
            break
        removed, joined = frozenset(gone - come), frozenset(come - gone)
    else:
        raise FormatError("compare a b-tree", f"root page {root}", "its pages do not form a tree")
    if root in removed or root in joined:
        raise FormatError("compare a b-tree", f"root page {root}", "the root is its own descendant")
    # Until here a touched page may have been one that the tree left and something else took over.
    before.check(inner | removed)
    after.check((inner - removed) | joined)
    leaves = [p for p in touched if p not in inner]
    olds = (p for p in chain(inner, removed) if index or not before.of(p))
    news = (p for p in chain(inner, joined) if index or not after.of(p))
    old_rows = _each_once(chain(leaves, olds))
    new_rows = _each_once(p for p in chain(leaves, news) if p not in removed)
    return TreeChange(old_rows, new_rows, removed, joined, False)


def _each_once(pages: Iterable[int]) -> tuple[int, ...]:
    """Pages in order. (There may be too many for another set of them.)"""
    return tuple(p for p, _ in groupby(sorted(pages)))


def walk(root: int, read: ReadPage, interior: bool) -> Iterator[int]:
    """All pages of a tree that hold rows, in key order; also the interior ones if ``interior``.

    Raises ``FormatError`` for a tree of both kinds of pages, or that reaches an interior page twice.
    """
    stack = [root]
    odd = page_kind(read(root), root) & 1  # the table kinds are odd, the index kinds even
    interiors: set[int] = set()
    while stack:
        pgno = stack.pop()
        page = read(pgno)
        kind = page_kind(page, pgno)
        if kind & 1 != odd:
            raise FormatError("walk a b-tree", f"root page {root}", f"page {pgno} of type {kind}")
        if is_interior(kind):
            if pgno in interiors:
                raise FormatError("walk a b-tree", f"root page {root}", f"page {pgno} is reached twice")
            interiors.add(pgno)
            if interior:
                yield pgno
            stack.extend(reversed(children(page, pgno)))
        else:
            yield pgno
