"""Publishing the applied position for the programs that read Postgres (:mod:`mirror.core.published`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from mirror.core.published import Publisher
from mirror.core.status import Phase
from mirror.postgres.sink import Sink
from mirror.sidecar.status import SourceStatus


class Publishing:
    """What one source's loop publishes. Thread: the loop's."""

    def __init__(self, folder: Path, name: str) -> None:
        """``folder``: the source's, locked. ``name``: the source's, for the log. Raises ``OSError``."""
        self._publisher = Publisher(folder)
        self._name = name
        self._problem = ""

    def update(self, sink: Sink | None, status: SourceStatus, *, agreed: bool) -> None:
        """Publish how far Postgres is; or, while that may be wrong, that it is not to be waited for.

        ``agreed``: whether Postgres and the state directory are known to be at one position. To be called after each
        commit and each change of the phase, and once a second at least; it writes only what is new. What cannot be
        written holds nothing up: readers wait for less, and prove each answer by itself.
        """
        if sink is None or sink.position is None or not agreed or status.phase is not Phase.FOLLOWING:
            self._publisher.withdraw()
            return
        wal = status.capture == "WAL"
        with self._logged():
            self._publisher.publish(sink.source_id, sink.epoch, sink.lineage, sink.position, wal=wal)

    def name(self, source_id: int) -> None:
        """Say which source this is while Postgres is the original: programs look there whether it is."""
        with self._logged():
            self._publisher.name(source_id)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        try:
            yield
            self._problem = ""
        except OSError as error:
            if str(error) != self._problem:
                logger.warning("{}: its position cannot be published, so reads go to SQLite: {}", self._name, error)
            self._problem = str(error)

    def renew(self) -> None:
        """Make the file again in a folder that was made again. Raises ``OSError``."""
        self._publisher.renew()

    def close(self) -> None:
        """Publish that the source is not followed any longer."""
        self._publisher.close()
