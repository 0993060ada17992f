"""Each source's mirror is told what this process has read of it (:mod:`.reads`): ``mirror status`` and its metrics show
the sums of all programs.

Every ten seconds a thread, one in a process, sends what is new to the mirror's control socket; so does the last adapter
that is closed, and the end of the program. Where no mirror runs, it is sent once one does. A read only counts: nothing
else of this is on its way, and what goes wrong here is only logged, for debugging. A process that is killed takes with
it what it had not sent.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, TypeVar

from mirror.core.control import ControlClient
from mirror.core.errors import MirrorError
from mirror.core.messages import Reads
from mirror.storage.reads import READS, Reason, Shadow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirror.storage.freshness import Freshness

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Seconds between two reports, and those that a mirror may take to answer one.
EVERY, ANSWER_SECONDS = 10.0, 2.0
#: Seconds that closing an adapter, or the end of the program, waits for the last reports.
LAST_SECONDS = 0.25

Key = TypeVar("Key")


@dataclass
class _Source:
    """What the mirror of one source was told."""

    path: str
    folder: Path
    users: int = 0
    number: int = 0
    """Of the last report."""
    open: Reads | None = None
    """The last report, whose answer has not come."""
    answers: dict[tuple[str, Reason], int] = field(default_factory=dict)
    """As they were at the last report."""
    shadows: dict[tuple[Shadow, str], int] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def next(self, process: str) -> Reads | None:
        """The report that is to be sent; None: nothing is new."""
        if self.open is None:
            answers, shadows = READS.values(self.path), READS.shadows(self.path)
            new, new_shadows = _new(self.answers, answers), _new(self.shadows, shadows)
            if new or new_shadows:
                self.number += 1
                self.answers, self.shadows = answers, shadows
                self.open = Reads(
                    process,
                    self.number,
                    [("postgres" if store == "postgres" else "sqlite", why, n) for (store, why), n in new.items()],
                    [(result, why, n) for (result, why), n in new_shadows.items()],
                )
        return self.open


class Reporter:
    """Of one process: :func:`add`, :func:`remove`. Thread: any."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._start_over()

    def _start_over(self) -> None:
        """Also in a process that was forked, which has read nothing yet: its parent reports its own reads."""
        self._guard = threading.Lock()
        self._process = token_hex(16)
        self._sources = {
            path: _Source(path, source.folder, source.users) for path, source in list(self._sources.items())
        }
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, freshness: Freshness) -> None:
        """Tell the mirror of a source from now on."""
        with self._guard:
            known = self._sources.setdefault(freshness.path, _Source(freshness.path, freshness.folder))
            known.folder = freshness.folder
            known.users += 1
            self._start()

    def remove(self, freshness: Freshness) -> None:
        """The last time for one of those that were added."""
        with self._guard:
            known = self._sources[freshness.path]
            known.users -= 1
            last = not known.users
            if not any(source.users for source in self._sources.values()):
                self._stop.set()
                self._thread = None
        if last:
            self._report(known, LAST_SECONDS)

    def end(self) -> None:
        """The program ends."""
        self._stop.set()
        deadline = time.monotonic() + LAST_SECONDS
        for source in list(self._sources.values()):
            if source.users and (left := deadline - time.monotonic()) > 0:
                self._report(source, left)

    def forked(self) -> None:
        """In a child: the thread was left behind in the parent."""
        self._start_over()
        if any(source.users for source in self._sources.values()):
            self._start()

    def _start(self) -> None:
        if self._thread is not None:
            return
        self._stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._stop,), name="mirror reads", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or there can be no more threads
            return
        self._thread = thread

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(EVERY):
            for source in list(self._sources.values()):
                if source.users and not stop.is_set():
                    self._report(source, ANSWER_SECONDS)

    def _report(self, source: _Source, seconds: float) -> None:
        """Send what is new, and before that the report that was not answered. Takes twice the seconds at most."""
        deadline = time.monotonic() + seconds
        with _taken(source.guard, seconds) as taken:
            while taken and (report := source.next(self._process)) is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                try:
                    with ControlClient(source.folder, left) as client:
                        client.report_reads(report)
                except MirrorError as error:
                    logger.debug("what was read of %s is reported later: %s", source.path, error)
                    return
                source.open = None


@contextmanager
def _taken(lock: threading.Lock, seconds: float) -> Iterator[bool]:
    taken = lock.acquire(timeout=seconds)
    try:
        yield taken
    finally:
        if taken:
            lock.release()


def _new(before: Mapping[Key, int], now: Mapping[Key, int]) -> dict[Key, int]:
    return {key: more for key, count in now.items() if (more := count - before.get(key, 0))}


_process = Reporter()
add, remove = _process.add, _process.remove
atexit.register(_process.end)
os.register_at_fork(after_in_child=_process.forked)
