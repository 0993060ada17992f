"""Which commit does a read view show? The header of the wal-index (``-shm``) knows.

Layout, native byte order unless noted; two copies of 48 bytes back to back, then the checkpoint
block, which is of no interest here:

====== ==== ==========================================================
offset size field
====== ==== ==========================================================
0      4    iVersion, 3007000
4      4    unused
8      4    iChange, goes up with every commit
12     1    isInit, 1 once the index is valid
13     1    bigEndCksum
14     2    szPage
16     4    mxFrame, last committed frame; 0: none in this generation
20     4    nPage
24     8    aFrameCksum
32     8    aSalt, copied from the WAL header: big-endian
40     8    aCksum over bytes 0..39
====== ==== ==========================================================

A reader copies this header, checks it and thereby fixes what it sees. So a header that is the same
before and after a view was opened is the one that the view copied: ``iChange`` and the frame checksum
make sure that it was not another one in between.

The descriptor is **never closed**: POSIX gives up all locks of a process on a file when any of its
descriptors on that file is closed, SQLite's own locks included (facts, hazard 17).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from mirror.errors import SourceError
from mirror.model import Salts

HEADER_SIZE = 48
_VERSION = 3007000
_FIELDS = struct.Struct("=IIIBBHIIII8sII")
_SALTS = struct.Struct(">II")
_CHECKED_WORDS = struct.Struct("=10I")

#: Descriptors on ``-shm`` files by (device, inode). They live as long as the process, on purpose; an
#: inode cannot be used again while one is open on it.
_kept: dict[tuple[int, int], int] = {}


class Commit(NamedTuple):
    """A commit by its place in the WAL."""

    salts: Salts
    frame: int


class WalHeader:
    """Reads the wal-index header of one database; SQLite must have the database open already."""

    def __init__(self, database: Path) -> None:
        self._path = f"{database}-shm"
        try:
            self._identity = _identity(self._path)
            # Looked up first: a second descriptor would be one more that may never be closed.
            if self._identity not in _kept:
                descriptor = os.open(self._path, os.O_RDONLY)
                status = os.fstat(descriptor)
                self._identity = (status.st_dev, status.st_ino)
                _kept[self._identity] = descriptor
        except OSError as error:
            raise SourceError(
                "read the wal-index",
                self._path,
                error.strerror or "",
                next_step="parity needs the source in WAL mode",
            ) from error
        self._descriptor = _kept[self._identity]

    def raw(self) -> bytes:
        """Both copies of the header as they are now."""
        return os.pread(self._descriptor, 2 * HEADER_SIZE, 0)

    def check_identity(self) -> None:
        """Raise unless the path still leads to the file that is being read."""
        try:
            same = _identity(self._path) == self._identity
        except OSError:
            same = False
        if not same:
            raise SourceError("read the wal-index", self._path, "it was replaced", retryable=True)


def parse(raw: bytes) -> Commit | None:
    """The commit that a header names; None while it is being written or not valid."""
    first = raw[:HEADER_SIZE]
    if len(raw) < 2 * HEADER_SIZE or first != raw[HEADER_SIZE : 2 * HEADER_SIZE]:
        return None
    version, _, _, initialised, _, _, frame, _, _, _, salts, *checksum = _FIELDS.unpack(first)
    if version != _VERSION or initialised != 1 or checksum != _checksum(first):
        return None
    return Commit(Salts(*_SALTS.unpack(salts)), frame)


def _checksum(header: bytes) -> list[int]:
    low = high = 0
    words = _CHECKED_WORDS.unpack_from(header)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        low = (low + even + high) & 0xFFFFFFFF
        high = (high + odd + low) & 0xFFFFFFFF
    return [low, high]


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
