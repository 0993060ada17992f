"""Which processes have a file open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def openers(database: Path) -> Iterator[str]:
    """The processes that have a database open, besides this one and its children: name and process id.

    Only those of which this user may know it. Opens none of the files.
    """
    names = {str(database), f"{database}-wal", f"{database}-shm"}
    own = os.getpid()
    for process in psutil.process_iter():
        try:
            if own in (process.pid, process.ppid()):
                continue
            if any(opened.path in names for opened in process.open_files()):
                yield f"{process.name()} (pid {process.pid})"
        except (psutil.Error, OSError):
            continue  # it has ended, or is another user's
