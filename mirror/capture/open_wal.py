"""The open WAL of one database, and its index.

Used in a process that holds no SQLite connection (hazard 17, mirror/HAZARDS.md).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from mirror.core.errors import FormatError, SourceError
from mirror.core.positions import Salts
from mirror.sqlite.format.wal import WAL_HEADER_SIZE, WalHeader
from mirror.sqlite.format.walindex import BOTH_COPIES, INDEX_HEADER_SIZE, SALTS, SECOND_SALTS

_SALTS = struct.Struct(">II")


class OpenWal:
    """The two files. Thread: one."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.wal = -1
        """Descriptor of the WAL; -1: not open."""
        # Read at each look (0.4 us) instead of mapped (0.06 us): if a program cuts a mapped file, SIGBUS ends us.
        self.shm = -1
        """That of its index."""

    def open(self) -> tuple[int, int]:
        """Open them; their inodes. Raises ``OSError``; then one may be open."""
        self.wal = os.open(f"{self._database}-wal", os.O_RDONLY | os.O_NONBLOCK)  # never waits, even at a FIFO
        self.shm = os.open(f"{self._database}-shm", os.O_RDONLY | os.O_NONBLOCK)
        return os.fstat(self.wal).st_ino, os.fstat(self.shm).st_ino

    def close(self) -> None:
        """Close what is open."""
        for descriptor in (self.shm, self.wal):
            if descriptor >= 0:
                os.close(descriptor)
        self.shm = self.wal = -1

    def index(self) -> bytes:
        """Both copies of the index' header; raises ``SourceError`` when not open, ``OSError``."""
        if self.shm < 0:
            raise SourceError("follow the WAL", str(self._database), "not attached")
        return os.pread(self.shm, BOTH_COPIES, 0)

    def differs_from(self, index: bytes) -> bool:
        """Whether more was committed, or the WAL was reset, since :meth:`index` read that. Raises ``OSError``.

        A writer stores the first copy last: while that one is the same, nothing new is to be seen.
        """
        return os.pread(self.shm, INDEX_HEADER_SIZE, 0) != index[:INDEX_HEADER_SIZE]

    def is_still(self, salts: Salts) -> bool:
        """Whether the index still shows these salts, so that what was read just now is whole."""
        index = self.index()
        expected = _SALTS.pack(*salts)
        return index[SALTS] == expected and index[SECOND_SALTS] == expected

    def header(self, salts: Salts) -> WalHeader | None:
        """The WAL's header; None if the index has other salts than these by now.

        Raises ``FormatError`` where it is damaged, ``SourceError`` where it has other salts, ``OSError``.
        """
        data = os.pread(self.wal, WAL_HEADER_SIZE, 0)
        if not self.is_still(salts):
            return None
        try:
            wal = WalHeader.parse(data)
        except FormatError as error:
            error.place = f"{self._database}-wal"
            error.retryable = True
            raise
        if wal.salts != salts:
            raise SourceError(
                "read the WAL",
                f"{self._database}-wal",
                f"header has salts {wal.salts}, index {salts}",
                retryable=True,
            )
        return wal
