"""What ``mirror up`` does for those who operate it: the status page, a look at Redis, and alerts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from mirror.cli.options import own_schema_command
from mirror.cli.status import with_proof
from mirror.core.config.settings import Settings
from mirror.core.status import StatusReport
from mirror.sidecar.next_steps import next_steps
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.supervisor import Supervisor

# What it needs is loaded where it is configured: most have none of it, and it would lie in memory all the time.
if TYPE_CHECKING:
    from mirror.sidecar.changes.hub import Changes
    from mirror.sidecar.serve.http import StatusServer


@contextmanager
def serving(settings: Settings, supervisor: Supervisor, changes: Changes | None) -> Iterator[StatusServer | None]:
    """Serve the page, if that is wanted, until the end of the block. Raises ``ConfigError``."""
    if settings.http is None:
        yield None
        return
    from mirror.cli.looks import looks_of
    from mirror.sidecar.serve.http import Address, StatusServer

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
            from mirror.sidecar.redis_watch import RedisWatch

            redis = RedisWatch(settings.storage, supervisor.around)
            stack.callback(redis.stop)
            redis.start()
        if settings.alerts.webhook is not None:
            from mirror.cli.looks import alerts_of

            alerts = alerts_of(settings, supervisor)
            stack.callback(alerts.stop)
            alerts.start()
        yield
