"""The one SQLite connection to a source: it stays open, holds no transaction, and checkpoints nothing.

While it is open, no other connection is the last one, whose close would delete the WAL. It also reads
the database file for copies, through SQLite's own handle.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw

from mirror.errors import ReplacedError, SourceError

#: SQLite 3.7.0 to 3.51.2 can corrupt a database when a WAL reset meets another checkpoint.
_OLDEST = 3051003


class Keeper:
    """Keeps one source connected. Use it from one thread, and close it there."""

    def __init__(self, database: Path) -> None:
        """Connect; raises ``SourceError`` for a file that cannot be followed, saying why."""
        if _library_version() < _OLDEST:
            raise SourceError(
                "open the source",
                str(database),
                f"SQLite {apsw.sqlite_lib_version()} has the WAL-reset bug",
                next_step="install apsw 3.51.3 or newer",
            )
        if not database.is_file():
            raise SourceError("open the source", str(database), "no such file", next_step="check the path")
        try:
            self._connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
            self._database = database
            self._inode = database.stat().st_ino
            self._prepare(database)
        except apsw.Error as error:
            raise _explain(error, database) from error

    def _prepare(self, database: Path) -> None:
        connection = self._connection
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(2000)
        connection.execute("PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0")
        mode = connection.execute("PRAGMA journal_mode").get
        if mode != "wal":
            connection.close()
            raise SourceError(
                "open the source",
                str(database),
                f"it is in rollback-journal mode ({mode}), not in WAL mode",
                next_step="run: PRAGMA journal_mode=WAL",
            )
        # The first read opens the WAL and its index, creating them if need be.
        connection.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - reads the row

    def reader(self) -> Callable[[int, int], bytes]:
        """A function that reads ``(offset, amount)`` bytes of the database file (not of the WAL).

        It reads up to the size that the file has now: what is appended later comes from the WAL.
        Raises ``ReplacedError`` when another file stands at the source's path.
        """
        size = self._stat_size()

        def read(offset: int, amount: int) -> bytes:
            amount = min(amount, size - offset)
            if amount <= 0:
                self._stat_size()
                return b""
            try:
                return self._connection.read("main", 0, offset, amount)[1]
            except apsw.Error as error:
                raise SourceError(
                    "copy the source", f"{self._database}, offset {offset}", str(error), retryable=True
                ) from error

        return read

    def _stat_size(self) -> int:
        found = os.stat(self._database)  # opens no descriptor, so no lock can be lost
        if found.st_ino != self._inode:
            raise ReplacedError("copy the source", str(self._database), "another file was put at its path")
        return found.st_size

    def close(self) -> None:
        """Disconnect without a checkpoint; the WAL stays."""
        self._connection.close()


def _library_version() -> int:
    major, minor, patch = (int(part) for part in apsw.sqlite_lib_version().split(".")[:3])
    return major * 1_000_000 + minor * 1000 + patch


def _explain(error: apsw.Error, database: Path) -> SourceError:
    if isinstance(error, apsw.NotADBError):
        return SourceError(
            "open the source",
            str(database),
            "no SQLite database, or an encrypted one",
            next_step="check the path",
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return SourceError(
            "open the source",
            str(database),
            "it is locked: a program holds it in exclusive mode, or is just changing its journal mode",
            next_step="the mirror needs locking_mode=NORMAL",
            retryable=True,
        )
    return SourceError("open the source", str(database), str(error), next_step="check the file and its permissions")
