"""A thread that tells the changes of all sources to one place: what is the same for Redis and for a webhook.

A source is *due* while there may be something to tell of it. What fails is tried again, ever more slowly; a place that
cannot be reached holds up all sources, an error about one source only that one.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from mirror.core.backoff import Backoff
from mirror.core.changes import Mark
from mirror.core.errors import MirrorError
from mirror.core.positions import Lsn
from mirror.core.status import ToldReport
from mirror.sidecar.changes.feed import SourceFeed

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds between two searches for sources that are due for a look.
_SCAN_SECONDS = 1.0
#: Seconds between two looks at a source of which nothing new is known.
LOOK_SECONDS = 10.0


@dataclass
class Told:
    """How far one source has been told."""

    feed: SourceFeed
    number: int = 0
    """Of the take of the source (:class:`~mirror.sidecar.changes.feed.Taken`) for which the rest is."""
    position: Lsn | None = None
    lineage: str | None = None
    """Of the position; None: not known."""
    error: str | None = None
    count: int = 0
    gaps: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(_FIRST_PAUSE, _LONGEST_PAUSE))
    retry_at: float = 0.0
    look_at: float = 0.0

    @property
    def mark(self) -> Mark | None:
        """The position with its lineage."""
        return None if self.position is None else Mark(self.position, self.lineage)

    def report(self) -> ToldReport:
        """For the status."""
        return ToldReport(
            position=None if self.position is None else str(self.position),
            waiting=self.feed.waiting(self.position),
            told=self.count,
            gaps=self.gaps,
            error=self.error,
        )


class Teller(ABC):
    """Base: the thread, what is due, and what is done about errors."""

    where = ""
    """For the log: where changes are told."""

    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._all: dict[SourceFeed, Told] = {}
        self._due: dict[SourceFeed, None] = {}
        self._scan_at = self._paused_until = 0.0
        self._deadline: float | None = None
        """When it ends at the latest, once it is to end."""
        self._thread = threading.Thread(target=self._run, name=f"changes to {self.where}", daemon=True)

    # -- for other threads -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ring(self, feed: SourceFeed) -> None:
        """There is something new of a source. Never waits for what this thread does."""
        with self._guard:
            self._all.setdefault(feed, Told(feed))
            self._due[feed] = None
            self._guard.notify()

    def report(self, feed: SourceFeed) -> ToldReport | None:
        """How far a source has been told; None: not begun."""
        told = self._all.get(feed)
        return None if told is None else told.report()

    def stop(self, seconds: float) -> None:
        """End, once what is known is told; or after some seconds, or where it cannot be told now.

        What is not told then is told by the next mirror, from the log, or as a gap.
        """
        with self._guard:
            self._deadline = time.monotonic() + seconds
            self._guard.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    # -- its own thread ----------------------------------------------------------------------------

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    @abstractmethod
    def _tell(self, told: Told) -> bool:
        """Tell some of a source; whether there may be more. Raises ``MirrorError``."""

    def _run(self) -> None:
        while (told := self._next()) is not None:
            try:
                with logger.contextualize(source=told.feed.source):
                    more = self._tell(told)
            except MirrorError as error:
                self._failed(told, error)
                continue
            except Exception as error:  # a bug: of one source, and it is said
                logger.exception("{}: its changes cannot be told to {}", Path(told.feed.source).name, self.where)
                self._failed(told, MirrorError("tell changes", told.feed.source, f"{type(error).__name__}: {error}"))
                continue
            if told.error is not None:
                logger.info("{}: changes are told to {} again", Path(told.feed.source).name, self.where)
            told.error = None
            told.backoff.reset()
            told.look_at = time.monotonic() + LOOK_SECONDS
            if more:
                self.ring(told.feed)

    def _next(self) -> Told | None:
        """The next source to be told, as soon as there is one; None: it ends."""
        with self._guard:
            while not self._is_over():
                now = time.monotonic()
                if self._deadline is not None and (not self._due or now < self._paused_until):
                    return None
                if now < self._paused_until:
                    self._guard.wait(self._paused_until - now)
                    continue
                if now >= self._scan_at:
                    self._scan_at = now + _SCAN_SECONDS
                    self._due |= {told.feed: None for told in self._all.values() if now >= told.look_at}
                ready = (feed for feed in self._due if now >= self._all[feed].retry_at)
                if (feed := next(ready, None)) is not None:
                    del self._due[feed]
                    return self._all[feed]
                if self._deadline is not None:
                    return None
                self._guard.wait(_FIRST_PAUSE if self._due else max(0.0, self._scan_at - now))
        return None

    def _failed(self, told: Told, error: MirrorError) -> None:
        if told.error is None:
            step = "the log keeps what is missed" if told.feed.logged else "if it lasts, there will be a gap"
            name = Path(told.feed.source).name
            logger.warning("{}: changes cannot be told to {}, and {}: {error}", name, self.where, step, error=error)
        told.error = str(error)
        with self._guard:
            self._due[told.feed] = None
            until = time.monotonic() + told.backoff.next()
            if error.retryable:  # the place cannot be reached: of no source
                self._paused_until = until
            else:
                told.retry_at = told.look_at = until
