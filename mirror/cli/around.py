"""What commands say of programs' reads, of Redis and of alerts: in lines."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import MirrorError
from mirror.core.folders import source_folder
from mirror.core.status import AlertsReport, AroundReport, Phase, RedisReport, StatusReport


def reads_text(report: StatusReport) -> str:
    """Which store has answered programs' reads how often, and why, in one line."""
    parts = []
    for store in ("postgres", "sqlite"):
        reasons = sorted((read.count, read.reason) for read in report.reads if read.store == store)
        if reasons:
            why = ", ".join(f"{reason} {count:,}" for count, reason in reversed(reasons))
            parts.append(f"{sum(count for count, _ in reasons):,} from {store} ({why})")
    return "; ".join(parts)


def around_of(reports: Iterable[StatusReport], settings: Settings) -> AroundReport:
    """What is around the mirrors: the first that answers says it. One that did not answer is not asked again."""
    for report in reports:
        if report.phase is not Phase.SILENT:
            folder = source_folder(settings.state_dir, Path(report.source))
            with suppress(MirrorError), ControlClient(folder) as client:
                return client.around()
    return AroundReport()


def around_lines(around: AroundReport) -> list[tuple[str, bool]]:
    """What there is to say of it, in lines, and whether each is as it should be."""
    lines = []
    if (redis := around.redis) is not None:
        lines.append((redis_text(redis), redis.error is None and redis.write_error is None))
        if redis.hidden is not None:
            lines.append((f"redis: it does not say all: {redis.hidden}", True))
        if redis.next_step:
            lines.append((f"redis: next: {redis.next_step}", True))
    if (alerts := around.alerts) is not None:
        lines.append((alerts_text(alerts), alerts.error is None))
    return lines


def redis_text(redis: RedisReport) -> str:
    """How Redis is, in one line."""
    if redis.error is not None:
        since = time.strftime("%H:%M:%S", time.localtime(redis.away_since or redis.seen_at))
        return f"{redis.place}: it does not answer since {since}: {redis.error}"
    if redis.seen_at is None or redis.ping_seconds is None:
        return f"{redis.place}: it was not asked yet"
    parts = [f"it answers in {redis.ping_seconds * 1000:.1f} ms"]
    if redis.server is not None:
        parts.append(redis.server)
    if redis.used_bytes is not None:
        most = f" of {redis.max_bytes / 1e6:,.0f}" if redis.max_bytes else ""
        parts.append(f"{redis.used_bytes / 1e6:,.1f}{most} MB, {redis.policy}")
    if redis.append_only is not None:
        parts.append("append-only" if redis.append_only else "not append-only")
    if redis.write_error is not None:
        parts.append(f"it cannot write {redis.write_error}")
    if redis.agents is not None:
        parts.append(f"{redis.agents:,} agents online")
    return f"{redis.place}: {', '.join(parts)}"


def alerts_text(alerts: AlertsReport) -> str:
    """How the webhook is, in one line."""
    text = f"alerts to {alerts.place}: {alerts.holding:,} hold, {alerts.delivered:,} messages delivered"
    if alerts.error is None:
        return text
    return f"{text}; {alerts.untold:,} cannot be delivered, which is tried again and again: {alerts.error}"
