"""One source of a running mirror: its folder, its control socket and its pipeline, from each start to each end.

A source that cannot begin (another mirror has it, its state is damaged) is logged once, and waits until it can.

A pipeline ends when it is asked to, or with an error that no retry can help. Then the source releases all that it has:
the control socket, the folder's lock, Postgres, capture, descriptors. So another process may mirror it (``mirror up``
in another terminal, a program's sidecar), while this one goes on with its other sources. This process also starts the
source again by itself once the file has changed, for example because it was repaired; unless another mirror has the
source by then.

Each start is like that of a new process: the folder's lock first; then a connection to capture, which opens the spool
only when the last connection has closed it; then lock and epoch in Postgres. So a source never has two pipelines.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from loguru import logger

from mirror.capture.link import CaptureLink
from mirror.core.backoff import Backoff
from mirror.core.errors import ControlError, FencedError, MirrorError, SealedError, WayBackLostError
from mirror.core.faults import Faults
from mirror.core.folders import forget
from mirror.core.sockets import control_path
from mirror.core.source_settings import is_paused, remember_paused
from mirror.core.status import AroundReport
from mirror.postgres.sessions import Wait, last_wait
from mirror.sidecar.crew import Crew, Job, Rest
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.repose import Shared
from mirror.sidecar.requests import Fleet
from mirror.sidecar.serve.control import ControlServer
from mirror.sidecar.source_folder import SourceFolder, SourceTask, located

#: Seconds between two checks of the file of a source that has failed.
CHECK_SECONDS = 1.0
#: Seconds until such a source is started again, at first, and at most if it fails again and again.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Seconds between two attempts, at most, to begin with a source that could not begin: an attempt costs little.
LONGEST_WAIT = 5.0
#: Seconds that a pause waits for what is under way.
PAUSE_SECONDS = 10.0
#: The source was moved to Postgres, and there is no way back: no start changes that.
_MOVED = (SealedError, WayBackLostError)
#: After these it is not started again when the file changes. Fenced: another mirror has the source in Postgres, and two
#: that took turns would copy it each time.
_FOR_GOOD = (FencedError, *_MOVED)


@dataclass(frozen=True, slots=True)
class _Stamps:
    """What changes when a source is written, or replaced by another file."""

    file: tuple[int, int, int] | None
    """Inode, size in bytes and modification time in nanoseconds; None: there is no file."""
    wal: tuple[int, int, int] | None

    @classmethod
    def of(cls, database: Path) -> _Stamps:
        """A source's files as they are now. Opens nothing: closing it would drop the locks of a connection to the file
        (hazard 17, mirror/HAZARDS.md).
        """
        return cls(_stamp(database), _stamp(Path(f"{database}-wal")))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class SupervisedSource:
    """Runs one source's pipelines, one after another."""

    def __init__(
        self,
        task: SourceTask,
        schema: Callable[[], str | None],
        link: Callable[[], CaptureLink],
        faults: Faults,
        *,
        restarts: bool,
        options: str = "",
        shared: Shared | None = None,
        fleet: Fleet | None = None,
        around: Callable[[], AroundReport] = AroundReport,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """``schema``: returns the schema that is named for the source now, None: the task's; may raise ``MirrorError``.
        ``link``, ``shared``: as for :class:`Pipeline`.

        ``restarts``: start the source again when its file has changed, or when it could not begin. ``options``: what
        the command that starts it needs besides its name. ``around``: as for :class:`ControlServer`.
        ``alone``: whether no other source is being mirrored: then the mirror ends with this one, and its error is told
        once, at that end.
        """
        self.task = task
        self.pipeline: Pipeline | None = None
        """The current one, or the last; None: the source has not begun yet."""
        self._problem: MirrorError | None = None
        """Why it could not begin."""
        self.working = False
        """Whether the source is being mirrored, or the mirror retries."""
        self._folder: SourceFolder | None = None
        self._schema = schema
        self._link = link
        self._faults, self._shared, self._fleet = faults, shared, fleet
        self._restarts = restarts
        self._options = options
        self._around, self._alone = around, alone
        self._server: ControlServer | None = None
        self._guard = threading.Lock()
        self._stopping = False
        self._unwatch = threading.Event()
        """Set when the file of a failed source is not to be watched any longer."""
        self._logged = ""
        self._job: Job | None = None

    # -- for other threads -------------------------------------------------------------------------

    @property
    def error(self) -> MirrorError | None:
        """Why it could not begin, or has ended; None: it is being mirrored, or was stopped."""
        return self._problem if self.pipeline is None else self.pipeline.error

    def _wait(self) -> Wait | None:
        """The wait for Postgres of the thread that works for it now, or its last one."""
        thread = None if self._job is None else self._job.thread
        return None if thread is None else last_wait(thread)

    @property
    def silent_seconds(self) -> float:
        """For how long its loop has not come by, but for a wait for Postgres; 0 while it is not being mirrored."""
        folder, job, wait = self._folder, self._job, self._wait()
        if not self.working or folder is None or job is None or job.done.is_set() or (wait is not None and wait.lasts):
            return 0.0
        return time.monotonic() - max(folder.seen_at, wait.since if wait is not None else 0.0)

    @property
    def postgres_seconds(self) -> float:
        """For how long it has been waiting for an answer of Postgres; 0 while it does not."""
        wait = self._wait()
        return time.monotonic() - wait.since if wait is not None and wait.lasts else 0.0

    def open(self) -> None:
        """Lock the source's folder, before :meth:`start`; what keeps it from that is in :attr:`error` then."""
        try:
            self._open()
        except MirrorError as error:
            self._problem = error

    def start(self, crew: Crew) -> None:
        """Have a crew mirror the source, with the control socket in its place."""
        if self.pipeline is not None:
            self.working = True
            with suppress(MirrorError):  # the pipeline tries it again, and says what is wrong
                self._serve(self.pipeline)
        self._job = crew.start(self._run(), str(self.task.database))

    def restart_no_more(self) -> None:
        """Do not start the source again once it has failed."""
        self._restarts = False
        self._end_watch()

    def _end_watch(self) -> None:
        self._unwatch.set()
        if self._job is not None:
            self._job.wake()

    def pause(self, *, paused: bool) -> None:
        """Have it leave source and Postgres alone until it is resumed, or resume it; also after a restart.

        Waits for a pause to begin, up to :data:`PAUSE_SECONDS`. Raises ``StateError``.
        """
        try:
            remember_paused(self.task.folder, paused=paused)
        except OSError as error:
            raise located(error, self.task) from error
        with self._guard:
            pipeline = self.pipeline
        if pipeline is not None:
            pipeline.pause(paused=paused)
            if not paused:
                pipeline.requests.paused = None  # what is asked from now on is answered when it goes on
            else:
                pipeline.requests.await_pause(PAUSE_SECONDS)

    def remove(self) -> None:
        """As :meth:`stop`; its folder counts as that of no known source from now on. Raises ``StateError``."""
        try:
            forget(self.task.folder)
        except OSError as error:
            raise located(error, self.task) from error
        self.stop()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        with self._guard:
            self._stopping = True
            pipeline = self.pipeline
        self._end_watch()
        if pipeline is not None:
            pipeline.stop()
        if self._job is None and self._folder is not None:
            self._folder.release()

    def join(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for its end; returns whether it has ended."""
        return self._job is None or self._job.done.wait(seconds)

    def sign_off(self) -> None:
        """The process ends now, and with it what :meth:`join` did not wait for."""
        if (folder := self._folder) is not None:
            folder.sign_off()

    def stop_serving(self) -> None:
        """Remove the control socket, if there is one."""
        with self._guard:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    # -- the thread that works for it --------------------------------------------------------------

    def _run(self) -> Iterator[Rest]:
        if self._problem is not None:
            self._log(self._problem)
            if not (yield from self._begin_again(None, Backoff(FIRST_PAUSE, LONGEST_WAIT))):
                return
        pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while (pipeline := self.pipeline) is not None:
            begun, seen = time.monotonic(), _Stamps.of(self.task.database)
            yield from self._mirror(pipeline)
            error = pipeline.error
            self.working = False
            if error is None or self._stopping:
                return
            if pipeline.status.caught_up_at is not None:
                # It has changed since it began, as it was followed.
                seen, self._logged = _Stamps.of(self.task.database), ""
            if pipeline.bug is not None or not self._alone():
                self._log(error)
            if isinstance(error, _FOR_GOOD):
                return
            if time.monotonic() - begun > LONGEST_PAUSE:
                pause.reset()
            if not (yield from self._begin_again(seen, pause)):
                return

    def _mirror(self, pipeline: Pipeline) -> Iterator[Rest]:
        """Run the pipeline to its end, and release all that it had."""
        folder = self._folder
        try:
            yield from pipeline.turns()
        except Exception as error:  # while it was being closed
            pipeline.bug = pipeline.bug or error
            pipeline.error = pipeline.error or MirrorError(
                "end the mirror", str(self.task.database), f"{type(error).__name__}: {error}"
            )
        finally:
            self.stop_serving()
            if folder is not None:
                folder.release()

    def _is_served(self) -> bool:
        with self._guard:
            return self._stopping or (self._server is not None and self._server.intact)

    def _serve(self, pipeline: Pipeline) -> None:
        """Make the pipeline's control socket, unless it is there. Raises ``ControlError``."""
        if self._is_served():
            return
        self.stop_serving()
        try:
            server = ControlServer(self.task.folder, pipeline, self._around)
        except OSError as error:
            place, detail = str(control_path(self.task.folder)), error.strerror or str(error)
            raise ControlError("make the control socket", place, detail, retryable=True) from error
        with self._guard:
            self._server = server

    def _log(self, error: MirrorError) -> None:
        """Log once why it could not begin, or has ended, and what starts it."""
        text = str(error)
        if text == self._logged:
            return
        self._logged = text
        command = f"`mirror up {shlex.quote(str(self.task.database))}{self._options}`"
        if self.pipeline is None:
            again = "by itself when that is put right, or " if self._restarts else ""
            words = "{}: mirroring could not begin: {error}; it begins {}with {}"
            logger.error(words, self.task.name, again, command, error=error)
            return
        if isinstance(error, _MOVED):
            level = "WARNING" if isinstance(error, SealedError) else "ERROR"
            logger.log(level, "{}: mirroring has ended: {error}", self.task.name, error=error)
            return
        again = "by itself when the file changes, or " if self._restarts and not isinstance(error, _FOR_GOOD) else ""
        log = logger.opt(exception=self.pipeline.bug) if self.pipeline.bug is not None else logger
        words = "{}: mirroring has ended: {error}; it starts again {}with {}"
        log.error(words, self.task.name, again, command, error=error)

    def _begin_again(self, seen: _Stamps | None, pause: Backoff) -> Generator[Rest, None, bool]:
        """Wait until the files differ from ``seen``, for a pause at least, and make a new pipeline.

        ``seen``: None for a source that could not begin, where it is not the file that has to change. Returns False if
        the mirror ends before.
        """
        due = time.monotonic() + pause.next()
        refused = ""
        while self._restarts and not self._unwatch.is_set():
            yield Rest(time.monotonic() + CHECK_SECONDS)
            if time.monotonic() < due or self._unwatch.is_set():
                continue
            now = _Stamps.of(self.task.database)
            if seen is not None and (now == seen or now.file is None):
                continue
            try:
                self._open()
            except MirrorError as error:
                due = time.monotonic() + pause.next()
                if seen is None:
                    self._problem = error
                    self._log(error)
                    continue
                # In most cases another mirror has it, and may keep it.
                if str(error) != refused:
                    logger.debug("{}: not started again: {}", self.task.name, error)
                refused = str(error)
                continue
            if seen is None:
                logger.info("{}: mirroring begins now", self.task.name)
            else:
                logger.debug("{}: its file has changed: starting again", self.task.name)
            return True
        return False

    def _open(self) -> None:
        """Lock the folder, with a new pipeline. Raises ``MirrorError``."""
        try:
            folder = SourceFolder(self.task.folder, self.task.database)
            try:
                named = self._schema()
                task = replace(
                    self.task,
                    schema=named or self.task.schema,
                    unnamed=named is None,
                    # Said of what had been written before the command: not of what is written before a restart.
                    discard_writes=self.task.discard_writes and self.pipeline is None,
                    replace_rows=self.task.replace_rows and self.pipeline is None,
                )
                pipeline = Pipeline(task, folder, self._link, self._faults, self._shared)
                pipeline.pause(paused=is_paused(self.task.folder))
            except BaseException:
                folder.release()
                raise
        except OSError as error:
            raise located(error, self.task) from error
        with self._guard:
            self.working = self._job is not None
            self._folder, self.pipeline, self._problem = folder, pipeline, None
            pipeline.requests.fleet = self._fleet
            folder.served, folder.serve = self._is_served, partial(self._serve, pipeline)
            if self._stopping:
                pipeline.stop()
