"""The connection to the source that a process keeps, which :class:`~mirror.storage.freshness.Freshness` asks for.

It is of the standard :mod:`sqlite3`, as the program's own are: two SQLite libraries in one process break each other's
locks (hazard 17, mirror/HAZARDS.md), and so does any descriptor on the file that is opened and closed past SQLite. It
reads the schema once, and changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from mirror.core.errors import SourceError
from mirror.storage.forks import Lock, whole
from mirror.storage.on_sqlite.drivers import Connection, hold

#: Connections of parent processes: kept, because SQLite's must be neither used nor closed in a child.
_OF_PARENTS: list[Connection] = []


class Held:
    """The connection that this process keeps to the file. Thread: any."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._guard = Lock()
        self._pid = os.getpid()
        self._connection: Connection | None = None
        self._file: tuple[int, int] | None = None

    def open(self) -> None:
        """Connect, unless that was done in this process to the file that is there now. Raises ``SourceError``."""
        with whole, self._guard:
            if self._pid != os.getpid() and self._connection is not None:
                _OF_PARENTS.append(self._connection)
                self._connection = None
            self._pid = os.getpid()
            file = self._found()
            if self._connection is not None and self._file == file:
                return
            made = hold(self._database)
            if self._found() != file:
                made.close()
                raise SourceError(
                    "open the source", str(self._database), "the file was replaced meanwhile", retryable=True
                )
            before, self._connection, self._file = self._connection, made, file
            if before is not None:
                before.close()

    def close(self) -> None:
        """Close it; :meth:`open` makes another one."""
        with whole, self._guard:
            connection, self._connection = self._connection, None
            if connection is not None and self._pid == os.getpid():
                connection.close()
            elif connection is not None:
                _OF_PARENTS.append(connection)

    def _found(self) -> tuple[int, int]:
        try:
            found = os.stat(self._database)
        except OSError as error:
            detail = error.strerror or str(error)
            raise SourceError("open the source", str(self._database), detail, retryable=True) from error
        return found.st_dev, found.st_ino
