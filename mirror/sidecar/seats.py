"""The sessions in Postgres that the sources of one mirror may have open at a time.

A source with nothing to do keeps its session as long as no other waits for one. Then the one that has rested longest
hands its right to write over (:mod:`mirror.postgres.keeper`), and closes its session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Sessions of sources. A server of one's own has 100 in most cases, for all programs.
MOST_SESSIONS = 20
#: Of them, those in which whole sources are copied, which may take hours.
MOST_COPIES = 12
#: Seconds for which a source that has always something to do keeps its session while others wait for one.
LONGEST_SECONDS = 0.25

Ring = Callable[[], None]


class Seats:
    """Thread: any, for each method. A source is known by the call that wakes its loop."""

    def __init__(self, most: int = MOST_SESSIONS, most_copies: int = MOST_COPIES) -> None:
        """``most``, ``most_copies``: sessions at a time, and of them those that copy a whole source."""
        self._most, self._most_copies = most, most_copies
        self._guard = threading.Lock()
        self._taken: dict[Ring, bool] = {}
        """Whether each copies a whole source."""
        self._waiting: dict[Ring, bool] = {}
        self._resting: dict[Ring, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether a source waits for a session."""
        return bool(self._waiting)

    def take(self, ring: Ring, *, copies: bool) -> bool:
        """Whether this source may have a session now; if not, it is rung when it should ask again."""
        with self._guard:
            if ring in self._taken:
                self._taken[ring] = copies
                return True
            self._waiting.setdefault(ring, copies)
            if self._first() is ring:
                del self._waiting[ring]
                self._taken[ring] = copies
                return True
            asked = next(iter(self._resting), None)
            if asked is not None:
                del self._resting[asked]
        if asked is not None:
            asked()
        return False

    def _first(self) -> Ring | None:
        """The source that gets the next session; None: there is none for any."""
        if len(self._taken) >= self._most:
            return None
        room = sum(self._taken.values()) < self._most_copies
        return next((ring for ring, copies in self._waiting.items() if room or not copies), None)

    def has_copied(self, ring: Ring) -> None:
        """It copies no more."""
        with self._guard:
            if self._taken.get(ring):
                self._taken[ring] = False
            following = self._first()
        if following is not None:
            following()

    def rests(self, ring: Ring) -> bool:
        """It has nothing to do; True if another waits for its session."""
        with self._guard:
            if ring in self._taken and not self._waiting:
                self._resting[ring] = None
            return bool(self._waiting)

    def works(self, ring: Ring) -> None:
        """It rests no more."""
        with self._guard:
            self._resting.pop(ring, None)

    def give(self, ring: Ring) -> None:
        """Its session is closed, or it does not want one any more."""
        with self._guard:
            self._resting.pop(ring, None)
            self._waiting.pop(ring, None)
            self._taken.pop(ring, None)
            following = self._first()
        if following is not None:
            following()
