"""How late commits were applied in the last minutes, second by second."""

from __future__ import annotations

from collections import deque

#: Minutes over which the worst lag is reported.
LAG_MINUTES = 5


class RecentLags:
    """The lags of the last seconds in which something was applied.

    Thread: written by one, read by any.
    """

    def __init__(self) -> None:
        #: For each of these seconds: the second, the worst lag, transactions.
        self._lags: deque[tuple[int, float, int]] = deque(maxlen=LAG_MINUTES * 60)

    def add(self, now: float, committed_at: float) -> None:
        """What was committed then is applied now (Unix times)."""
        second, lag, number = int(now), now - committed_at, 1
        if self._lags and self._lags[-1][0] == second:
            _, worst, before = self._lags.pop()
            lag, number = max(lag, worst), before + 1
        self._lags.append((second, lag, number))

    def clear(self) -> None:
        """Forget them."""
        self._lags.clear()

    def history(self) -> list[tuple[int, float, int]]:
        """The seconds in which something was applied, oldest first: Unix time, worst lag in seconds, transactions."""
        return list(self._lags)

    def recent(self, now: float) -> list[float]:
        """The worst lag of each of these seconds in the last :data:`LAG_MINUTES`."""
        return [lag for at, lag, _ in self.history() if now - at < LAG_MINUTES * 60]
