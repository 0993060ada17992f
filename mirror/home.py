"""A source's folder in the state directory, held by a running mirror; made anew when somebody deletes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirror.capture.spool import segments
from mirror.errors import StateError
from mirror.statedir import SourceLock, control_path

#: Seconds between two looks at whether everything is still there.
LOOK_INTERVAL = 0.5


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


class Home:
    """The folder, its lock, and what must lie in it. Used by one source's thread, once that runs."""

    def __init__(self, folder: Path, source: Path) -> None:
        """Take it; raises ``StateError`` at once if another mirror has it."""
        self.folder = folder
        self.renewed: Callable[[], None] = lambda: None
        """Called when the folder was made anew: puts the control socket back."""
        self._lock = SourceLock(folder, source)
        self._lost = False
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
        if self._lost or not self._lock.intact or not control_path(self.folder).exists():
            return False
        return set(needed) <= set(segments(self.folder / "spool"))

    def renew(self) -> None:
        """Make the folder anew and hold it again; raises ``StateError``, also if another mirror has it now."""
        self._lock.renew()
        self.renewed()
        self._lost = False

    def release(self) -> None:
        """Let go."""
        self._lock.release()
