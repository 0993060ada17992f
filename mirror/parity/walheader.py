"""The commit that a read view shows, from the header of the wal-index (``-shm``).

Layout (https://sqlite.org/walformat.html), native byte order unless noted; two copies of 48 bytes, then the
checkpoint block, which is not read here:

====== ==== ==========================================================
offset size field
====== ==== ==========================================================
0      4    iVersion, 3007000
4      4    unused
8      4    iChange, raised by every commit
12     1    isInit, 1 once the index is valid
13     1    bigEndCksum
14     2    szPage
16     4    mxFrame, last committed frame; 0: none in this generation
20     4    nPage
24     8    aFrameCksum
32     8    aSalt, copied from the WAL header: big-endian
40     8    aCksum over bytes 0..39
====== ==== ==========================================================

A reader of SQLite copies this header and checks it, and so fixes what it sees. So a header that is the same
before and after a view was opened is the one that the view copied: ``iChange`` and the frame checksum
exclude another one in between.

It is read from SQLite's own mapping, through the interface that SQLite uses for it
(``xShmMap``, https://sqlite.org/c3ref/io_methods.html), and **no descriptor is opened**: POSIX drops all locks of
a process on a file when any of its descriptors on that file is closed, SQLite's own locks included (hazard 17,
mirror/HAZARDS.md). In a process that compares for months and has other connections, a descriptor could be neither
closed nor kept.
"""

from __future__ import annotations

import os
import struct
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, byref, c_int, c_void_p, cast, string_at
from pathlib import Path
from typing import NamedTuple

import apsw

from mirror.core.errors import SourceError
from mirror.core.positions import Salts

HEADER_SIZE = 48
_VERSION = 3007000
_FIELDS = struct.Struct("=IIIBBHIIII8sII")
_SALTS = struct.Struct(">II")
_CHECKED_WORDS = struct.Struct("=10I")

#: SQLite maps the file in parts of this size.
_REGION = 32768
#: What xShmMap returns where this process may only read the file; it is mapped then as well.
_READONLY = 8


class Commit(NamedTuple):
    """A commit by its place in the WAL."""

    salts: Salts
    frame: int


class _Methods(Structure):
    """``sqlite3_io_methods``, from version 2 on."""

    _fields_ = (
        ("version", c_int),
        ("others", c_void_p * 12),
        ("shm_map", CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, POINTER(c_void_p))),
    )


class _File(Structure):
    """The beginning of each ``sqlite3_file``."""

    _fields_ = (("methods", POINTER(_Methods)),)


class WalHeader:
    """Reads the wal-index header of one database, through a connection that has read from it already."""

    def __init__(self, database: Path, db: apsw.Connection) -> None:
        """Raises :class:`SourceError` if the database has no wal-index."""
        self._path = f"{database}-shm"
        self._db = db
        try:
            # While this connection has it open, no program that respects SQLite's locks replaces it.
            self._identity = _identity(self._path)
            self.raw()
        except (OSError, apsw.Error) as error:
            raise SourceError(
                "read the wal-index",
                self._path,
                error.strerror or "" if isinstance(error, OSError) else str(error),
                next_step="parity needs the source in WAL mode",
            ) from error

    def raw(self) -> bytes:
        """Both copies of the header as they are now, 96 bytes.

        Raises :class:`SourceError` if SQLite has no wal-index, ``apsw.Error`` once the connection is closed.
        """
        pointer = c_void_p()
        self._db.file_control("main", apsw.SQLITE_FCNTL_FILE_POINTER, addressof(pointer))
        methods = cast(pointer, POINTER(_File)).contents.methods.contents
        region = c_void_p()
        code = methods.shm_map(pointer, 0, _REGION, 0, byref(region)) if methods.version >= 2 else -1
        if code not in (0, _READONLY) or not region.value:
            raise SourceError("read the wal-index", self._path, "SQLite has none", retryable=True)
        return string_at(region.value, 2 * HEADER_SIZE)

    def check_identity(self) -> None:
        """Raise :class:`SourceError` unless the path still names the file that is being read."""
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
