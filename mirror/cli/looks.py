"""How the status page, and alerts, see the mirror in this process: loaded where one of them is configured."""

from __future__ import annotations

import socket

from mirror.cli.serving import report_of
from mirror.cli.status import status_of
from mirror.core.config.settings import Settings
from mirror.core.folders import source_folder
from mirror.sidecar.alerts import Found, conditions
from mirror.sidecar.changes.hub import Changes
from mirror.sidecar.serve.http import Looks, free_bytes
from mirror.sidecar.serve.metrics import Watched
from mirror.sidecar.supervisor import STALLED_SECONDS, Supervisor
from mirror.sidecar.webhook import Alerts

#: Sources of which what only programs write to Postgres is counted anew each time that somebody looks at all of them:
#: that takes some queries for each.
MOST_REFRESHED = 20


def alerts_of(settings: Settings, supervisor: Supervisor) -> Alerts:
    """What tells the webhook; not started. Raises ``ConfigError``."""
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
