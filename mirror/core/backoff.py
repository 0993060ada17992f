"""Back-off: how long to wait before a retry. Twice as long each time, up to a limit."""

from __future__ import annotations


class Backoff:
    """Pauses between retries, in seconds. Thread: one thread at a time."""

    def __init__(self, first: float, longest: float) -> None:
        """``first``, ``longest``: seconds."""
        self._first = first
        self._longest = longest
        self._next = first

    def next(self, longest: float | None = None) -> float:
        """Seconds to wait now; the next time it is twice that. ``longest``: a lower limit for this time."""
        pause = self._next
        self._next = min(2 * pause, self._longest)
        return pause if longest is None else min(pause, longest)

    def reset(self) -> None:
        """After a success: begin with the first pause again."""
        self._next = self._first
