"""What ``mirror up`` does for those who operate it: the status page, a look at Redis, and alerts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mirror.cli.options import own_schema_command
from mirror.cli.status import status_of, with_proof
from mirror.core.config.settings import Settings
from mirror.core.folders import source_folder
from mirror.core.status import StatusReport
from mirror.sidecar.alerts import Found, conditions
from mirror.sidecar.changes.hub import Changes
from mirror.sidecar.next_steps import next_steps
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.serve.http import Address, Looks, StatusServer, free_bytes
from mirror.sidecar.serve.metrics import Watched
from mirror.sidecar.supervisor import STALLED_SECONDS, Supervisor
from mirror.sidecar.webhook import Alerts

#: Sources of which what only programs write to Postgres is counted anew each time that somebody looks at all of them:
#: that takes some queries for each.
MOST_REFRESHED = 20


@contextmanager
def serving(settings: Settings, supervisor: Supervisor, changes: Changes | None) -> Iterator[StatusServer | None]:
    """Serve the page, if that is wanted, until the end of the block. Raises ``ConfigError``."""
    if settings.http is None:
        yield None
        return
    server = StatusServer(Address.of(settings.http), looks_of(settings, supervisor, changes))
    try:
        yield server
    finally:
        server.close()


def report_of(settings: Settings, pipeline: Pipeline) -> StatusReport:
    """The status of a source of this process, with the last comparison and the next steps."""
    report, source = pipeline.status.report(), pipeline.task.database
    steps = next_steps(report, settings.options, own_schema_command(settings, source, report.schema))
    return with_proof(report, pipeline.task.folder, settings, steps)


@contextmanager
def watching(settings: Settings, supervisor: Supervisor) -> Iterator[None]:
    """Look at Redis, and tell the webhook what goes wrong, where these are configured. Raises ``ConfigError``."""
    with ExitStack() as stack:
        if settings.storage.redis is not None:
            from mirror.sidecar.redis_watch import RedisWatch  # takes long to load, and most have none

            redis = RedisWatch(settings.storage, supervisor.around)
            stack.callback(redis.stop)
            redis.start()
        if settings.alerts.webhook is not None:
            alerts = _alerts(settings, supervisor)
            stack.callback(alerts.stop)
            alerts.start()
        yield


def _alerts(settings: Settings, supervisor: Supervisor) -> Alerts:
    looks = looks_of(settings, supervisor)

    def find() -> Found:
        return conditions(
            [one.report for one in looks.watched()],
            looks.stalled(),
            free_bytes(looks.state_dir),
            supervisor.around.redis,
            settings.alerts,
        )

    folder = source_folder(settings.state_dir, settings.sources[0])
    return Alerts(settings.alerts, find, supervisor.around, folder, socket.gethostname())


def looks_of(settings: Settings, supervisor: Supervisor, changes: Changes | None = None) -> Looks:
    """How the page, and alerts, see the mirror in this process."""

    def watched() -> list[Watched]:
        running = {pipeline.status.source: pipeline for pipeline in supervisor.pipelines}
        for each in sorted(running.values(), key=lambda each: each.status.reads_due_at)[:MOST_REFRESHED]:
            each.requests.refresh()
        found = []
        for source in supervisor.sources:
            folder = source_folder(settings.state_dir, source)
            if (pipeline := running.get(str(source))) is None:
                report = status_of(source, settings)
            else:
                report = report_of(settings, pipeline)
            found.append(Watched(report, folder))
        return found

    return Looks(
        watched,
        lambda: {pipeline.status.source: pipeline.status.history() for pipeline in supervisor.pipelines},
        lambda: supervisor.stalled(STALLED_SECONDS),
        settings.state_dir,
        supervisor.around.report,
        changes,
        settings.options,
    )
