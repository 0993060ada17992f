"""The status page of ``mirror up``: what it shows of the mirror in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mirror.cli.options import own_schema_command
from mirror.cli.status import status_of, with_proof
from mirror.core.config.settings import Settings
from mirror.core.folders import source_folder
from mirror.sidecar.changes.hub import Changes
from mirror.sidecar.serve.http import Address, Looks, StatusServer
from mirror.sidecar.serve.metrics import Watched
from mirror.sidecar.service import STALLED_SECONDS
from mirror.sidecar.status import next_steps
from mirror.sidecar.supervisor import Supervisor


@contextmanager
def serving(settings: Settings, supervisor: Supervisor, changes: Changes | None) -> Iterator[StatusServer | None]:
    """Serve the page, if that is wanted, until the end of the block. Raises ``ConfigError``."""
    if settings.http is None:
        yield None
        return
    server = StatusServer(Address.of(settings.http), _looks(settings, supervisor, changes))
    try:
        yield server
    finally:
        server.close()


def _looks(settings: Settings, supervisor: Supervisor, changes: Changes | None) -> Looks:
    def watched() -> list[Watched]:
        running = {pipeline.status.source: pipeline for pipeline in supervisor.pipelines}
        found = []
        for source in settings.sources:
            folder = source_folder(settings.state_dir, source)
            if (pipeline := running.get(str(source))) is None:
                report = status_of(source, settings)
            else:
                report = pipeline.status.report()
                steps = next_steps(report, settings.options, own_schema_command(settings, source, report.schema))
                report = with_proof(report, folder, settings, steps)
            found.append(Watched(report, folder))
        return found

    return Looks(
        watched,
        lambda: {pipeline.status.source: pipeline.status.history() for pipeline in supervisor.pipelines},
        lambda: supervisor.stalled(STALLED_SECONDS),
        settings.state_dir,
        changes,
    )
