"""What ``/metrics`` shows: the status of each source, and the sizes of its files, as Prometheus reads them.

Text format and names: https://prometheus.io/docs/instrumenting/exposition_formats and
https://prometheus.io/docs/practices/naming (base units; ``_total`` for what only grows). All is read when it is asked
for, so that the loop counts nothing for it. A figure that is not known is left out, and never 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPEN_METRICS
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from mirror.core.folders import spool_bytes
from mirror.core.status import AlertsReport, AroundReport, Phase, RedisReport, StatusReport
from mirror.parity.proof import Proof

#: Bytes that must be free for the spool to go on: below, ``mirror_disk_full`` is 1. A segment of it has 16 MB.
LEAST_FREE_BYTES = 16 << 20
_LABELS = ("source",)
#: Around a mirror for which neither Redis nor alerts are configured.
NOTHING = AroundReport()


class Watched(NamedTuple):
    """A source, as metrics and health look at it."""

    report: StatusReport
    folder: Path
    """Its folder in the state directory."""


def text_of(
    watched: Callable[[], Iterable[Watched]],
    accept: str,
    around: AroundReport = NOTHING,
    stalled: Callable[[], Iterable[str]] = tuple,
) -> tuple[str, bytes]:
    """The metrics, as a client with this ``Accept`` header takes them: content type and body.

    ``around``: what is around the mirrors. ``stalled``: returns the sources whose loop does not turn.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Sources(watched, around, stalled))
    if "application/openmetrics-text" in accept:
        return OPEN_METRICS, bytes(open_metrics(registry))  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_LATEST, generate_latest(registry)


@dataclass
class _Family:
    """One metric, and where its value comes from."""

    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    what: str
    value: Callable[[Watched], float | None]


def _size(path: Path) -> float | None:
    """Bytes of a file; nothing is opened (hazard 17, mirror/HAZARDS.md)."""
    try:
        return float(path.stat().st_size)
    except OSError:
        return None


def _wal(one: Watched) -> float | None:
    return _size(Path(f"{one.report.source}-wal"))


def _spool(one: Watched) -> float | None:
    found = spool_bytes(one.folder)
    return None if found is None else float(found)


def _free(one: Watched) -> float | None:
    try:
        found = os.statvfs(one.folder)
    except OSError:
        return None
    return float(found.f_bavail * found.f_frsize)


def _full(one: Watched) -> float | None:
    free = _free(one)
    return None if free is None else float(free < LEAST_FREE_BYTES)


def _reverse(one: Watched) -> bool:
    return one.report.reverse is not None


def _told(place: str, figure: str) -> Callable[[Watched], float | None]:
    def value(one: Watched) -> float | None:
        told = getattr(one.report.changes, place, None)
        return None if told is None else float(told.error is None if figure == "error" else getattr(told, figure))

    return value


