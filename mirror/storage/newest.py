"""The newest commit of a SQLite file, from its WAL index (``-shm``), in a microsecond and without a lock.

A process that reads like this may also have SQLite connections to the same file. Closing any descriptor on the index
would drop the locks of all of them, and with that another process could delete a WAL that is in use (hazard 17,
mirror/HAZARDS.md). So an index is opened once for each file (device and inode number) in a process, and **never
closed**. That leaks a descriptor for each index that takes another's place. It happens only when the last program
closes the database; a process that keeps a connection of its own open never sees it. After :data:`MOST_INDEXES` files
no other is opened, and the newest commit is then not known.

The open descriptor also keeps the inode number from being used again, so the number names this very file.

Not answered: anything about a database without a WAL, and one in exclusive locking mode, which has no index.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from mirror.core.positions import Salts
from mirror.sqlite.format.walindex import BOTH_COPIES, WalIndexHeader
from mirror.storage.forks import Lock
from mirror.storage.reads import Reason

#: The most indexes that a process opens.
MOST_INDEXES = 256
#: Seconds for which an index may be between two states: a program writes both copies within a microsecond, unless it
#: is stopped in between.
SETTLE_SECONDS = 0.002

#: Device and inode number of an index.
File = tuple[int, int]

_guard = Lock()
_opened: dict[File, int] = {}
_spare: list[int] = []
"""Descriptors that were opened on a file that has one already. Never closed either."""


class NewestCommit(NamedTuple):
    """What the index said is committed, at one moment."""

    files: tuple[int, int, int, int]
    """Device and inode number of the database at its path, and of its index."""
    stamp: tuple[int, int]
    """Time (ns) of the last change of the database file, and its size: the same while nothing is checkpointed."""
    salts: Salts
    frame: int
    """The last committed frame of the WAL with these salts; 0: none yet."""
    changes: int
    """Commits since the index was built, modulo 2**32."""


class WalIndex:
    """The index of one database. Thread: one at a time."""

    def __init__(self, database: Path) -> None:
        """``database``: its absolute path, links followed. Nothing is opened yet."""
        self._database, self._path = str(database), f"{database}-shm"
        self._file: File | None = None
        self._descriptor = -1
        self._data = b""
        self._newest: NewestCommit | None = None

    def newest(self) -> NewestCommit | Reason:
        """The newest commit, or why it is not known: ``NO_INDEX``, ``UNREADABLE`` or ``UNSETTLED``.

        Equal commits are one object. It takes at most :data:`SETTLE_SECONDS`, and some microseconds as a rule.
        """
        try:
            database, index = os.stat(self._database), os.stat(self._path)
            file = index.st_dev, index.st_ino
            if file != self._file:
                if (descriptor := _open(self._path, file)) is None:
                    return Reason.UNREADABLE
                self._file, self._descriptor, self._data = file, descriptor, b""
            data = os.pread(self._descriptor, BOTH_COPIES, 0)
        except (FileNotFoundError, NotADirectoryError):
            return Reason.NO_INDEX
        except OSError:
            return Reason.UNREADABLE
        files = database.st_dev, database.st_ino, *file
        stamp = database.st_mtime_ns, database.st_size
        newest = self._newest
        if newest is not None and data == self._data and newest.files == files and newest.stamp == stamp:
            return newest
        header = WalIndexHeader.parse(data)
        if header is None:
            deadline = time.monotonic() + SETTLE_SECONDS
            while (header := WalIndexHeader.parse(data)) is None:
                if time.monotonic() > deadline:
                    return Reason.UNSETTLED
                data = os.pread(self._descriptor, BOTH_COPIES, 0)
        self._data = data
        self._newest = newest = NewestCommit(files, stamp, header.salts, header.last_frame, header.changes)
        return newest


def _open(path: str, file: File) -> int | None:
    """The descriptor of this process on an index; None if the file at its path is another one by now, or no more may be
    opened. Raises ``OSError``.
    """
    with _guard:
        if (known := _opened.get(file)) is not None:
            return known
        if len(_opened) + len(_spare) >= MOST_INDEXES:
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(descriptor)
        opened = found.st_dev, found.st_ino
        if opened in _opened:
            _spare.append(descriptor)
        else:
            _opened[opened] = descriptor
        return _opened[opened] if opened == file else None
