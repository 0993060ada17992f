"""One thread of the process that says when to look at files.

It has two sources. The system's notices (watchfiles) come at once. They are asked for *folders*, because notices for a
file end when it is replaced. And they may not come at all: on a network's file system, at the limit of watches or of
descriptors, when a folder is moved. That is not found out, except where the system refuses them: the files' stamps are
compared every :data:`POLL` seconds, always. A look at a dozen files takes some 30 µs.

The thread is a daemon, and ends before the interpreter does: a daemon thread that the interpreter stops while it is in
watchfiles would abort the process. So it is never in there for longer than a millisecond. A process that is forked gets
a thread of its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from watchfiles import Change, watch

#: Seconds between two questions for notices, and between two looks at the files without one.
PAUSE, POLL = 0.1, 0.5
#: Seconds until notices are asked for again, after the system has refused them.
REFUSED = 10.0
#: Seconds for which a fork, or the end of the program, waits for a look at files, which may be on a broken network.
LONGEST_WAIT = 1.0
#: How many links a path may lead through.
_MOST_LINKS = 40
_THREAD = "mirror-configuration"

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")


class Watched(Protocol):
    """Who wants to know of changes. Called in the thread; must not raise."""

    def paths(self) -> Iterable[Path]:
        """The files and folders that count, those that are not there included."""

    def look(self, now: float) -> float | None:
        """Look at them; returns when to look again at the latest, by the monotonic clock; None: after a change."""

    def forget(self) -> None:
        """The process was forked: what was going on in its thread is not finished."""


class Notices:
    """What the system reports of some folders."""

    def __init__(self) -> None:
        self._folders: dict[Path, tuple[int, int]] = {}
        self._changes: Iterator[set[tuple[Change, str]]] | None = None
        self._refused_at: float | None = None

    @property
    def works(self) -> bool:
        """Whether the system takes part."""
        return self._changes is not None

    @property
    def stale(self) -> bool:
        """Whether a folder is gone, or none was watched yet: which are to be watched must be found out again."""
        return self._changes is None and not self._folders

    def any(self) -> bool:
        """Whether something has changed since the last call; takes a millisecond."""
        if self._changes is None:
            return False
        try:
            changes = next(self._changes, None)
        except (OSError, RuntimeError) as error:
            self._refuse(error)
            return True
        if changes is None or any(kind == Change.deleted and Path(path) in self._folders for kind, path in changes):
            self._changes = None  # a folder that is made again may have the inode of the one that is gone
            self._folders = {}
        return bool(changes)

    def watch(self, folders: dict[Path, tuple[int, int]]) -> bool:
        """Watch these, each with its device and inode, in place of those before; whether that was a change."""
        waiting = self._refused_at is not None and time.monotonic() - self._refused_at < REFUSED
        if folders == self._folders and (waiting or self._refused_at is None):
            return False
        self._folders, self._changes = folders, None
        if not folders:
            return False
        changes = watch(
            *folders,
            watch_filter=None,
            debounce=1,
            step=1,
            rust_timeout=1,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
            ignore_permission_denied=True,
        )
        try:
            next(changes, None)
        except (OSError, RuntimeError) as error:
            self._refuse(error)
            return False
        self._changes, self._refused_at = changes, None
        return True

    def _refuse(self, error: Exception) -> None:
        if self._refused_at is None:
            logger.info(
                "the system gives no notices of changed files, so they are looked at every %s s: %s", POLL, error
            )
        self._changes, self._refused_at = None, time.monotonic()


class FileWatch:
    """The thread and those that it serves. One per process: :func:`add`, :func:`remove`, :func:`stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._poll_at = 0.0

    def add(self, watched: Watched) -> None:
        """Serve one more, until it is removed or nobody has it any longer."""
        with self._lock:
            self._watched.add(watched)
            self._poll_at = 0.0
            if self._thread is None:
                self._start()

    def remove(self, watched: Watched) -> None:
        """Serve it no more. A look that goes on just now is finished."""
        with self._lock:
            self._watched.discard(watched)

    def stop(self) -> None:
        """End the thread; it is started again by the next :meth:`add`."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(LONGEST_WAIT)

    def forked(self) -> None:
        """In a child: the thread was left behind in the parent, perhaps with the lock."""
        self._lock, self._thread = threading.Lock(), None
        for watched in (waiting := list(self._watched)):
            watched.forget()
        self._poll_at = 0.0
        if waiting:
            self._start()

    def _start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=_THREAD, daemon=True)
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        notices = Notices()
        due: float | None = None
        while True:
            now = time.monotonic()
            changed = notices.any()
            polling = notices.stale or now >= self._poll_at
            if changed or polling or (due is not None and now >= due):
                with self._lock:
                    waiting = list(self._watched)
                    if not waiting and not stop.is_set():
                        self._thread = None
                    if polling:
                        self._poll_at = now + POLL
                if not waiting:
                    return
                dues = [_looked(watched, now) for watched in waiting]
                due = min((at for at in dues if at is not None), default=None)
                if polling and notices.watch(folders_of(path for watched in waiting for path in watched.paths())):
                    self._poll_at = 0.0  # what has changed before is not reported
                waiting.clear()  # nothing is kept that the program has dropped
            until = min(self._poll_at, self._poll_at if due is None else due)
            if stop.wait(PAUSE if notices.works else max(0.0, until - time.monotonic())):
                return


def _looked(watched: Watched, now: float) -> float | None:
    try:
        return watched.look(now)
    except Exception:  # a defect, which must not end the thread for the others
        logger.exception("a look at the configuration failed")
        return now + REFUSED


def folders_of(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """The folders in which something must change for one of these paths to change; with their devices and inodes."""
    found: dict[Path, tuple[int, int]] = {}
    for path in paths:
        for name in _names(path):
            for folder in name.parents:
                if folder in found:
                    break
                try:
                    status = os.stat(folder)
                except (OSError, ValueError):
                    continue  # the next one in which it could be made
                found[folder] = status.st_dev, status.st_ino
                break
    return found


def _names(path: Path) -> Iterator[Path]:
    """A path, and those that it leads to through links."""
    yield Path(os.path.realpath(path))
    for _ in range(_MOST_LINKS):
        yield path
        try:
            path = path.parent / os.readlink(path)
        except (OSError, ValueError):
            return


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD


def _before_fork() -> None:
    _forking.waited = no_fork.acquire(timeout=LONGEST_WAIT)


def _after_fork() -> None:
    if _forking.waited:
        no_fork.release()


def _in_child() -> None:
    global no_fork
    no_fork = threading.RLock()
    _process.forked()


#: No process is forked while a thread has this, unless it has it for long. For what would stay half-done in the child,
#: as a module that is being loaded: there each import of it would wait for ever.
no_fork = threading.RLock()
_forking = threading.local()
_process = FileWatch()
add, remove, stop = _process.add, _process.remove, _process.stop
atexit.register(stop)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
#: It logs each change that it reports, also of files that do not concern us; what the program watches itself stays.
logging.getLogger("watchfiles.main").addFilter(_is_not_ours)
