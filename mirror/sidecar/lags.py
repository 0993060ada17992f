"""How far the mirror of a source was behind in the last minutes, and what held it up then."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from mirror.core.errors import MirrorError, SinkError
from mirror.core.status import LAG_MINUTES

#: Times in which the mirror could not go on, of which it is remembered why.
_INTERRUPTIONS = 50


class Worst(NamedTuple):
    """The worst lag of the last minutes."""

    seconds: float
    at: float
    """When the commit that waited for so long was applied, or now (Unix time)."""
    why: str
    """What held the mirror up then, in a few words; empty: nothing that it knows of."""


class Lags:
    """The worst lags of one source, second by second.

    Thread: written by its pipeline's, read by any.
    """

    def __init__(self) -> None:
        #: For each of the last seconds in which something was applied: the second, the worst lag, transactions.
        self._seconds: deque[tuple[int, float, int]] = deque(maxlen=LAG_MINUTES * 60)
        #: From when to when (Unix time; None: it still cannot) the mirror could not go on, and why.
        self._interruptions: deque[tuple[float, float | None, str]] = deque(maxlen=_INTERRUPTIONS)

    def add(self, now: float, committed_at: float) -> None:
        """A transaction was applied ``now``; what it holds was committed then (Unix time)."""
        second, lag, number = int(now), now - committed_at, 1
        if self._seconds and self._seconds[-1][0] == second:
            _, worst, before = self._seconds.pop()
            lag, number = max(lag, worst), before + 1
        self._seconds.append((second, lag, number))

    def clear(self) -> None:
        """Forget all: what was applied so far was committed before the mirror could follow."""
        self._seconds.clear()

    def is_interrupted(self, error: MirrorError) -> None:
        """The mirror cannot go on."""
        if self._interruptions and self._interruptions[-1][1] is None:
            return
        self._interruptions.append((time.time(), None, _words(error)))

    def goes_on(self) -> None:
        """It goes on."""
        if self._interruptions and self._interruptions[-1][1] is None:
            begun, _, why = self._interruptions.pop()
            self._interruptions.append((begun, time.time(), why))

    def history(self) -> list[tuple[int, float, int]]:
        """The seconds in which something was applied, oldest first: Unix time, worst lag in seconds, transactions."""
        return list(self._seconds)

    def worst(self, now: float, lag: float) -> Worst:
        """The worst of the last minutes; ``lag``: that of this moment."""
        recent = [(was, at) for at, was, _ in self.history() if now - at < LAG_MINUTES * 60]
        seconds, at = max([*recent, (lag, now)])
        return Worst(round(seconds, 3), at, self._why(at - seconds, at + 1))

    def _why(self, begin: float, end: float) -> str:
        """What held it up for longest between two moments."""
        spells = list(self._interruptions)
        held_up = [(min(until or end, end) - max(since, begin), why) for since, until, why in spells]
        most = max(held_up, default=(0.0, ""))
        return most[1] if most[0] > 0 else ""


def _words(error: MirrorError) -> str:
    if isinstance(error, SinkError):
        return "Postgres was away" if error.retryable else "Postgres refused something"
    return f"it could not {error.operation}"
