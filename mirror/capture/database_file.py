"""The database file of a source in WAL mode: whether it still begins as a database does.

While a program writes, all that is committed comes through the WAL, so a file that was overwritten in place (by a
wrong redirection, or a copy to the wrong name) would not be noticed by following the WAL alone: the programs that have
it open go on with the pages that they keep in memory. A checkpoint writes page 1 as a whole, and the bytes tested here
have the same values in each version of it, so a read beside a checkpoint never sees anything else.

Used in a process that holds no SQLite connection (hazard 17, mirror/HAZARDS.md): its descriptor is closed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from mirror.core.errors import ReplacedError, SourceError, overwritten
from mirror.sqlite.format.header import KNOWN_BY, require_database

#: Seconds for which a file that was put right must stand still: it may be just copied. After the second number it is
#: compared in any case, because checkpoints change it, too.
STILL_SECONDS, LONGEST_SECONDS = 1.0, 10.0


class DatabaseFile:
    """The open file of one database."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._descriptor = -1
        self._damaged = False
        self._right_since: float | None = None
        """When (monotonic) a damaged file was first seen to be a database again."""
        self._still: tuple[float, tuple[int, int]] = 0.0, (0, 0)
        """Since when (monotonic) it has this size and mtime."""

    def open(self) -> int:
        """Open it; returns its inode number. Raises ``OSError``."""
        self._descriptor = os.open(self._database, os.O_RDONLY | os.O_NONBLOCK)
        return os.fstat(self._descriptor).st_ino

    @property
    def descriptor(self) -> int:
        """While it is open; else -1."""
        return self._descriptor

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._damaged, self._right_since = -1, False, None

    def check(self) -> None:
        """Test whether it begins as a database does, and one that SQLite can read.

        Raises ``SourceError`` while it does not, and ``ReplacedError`` when it does again: only a comparison of pages
        shows what was put back.
        """
        try:
            require_database(os.pread(self._descriptor, KNOWN_BY, 0), str(self._database))
        except SourceError:
            self._damaged, self._right_since = True, None
            raise
        if not self._damaged:
            return
        if not self._stands_still(time.monotonic()):
            raise overwritten(self._database)
        raise ReplacedError("follow the source", str(self._database), "the database file was overwritten and put back")

    def _stands_still(self, now: float) -> bool:
        stat = os.fstat(self._descriptor)
        seen = stat.st_size, stat.st_mtime_ns
        if self._right_since is None:
            self._right_since = now
            self._still = now, seen
        elif seen != self._still[1]:
            self._still = now, seen
        return now - self._still[0] > STILL_SECONDS or now - self._right_since > LONGEST_SECONDS
