"""Files: a stamp that every write changes, an atomic write, and a look at the locks of other processes."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """Values of which every write to a file changes one, and so does replacing it."""

    inode: int
    size: int
    mtime: int
    """Nanoseconds since the epoch, as ``ctime``."""
    ctime: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file now; raises ``OSError``."""
        found = os.stat(path)
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def is_locked(descriptor: int, kind: int, start: int, length: int) -> bool:
    """Whether another process holds a POSIX lock on these bytes of a file for which a lock of this kind has to wait.

    ``kind``: ``fcntl.F_RDLCK`` or ``F_WRLCK``. Asking takes no lock. Raises ``OSError``.
    """
    if sys.platform == "darwin":
        form, at = "@qqihh", 3
        asked = struct.pack(form, start, length, 0, kind, os.SEEK_SET)
    else:
        form, at = "@hhqqi", 0
        asked = struct.pack(form, kind, os.SEEK_SET, start, length, 0)
    answer = struct.unpack(form, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(answer[at] != fcntl.F_UNLCK)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and those that it is in, if they are missing. Raises ``OSError``."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except FileNotFoundError as error:  # what it was to be in is there: of a file system of the kernel's, as /proc is
        raise FileNotFoundError(error.errno, "it cannot be made there", error.filename) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes | bytearray, *, durable: bool) -> None:
    """Replace the content of a file with ``data``: a reader finds either all of the old content or all of the new.

    Several may do so at once; the last one's content stays. Only its owner can read the file. ``durable``: it
    survives a power cut once this returns; otherwise a power cut may leave the old content, or an empty file. Raises
    ``OSError``; the file is then unchanged. A process that is killed in between leaves a file ``.NAME.*.tmp``.
    """
    # Not by `tempfile`: what that loads takes 1 MB of memory, which the process that captures need not hold.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # if the folder was deleted, so was this file
            os.unlink(temporary)
        raise
    if durable:
        sync_folder(path.parent)
