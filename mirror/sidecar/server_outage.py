"""That Postgres is away, and that it is there again: one line each for all sources of a mirror, not one for each.

A single session may end while all others go on, so it takes a second source that finds the same. One that is alone with
it tells it by itself, once it has lasted for a second; before, when it is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loguru import logger

from mirror.core.errors import SinkError
from mirror.core.words import counted, duration, one_line
from mirror.postgres.sessions import CONNECT

#: What to do where the mirror runs the server itself.
STARTED_AGAIN = "nothing: the embedded Postgres is started again"
#: Seconds in which a second source finds it.
_ALONE_SECONDS = 1.0
#: Seconds after its return in which sources may still find that it was away.
_LATE_SECONDS = 10.0


class ServerOutage:
    """What the sources of a mirror know of their server. Thread: any."""

    def __init__(self, sources: Callable[[], int] = lambda: 1, *, embedded: bool = False) -> None:
        """``sources``: how many there are; one alone tells it by itself. ``embedded``: the server is the mirror's."""
        self._sources, self.embedded = sources, embedded
        self._guard = threading.Lock()
        self._waiting: dict[str, float] = {}
        """By source: since when it finds the server away (monotonic)."""
        self._began = 0.0
        self._told = False
        """Whether it is away, and that was told."""
        self._back_at = float("-inf")
        self._left: set[str] = set()
        """Sources that were not back then."""

    def lost(self, source: str, error: SinkError) -> bool:
        """A source finds the server away, maybe again. Returns whether that is told for all, so not for this one."""
        if self._sources() < 2:
            return False
        with self._guard:
            now = time.monotonic()
            late = now - self._back_at < _LATE_SECONDS
            if not self._told and source in self._left:
                return late  # if the others are back for long, it is about this one
            since = self._waiting.setdefault(source, now)
            if not self._told and not late and len(self._waiting) > 1:
                self._told, self._began = True, min(self._waiting.values())
                level = "INFO" if self.embedded else "WARNING"
                number = counted(self._sources(), "source")
                logger.log(level, "Postgres is away, and {} wait for it: {}", number, plain(error), error=error)
            return self._told or late or now - since < _ALONE_SECONDS

    def back(self, source: str) -> bool:
        """A source has all in Postgres again. Returns whether that is told for all."""
        with self._guard:
            now = time.monotonic()
            known = self._waiting.pop(source, None) is not None or source in self._left
            self._left.discard(source)
            if known and self._told:
                self._told, self._back_at = False, now
                self._left, self._waiting = set(self._waiting), {}
                took, go_on = duration(now - self._began), counted(self._sources(), "source")
                logger.info("Postgres is there again after {}: {} go on", took, go_on)
            return known and now - self._back_at < _LATE_SECONDS


def plain(error: SinkError) -> str:
    """A server that cannot be used, without what the mirror was just doing there."""
    if error.operation == CONNECT:
        return str(error)
    step = f" -- {error.next_step}" if error.next_step else ""
    return f"the connection was lost: {one_line(error.detail)}{step}"
