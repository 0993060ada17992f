"""What is around the mirrors of one process: found out by threads of its own, so that no source waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mirror.core.status import AlertsReport, AroundReport, RedisReport


@dataclass
class Around:
    """As it was found last. Thread: each value is written by one, and read by any."""

    redis: RedisReport | None = None
    """None: not configured."""
    alerts: AlertsReport | None = None
    """None: not configured."""
    stalled: Callable[[], list[str]] = list
    """Returns the sources whose loop does not turn."""

    def report(self) -> AroundReport:
        """As it is sent over a control socket."""
        return AroundReport(redis=self.redis, alerts=self.alerts, stalled=self.stalled())
