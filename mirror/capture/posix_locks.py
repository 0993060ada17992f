"""Ask whether another process holds a POSIX lock for writing, without taking one."""

from __future__ import annotations

import fcntl
import os
import struct
import sys

#: ``struct flock``, and where its type is in it.
_FORM, _TYPE_AT = ("@qqihh", 3) if sys.platform == "darwin" else ("@hhqqi", 0)


def is_write_locked(descriptor: int, start: int, length: int = 1) -> bool:
    """Whether any process holds a lock for writing on some of these bytes of an open file. Raises ``OSError``."""
    if sys.platform == "darwin":
        asked = struct.pack(_FORM, start, length, 0, fcntl.F_RDLCK, os.SEEK_SET)
    else:
        asked = struct.pack(_FORM, fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
    answer = struct.unpack(_FORM, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(answer[_TYPE_AT] != fcntl.F_UNLCK)
