"""Whether a spool has room for more: beyond a limit, capture waits until half of it is pruned."""

from __future__ import annotations

import time

from mirror.capture.spool import SpoolWriter

#: Seconds between two tests of whether a full spool has room again.
ROOM_INTERVAL = 0.1


class Room:
    """The room in one spool. A transaction that has begun is spooled to its end: a part of it cannot be applied, so
    waiting would make no room.
    """

    def __init__(self, spool: SpoolWriter, limit: int) -> None:
        """``limit``: of the spool, in bytes."""
        self.limit = limit
        self.open = spool.size
        """Bytes spooled since the last commit; after a restart that is not known."""
        self.awaited = False
        """The mirror cannot go on, and so make room, before all that is committed now is spooled."""
        self._spool = spool
        self._over = False
        self._next_measure = 0.0

    def is_over(self) -> bool:
        """Whether the spool is beyond the limit."""
        if self._spool.size <= self.limit:
            self._over = False
        elif not self._over or time.monotonic() >= self._next_measure:
            self._measure()
            self._over = self._spool.size > self.limit
        return self._over

    def is_again(self) -> bool:
        """Whether a spool that was full may be filled again."""
        if self.awaited:
            return True
        if self._spool.size - self.open > self.limit // 2 and time.monotonic() >= self._next_measure:
            self._measure()
        return self._spool.size - self.open <= self.limit // 2

    def _measure(self) -> None:
        self._spool.measure()
        self._next_measure = time.monotonic() + ROOM_INTERVAL
