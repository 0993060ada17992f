"""When an answer of Postgres is proved to be not older than the newest commit of the source. Pure: no files, no clock.

A commit is named by the salts of its WAL and its frame there. Postgres has the position of the last applied commit in a
row that changes in the same transaction as the data, so the row that is read in an answer's snapshot says exactly what
the answer has. Where salts and frame are at least those that the WAL index showed when the read began, the answer
has that commit. Four things could make that wrong, and each has its condition:

* **Salts and frames come back with other content.** A power cut may shorten a WAL, and SQLite goes on with the same
  salts; a backup may bring old files back; an empty WAL has the salts 0, 0 each time. Postgres may then have a position
  of before. So nothing counts before the *floor*: the mirror was asked which generation the present files are in
  (``mark``), while it agreed with Postgres, and the files were the same before and after. Rows of earlier generations
  prove nothing, nor do rows of another lineage (a copy of its own, with numbers of its own). A power cut
  ends this process, too, and a new one begins without a floor.
* **The files change while this process runs.** Another database or index at the path, a frame or a number of commits
  that went back, salts that came back: each takes the floor away. (SQLite builds an index again where a program died
  while it wrote it.) The salts 0, 0 count only while the database file is untouched since the floor.
* **The WAL is reset between the beginning of the read and its answer.** Then the row has other salts. They count as
  later only if this process has seen them in the index *after* the read began. Generation numbers are not enough:
  after an index was built again the WAL of an earlier number may grow once more.
* **Postgres, or the mirror, is another one**: restored from a backup, copied again, taken over. The row's lineage or
  generation is then another; a later one is a state of the source that was applied later.

What has to be true besides: the process keeps a SQLite connection to the file open from before the floor, as the mirror
does, too. Then no program is the last one to close the file, and none can have it in exclusive mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from mirror.core.positions import Lsn, Salts
from mirror.core.published import Published
from mirror.storage.newest import NewestCommit
from mirror.storage.reads import Reason

_ZERO = Salts(0, 0)
_MASK = 0xFFFFFFFF
#: Salts that are remembered as seen. A WAL is reset every 10 ms at most.
_MOST_SALTS = 1000


class PositionRow(NamedTuple):
    """The position row of an answer, read in its snapshot from ``mirror.position`` or ``mirror.sources``."""

    generation: int
    frame: int
    salt1: int
    salt2: int
    lineage: str
    complete: bool = True
    """Whether Postgres has all rows of the source: it has rejected none."""
    sealed: bool = False
    """Whether the source was moved to Postgres: then Postgres has all there is. Only where that was asked."""

    @classmethod
    def of(cls, values: Sequence[Any] | None) -> PositionRow | None:
        """From what Postgres gave: the five values, with more behind them; None if there is no row, or no copy yet.

        ``lineage`` may be text or a ``UUID``; text (``lineage::text``) takes a microsecond less.
        """
        if values is None or values[0] is None:
            return None
        generation, frame, salt1, salt2, lineage = values[:5]
        return cls(generation, frame, salt1, salt2, lineage if type(lineage) is str else str(lineage))

    @property
    def lsn(self) -> Lsn:
        """Its place in the lineage."""
        return Lsn(self.generation, self.frame)


class Unasked(Enum):
    """In place of a position row: the operation asked the store nothing, so its answer has no age."""

    UNASKED = "unasked"


class Floor(NamedTuple):
    """What the mirror has said about the present files."""

    mirror: tuple[object, ...]
    """Which mirror, as :attr:`~mirror.core.published.Published.mirror` has it."""
    lineage: str
    generation: int
    """Rows of this generation, and of later ones, are about the present files."""
    salts: Salts | None
    """The salts of that moment; None: they changed in it."""
    stamp: tuple[int, int]


class Start(NamedTuple):
    """The beginning of a read."""

    newest: NewestCommit | None
    """The newest commit then; None: not known."""
    reason: Reason | None
    """Why Postgres cannot prove an answer to this read; None: it can."""
    floor: Floor | None = None
    era: int = 0
    order: int = 0
    """Of the salts among those seen."""
    published: Published | None = None
    """What was published then."""
    on_sqlite: int = 0
    """How often the session had used SQLite before."""


class Proofs:
    """What a process knows of one source. Thread: one at a time, except for :meth:`covers`."""

    def __init__(self) -> None:
        self.floor: Floor | None = None
        self._latest: NewestCommit | None = None
        self._era = 0
        """Grows when everything known is dropped."""
        self._order = 0
        self._seen: dict[Salts, int] = {}

    def look(self, newest: NewestCommit) -> None:
        """Note what the index says now. To be called with what is read, in the order in which it was read."""
        before = self._latest
        if newest is before:
            return
        if before is not None and self._is_another(before, newest):
            self.floor = None
            self._era += 1
            self._seen.clear()
        self._latest = newest
        if newest.salts not in self._seen:
            self._order += 1
            self._seen[newest.salts] = self._order
            if len(self._seen) > _MOST_SALTS:
                del self._seen[next(iter(self._seen))]

    def _is_another(self, before: NewestCommit, newest: NewestCommit) -> bool:
        """Whether it may be that what is known does not hold for this state."""
        if newest.files != before.files or (newest.changes - before.changes) & _MASK > _MASK >> 1:
            return True
        if newest.salts == before.salts:
            back = newest.frame < before.frame
        else:
            back = newest.salts in self._seen
        floor = self.floor
        return back or (
            newest.salts == _ZERO and floor is not None and (floor.salts != _ZERO or floor.stamp != newest.stamp)
        )

    def begin(self, newest: NewestCommit, published: Published | None = None) -> Start:
        """A read begins, with the newest commit that the index shows now, and what was published after it was read."""
        self.look(newest)
        floor = self.floor
        if floor is not None and published is not None and published.generation > floor.generation:
            # A generation before this one with the same salts was left for a reason, and its rows may be anything.
            same = (published.salt1, published.salt2) == newest.salts
            self.floor = floor = floor._replace(generation=published.generation) if same else floor
        reason = Reason.UNPROVED if floor is None else None
        return Start(newest, reason, floor, self._era, self._seen[newest.salts], published)

    def confirm(self, asked: Start, now: NewestCommit, mark: Lsn, lineage: str, mirror: tuple[object, ...]) -> bool:
        """The mirror has answered: all that was committed at one moment is at ``mark``.

        ``asked``: the state before the question. ``now``: after the answer. ``mirror``, ``lineage``: as published
        before and after it, the same. Returns False if the files changed in between, so that it has to be asked again.
        """
        self.look(now)
        before = asked.newest
        if asked.era != self._era or before is None:
            return False
        same = before.salts == now.salts and before.stamp == now.stamp
        if not same and _ZERO in (before.salts, now.salts):
            return False
        salts = before.salts if before.salts == now.salts else None
        self.floor = Floor(mirror, lineage, mark.generation, salts, now.stamp)
        return True

    def is_at(self, start: Start, row: PositionRow) -> bool:
        """Whether a state with this position is exactly the newest commit of when the read began.

        To be asked after another :meth:`look`: what has been dropped since proves nothing.
        """
        floor, newest = self.floor, start.newest
        if floor is None or start.floor is None or newest is None or start.era != self._era:
            return False
        same_copy = row.generation >= floor.generation and row.lineage == floor.lineage == start.floor.lineage
        return same_copy and (row.salt1, row.salt2) == newest.salts and row.frame == newest.frame

    def covers(self, start: Start, row: PositionRow) -> bool:
        """Whether a state with this position has all that was committed when the read began.

        Where it has other salts than the index had then, it can be shown only after another :meth:`look`.
        """
        floor, newest = start.floor, start.newest
        if floor is None or newest is None or row.generation < floor.generation or row.lineage != floor.lineage:
            return False
        salts = row.salt1, row.salt2
        if salts == newest.salts:
            return row.frame >= newest.frame
        order = self._seen.get(Salts(*salts))
        return order is not None and order > start.order and start.era == self._era
