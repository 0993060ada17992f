"""Which cells of one leaf differ in two images of its page, without parsing any of them."""

from __future__ import annotations

from itertools import pairwise

from mirror.sqlite.format.btree import cell_pointers

#: Cells whose bytes are compared together before each is compared by itself.
_TOGETHER = 8
#: If more cells than this differ on both sides, it is tested whether they only moved.
_MOVED = 4


def differing_cells(old: bytes, new: bytes, pgno: int) -> tuple[set[int], set[int]]:
    """Offsets of the cells of a leaf that are not the same in two images of the page.

    A cell at the same offset in both images is the same unless a byte differs between its offset
    and the next cell's (of either image). So only what changed has to be parsed.
    """
    old_at, new_at = set(cell_pointers(old, pgno)), set(cell_pointers(new, pgno))
    common = old_at & new_at
    # A new row is mostly stored below all others, which are unchanged.
    lowest = min(common, default=len(old))
    if old[lowest:] != new[lowest:]:
        bounds = sorted(old_at | new_at)
        bounds.append(len(old))
        for first in range(0, len(bounds) - 1, _TOGETHER):
            some = bounds[first : first + _TOGETHER + 1]
            if old[some[0] : some[-1]] != new[some[0] : some[-1]]:
                for start, end in pairwise(some):
                    if old[start:end] != new[start:end]:
                        common.discard(start)
    gone, come = old_at - common, new_at - common
    if len(gone) > _MOVED and len(come) > _MOVED:
        # SQLite has defragmented the page: most cells only moved.
        olds, news = _extents(old, old_at, gone), _extents(new, new_at, come)
        gone = {at for extent, at in olds.items() if extent not in news}
        come = {at for extent, at in news.items() if extent not in olds}
    return gone, come


def _extents(page: bytes, pointers: set[int], wanted: set[int]) -> dict[bytes, int]:
    """Offsets of cells by the bytes up to the next cell on the page. Where these are equal, so are the cells."""
    bounds = sorted(pointers)
    bounds.append(len(page))
    return {page[start:end]: start for start, end in pairwise(bounds) if start in wanted}
