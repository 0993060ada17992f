"""How long capture waits for more where commits come in a stream.

Each transaction in Postgres, each record in the spool and each message between the processes costs about as much for
one commit as for several. So once commits come faster than one in :data:`LINGER_SECONDS`, the source is not looked at
for so long after each time that some were taken, and what has come by then is taken together. A commit by itself, and
the first ones of a stream, are taken at once.

Where the WAL is reset again and again within some milliseconds, nothing waits: capture must see each of its
generations (:mod:`mirror.capture.wal_follower`).
"""

from __future__ import annotations

#: Measured on two cores at 1,000 commits/s: scripts/bench/README.md, "What a commit costs".
LINGER_SECONDS = 0.003
#: Seconds without a reset of the WAL before a wait.
STEADY_SECONDS = 5 * LINGER_SECONDS


class Stream:
    """The commits of one source, as they are taken. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.waits_until = 0.0
        """Until then the source need not be looked at."""
        self._taken_at = self._reset_at = 0.0

    def takes(self, commits: int, now: float, *, reset: bool) -> None:
        """So many were taken just now; ``reset``: the WAL was reset since the last time."""
        if reset:
            self._reset_at = now
        dense = commits * LINGER_SECONDS > now - self._taken_at
        self._taken_at = now
        self.waits_until = now + LINGER_SECONDS if dense and now > self._reset_at + STEADY_SECONDS else 0.0

    def ends(self) -> None:
        """Somebody may wait for what is committed by now."""
        self.waits_until = 0.0
