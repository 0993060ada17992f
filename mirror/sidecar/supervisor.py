"""A running mirror: the sources of one ``mirror up``, their pipelines, and the capture process that they share."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger

from mirror.capture.link import CAPTURE_MODULE, CaptureService, CaptureTask
from mirror.capture.spool import SEGMENT_BYTES
from mirror.core.errors import ConfigError, ControlError, MirrorError, StateError
from mirror.core.faults import Faults, no_fault
from mirror.core.folders import resolve, source_folder
from mirror.core.messages import Add
from mirror.core.rules import NO_RULES, Rules
from mirror.core.words import names_apart
from mirror.postgres.keeper import Keeper
from mirror.replica.shadow import SAVE_SEGMENTS
from mirror.sidecar.around import Around
from mirror.sidecar.crew import Crew
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.repose import Shared
from mirror.sidecar.seats import Seats
from mirror.sidecar.server_outage import ServerOutage
from mirror.sidecar.source_folder import FeedOfSource, SourceTask
from mirror.sidecar.supervised import SupervisedSource

SPOOL_LIMIT = 4 << 30
#: Bytes. Room is made by a save, which is due only after some segments: half of a full spool must be more than those.
LEAST_SPOOL_LIMIT = 2 * (SAVE_SEGMENTS + 2) * SEGMENT_BYTES
#: Seconds that the end of one source may take, which is waited for; and of one that has failed.
REMOVE_SECONDS, FAILED_SECONDS = 20.0, 2.0
#: Seconds of silence after which a loop counts as stalled where no watchdog says how many.
STALLED_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """The settings of a running mirror."""

    sources: Sequence[Path]
    dsn: str
    state_dir: Path
    schema: str = "public"
    """Postgres schema of sources that :attr:`schemas` does not name."""
    agents: Mapping[Path, str] = field(default_factory=dict)
    """The agents that own sources, where configured."""
    profiles: Mapping[Path, str] = field(default_factory=dict)
    """The profiles of sources, where configured; others get the one that recognises them."""
    links: Mapping[Path, Path] = field(default_factory=dict)
    """The names of sources that were named by a link."""
    rules: Rules = NO_RULES
    """What mirror.json says of single columns and tables."""
    resume_only: bool = False
    """Fail instead of copying a source whole."""
    discard_writes: bool = False
    """What programs have written to Postgres alone may go."""
    replace_rows: bool = False
    """Rows that others have written in Postgres may be replaced at the start; they are kept."""
    restarts: bool = True
    """Restart a failed source by itself once its file has changed, as long as other sources are running."""
    schemas: Mapping[Path, str] = field(default_factory=dict)
    """The Postgres schemas of sources that have another one than ``schema``."""
    schema_of: Callable[[Path], str | None] | None = None
    """Returns the schema that is named for a source, instead of ``schemas``; None: nobody has named one, so it is
    ``schema``. Called each time that a source begins. May raise ``MirrorError``: then this source waits."""
    require_unmoved: Callable[[Path], None] | None = None
    """Called each time that a source begins; raises ``MirrorError`` if it must not, as it has another name already:
    then it waits."""
    options: str = ""
    """What the command that starts the same mirror needs besides a source's name, with a space in front."""
    spool_limit: int = SPOOL_LIMIT
    """Bytes of one source's spool; :data:`LEAST_SPOOL_LIMIT` or more."""
    changes: Callable[[Path], FeedOfSource] | None = None
    """Returns the change feed of a source; None: there are none."""
    begun: Callable[[], None] | None = None
    """As :attr:`SourceTask.begun`, for each source. Thread: any."""
    embedded: bool = False
    """The server is started again where it ends."""
    capture: str = CAPTURE_MODULE
    """The module that the capture process runs."""


