"""The locks on a file, and the processes that hold them, as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

#: Bytes of the -shm: one for each of the WAL's locks (https://sqlite.org/walformat.html, 2.3.1).
WRITE, CHECKPOINT, RECOVER, READ_MARKS, CONNECTED = 120, 121, 122, range(123, 128), 128


class Lock(NamedTuple):
    """A POSIX lock that some process holds."""

    pid: int
    exclusive: bool
    first: int
    last: int


def locks(path: Path) -> list[Lock]:
    """The locks on a file, as ``/proc/locks`` shows them."""
    inode = str(os.stat(path).st_ino)
    found = []
    for line in Path("/proc/locks").read_text().splitlines():
        # 1: POSIX  ADVISORY  READ 4711 08:01:131203 128 128
        fields = line.split()
        if "->" in fields or fields[1] != "POSIX":
            continue  # one that waits, or is not SQLite's
        kind, pid, file, first, last = fields[3:8]
        if file.rpartition(":")[2] == inode:
            found.append(Lock(int(pid), kind == "WRITE", int(first), -1 if last == "EOF" else int(last)))
    return found
