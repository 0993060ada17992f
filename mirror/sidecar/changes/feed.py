"""The feed of one source: the last entries in memory, the log behind them, and a gap for what neither has.

Every reader has a position, and asks what comes after it. The answer is contiguous: its first entry follows the
reader's position, or is a gap that ends where the next one begins.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, takewhile

from mirror.core.changes import Entry, gap
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
        self._position: Lsn | None = None

    def begins(self, source_id: int, epoch: int, database: str, position: Lsn | None) -> None:
        """See :class:`~mirror.core.changes.Announcing`."""
        with self._news:
            number = 1 if self.taken is None else self.taken.number + 1
            self.taken = Taken(source_id, epoch, database, number)
            if position != self._position:
                # Committed without us, or with an answer that was lost; or Postgres has lost it.
                self._entries.clear()
                self._characters = 0
                self._position = position
            self._news.notify_all()
        self._ring(self)

    def put(self, document: Entry) -> None:
        """See :class:`~mirror.core.changes.Announcing`."""
        with self._news:
            if self._position is not None and document.lsn <= self._position:
                self._entries.clear()  # a copy of another lineage, which counts from the start
                self._characters = 0
            self._entries.append(document)
            self._characters += len(document.text)
            self._position = document.lsn
            while len(self._entries) > MOST_ENTRIES or (self._characters > MOST_CHARACTERS and len(self._entries) > 1):
                self._characters -= len(self._entries.popleft().text)
            self._news.notify_all()
        self._ring(self)

    @property
    def position(self) -> Lsn | None:
        """What Postgres has; None: nothing, or not known yet."""
        return self._position

    def wait(self, position: Lsn | None, seconds: float) -> bool:
        """Wait until there is something after a position; whether there is."""
        with self._news:
            return self._news.wait_for(lambda: self._is_before(position), seconds)

    def _is_before(self, position: Lsn | None) -> bool:
        return self._position is not None and (position is None or position < self._position)

    def waiting(self, position: Lsn | None) -> int:
        """How many of the entries in memory come after a position."""
        with self._news:
            return sum(1 for _ in self._after(position))

    def _after(self, position: Lsn | None) -> list[Entry]:
        last = takewhile(lambda entry: position is None or entry.lsn > position, reversed(self._entries))
        return list(last)[::-1]

    def read(self, position: Lsn | None, most: int = 100) -> list[Entry]:
        """What comes after a position (None: after nothing), at most so many entries; empty: nothing.

        Raises ``SinkError`` where the log cannot be read.
        """
        with self._news:
            taken, end = self.taken, self._position
            if taken is None or end is None or not self._is_before(position):
                return []
            found = self._after(position)
        if found and found[0].follows(position):
            return list(islice(found, most))
        logged = self._log.read(taken.source_id, position, end, most) if self.logged else []
        if logged and logged[0].follows(position):
            return logged
        rest = logged or list(islice(found, most))
        known = rest[0].after if rest else end
        if known is None or (position is not None and known <= position):
            # What is there continues another history: it was taken back and counted again.
            return rest
        why = "more was committed than the log keeps" if self.logged else "the mirror could not publish it in time"
        return [gap(self.source, position, known, why), *rest]
