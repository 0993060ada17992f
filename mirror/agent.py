"""A running mirror: the sources of one `mirror up`, their pipelines, and the capture process they share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from mirror.capture.link import CAPTURE_MODULE, CaptureLink, CaptureProcess, CaptureTask
from mirror.capture.shadow import SAVE_SEGMENTS
from mirror.capture.spool import SEGMENT_BYTES
from mirror.control import ControlServer
from mirror.errors import ConfigError, MirrorError
from mirror.home import Home, SourceTask
from mirror.model import Faults, no_fault
from mirror.pipeline import Pipeline
from mirror.statedir import resolve, source_folder

SPOOL_LIMIT = 4 << 30
#: A save, which makes room, is due only after some segments: half of a full spool must hold more than those.
LEAST_SPOOL_LIMIT = 2 * (SAVE_SEGMENTS + 2) * SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What a mirror needs to know."""

    sources: Sequence[Path]
    dsn: str
    state_dir: Path
    schema: str = "public"
    """Of sources that :attr:`schemas` does not name."""
    tenants: Mapping[Path, str] = field(default_factory=dict)
    """The agents that sources belong to, as far as that is said."""
    profile: str | None = None
    """How the sources are held; None: by what each is."""
    schemas: Mapping[Path, str] = field(default_factory=dict)
    """The Postgres schemas of sources' tables, where not all have one schema."""
    resume_only: bool = False
    spool_limit: int = SPOOL_LIMIT
    capture: str = CAPTURE_MODULE
    """The module that the capture process runs."""


class Agent:
    """Runs the pipelines of some sources, one thread each, until :meth:`stop`."""

    def __init__(self, settings: AgentSettings, faults: Faults = no_fault) -> None:
        """Take the sources' locks; raises ``StateError`` if another mirror has one of them, ``ConfigError``."""
        if settings.spool_limit < LEAST_SPOOL_LIMIT:
            least = f"a spool needs at least {LEAST_SPOOL_LIMIT} bytes"
            raise ConfigError("start the mirror", "spool_limit", least, next_step="give it more, or leave it out")
        self._guard = threading.Lock()
        self._capture: CaptureProcess | None = None
        self._module = settings.capture
        self._taken: set[int] = set()
        self._servers: list[ControlServer] = []
        self._homes: list[Home] = []
        sources = [resolve(source) for source in settings.sources]
        try:
            for source in sources:
                self._homes.append(Home(source_folder(settings.state_dir, source), source))
        except MirrorError:
            self._release()
            raise
        self._tasks = [
            CaptureTask(source, home.folder / "spool", settings.spool_limit)
            for source, home in zip(sources, self._homes, strict=True)
        ]
        self.pipelines = [
            Pipeline(
                SourceTask(
                    source,
                    home.folder,
                    settings.dsn,
                    settings.schemas.get(source, settings.schema),
                    settings.tenants.get(source),
                    settings.profile,
                    settings.resume_only,
                ),
                home,
                self._linker(index),
                faults,
            )
            for index, (source, home) in enumerate(zip(sources, self._homes, strict=True))
        ]
        self._threads = [
            threading.Thread(target=pipeline.run, name=f"mirror {pipeline.task.database.name}", daemon=True)
            for pipeline in self.pipelines
        ]

    def _linker(self, index: int) -> Callable[[], CaptureLink]:
        """A function that gives source ``index`` its link; asked again, capture has died: restart it."""

        def link() -> CaptureLink:
            with self._guard:
                if self._capture is None or index in self._taken:
                    if self._capture is not None:
                        self._capture.stop()
                    self._capture = CaptureProcess(self._tasks, self._module)
                    self._taken = set()
                self._taken.add(index)
                return self._capture.links[index]

        return link

    @property
    def capture_pid(self) -> int | None:
        """Process id of the capture process."""
        return None if self._capture is None else self._capture.pid

    def start(self) -> None:
        """Start mirroring and serving the control sockets."""
        for index, (home, pipeline) in enumerate(zip(self._homes, self.pipelines, strict=True)):
            self._servers.append(ControlServer(home.folder, pipeline))
            home.renewed = partial(self._serve_again, index)
        for thread in self._threads:
            thread.start()

    def _serve_again(self, index: int) -> None:
        """Put back a control socket that was deleted."""
        with self._guard:
            if self._servers and not self._servers[index].intact:
                self._servers[index].close()
                self._servers[index] = ControlServer(self._homes[index].folder, self.pipelines[index])

    @property
    def running(self) -> bool:
        """Whether any pipeline is still at work."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout: float | None = None) -> None:
        """Wait until all pipelines have ended."""
        for thread in self._threads:
            thread.join(timeout)

    def stop(self, timeout: float = 1.2) -> bool:
        """End all pipelines; False if one is inside a Postgres statement that takes longer.

        Whatever is cut off is found whole at the next start, as after a kill.
        """
        for pipeline in self.pipelines:
            pipeline.stop()
        for thread in self._threads:
            thread.join(timeout)
        ended = not self.running
        with self._guard:
            for server in self._servers:
                server.close()
            self._servers.clear()
        if self._capture is not None:
            self._capture.stop()
            self._capture = None
        if ended:
            self._release()
        return ended

    def _release(self) -> None:
        for home in self._homes:
            home.release()
        self._homes.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
