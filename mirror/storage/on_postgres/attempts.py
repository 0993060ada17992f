"""What a pool of connections knows of its attempts to connect, and the error where it has no connection to give.

A read that SQLite can answer, too, waits for a connection for some milliseconds alone. That none is free so soon says
nothing of Postgres, as in a burst of reads at the start of a program: each connection takes some milliseconds to make.
It counts as failed only where an attempt to connect has failed, or does not end.
"""

from __future__ import annotations

import time

from mirror.core.errors import BusyError, MirrorError, SinkError

#: Seconds to wait for a connection.
CONNECT_SECONDS = 5.0
#: Seconds that an attempt to connect may last before it counts as one that failed.
HANGING_SECONDS = 2.0


class Attempts:
    """Of one pool. Thread: any."""

    def __init__(self) -> None:
        self.problem: MirrorError | None = None
        """Why the last connection could not be made; None: none has failed since one was made."""
        self._since: float | None = None

    def begins(self) -> None:
        """Note that an attempt begins."""
        if self._since is None:
            self._since = time.monotonic()

    def failed(self, problem: MirrorError) -> None:
        """Note why one failed."""
        self.problem = problem

    def reached(self) -> None:
        """Note that Postgres let one in; whether the connection is of use is not known yet."""
        self.problem = None

    def made(self) -> None:
        """Note that a connection is there."""
        self.problem = self._since = None

    def no_connection(self, operation: str, patience: float | None, in_use: int) -> SinkError:
        """The error for a pool that has no connection to give.

        ``patience``: seconds that were waited; None: as long as usual. ``in_use``: connections that are in use.
        """
        seconds = CONNECT_SECONDS if patience is None else patience
        hangs = self._since is not None and time.monotonic() - self._since >= HANGING_SECONDS
        if self.problem is None and in_use:
            return BusyError(
                operation,
                detail=f"all connections to Postgres ({in_use}) were in use for {seconds:g} s",
                next_step="raise storage.postgres.maxConnections, or try again",
            )
        if self.problem is None and not hangs:
            return BusyError(
                operation,
                detail=f"no connection to Postgres was ready within {seconds:g} s; they are being made",
                next_step="try again",
            )
        return SinkError(
            operation,
            detail=f"no connection to Postgres within {seconds:g} s"
            + (f": {self.problem}" if self.problem is not None else ""),
            next_step="check that Postgres is up, and the DSN" if self.problem is None else "",
            retryable=True,
        )
