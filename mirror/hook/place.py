"""Names the commit that is about to be made. Used in the commit hook, when the connection holds the writer's lock.

No other connection can commit then. So the commit is named by the one before it, which cannot change any more:

============ ==================================================================================================
journal mode the commit before
============ ==================================================================================================
WAL          salts and ``mxFrame`` of the WAL index: its header is in the shared memory that SQLite has mapped
rollback     the file change counter, bytes 24..27 of the database file, which each commit raises by one; with it the
             schema cookie, bytes 40..43, and the inode that the file had when the connection was first seen
============ ==================================================================================================

(A WAL hook would give the frame afterwards, but a connection can have only one, and it replaces the automatic
checkpoint: the program would notice.) Both are read through SQLite's own file object; the shared memory with the method
that its interface for file systems publishes (https://sqlite.org/c3ref/io_methods.html). No file is opened: closing a
descriptor on a database drops the locks of all connections in the process (hazard 17, mirror/HAZARDS.md).

The result is None where a commit cannot be named: a file system without shared memory, a heap-memory WAL index
(``locking_mode=EXCLUSIVE``), or a transaction so large that pages of it are in the file already.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import apsw

#: ("wal", salt 1, salt 2, frame) or ("file", change counter, schema cookie, inode).
Place = tuple[str, int, int, int]

# https://sqlite.org/c3ref/c_fcntl_begin_atomic_write.html and .../c_lock_exclusive.html
_FCNTL_LOCKSTATE, _FCNTL_FILE_POINTER = 1, 7
_SHARED, _EXCLUSIVE = 1, 4
# https://sqlite.org/c3ref/c_dbstatus_options.html
_STATUS_CACHE_SPILL = 12

#: Place of xShmMap among the methods of a file, which come after ``iVersion``.
_SHM_MAP = 13
_REGION_BYTES = 32768

_SHM_MAP_TYPE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p
)

#: The WAL index's header: mxFrame at 16, the salts at 32; see :mod:`mirror.sqlite.format.walindex`.
_HEADER_BYTES = 48
_FRAME = struct.Struct("=16xI")
_SALTS = struct.Struct(">32xII")
_COUNTER_AND_COOKIE = struct.Struct(">I12xI")


class CommitPlace:
    """Names the commits of one connection's main database, in its commit hook. Keeps no reference to the connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        try:
            self._inode = os.stat(connection.filename).st_ino  # opens nothing
        except OSError:
            self._inode = 0  # in memory
        self._keeps_lock = False
        self._spilled = 0
        """Pages that were written before their transaction was committed, so far."""
        self._value = ctypes.c_int64()
        self._value_at = ctypes.addressof(self._value)
        self._pointer = ctypes.c_void_p()
        self._pointer_at = ctypes.addressof(self._pointer)
        self._file = 0
        """SQLite's file object; it stays where it is for as long as the connection is open."""
        if connection.file_control("main", _FCNTL_FILE_POINTER, self._pointer_at) and self._pointer.value:
            methods = ctypes.cast(self._pointer.value, ctypes.POINTER(ctypes.c_void_p))[0]
            table = ctypes.cast(methods or 0, ctypes.POINTER(ctypes.c_void_p))
            if methods and ctypes.cast(methods, ctypes.POINTER(ctypes.c_int))[0] >= 2 and table[_SHM_MAP]:
                self._file = self._pointer.value
                self._shm_map = _SHM_MAP_TYPE(table[_SHM_MAP])

    def look_at_lock(self, connection: apsw.Connection) -> None:
        """Between two transactions: note whether the connection keeps its lock: then no commit raises the counter."""
        if self._file and connection.file_control("main", _FCNTL_LOCKSTATE, self._value_at):
            self._keeps_lock = self._value.value & 0xFFFFFFFF == _EXCLUSIVE

    def after(self, connection: apsw.Connection, place: Place | None) -> Place | None:
        """The place of a commit that was made; None if the connection keeps its lock after all.

        Such a commit raises the counter, and those behind it under the same lock do not: none is named by it.
        """
        if place is None or place[0] != "file":
            return place
        self.look_at_lock(connection)
        return None if self._keeps_lock else place

    def before(self, connection: apsw.Connection) -> Place | None:
        """The commit before the one that is about to be made; the transaction has written to the main database."""
        if not self._file or not connection.file_control("main", _FCNTL_LOCKSTATE, self._value_at):
            return None
        lock = self._value.value & 0xFFFFFFFF
        if lock == _SHARED:  # with a rollback journal, a writer has more than that
            if self._shm_map(self._file, 0, _REGION_BYTES, 0, self._pointer_at) or not self._pointer.value:
                return None
            header = ctypes.string_at(self._pointer.value, _HEADER_BYTES)
            return ("wal", *_SALTS.unpack_from(header), *_FRAME.unpack_from(header))
        if lock == _EXCLUSIVE:
            before, (self._spilled, _) = self._spilled, connection.status(_STATUS_CACHE_SPILL)
            if self._spilled == before and not self._keeps_lock:
                counter, cookie = _COUNTER_AND_COOKIE.unpack(connection.read("main", 0, 24, 20)[1])
                return ("file", counter, cookie, self._inode)
        return None
