"""A source's folder in the state directory, locked by a running mirror, and made again when it was deleted."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mirror.capture.spool import segments
from mirror.core.changes import Announcing
from mirror.core.errors import MirrorError, StateError
from mirror.core.folders import LOCK, require_not_moved
from mirror.core.locks import SourceLock
from mirror.core.published import POSITION_FILE
from mirror.core.rules import NO_RULES, Rules
from mirror.core.saved_status import STATUS_FILE, saved_report
from mirror.core.source_settings import remember_schema
from mirror.core.state_errors import NO_DESCRIPTORS, OF_FILES, USE_STATE, state_error, step_for
from mirror.core.status import ChangesReport

#: Seconds between two checks that nothing has been deleted.
CHECK_INTERVAL = 0.5
#: Seconds after which a folder cannot have changed any more without another time of change.
_SETTLED_SECONDS = 1.0
#: What is in a folder before anything was read of its source.
_FROM_THE_BEGINNING = frozenset((LOCK, "source", "control.path", "spool", POSITION_FILE, STATUS_FILE))


class FeedOfSource(Announcing, Protocol):
    """A source's change feed, as its pipeline knows it."""

    def report(self) -> ChangesReport:
        """For the status. Thread: any."""


@dataclass(frozen=True, slots=True)
class SourceTask:
    """The task of one pipeline: which source goes where, and how."""

    database: Path
    folder: Path
    """The source's folder in the state directory."""
    dsn: str
    schema: str
    agent: str | None = None
    """The agent that owns the source's rows; None: as before, or as the profile has it."""
    profile: str | None = None
    """The profile by which its tables are stored; None: the one that recognises it."""
    resume_only: bool = False
    """Fail instead of copying the source whole. (For checking a mirror without changing it.)"""
    rules: Rules = NO_RULES
    """What mirror.json says of single columns and tables."""
    unnamed: bool = False
    """Nobody has named the schema: it is the default."""
    discard_writes: bool = False
    """What programs have written to Postgres alone may go: it is made equal to the file again."""
    replace_rows: bool = False
    """Rows that others have written in Postgres may be replaced at the start; they are kept."""
    link: Path | None = None
    """The name that leads to the source through a link, if the user named it by one."""
    changes: FeedOfSource | None = None
    """Its change feed, if there is one."""
    options: str = ""
    """What a command for it needs besides its name, with a space in front."""
    called: str = ""
    """What the log calls it; empty: as its file."""
    begun: Callable[[], None] | None = None
    """Called each time that it has a session in Postgres, before a row is written there; may raise ``StateError``."""

    @property
    def name(self) -> str:
        """What the log calls it, which tells it from the other sources of the mirror."""
        return self.called or self.database.name

    def remember(self) -> None:
        """Note in the state directory where it is mirrored to, so that later commands know. Raises ``OSError``,
        ``StateError``.
        """
        if self.resume_only:
            return
        remember_schema(self.folder, self.schema)
        if self.begun is not None:
            self.begun()


def located(error: OSError, task: SourceTask) -> MirrorError:
    """The error for an ``OSError`` in a source's loop, with the place where it happened; retryable.

    The descriptors that the loop writes to are all in the state directory.
    """
    named = isinstance(error.filename, str | bytes)
    place = str(Path(os.fsdecode(error.filename))) if named else ""
    detail = error.strerror or str(error)
    if error.errno in NO_DESCRIPTORS:
        step = step_for(error, task.folder)
        return MirrorError("open a file or a socket", place, detail, next_step=step, retryable=True)
    if Path(place).is_relative_to(task.folder) if named else error.errno in OF_FILES:
        if isinstance(error, FileNotFoundError):  # deleted just now: the mirror makes it again
            return StateError(USE_STATE, place, detail, retryable=True)
        return state_error(error, task.folder, retryable=True)
    return MirrorError("run the mirror", place or str(task.database), detail, retryable=True)


class SourceFolder:
    """The folder, its lock, and the files that must be in it.

    Thread: the source's own, once that runs.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        """Make and lock it; raises ``StateError`` at once if another mirror has it, or it was moved for good."""
        require_not_moved(folder, source)
        self.folder, self._spool, self._source = folder, folder / "spool", source
        self.served: Callable[[], bool] = lambda: True
        """Returns whether our control socket is in its place."""
        self.serve: Callable[[], None] = lambda: None
        """Makes the control socket. Called when it, or anything else, is missing; so at the start, too."""
        self._lock = SourceLock(folder, source)
        self._lost = self._released = False
        self._guard = threading.Lock()
        self._next_check = 0.0
        self._whole: tuple[object, ...] | None = None
        """The stamps of the folders when everything was there, and the segments that had to be; None: not known."""
        self.seen_at = time.monotonic()
        """When the source's loop came by last, on the monotonic clock."""

    def check_now_and_then(self, needed: Callable[[], range]) -> None:
        """Call :meth:`check` if the last one is :data:`CHECK_INTERVAL` ago; not again after it has raised.

        ``needed``: returns the numbers of the spool segments that must exist. Raises ``StateError``.
        """
        self.seen_at = now = time.monotonic()
        if self._lost or now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        self.check(needed())

    def check(self, needed: range) -> None:
        """Raise ``StateError`` (retryable) if the folder, or something in it, was deleted."""
        if self.is_whole(needed):
            return
        self._lost = True
        raise StateError(
            "use the state directory",
            str(self.folder),
            "it, or a part of it, was deleted while the mirror ran",
            next_step="nothing: the mirror makes it again by itself",
            retryable=True,
        )

    def is_whole(self, needed: range) -> bool:
        """Whether everything is there, and is ours. ``needed``: as for :meth:`check_now_and_then`, the numbers."""
        if self._lost or not self.served():
            return False
        try:
            stamps = [(at.st_dev, at.st_ino, at.st_mtime_ns) for at in map(os.stat, (self.folder, self._spool))]
        except OSError:
            return False
        if (whole := (*stamps, needed)) == self._whole:
            return True
        # What was changed after that has another time of change, unless that is of this very moment.
        settled = max(stamp[2] for stamp in stamps) < (time.time() - _SETTLED_SECONDS) * 1e9
        if not self._lock.intact or not set(needed) <= set(segments(self._spool)):
            return False
        self._whole = whole if settled else None
        return True

    def renew(self) -> None:
        """Make the folder again and lock it; raises ``StateError``, also if another mirror has it now."""
        with self._guard:
            self._lock.renew()
        self._whole = None
        self.serve()
        self._lost = False

    def release(self) -> None:
        """Unlock the folder; may be called twice. That of a source that was never there goes."""
        with self._guard:
            if not self._released:
                self._released = True
                with suppress(OSError):
                    if not self._source.exists() and self._has_nothing():
                        shutil.rmtree(self.folder)
                self._lock.release(time.monotonic() - self.seen_at)

    def _has_nothing(self) -> bool:
        """Whether nothing was ever read of the source, as of a name that was misspelt. Raises ``OSError``."""
        saved = saved_report(self._source, "", self.folder)
        empty = set(os.listdir(self.folder)) <= _FROM_THE_BEGINNING and not os.listdir(self._spool)
        return empty and saved.applied is None and saved.reverse is None

    def sign_off(self) -> None:
        """The process ends, as it was asked to, and does not wait for the source's loop. Thread: any."""
        with self._guard:
            if not self._released:
                self._lock.sign_off(time.monotonic() - self.seen_at)
