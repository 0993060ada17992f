"""A running mirror as a service: what its manager is told, turn by turn (:mod:`mirror.core.notify`).

- It is *ready* once no source is still being copied or caught up: each is followed, is carried back, waits and tries
  again by itself, or has ended. A first copy may take hours; while it moves on, more time is asked for.
- The *watchdog* hears of it as long as the thread of every source comes by in its loop. One that waits for an answer of
  Postgres does not: a statement may take an hour, and ending the mirror would only begin it anew, for all sources. That
  it waits is in the *status* then, and a server that is gone ends the wait by itself.
- The *status* is one line, sent when it changes; figures in it are rough, so that it does not change all the time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from mirror.core.notify import Notifier
from mirror.core.status import Phase
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.supervisor import STALLED_SECONDS, Supervisor

#: Seconds between two looks at the sources.
LOOK_SECONDS = 1.0
#: Seconds of one wait for Postgres after which the status names it.
POSTGRES_SECONDS = 60.0
#: Of a watchdog's time: how often it hears of the mirror.
_OFTEN = 0.25
#: Seconds that a start gets at a time.
_MORE_SECONDS = 600
#: What is still on the way to where it is meant to be.
_BEGINNING = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP, Phase.REDIFF))
_UNITS = (("h", 3600), ("min", 60), ("s", 1))
_STEPS = (1, 2, 5, 10, 20, 30, 50, 100, 200, 500)
#: Characters of an error in the status.
_MOST = 200


class Service:
    """Tells a manager how the sources of a supervisor are. Thread: the one that calls it."""

    def __init__(self, notifier: Notifier, supervisor: Supervisor) -> None:
        self._notifier = notifier
        self._supervisor = supervisor
        self._ready = False
        self._status = ""
        self._stalled: list[str] = []
        self._next_look = self._next_sign = 0.0
        self._limit = notifier.watchdog_seconds or STALLED_SECONDS

    @property
    def seconds(self) -> float:
        """Within which :meth:`turn` is to be called again."""
        return _OFTEN * self._limit

    def turn(self) -> None:
        """Tell what is new; to be called often. A loop that stalls is logged also where there is no manager."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + min(LOOK_SECONDS, self.seconds)
        stalled = self._supervisor.stalled(self._limit)
        if stalled and stalled != self._stalled:
            logger.error("{}: no sign of life of the loop for {:.0f} s", ", ".join(stalled), self._limit)
        self._stalled = stalled
        if not self._notifier.is_heard:
            return
        self._say_status(stalled)
        if not self._ready and not any(each.status.phase in _BEGINNING for each in self._supervisor.pipelines):
            self._ready = self._notifier.send(READY=1)
        if not stalled and now >= self._next_sign:
            self._next_sign = now + self.seconds
            signs: dict[str, object] = {} if self._notifier.watchdog_seconds is None else {"WATCHDOG": 1}
            if not self._ready:
                signs["EXTEND_TIMEOUT_USEC"] = _MORE_SECONDS * 1_000_000
            if signs:
                self._notifier.send(**signs)

    def reloads(self) -> None:
        """The configuration is being read again. While it starts, no manager has asked for that."""
        if self._ready:
            self._notifier.reloading()

    def has_reloaded(self) -> None:
        """It has been read."""
        if self._ready:
            self._notifier.send(READY=1)

    def stops(self) -> None:
        """The mirror ends."""
        self._notifier.send(STOPPING=1, STATUS="stopping")

    def _say_status(self, stalled: Sequence[str]) -> None:
        line = headline([each.status for each in self._supervisor.pipelines], self._supervisor.not_begun, time.time())
        if stalled:
            line = f"stalled: {', '.join(stalled)}; {line}"
        elif waits := self._supervisor.awaiting_postgres(POSTGRES_SECONDS):
            line = f"{line}; waits for an answer of Postgres: {', '.join(waits)}"
        if line != self._status and self._notifier.send(STATUS=line):
            self._status = line


def headline(states: Sequence[SourceStatus], not_begun: Sequence[tuple[str, object]], now: float) -> str:
    """The sources' phases, the worst lag, and the first error, in one line.

    ``not_begun``: names of sources that could not begin, and why. ``now``: Unix time.
    """
    phases = Counter(str(state.phase) for state in states)
    if not_begun:
        phases["could not begin"] = len(not_begun)
    if (total := phases.total()) == 1:
        parts = [*phases]
    else:
        parts = [f"{total} sources: " + ", ".join(f"{number} {phase}" for phase, number in phases.most_common())]
    behind = [state.behind_since for state in states if state.behind_since is not None]
    if behind or phases[Phase.FOLLOWING]:
        parts.append(f"lag {rough(now - min(behind, default=now))}")
    problems = [(Path(state.source).name, state.last_error) for state in states if state.last_error is not None]
    for name, problem in [*problems, *not_begun][:1]:
        parts.append(f"{name}: {problem}"[:_MOST])
    return "; ".join(parts)


def rough(seconds: float) -> str:
    """A duration to about a third: it changes seldom while it grows."""
    if seconds < 1:
        return "under 1 s"
    unit, size = next(unit for unit in _UNITS if seconds >= unit[1])
    return f"over {max(step for step in _STEPS if seconds >= step * size)} {unit}"
