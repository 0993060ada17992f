"""Which processes have a file open.

Linux shows it by ``/proc/PID/fd``, of which a ``stat`` gives the file itself, whatever its name is by now. That takes a
quarter of what psutil takes, which reads what each descriptor is open for. Other systems show names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from mirror.core.place import where

_SHOWN = Path("/proc/self/fd")


def openers(database: Path) -> Iterator[str]:
    """The processes that have a database open, besides this one and its children: name and process id.

    Only those of which this user may know it. Opens none of the files.
    """
    place = where(database)
    names = {f"{name}{suffix}" for name in (database, place) for suffix in ("", "-wal", "-shm")}
    for pid in _by_descriptor(names) if _SHOWN.exists() else _by_name(names):
        with suppress(psutil.Error):  # it has ended, or is another user's
            process = psutil.Process(pid)
            if os.getpid() not in (pid, process.ppid()):
                yield f"{process.name()} (pid {pid})"


def _by_descriptor(names: Collection[str]) -> Iterator[int]:
    files = set()
    for name in names:
        with suppress(FileNotFoundError):
            found = os.stat(name)
            files.add((found.st_dev, found.st_ino))
    for pid in psutil.pids():
        with suppress(OSError):  # it has ended, or is another user's
            if _has_open(pid, files):
                yield pid


def _has_open(pid: int, files: Collection[tuple[int, int]]) -> bool:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        with suppress(OSError):  # closed meanwhile, or on a file system that answers nobody else
            found = os.stat(f"{folder}/{name}")
            if (found.st_dev, found.st_ino) in files:
                return True
    return False


def _by_name(names: Collection[str]) -> Iterator[int]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended, or is another user's
            if any(opened.path in names for opened in process.open_files()):
                yield process.pid
