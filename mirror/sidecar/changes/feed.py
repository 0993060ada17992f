"""The feed of one source: the last entries in memory, the log behind them, and a gap for what neither has.

Every reader has a mark, and asks what comes after it. The answer is contiguous: its first entry follows the reader's
mark, or is a copy, or a gap that ends where the next one begins; and each follows the one before it. A reader may be of
another history than Postgres now: the source was copied anew, and its positions count from the start; or Postgres was
put back. Then it comes before, at or after what is there by mere chance, and gets the copy, or a gap, in any case.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice, takewhile

from mirror.core.changes import Entry, Mark, gap
from mirror.core.positions import Lsn
from mirror.sidecar.changes.log import ChangeLog

#: Entries of one source that are kept in memory, and characters of their documents together.
MOST_ENTRIES, MOST_CHARACTERS = 1_000, 2_000_000


@dataclass(frozen=True, slots=True)
class Taken:
    """A mirror has taken a source: who writes, and where it was then."""

    source_id: int
    epoch: int
    database: str
    """Which Postgres, as ``mirror.change_feed`` has it."""
    number: int
    """Of the times that this process has taken the source."""


class SourceFeed:
    """The feed of one source; an :class:`~mirror.core.changes.Announcing`.

    Thread: :meth:`begins` and :meth:`put` are called by the source's, everything else by any.
    """

    def __init__(self, source: str, log: ChangeLog, *, logged: bool, ring: Callable[[SourceFeed], None]) -> None:
        """``source``: the absolute path. ``logged``: whether entries are in the log. ``ring``: called with news."""
        self.source = source
        self.logged = logged
        self.taken: Taken | None = None
        """None: no mirror has taken it yet in this process."""
        self._log = log
        self._ring = ring
        self._news = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._characters = 0
        self._mark: Mark | None = None

    def begins(self, source_id: int, epoch: int, database: str, mark: Mark | None) -> None:
        """See :class:`~mirror.core.changes.Announcing`."""
        with self._news:
            number = 1 if self.taken is None else self.taken.number + 1
            self.taken = Taken(source_id, epoch, database, number)
            if mark != self._mark:
                # Committed without us, or with an answer that was lost; or Postgres has lost it.
                self._entries.clear()
                self._characters = 0
                self._mark = mark
            self._news.notify_all()
        self._ring(self)

    def put(self, document: Entry) -> None:
        """See :class:`~mirror.core.changes.Announcing`."""
        with self._news:
            if self._mark is not None and document.lsn <= self._mark.lsn:
                self._entries.clear()  # a copy of another lineage, which counts from the start
                self._characters = 0
            self._entries.append(document)
            self._characters += len(document.text)
            self._mark = document.mark
            while len(self._entries) > MOST_ENTRIES or (self._characters > MOST_CHARACTERS and len(self._entries) > 1):
                self._characters -= len(self._entries.popleft().text)
            self._news.notify_all()
        self._ring(self)

    @property
    def position(self) -> Lsn | None:
        """What Postgres has; None: nothing, or not known yet."""
        return None if (mark := self._mark) is None else mark.lsn

    @property
    def mark(self) -> Mark | None:
        """:attr:`position` with its lineage."""
        return self._mark

    @property
    def begins_with_copy(self) -> bool:
        """Whether a whole copy was made by this process, and is in memory, with all that came since."""
        with self._news:
            return bool(self._entries) and self._entries[0].kind == "copy"

    def wait(self, mark: Mark | None, seconds: float) -> bool:
        """Wait until there is something for who is at a mark; whether there is."""
        with self._news:
            return self._news.wait_for(lambda: self._is_elsewhere(mark), seconds)

    def _is_elsewhere(self, mark: Mark | None) -> bool:
        here = self._mark
        return here is not None and (mark is None or mark.lsn != here.lsn or not mark.is_of(here.lineage))

    def waiting(self, position: Lsn | None) -> int:
        """How many of the entries in memory come after a position."""
        with self._news:
            return sum(1 for _ in self._after(position))

    def _after(self, position: Lsn | None) -> list[Entry]:
        last = takewhile(lambda entry: position is None or entry.lsn > position, reversed(self._entries))
        return list(last)[::-1]

    def read(self, mark: Mark | None, most: int = 100) -> list[Entry]:
        """What comes for who is at a mark (None: after nothing), at most so many entries; empty: nothing.

        Raises ``SinkError`` where the log cannot be read.
        """
        position = None if mark is None else mark.lsn
        with self._news:
            taken, end = self.taken, self._mark
            if taken is None or end is None or not self._is_elsewhere(mark):
                return []
            found = self._after(position)
            begun = list(self._entries) if self._entries and self._entries[0].kind == "copy" else []
        if found and found[0].follows(mark):
            return list(islice(found, most))
        if begun and position is not None and begun[0].lsn <= position:
            return begun[:most]  # it is of what was before this copy, from which positions count anew
        logged = self._log.read(taken.source_id, position, end.lsn, most) if self.logged else []
        if logged and logged[0].follows(mark):
            return _contiguous(logged)
        rest = _contiguous(logged or islice(found, most))
        known = end
        if rest:
            if rest[0].after is None:
                return rest
            known = Mark(rest[0].after, rest[0].lineage)
        if mark is None or (known.lsn > mark.lsn and mark.is_of(known.lineage)):
            why = "more was committed than the log keeps" if self.logged else "the mirror could not publish it in time"
            return [gap(self.source, position, known, why), *rest]
        # What is there continues another history: it was taken back and counted again.
        why = f"{mark} is no position of this feed, or one between two of them: the source may have been copied anew"
        return [gap(self.source, None, known, why), *rest]


def _contiguous(entries: Iterable[Entry]) -> list[Entry]:
    """The first ones, as far as each follows the one before: the log has holes where for a time there was none."""
    found: list[Entry] = []
    for entry in entries:
        if found and not entry.follows(found[-1].mark):
            break
        found.append(entry)
    return found
