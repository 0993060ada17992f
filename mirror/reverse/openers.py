"""Which processes have a file open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from mirror.core.place import where


def openers(database: Path) -> Iterator[str]:
    """The processes that have a database open, besides this one and its children: name and process id.

    Only those of which this user may know it. Opens none of the files.
    """
    place = where(database)
    names = {f"{name}{suffix}" for name in (database, place) for suffix in ("", "-wal", "-shm")}
    # Programs that had it open before it was renamed show no name that leads to it.
    file = os.stat(place) if place != database else None
    own = os.getpid()
    for process in psutil.process_iter():
        try:
            if own in (process.pid, process.ppid()):
                continue
            if any(opened.path in names for opened in process.open_files()) or (
                file is not None and _has_open(process.pid, file)
            ):
                yield f"{process.name()} (pid {process.pid})"
        except (psutil.Error, OSError):
            continue  # it has ended, or is another user's


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has a file open by a name that this has no more, where the system shows that."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return False
    for name in names:
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.path.samestat(os.stat(f"{folder}/{name}"), file):
                return True
    return False
