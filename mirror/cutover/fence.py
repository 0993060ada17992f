"""No program may write to the SQLite file: its write lock is held."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from mirror.core.errors import SourceError

#: Seconds to wait for a program's transaction to end.
WAIT_SECONDS = 10.0


class Fence:
    """The file's write lock. It ends with :meth:`release`, or with this process."""

    def __init__(self, database: Path, seconds: float = WAIT_SECONDS) -> None:
        """Take it. Programs read on; one that writes gets SQLITE_BUSY after its own time to wait.

        Raises :class:`SourceError`, retryable if a program keeps the lock for more than ``seconds``.
        """
        try:
            self._db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._db.set_busy_timeout(int(1000 * seconds))
            self._db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            busy = isinstance(error, apsw.BusyError)
            raise SourceError(
                "fence the file",
                str(database),
                f"a program has had its write lock for {seconds:g} s" if busy else str(error),
                next_step="end that program's transaction, and try again",
                retryable=busy,
            ) from error
        self.since = time.monotonic()

    def release(self) -> None:
        """Let programs write again. May be called twice."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.close()
