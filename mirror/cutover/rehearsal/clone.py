"""An exact copy of a live file, at one of its commits."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path

import apsw

from mirror.core.errors import SourceError, StateError
from mirror.cutover.rails import ROOM_BYTES
from mirror.replica.declared import open_to_read

#: A copy needs so many times the size of the file: itself, the mirror's own copy of it, and their logs.
_TIMES = 3
#: Pages that are copied without a pause; of a file without a WAL, for whose writers each such step is a reader.
_PAGES, _PAGES_WITHOUT_WAL = 4096, 256
#: Seconds in which a file without a WAL must stand still for as long as it takes to copy it.
_STILL_SECONDS = 60.0
_BUSY_MS = 2000


def require_room(source: Path, folder: Path) -> int:
    """Raise ``StateError`` if a folder has no room for a rehearsal; returns the bytes of the source."""
    files = [source, source.with_name(f"{source.name}-wal")]
    size = sum(file.stat().st_size for file in files if file.exists())
    there = next(path for path in (folder, *folder.parents) if path.exists())
    needed, free = _TIMES * size + ROOM_BYTES, shutil.disk_usage(there).free
    if free < needed:
        raise StateError(
            "rehearse a move",
            str(there),
            f"{free >> 20:,} MB are free, and the copies of the file take {needed >> 20:,} MB",
            next_step="make room, or name a --state-dir where there is some",
        )
    return size


def copy(source: Path, target: Path) -> None:
    """Copy a file through SQLite.

    With a WAL no writer is held up. Without one a writer may have to wait for a few pages, and where it does not pause
    for long enough, :class:`SourceError` (retryable) is raised; also if the file cannot be read.
    """
    try:
        with closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as probe:
            probe.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            wal = probe.read("main", 0, 18, 2)[1] == b"\2\2"
        with closing(_opened(source, wal)) as there, closing(apsw.Connection(str(target))) as here:
            here.execute("PRAGMA synchronous=OFF")
            if wal:
                # A snapshot: what is committed meanwhile does not begin the copy anew.
                there.execute("BEGIN")
                there.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            _copy(source, there, here, wal)
            if wal:
                there.execute("ROLLBACK")
                here.pragma("journal_mode", "wal")
    except apsw.Error as error:
        busy = isinstance(error, apsw.BusyError)
        raise SourceError(
            "copy the file",
            str(source),
            f"{type(error).__name__}: {error}",
            next_step="try again when no program has it locked" if busy else "`mirror doctor` looks at the file",
            retryable=busy,
        ) from error


def _opened(source: Path, wal: bool) -> apsw.Connection:
    if wal:
        return open_to_read(source, wal=True)
    made = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    made.set_busy_timeout(_BUSY_MS)
    return made


def _copy(source: Path, there: apsw.Connection, here: apsw.Connection, wal: bool) -> None:
    deadline = time.monotonic() + _STILL_SECONDS
    with here.backup("main", there, "main") as backup:
        while not backup.done:
            backup.step(_PAGES if wal else _PAGES_WITHOUT_WAL)
            if not wal and time.monotonic() > deadline:
                raise SourceError(
                    "copy the file",
                    str(source),
                    f"it has no WAL, and programs wrote to it again and again for {_STILL_SECONDS:g} s",
                    next_step="try again when they pause, or switch the file to WAL mode",
                    retryable=True,
                )
