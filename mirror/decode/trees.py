"""Which pages of a table's b-tree hold rows that a page set may have changed: diff by reachability.

Pages that a DELETE frees are not logged, and a logged page may hold another table's dead rows. So
the pages in the log are not enough: what counts is which pages each tree *reaches* before and
after. Whenever a page joins or leaves a tree, the interior page that points to it is logged;
comparing the children of the logged interior pages, old against new, and following what came and
went downwards, finds every page that joined or left, at a cost that depends on the change alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mirror.decode.pagemap import OVERFLOW_FIRST, OVERFLOW_MORE, TREE, PageMap
from mirror.errors import FormatError
from mirror.fileformat.btree import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Geometry,
    ReadPage,
    cell_pointers,
    children,
    is_interior,
    page_kind,
)


class TreeChange(NamedTuple):
    """The part of one b-tree that a page set touches.

    ``old_rows`` / ``new_rows``: pages whose cells must be compared, as reached before and after (with
    interior pages in index b-trees, whose rows lie there too). ``left`` / ``joined``: pages that the
    tree does not reach any more, or newly. ``paired``: no page moved, so each page's rows can be
    compared with the same page's.
    """

    old_rows: tuple[int, ...]
    new_rows: tuple[int, ...]
    left: frozenset[int]
    joined: frozenset[int]
    paired: bool


def _kind(page: bytes, pgno: int) -> int:
    return page[100 if pgno == 1 else 0] if page else 0


class _Children:
    """Children of interior pages of one tree in one state, parsed once."""

    def __init__(self, read: ReadPage, index: bool) -> None:
        self._read = read
        self._leaf, self._interior = (INDEX_LEAF, INDEX_INTERIOR) if index else (TABLE_LEAF, TABLE_INTERIOR)
        self._known: dict[int, tuple[int, ...]] = {}
        self._wrong: dict[int, FormatError] = {}

    def of(self, pgno: int) -> tuple[int, ...]:
        """The children of a page; none for a leaf, and for a page that cannot belong to this tree."""
        found = self._known.get(pgno)
        if found is None:
            found = ()
            page = self._read(pgno)
            kind = _kind(page, pgno)
            try:
                if kind == self._interior:
                    found = tuple(children(page, pgno))
                elif kind != self._leaf:
                    raise FormatError("compare a b-tree", f"page {pgno}", f"page type {kind}")
            except FormatError as error:
                # Without its traceback, whose frames would keep the page in memory.
                self._wrong[pgno] = error.with_traceback(None)
            self._known[pgno] = found
        return found

    def check(self, pages: frozenset[int]) -> None:
        """Raise the ``FormatError`` of a page that was found to belong to the tree, but cannot."""
        for pgno in pages:
            self.of(pgno)
        for pgno in pages & self._wrong.keys():
            raise self._wrong[pgno]


def compare_tree(root: int, touched: frozenset[int], old: ReadPage, new: ReadPage, index: bool) -> TreeChange:
    """Compare one tree whose root stayed where it is.

    ``touched``: pages of this tree, as the old state reaches it, that the page set replaces (or
    whose overflow chains it touches). ``index``: a WITHOUT ROWID table. Raises ``FormatError``.
    """
    leaf = INDEX_LEAF if index else TABLE_LEAF
    if all(_kind(old(pgno), pgno) == leaf == _kind(new(pgno), pgno) for pgno in touched):
        pages = tuple(sorted(touched))
        return TreeChange(pages, pages, frozenset(), frozenset(), True)
    before, after = _Children(old, index), _Children(new, index)
    nothing: frozenset[int] = frozenset()
    removed = joined = nothing
    # Each round sees what the last one found to have come or gone, one level further down.
    for _ in range(2 * 20 * (len(touched) + 2)):
        old_kids = nothing.union(*map(before.of, touched | removed))
        new_kids = nothing.union(*map(after.of, (touched - removed) | joined))
        now_removed, now_joined = old_kids - new_kids, new_kids - old_kids
        if (now_removed, now_joined) == (removed, joined):
            break
        removed, joined = now_removed, now_joined
    else:
        raise FormatError("compare a b-tree", f"root page {root}", "its pages do not form a tree")
    if root in removed | joined:
        raise FormatError("compare a b-tree", f"root page {root}", "the root is its own descendant")
    # Until here a touched page may have been one that the tree left and something else took over.
    before.check(touched | removed)
    after.check((touched - removed) | joined)
    old_pages = touched | removed
    new_pages = (touched - removed) | joined
    if not index:
        old_pages = frozenset(p for p in old_pages if not before.of(p))
        new_pages = frozenset(p for p in new_pages if not after.of(p))
    return TreeChange(tuple(sorted(old_pages)), tuple(sorted(new_pages)), removed, joined, False)


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


def map_tree(root: int, read: ReadPage, geometry: Geometry, index: bool, pagemap: PageMap) -> None:
    """Enter all pages of a tree, and the overflow chains of its cells, into a page map.

    Raises ``FormatError``.
    """
    for pgno in walk(root, read, interior=True):
        pagemap.set(pgno, TREE, root)
        page = read(pgno)
        interior = is_interior(page[100 if pgno == 1 else 0])
        if interior and not index:
            continue
        for pointer in cell_pointers(page, pgno):
            if index:
                cell = geometry.index_cell(page, pointer, interior)
            else:
                # Most cells are short, and their first bytes tell: no need to parse those.
                size = page[pointer]
                if size < 0x80:
                    continue
                low = page[pointer + 1]
                if low < 0x80 and ((size & 0x7F) << 7 | low) <= geometry.table_max:
                    continue
                cell = geometry.table_leaf_cell(page, pointer)
            if cell.overflow:
                kind, ref = OVERFLOW_FIRST, pgno
                for link in geometry.chain(cell, read):
                    pagemap.set(link, kind, ref)
                    kind, ref = OVERFLOW_MORE, link
