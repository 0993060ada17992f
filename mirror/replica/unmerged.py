"""What a source's log still has and its file has not, once nobody has the source open.

The last connection that a program closes moves the log's commits into the file. The mirror's connection does not,
because it never writes to a source: so if it is the last one, they stay in the log, and a copy of the file alone lacks
them.
"""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path

from mirror.core.files import is_locked
from mirror.sqlite.format.wal import WAL_HEADER_SIZE
from mirror.sqlite.format.walindex import BOTH_COPIES, WalIndexHeader

#: In the WAL index: every connection holds a shared lock on this byte (``UNIX_SHM_DMS`` in SQLite's os_unix.c).
_OPEN_BYTE = 128


def commits_stay_in_log(database: Path) -> bool:
    """Whether the log has commits that the file has not, and nobody has the database open.

    Only for a process that has no SQLite connection to it: this opens and closes the WAL index (hazard 17,
    mirror/HAZARDS.md). What cannot be read counts as no.
    """
    try:
        if Path(f"{database}-wal").stat().st_size <= WAL_HEADER_SIZE:
            return False
        with open(f"{database}-shm", "rb") as index:
            if is_locked(index.fileno(), fcntl.F_WRLCK, _OPEN_BYTE, 1):
                return False
            data = index.read(BOTH_COPIES + 4)
    except FileNotFoundError:
        return Path(f"{database}-wal").exists()  # without its index it is read from the beginning
    except OSError:
        return False
    header = WalIndexHeader.parse(data)
    if header is None or len(data) < BOTH_COPIES + 4:
        return True  # the next program builds the index again, from the whole log
    (moved,) = struct.unpack_from("=I", data, BOTH_COPIES)
    return bool(header.last_frame > moved)
