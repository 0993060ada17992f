"""A source's folder in the state directory, held by a running mirror; made anew when somebody deletes it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirror.capture.link import NO_DESCRIPTORS
from mirror.capture.spool import segments
from mirror.core.errors import MirrorError, StateError
from mirror.core.locks import SourceLock

#: Seconds between two looks at whether everything is still there.
LOOK_INTERVAL = 0.5
#: Errors of descriptors that only a disk has; those that a source's loop writes to are in the state directory.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class SourceTask:
    """What one pipeline has to do."""

    database: Path
    folder: Path
    """The source's folder in the state directory."""
    dsn: str
    schema: str
    agent: str | None = None
    """Whose the source is; None: as before, or as its profile has it."""
    profile: str | None = None
    """How it is held; None: by what it is."""
    resume_only: bool = False
    """Never copy the source whole: fail instead. (For checking a mirror without changing it.)"""


def located(error: OSError, task: SourceTask) -> MirrorError:
    """An error that the system gave to a source's loop, told with the place where it happened; retryable."""
    named = isinstance(error.filename, str | bytes)
    place = str(Path(os.fsdecode(error.filename))) if named else ""
    detail = error.strerror or str(error)
    if error.errno in NO_DESCRIPTORS:
        step = "raise the limit of open files (`ulimit -n`)"
        return MirrorError("open a file or a socket", place, detail, next_step=step, retryable=True)
    if Path(place).is_relative_to(task.folder) if named else error.errno in _OF_DISKS:
        return StateError("use the state directory", place or str(task.folder), detail, retryable=True)
    return MirrorError("run the mirror", place or str(task.database), detail, retryable=True)


class SourceFolder:
    """The folder, its lock, and what must lie in it. Used by one source's thread, once that runs."""

    def __init__(self, folder: Path, source: Path) -> None:
        """Take it; raises ``StateError`` at once if another mirror has it."""
        self.folder = folder
        self.served: Callable[[], bool] = lambda: True
        """Whether our control socket lies in its place."""
        self.serve: Callable[[], None] = lambda: None
        """Puts it there. Called when it, or anything else, is missing: so at the start, too."""
        self._lock = SourceLock(folder, source)
        self._lost = self._released = False
        self._next_look = 0.0

    def look(self, needed: Callable[[], range]) -> None:
        """Raise ``StateError``, once, when something has been deleted; looks only now and then.

        ``needed``: tells the segments of the spool that must be there.
        """
        now = time.monotonic()
        if self._lost or now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        self.check(needed())

    def check(self, needed: range) -> None:
        """Raise ``StateError`` if something has been deleted."""
        if self.is_whole(needed):
            return
        self._lost = True
        raise StateError(
            "use the state directory",
            str(self.folder),
            "it, or a part of it, was deleted while the mirror ran",
            next_step="the mirror makes it anew by itself",
            retryable=True,
        )

    def is_whole(self, needed: range) -> bool:
        """Whether everything is there, and is ours."""
        if self._lost or not self._lock.intact or not self.served():
            return False
        return set(needed) <= set(segments(self.folder / "spool"))

    def renew(self) -> None:
        """Make the folder anew and hold it again; raises ``StateError``, also if another mirror has it now."""
        self._lock.renew()
        self.serve()
        self._lost = False

    def release(self) -> None:
        """Give the folder up; may be called twice."""
        if not self._released:
            self._released = True
            self._lock.release()
