"""No program may write to the SQLite file: its write lock is held."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from mirror.core.errors import SourceError
from mirror.core.faults import Faults, no_fault
from mirror.cutover import renaming
from mirror.reverse import abort
from mirror.reverse.opening import opened

T = TypeVar("T")

#: Seconds to wait for a program's transaction to end.
WAIT_SECONDS = 10.0


class Fence:
    """The file's write lock. It ends with :meth:`release`, or with this process."""

    def __init__(self, database: Path, seconds: float = WAIT_SECONDS) -> None:
        """Take it. Programs read on; one that writes gets SQLITE_BUSY after its own time to wait.

        Raises :class:`SourceError`, retryable if a program keeps the lock for more than ``seconds``.
        """
        self._database = database
        try:
            self._db, _ = opened(database, seconds)
            self._db.execute("PRAGMA synchronous=FULL; BEGIN IMMEDIATE")
        except apsw.Error as error:
            busy = isinstance(error, apsw.BusyError)
            raise SourceError(
                "fence the file",
                str(database),
                f"a program has had its write lock for {seconds:g} s" if busy else str(error),
                next_step="end that program's transaction, and try again",
                retryable=busy,
            ) from error
        self._released = False
        self.since = time.monotonic()

    def refuse(self) -> int:
        """Put triggers up that refuse what programs write, for good; returns on how many tables.

        The lock is released with that, so that there is no moment between. Raises :class:`SourceError`.
        """
        return self._change("refuse writes to the file", abort.put_up)

    def admit(self) -> None:
        """Take those triggers down, and release the lock. Raises :class:`SourceError`."""
        self._change("take writes to the file again", abort.take_down)

    def hide(self, faults: Faults = no_fault) -> Path:
        """Give the file its other name, which is returned; the lock is kept. Raises :class:`SourceError`."""
        return renaming.give_other(self._database, wal=self._in_wal_mode(), faults=faults)

    def show(self, faults: Faults = no_fault) -> None:
        """Give the file its own name back; the lock is kept. Raises :class:`SourceError`."""
        renaming.give_back(self._database, wal=self._in_wal_mode(), faults=faults)

    def _in_wal_mode(self) -> bool:
        return bool(self._db.pragma("journal_mode") == "wal")

    def _change(self, what: str, change: Callable[[apsw.Connection], T]) -> T:
        try:
            done = change(self._db)
            self._db.execute("COMMIT")
        except apsw.Error as error:
            raise SourceError(what, str(self._database), str(error)) from error
        return done

    def release(self) -> None:
        """Let programs write again. May be called twice."""
        if self._released:
            return
        self._released = True
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.close()