_G, _C = GaugeMetricFamily, CounterMetricFamily
_FAMILIES = (
    _Family(_G, "mirror_lag_seconds", "Age of the oldest commit that Postgres does not have.",
            lambda one: one.report.lag_seconds),
    _Family(_G, "mirror_lag_worst_seconds", "Worst lag of the last five minutes.",
            lambda one: one.report.worst_lag_seconds),
    _Family(_G, "mirror_freshness_seconds", "Age of the newest commit that Postgres has: it grows while nobody writes.",
            lambda one: one.report.freshness_seconds),
    _Family(_G, "mirror_last_commit_timestamp_seconds", "When the newest commit that Postgres has was made.",
            lambda one: one.report.committed_at),
    _Family(_C, "mirror_commits", "Commits of the source that were applied since the mirror started.",
            lambda one: one.report.commits),
    _Family(_C, "mirror_transactions", "Transactions in Postgres that they took.",
            lambda one: one.report.transactions),
    _Family(_C, "mirror_rows", "Rows written and deleted in Postgres since the mirror started, without first copies.",
            lambda one: one.report.rows),
    _Family(_C, "mirror_interruptions", "How often the mirror could not go on since it started.",
            lambda one: one.report.interruptions),
    _Family(_C, "mirror_comparisons", "How often all pages were compared since the mirror started.",
            lambda one: one.report.comparisons),
    _Family(_C, "mirror_resyncs", "How often the whole source was copied since the mirror started.",
            lambda one: len(one.report.resyncs)),
    _Family(_G, "mirror_gaps", "Places where the log was not complete, ever; all are healed.",
            lambda one: len(one.report.gaps)),
    _Family(_G, "mirror_tables", "Tables of the source.", lambda one: one.report.tables),
    _Family(_G, "mirror_refused_tables", "Tables that Postgres does not take as they are.",
            lambda one: len(one.report.refusals)),
    _Family(_G, "mirror_rejects", "Rows that Postgres cannot hold, kept whole in mirror.rejects.",
            lambda one: one.report.rejects),
    _Family(_G, "mirror_discrepancies", "Rows on which hook and log disagreed, ever.",
            lambda one: one.report.discrepancies),
    _Family(_G, "mirror_read_differences", "Reads that both stores answered differently at one position.",
            lambda one: one.report.read_differences),
    _Family(_G, "mirror_others_wrote", "Rows that others have written in Postgres since it was made equal.",
            lambda one: one.report.others_wrote),
    _Family(_G, "mirror_overwritten", "Rows of others that a copy or repair has replaced.",
            lambda one: one.report.overwritten),
    _Family(_G, "mirror_hook_writers", "Programs that are connected through a hook.",
            lambda one: len(one.report.hook.writers)),
    _Family(_G, "mirror_parity_age_seconds", "How long ago all values were compared.",
            lambda one: one.report.parity.age_seconds),
    _Family(_C, "mirror_reverse_rows", "Rows of Postgres written to the file since the mirror started.",
            lambda one: one.report.reverse.rows if one.report.reverse else None),
    _Family(_G, "mirror_reverse_rejects", "Rows of Postgres that the file does not take.",
            lambda one: one.report.reverse.rejects if one.report.reverse else None),
    _Family(_G, "mirror_strays", "Rows that programs have written to the file after the move to Postgres.",
            lambda one: one.report.reverse.strays if one.report.reverse else None),
    _Family(_G, "mirror_changes_redis_up", "1: changes are published to Redis; 0: it is tried again.",
            _told("redis", "error")),
    _Family(_G, "mirror_changes_redis_waiting", "Transactions in memory that were not published to Redis yet.",
            _told("redis", "waiting")),
    _Family(_C, "mirror_changes_redis_told", "Entries published to Redis since the mirror started.",
            _told("redis", "told")),
    _Family(_C, "mirror_changes_redis_gaps", "How often what was committed could not be published any more.",
            _told("redis", "gaps")),
    _Family(_G, "mirror_changes_webhook_up", "1: changes are posted to the webhook; 0: it is tried again.",
            _told("webhook", "error")),
    _Family(_G, "mirror_changes_webhook_waiting", "Transactions in memory that were not posted yet.",
            _told("webhook", "waiting")),
    _Family(_C, "mirror_changes_webhook_told", "Entries posted to the webhook since the mirror started.",
            _told("webhook", "told")),
    _Family(_C, "mirror_changes_webhook_gaps", "How often what was committed could not be posted any more.",
            _told("webhook", "gaps")),
    _Family(_G, "mirror_source_bytes", "Size of the SQLite file.", lambda one: _size(Path(one.report.source))),
    _Family(_G, "mirror_wal_bytes", "Size of its write-ahead log.", _wal),
    _Family(_G, "mirror_spool_bytes", "Size of what was captured and is still needed.", _spool),
    _Family(_G, "mirror_disk_free_bytes", "Bytes that are free where the state directory is.", _free),
    _Family(_G, "mirror_disk_full", "1: no room for the spool to go on.", _full),
)  # fmt: skip


class _Sources(Collector):
    def __init__(
        self, watched: Callable[[], Iterable[Watched]], around: AroundReport, stalled: Callable[[], Iterable[str]]
    ) -> None:
        self._watched = watched
        self._around = around
        self._stalled = stalled

    def collect(self) -> Iterator[Metric]:
        """All metrics, of one moment."""
        watched = list(self._watched())
        about = GaugeMetricFamily("mirror_info", "The mirror itself.", labels=("version",))
        about.add_metric((version("mirror"),), 1)
        yield about
        yield from (_family(each, watched) for each in _FAMILIES)
        yield _described(watched)
        yield _phases(watched)
        yield _proofs(watched)
        yield _errors(watched)
        yield from _reads(watched)
        yield _one("mirror_stalled_loops", "Sources whose loop does not turn.", len(list(self._stalled())))
        if self._around.redis is not None:
            yield from _redis(self._around.redis)
        if self._around.alerts is not None:
            yield from _alerts(self._around.alerts)