class Supervisor:
    """Mirrors some sources, each apart from the others, until :meth:`stop`."""

    def __init__(self, settings: SupervisorSettings, faults: Faults = no_fault) -> None:
        """Lock the sources' folders. A source that cannot begin, because another mirror has it or its state is damaged,
        waits until it can, while the others are mirrored.

        Raises the first one's ``MirrorError`` if none can begin, and ``ConfigError``.
        """
        if settings.spool_limit < LEAST_SPOOL_LIMIT:
            least = f"a spool needs at least {LEAST_SPOOL_LIMIT} bytes"
            raise ConfigError("start the mirror", "spool_limit", least, next_step="give it more, or leave it out")
        self._capture = CaptureService(settings.capture)
        self._crew, self._keeper = Crew(), Keeper(settings.dsn)
        server = ServerOutage(lambda: len(self._sources), embedded=settings.embedded)
        self._shared = Shared(Seats(), self._keeper, lambda: self._crew.crowded, server)
        self._settings, self._faults = settings, faults
        self.schemas: dict[Path, str] = {}
        """The schema of each source that has begun."""
        self.around = Around(stalled=lambda: self.stalled(STALLED_SECONDS))
        """What is around the mirrors, as status has it."""
        self._guard = threading.Lock()
        """Locked to change which sources there are."""
        self._sources: list[SupervisedSource] = []
        self._started = self._stopped = False
        self._leaving: list[SupervisedSource] = []
        """Sources that were removed, and may not have ended yet."""
        self._sources = [
            self._source(
                source,
                settings.schemas.get(source, settings.schema),
                settings.agents.get(source),
                settings.profiles.get(source),
                settings.schema_of,
                first=True,
            )
            for source in map(resolve, settings.sources)
        ]
        try:
            for source in self._sources:
                source.open()
        except BaseException:
            self.stop()
            raise
        if (errors := self.errors) and len(errors) == len(self._sources):
            for error in errors[1:]:
                logger.error("{error}", error=error)
            raise errors[0]

    def _source(
        self,
        source: Path,
        schema: str,
        agent: str | None,
        profile: str | None,
        schema_of: Callable[[Path], str | None] | None,
        *,
        first: bool,
    ) -> SupervisedSource:
        """``first``: it is one that the mirror begins with; what may be discarded is said of those."""
        settings = self._settings
        task = SourceTask(
            source,
            source_folder(settings.state_dir, source),
            settings.dsn,
            schema,
            agent,
            profile,
            settings.resume_only,
            settings.rules,
            discard_writes=settings.discard_writes and first,
            replace_rows=settings.replace_rows and first,
            link=settings.links.get(source),
            changes=settings.changes and settings.changes(source),
            options=settings.options,
            begun=settings.begun,
            called=names_apart(map(str, [*map(resolve, settings.sources), *self.sources, source]))[str(source)],
        )

        def named() -> str | None:
            if settings.require_unmoved is not None:
                settings.require_unmoved(source)
            found = schema if schema_of is None else schema_of(source)
            self.schemas[source] = found or schema
            return found

        return SupervisedSource(
            task,
            named,
            partial(self._capture.link, CaptureTask(source, task.folder / "spool", settings.spool_limit)),
            self._faults,
            restarts=settings.restarts and not settings.resume_only,
            options=settings.options,
            shared=self._shared,
            fleet=None if settings.resume_only else self,
            around=self.around.report,
            alone=lambda: not self.running,
        )

    # -- sources that come and go ------------------------------------------------------------------

    @property
    def sources(self) -> list[Path]:
        """The sources that are mirrored, or are to be."""
        return [each.task.database for each in self._sources]

    def _find(self, source: Path) -> SupervisedSource:
        for each in self._sources:
            if each.task.database == source:
                return each
        raise StateError("find a source", str(source), "this mirror does not have it", next_step="see `mirror status`")

    def pause(self, source: Path) -> None:
        """Leave a source and its tables alone until :meth:`resume`, also after a restart. Raises ``StateError``."""
        self._find(source).pause(paused=True)

    def resume(self, source: Path) -> None:
        """Go on with a source, as after a restart. Raises ``StateError``."""
        self._find(source).pause(paused=False)

    def remove(self, source: Path, seconds: float = REMOVE_SECONDS) -> None:
        """End the mirror of a source, for good; its tables and its folder stay as they are. Raises ``StateError``.

        Waits up to ``seconds`` for its end. If it waits for an answer of Postgres, it ends after that.
        """
        with self._guard:
            found = self._find(source)
            found.remove()
            self._leave(found)
        log, name = logger.bind(source=str(source)), found.task.name
        if found.join(seconds):
            log.info("{}: it is mirrored no more", name)
        else:
            log.info("{}: it is mirrored no more as soon as what is under way has ended", name)

    def _leave(self, source: SupervisedSource) -> None:
        """With the guard: it was asked to end, and is none of the sources any more."""
        self._sources = [each for each in self._sources if each is not source]
        self._leaving = [*(each for each in self._leaving if not each.join(0.0)), source]
        self.schemas.pop(source.task.database, None)

    def add(self, request: Add) -> None:
        """Mirror another source, too; nothing is done if it is mirrored, and one that has failed begins again.

        Raises its ``MirrorError`` if it cannot begin, and ``ControlError`` while the mirror ends.
        """
        source = resolve(request.path)
        with self._guard:
            if self._stopped or not self._started:
                raise ControlError(
                    "mirror another source", str(source), "the mirror ends, or just begins", retryable=True
                )
            known = next((each for each in self._sources if each.task.database == source), None)
            if known is not None and known.working:
                schema = self.schemas.get(source)
                if request.schema not in (None, schema):
                    detail = f"it is mirrored into the schema {schema}, by this mirror"
                    step = "first `mirror remove`, then this again; its tables there stay"
                    raise ConfigError("mirror another source", str(source), detail, next_step=step)
                return
            if known is not None:
                known.stop()
                if not known.join(FAILED_SECONDS):
                    raise ControlError("mirror another source", str(source), "it has not ended yet", retryable=True)
            schema = request.schema or self._settings.schema
            schema_of = self._settings.schema_of if request.schema is None else None
            made = self._source(source, schema, request.agent, request.profile, schema_of, first=False)
            made.open()
            if made.error is not None and known is None:
                raise made.error
            if known is not None:
                self._leave(known)
            made.start(self._crew)
            self._sources = [*self._sources, made]
            if made.error is not None:
                raise made.error
        logger.bind(source=str(source)).info("{}: it is mirrored, too", made.task.name)

    def end(self) -> None:
        """Have the process end in order, as its manager has it end."""
        logger.info("asked to end, by `mirror down`")
        os.kill(os.getpid(), signal.SIGTERM)

    # -- all of them -------------------------------------------------------------------------------

    @property
    def pipelines(self) -> list[Pipeline]:
        """The current pipelines of the sources that have begun; of a source that has failed, the last one."""
        return [source.pipeline for source in self._sources if source.pipeline is not None]

    @property
    def errors(self) -> list[MirrorError]:
        """Why sources are not mirrored: those that have failed, and those that could not begin."""
        return [error for source in self._sources if (error := source.error) is not None]

    def stalled(self, seconds: float) -> list[str]:
        """The names of the sources whose loop has not come by for so long, though it does not wait for Postgres."""
        return [each.task.name for each in self._sources if each.silent_seconds > seconds]

    def awaiting_postgres(self, seconds: float) -> list[str]:
        """The names of the sources that have been waiting so long for one answer of Postgres."""
        return [each.task.name for each in self._sources if each.postgres_seconds > seconds]

    @property
    def not_begun(self) -> list[tuple[str, MirrorError]]:
        """The names of the sources that could not begin yet, and why."""
        return [
            (each.task.name, each.error) for each in self._sources if each.pipeline is None and each.error is not None
        ]

    @property
    def capture_pid(self) -> int | None:
        """Process id of the capture process, while there is one."""
        return self._capture.pid

    def start(self) -> None:
        """Start mirroring, and serving the control sockets."""
        with self._guard:
            for source in self._sources:
                source.start(self._crew)
            self._started = True

    @property
    def running(self) -> bool:
        """Whether any source is still being mirrored. (A failed one may come back as long as one is.)"""
        return any(source.working for source in self._sources)

    def restart_no_more(self) -> None:
        """Do not start any source again once it has failed."""
        for source in self._sources:
            source.restart_no_more()

    def stop(self, timeout: float = 1.2) -> bool:
        """End all pipelines, within ``timeout`` seconds; False if one is in a Postgres statement that takes longer.

        Work that is cut off so is completed at the next start, as after a kill.
        """
        with self._guard:
            self._stopped = True
            sources = [*self._sources, *self._leaving]
        for source in sources:
            source.stop()
        deadline = time.monotonic() + timeout
        ended = [source.join(max(0.0, deadline - time.monotonic())) for source in sources]
        for source in sources:
            source.stop_serving()
            source.sign_off()
        self._crew.close()
        self._capture.stop()
        if all(ended):
            self._keeper.close()
        return all(ended)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
