"""The sources that nobody writes: they get no turn until something tells that one is written again.

What tells it at once is an event of its files (:mod:`mirror.capture.file_events`): a commit is written to the WAL, or
to the database file, before it is to be seen. Nothing depends on that. Every two seconds each source is also looked at,
by the cheapest look that shows every change that a turn would notice: the stamps of its files, and the WAL index. A
source whose files cannot be watched does not rest.
"""

from __future__ import annotations

from itertools import islice
from typing import Generic, Protocol, TypeVar

from mirror.capture.file_events import FileEvents

#: Seconds in which each source is looked at once, and in at most how many parts: so no look of many holds
#: up those that are written.
ROUND_SECONDS, ROUND_PARTS = 2.0, 10


class Sleeper(Protocol):
    """What can rest."""

    def watched(self) -> list[int]:
        """The descriptors of the files of which at least one is written before a commit is to be seen."""

    def lie_down(self) -> bool:
        """Begin to rest; False if it cannot. Called when its files are watched."""

    def is_still(self) -> bool:
        """Whether nothing has changed since it began to rest."""

    def wake(self) -> None:
        """Rest no more."""


S = TypeVar("S", bound=Sleeper)


class Resting(Generic[S]):
    """Those of one process. Thread: one."""

    def __init__(self) -> None:
        self.events = FileEvents()
        self._watches: dict[int, S] = {}
        self._sleepers: dict[S, list[int]] = {}
        self._round: dict[S, None] = {}
        """The sleepers; the first was looked at longest ago."""
        self._next_part = 0.0

    def __len__(self) -> int:
        return len(self._sleepers)

    def lay_down(self, sleeper: S) -> bool:
        """Have one rest, if it can."""
        watches = []
        # First of all: what happens from now on is told by an event, or seen by its first look.
        for descriptor in sleeper.watched():
            if (watch := self.events.watch(descriptor)) is not None:
                self._watches[watch] = sleeper
                watches.append(watch)
        if len(watches) == len(sleeper.watched()) and sleeper.lie_down():
            self._sleepers[sleeper] = watches
            self._round[sleeper] = None
            return True
        self._forget(watches)
        return False

    def rouse(self, sleeper: S) -> bool:
        """Have one rest no more; False if it did not."""
        watches = self._sleepers.pop(sleeper, None)
        if watches is None:
            return False
        del self._round[sleeper]
        self._forget(watches)
        sleeper.wake()
        return True

    def _forget(self, watches: list[int]) -> None:
        for watch in watches:
            self.events.forget(watch)
            self._watches.pop(watch, None)

    def take_events(self) -> list[S]:
        """Rouse those of which there were events, and return them."""
        found = {sleeper for watch in self.events.read() if (sleeper := self._watches.get(watch)) is not None}
        return [sleeper for sleeper in found if self.rouse(sleeper)]

    def seconds(self, now: float) -> float | None:
        """Until :meth:`look` is due; None: nobody rests."""
        return max(0.0, self._next_part - now) if self._sleepers else None

    def look(self, now: float) -> list[S]:
        """Look at some of them, if that is due; rouse those of which something has changed, and return them."""
        if not self._sleepers or now < self._next_part:
            return []
        parts = min(ROUND_PARTS, len(self._round))
        self._next_part = now + ROUND_SECONDS / parts
        found = []
        for sleeper in list(islice(self._round, -(-len(self._round) // parts))):
            if sleeper.is_still():
                del self._round[sleeper]
                self._round[sleeper] = None
            else:
                self.rouse(sleeper)
                found.append(sleeper)
        return found