def _one(name: str, what: str, value: float, kind: type[GaugeMetricFamily | CounterMetricFamily] = _G) -> Metric:
    return kind(name, what, value=value)


def _family(family: _Family, watched: Iterable[Watched]) -> Metric:
    made = family.kind(family.name, family.what, labels=_LABELS)
    for one in watched:
        if (value := family.value(one)) is not None:
            made.add_metric((one.report.source,), float(value))
    return made


def _described(watched: Iterable[Watched]) -> Metric:
    names = ("source", "schema", "profile", "agent", "capture")
    made = GaugeMetricFamily("mirror_source_info", "What the source is, and where it goes.", labels=names)
    for one in watched:
        report = one.report
        values = (report.source, report.schema, report.profile or "", report.agent or "", report.capture)
        made.add_metric(values, 1)
    return made


def _phases(watched: Iterable[Watched]) -> Metric:
    made = StateSetMetricFamily("mirror_phase", "What the mirror of the source does.", labels=_LABELS)
    for one in watched:
        made.add_metric((one.report.source,), {phase.value: phase is one.report.phase for phase in Phase})
    return made


def _proofs(watched: Iterable[Watched]) -> Metric:
    made = StateSetMetricFamily("mirror_parity", "How good the last comparison is as a proof.", labels=_LABELS)
    for one in watched:
        known = get_args(Proof)
        made.add_metric((one.report.source,), {proof: proof == one.report.parity.proof for proof in known})
    return made


def _errors(watched: Iterable[Watched]) -> Metric:
    made = GaugeMetricFamily("mirror_error", "1: it cannot go on, for this reason.", labels=("source", "code"))
    for one in watched:
        if one.report.error is not None:
            made.add_metric((one.report.source, str(one.report.error.get("code", ""))), 1)
    return made


def _reads(watched: Iterable[Watched]) -> Iterator[Metric]:
    """As programs on storage adapters have reported them."""
    what = "Reads of programs on storage adapters, by the store that answered and why; they say it every ten seconds."
    reads = CounterMetricFamily("mirror_reads", what, labels=("source", "from", "reason"))
    what = "Their reads that were to run on both stores, by what became of them."
    shadows = CounterMetricFamily("mirror_shadow_reads", what, labels=("source", "result", "reason"))
    for one in watched:
        for read in one.report.reads:
            reads.add_metric((one.report.source, read.store, read.reason), read.count)
        for shadow in one.report.shadow_reads:
            shadows.add_metric((one.report.source, shadow.result, shadow.reason), shadow.count)
    yield reads
    yield shadows


def _redis(report: RedisReport) -> Iterator[Metric]:
    if report.seen_at is None:
        return
    yield _one("mirror_redis_up", "1: the configured Redis answers.", float(report.error is None))
    if report.server is not None:
        labels = {"place": report.place, "server": report.server, "policy": report.policy or ""}
        about = GaugeMetricFamily("mirror_redis_info", "The configured Redis itself.", labels=tuple(labels))
        about.add_metric(tuple(labels.values()), 1)
        yield about
    figures: tuple[tuple[str, str, float | None], ...] = (
        ("ping_seconds", "How long its answer to a PING took.", report.ping_seconds),
        ("memory_used_bytes", "Its memory in use.", report.used_bytes),
        ("memory_max_bytes", "The most memory that it may use, if there is a limit.", report.max_bytes or None),
        ("append_only", "1: it keeps each write in a file.", report.append_only),
        ("write_error", "1: it could not write a file.", None if report.error else report.write_error is not None),
        ("clients", "Connections to it.", report.clients),
        ("agents", "Agents that are online there.", report.agents),
    )
    for name, what, value in figures:
        if value is not None:
            yield _one(f"mirror_redis_{name}", what, float(value))


def _alerts(report: AlertsReport) -> Iterator[Metric]:
    yield _one("mirror_alerts_holding", "Conditions that hold, of those that are told to the webhook.", report.holding)
    yield _one("mirror_alerts_untold", "Beginnings and ends that could not be delivered yet.", report.untold)
    what = "Messages that were delivered to the webhook since the mirror started."
    yield _one("mirror_alerts_delivered", what, report.delivered, _C)
    what = "Attempts to deliver one that failed since then."
    yield _one("mirror_alerts_failures", what, report.failed, _C)
