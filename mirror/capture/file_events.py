"""Events of open files that are written: Linux' inotify, which neither the standard library nor a small one has.

A hint: no event comes for what is written through mapped memory, as the WAL index is, and none at all on some file
systems. So nothing may depend on one. What :meth:`FileEvents.read` reads is a sequence of

======  ====  ================================================================================
offset  size  field of ``struct inotify_event`` (inotify(7)), in the machine's byte order
======  ====  ================================================================================
0       4     watch, as :meth:`FileEvents.watch` has returned it
4       4     what has happened
8       4     cookie, not used here
12      4     bytes of the name that follows: none, because no folder is watched
======  ====  ================================================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys

_EVENT = struct.Struct("=iIII")
#: Written; its times, links or rights changed; moved; deleted.
_MODIFY, _ATTRIB, _MOVE_SELF, _DELETE_SELF = 0x2, 0x4, 0x800, 0x400


class FileEvents:
    """Watches open files. Thread: one."""

    def __init__(self) -> None:
        self._number = -1
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            self._add, self._remove = libc.inotify_add_watch, libc.inotify_rm_watch
            self._number = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor that is readable when there are events; -1 where there can be none."""
        return self._number

    def watch(self, descriptor: int) -> int | None:
        """Watch the file that is open there; None if that cannot be, as when the user's watches are used up."""
        if self._number < 0:
            return None
        # By its descriptor: another file may be at its path.
        path = os.fsencode(f"/proc/self/fd/{descriptor}")
        watch = int(self._add(self._number, path, _MODIFY | _ATTRIB | _MOVE_SELF | _DELETE_SELF))
        return watch if watch >= 0 else None

    def forget(self, watch: int) -> None:
        """Watch it no more; events that are on their way may still come."""
        self._remove(self._number, watch)

    def read(self) -> set[int]:
        """The watches of which there were events, or that ended; never waits."""
        found: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._number, 1 << 14):
                at = 0
                while at < len(data):
                    watch, _, _, length = _EVENT.unpack_from(data, at)
                    found.add(watch)
                    at += _EVENT.size + length
        return found

    def close(self) -> None:
        """End all watches."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1
