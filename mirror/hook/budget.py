"""What the hooks may cost the program: a small part of its time, whatever it does.

Telling of a commit takes some microseconds, which is nothing beside a commit that waits for its disk, and half of one
that does not. So there is a budget of time that fills up as time passes; who has used it up tells of nothing for a
while. Then the WAL alone tells of those commits, as it does of all; in between, bursts are told of and checked.
"""

from __future__ import annotations

import time

#: The part of the time that may be used, and what may be saved up, in seconds.
SHARE, BURST = 0.04, 0.02
#: What telling costs, measured on one core of a server of 2023: a commit, and each of its rows.
COMMIT_SECONDS, ROW_SECONDS = 6e-6, 1.5e-6


class Budget:
    """The budget of one process. Threads may use it at once; that it is then a little wrong does no harm."""

    def __init__(self) -> None:
        self._left = BURST
        self._at = time.monotonic()

    def spend(self, rows: int) -> float:
        """A commit of so many rows was told of; returns for how many seconds none may be, 0 if the next one may."""
        now = time.monotonic()
        left = min(BURST, self._left + SHARE * (now - self._at)) - COMMIT_SECONDS - rows * ROW_SECONDS
        self._left, self._at = left, now
        return (BURST - left) / SHARE if left < 0 else 0.0
