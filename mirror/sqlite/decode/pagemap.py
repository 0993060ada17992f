"""The page map: which b-tree each page of the source belongs to, with the kinds of SQLite's own pointer map.

One entry a page, kept beside the shadow's images:

==============  ==================================  ===========================================
kind            reference                           pages
==============  ==================================  ===========================================
NONE            --                                  indexes, freelist, all that is not mirrored
TREE            root page of the table's b-tree     its interior and leaf pages, root included
OVERFLOW_FIRST  the b-tree page with the cell       first page of an overflow chain
OVERFLOW_MORE   the overflow page before            the rest of the chain
==============  ==================================  ===========================================

A page that no table can reach any more may keep a stale OVERFLOW entry: following it ends at a
page, where cells are then compared and found equal. A stale TREE entry cannot stay: the page that
referred to it was logged, and comparing its children clears it.
"""

from __future__ import annotations

from array import array

NONE, TREE, OVERFLOW_FIRST, OVERFLOW_MORE = 0, 1, 2, 3


#: Of the pages on the way along an overflow chain, every so many-th is noted.
_NOTED = 256

#: The owner of an overflow chain: the b-tree page with the cell, and the chain's first page.
Owner = tuple[int, int]


class PageMap:
    """Kind and reference of each page; 5 bytes a page."""

    __slots__ = ("kinds", "refs")

    def __init__(self, pages: int = 0) -> None:
        self.kinds = bytearray(pages + 1)
        self.refs = array("I", bytes(4 * (pages + 1)))

    def __len__(self) -> int:
        return len(self.kinds) - 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PageMap) and self.kinds == other.kinds and self.refs == other.refs

    __hash__ = None  # type: ignore[assignment]

    def get(self, pgno: int) -> tuple[int, int]:
        """``(kind, reference)`` of a page; NONE for a page after the end."""
        if pgno >= len(self.kinds):
            return NONE, 0
        return self.kinds[pgno], self.refs[pgno]

    def roots(self) -> set[int]:
        """The root pages of the trees in it."""
        kinds = self.kinds
        return {pgno for pgno, ref in enumerate(self.refs) if ref == pgno and kinds[pgno] == TREE}

    def set(self, pgno: int, kind: int, ref: int) -> None:
        """Record what a page is; the map grows as needed."""
        if pgno >= len(self.kinds):
            more = pgno + 1 - len(self.kinds)
            self.kinds.extend(bytes(more))
            self.refs.frombytes(bytes(4 * more))
        self.kinds[pgno] = kind
        self.refs[pgno] = ref

    def clear(self, pgno: int) -> None:
        """Forget a page."""
        if pgno < len(self.kinds):
            self.kinds[pgno] = NONE
            self.refs[pgno] = 0

    def chain_owner(self, pgno: int, known: dict[int, Owner | None] | None = None) -> Owner | None:
        """For an overflow page: ``(b-tree page, first page of its chain)``; None if stale.

        ``known``: owners found before; those of the page and of some on the way are added: of a long chain so few that
        ``known`` stays small, and so many that each walk along it is short.
        """
        known = {} if known is None else known
        passed = []
        owner = None
        for _ in range(len(self.kinds)):
            if pgno in known:
                owner = known[pgno]
                break
            kind, ref = self.get(pgno)
            if kind == OVERFLOW_FIRST:
                owner = ref, pgno
            if kind != OVERFLOW_MORE:
                break
            passed.append(pgno)
            pgno = ref
        known.update(dict.fromkeys(passed[::_NOTED], owner))
        return owner

    def copy(self) -> PageMap:
        """An independent copy."""
        other = PageMap()
        other.kinds = bytearray(self.kinds)
        other.refs = array("I", self.refs)
        return other

    def to_bytes(self) -> bytes:
        """The map as bytes for :meth:`from_bytes` on the same kind of machine."""
        return bytes(self.kinds) + self.refs.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> PageMap:
        """The inverse of :meth:`to_bytes`; raises ``ValueError`` for a length that cannot be."""
        if len(data) % 5:
            raise ValueError(f"a page map of {len(data)} bytes")
        count = len(data) // 5
        self = cls()
        self.kinds = bytearray(data[:count])
        self.refs = array("I")
        self.refs.frombytes(data[count:])
        return self


class MapUpdate:
    """Changes to a :class:`PageMap`, collected while decoding and made after Postgres committed."""

    __slots__ = ("_cleared", "_set")

    def __init__(self) -> None:
        self._cleared = array("I")
        self._set = array("I")

    def clear(self, pgno: int) -> None:
        """The page is not reachable any more (unless it is set in the same update)."""
        self._cleared.append(pgno)

    def set(self, pgno: int, kind: int, ref: int) -> None:
        """The page now has this kind and reference."""
        self._set.extend((pgno, kind, ref))

    def set_chain(self, chain: list[int], owner: int) -> None:
        """The pages of an overflow chain that a cell on page ``owner`` begins."""
        kind, ref = OVERFLOW_FIRST, owner
        for pgno in chain:
            self.set(pgno, kind, ref)
            kind, ref = OVERFLOW_MORE, pgno

    def clear_chain(self, chain: list[int]) -> None:
        """The chain's pages are not reachable any more."""
        self._cleared.extend(chain)

    def apply(self, pagemap: PageMap) -> None:
        """Make the changes: everything cleared first, then everything set."""
        for pgno in self._cleared:
            pagemap.clear(pgno)
        values = self._set
        for index in range(0, len(values), 3):
            pagemap.set(values[index], values[index + 1], values[index + 2])
