"""How a source's loop waits: for what comes, for a session in Postgres, and while there is nothing to do.

A loop that has just done something keeps its thread for a moment: what comes next is done at once. With nothing to do
it rests (:mod:`mirror.sidecar.crew`), and is woken by capture, by another thread's request, or by a second's tick that
finds something out of order. After some quiet seconds nothing else wakes it for ten minutes. If another source needs
its session in Postgres, it rests on without one (:mod:`mirror.sidecar.seats`) until there is something to write.
"""

from __future__ import annotations

import select
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from mirror.core.errors import FencedError, PausedError, SealedError, SinkError
from mirror.core.status import Phase
from mirror.postgres.keeper import Keeper
from mirror.postgres.sink import Sink
from mirror.replica.replica import Replica
from mirror.replica.source_connection import SourceConnection
from mirror.sidecar.capture_feed import CaptureFeed
from mirror.sidecar.crew import Rest
from mirror.sidecar.hooktalk.facade import HookTalk
from mirror.sidecar.mailbox import Mailbox, Paused, Stopped
from mirror.sidecar.publishing import Publishing
from mirror.sidecar.requests import Requests
from mirror.sidecar.seats import LONGEST_SECONDS, Seats
from mirror.sidecar.server_outage import ServerOutage
from mirror.sidecar.source_folder import SourceFolder
from mirror.sidecar.status import SourceStatus

#: Seconds for which a loop that has something to do reads no messages: they may ask it to stop, or to hold.
DEAF_SECONDS = 0.002
#: Seconds for which a loop keeps its thread after it has done something, at most, unless others wait for one.
LINGER_SECONDS = 0.05
#: Seconds after which it is woken by its ticks alone, and once in the second number of seconds; before: each second.
QUIET_SECONDS, LOOK_SECONDS, SOON_SECONDS = 10.0, 600.0, 1.0
#: Seconds between two looks, of a source that is woken by its ticks alone, at its folder and its name.
SURVEY_SECONDS = 5.0
#: Seconds between two tries to keep the lock of a paused source.
LOCK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the sources of one mirror share."""

    seats: Seats
    keeper: Keeper
    crowded: Callable[[], bool] = lambda: False
    """Whether loops wait for a thread."""
    server: ServerOutage = field(default_factory=ServerOutage)


class Repose:
    """The waits of one source's loop. Thread: the loop's, but for :meth:`stop`."""

    def __init__(
        self,
        folder: SourceFolder,
        feed: CaptureFeed,
        mailbox: Mailbox,
        status: SourceStatus,
        source: SourceConnection,
        publishing: Publishing,
        hooks: HookTalk,
        needed: Callable[[], range],
        shared: Shared,
    ) -> None:
        """``needed``: returns the numbers of the spool segments that must exist."""
        self.stopping, self.pausing, self.paused = threading.Event(), threading.Event(), threading.Event()
        """``pausing``: it was asked to; ``paused``: it is."""
        self.sink: Sink | None = None
        """The source's session in Postgres, while it has one."""
        self._folder, self._feed, self._mailbox, self._status = folder, feed, mailbox, status
        self._source, self._publishing, self._needed, self._shared = source, publishing, needed, shared
        self._hooks, self._name = hooks, status.name
        self._ring = mailbox.wake
        """By this, others know the loop."""
        self._moved_at = self._pumped_at = self._seated_at = 0.0
        self._next_survey = 0.0
        self.kept: int | None = None
        """The number of the source, while the keeper has its lock."""

    def stop(self) -> None:
        """Ask the loop to end. Thread: any."""
        self.stopping.set()
        self._mailbox.wake()

    def pause(self, *, paused: bool) -> None:
        """Have the loop leave source and Postgres alone, or go on. Thread: any."""
        (self.pausing.set if paused else self.pausing.clear)()
        self._mailbox.wake()

    def check(self) -> None:
        """Called in every long read or wait, so that a stop or a deleted folder interrupts it. Raises for either."""
        if self.stopping.is_set():
            raise Stopped
        if self.pausing.is_set() and not self.paused.is_set():
            raise Paused
        self._folder.check_now_and_then(self._needed)

    def pump(self, timeout: float = 1.0) -> None:
        """Handle messages of capture and requests of other threads; waits up to ``timeout`` seconds for one.

        Raises :class:`Stopped`, ``StateError``, and what capture reports.
        """
        self.check()
        if self._feed.wait(self._mailbox.bell, timeout):
            self._mailbox.serve()
        if self._feed.captured is not None:
            self._status.has_captured(self._feed.captured)
        if self.sink is not None:
            self._status.indexing, self._status.index_error = self.sink.indexing
        self.check()
        self._pumped_at = time.monotonic()

    def hold_off(self, seconds: float) -> Iterator[Rest]:
        """Wait so long, whatever comes; raises as :meth:`pump` does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            yield from self._until(until)
            if self._shared.seats.wanted:
                self.leave_postgres()

    def _until(self, until: float, tick: Callable[[], bool] | None = None) -> Iterator[Rest]:
        yield Rest(until, (self._mailbox.bell, *self._feed.readable), tick)
        self.pump(0.0)

    # -- between two batches -----------------------------------------------------------------------

    def moves(self) -> Iterator[Rest]:
        """Something was done: let others have the thread, if they wait for one."""
        self._moved_at = time.monotonic()
        if self._shared.crowded():
            yield Rest(0.0)
        if self._moved_at > self._pumped_at + DEAF_SECONDS:
            self.pump(0.0)

    @property
    def is_over(self) -> bool:
        """Whether it has had its session for long enough, and others wait for one."""
        return self._shared.seats.wanted and time.monotonic() > self._seated_at + LONGEST_SECONDS

    def _is_settled(self, replica: Replica) -> bool:
        """Whether nothing is to be done at a time, nor said by a hook."""
        sink = self.sink
        if sink is None or self._mailbox.held or sink.refusals or sink.indexing[0] is not None or replica.saving:
            return False
        return self._status.phase is Phase.FOLLOWING and not self._feed.awaits and not self._hooks.hooked.writers

    def rest(self, replica: Replica) -> Iterator[Rest]:
        """Wait until there may be something to do."""
        quiet = time.monotonic() - self._moved_at
        if quiet < LINGER_SECONDS and not self._shared.crowded():
            self.pump(LINGER_SECONDS)
            return
        wanted = not self._mailbox.held and self._shared.seats.rests(self._ring)
        if wanted and self.leave_postgres():
            return
        if quiet > QUIET_SECONDS and not wanted and self._is_settled(replica):
            yield from self._until(time.monotonic() + LOOK_SECONDS, self._tick)
        else:
            yield from self._until(time.monotonic() + SOON_SECONDS)
        self._shared.seats.works(self._ring)

    def _tick(self) -> bool:
        """Say that the mirror is there; True if the loop has to look."""
        self._folder.seen_at = now = time.monotonic()
        self._status.caught_up_at = time.time()
        self._publishing.beat()
        if self.stopping.is_set() or self._lost():
            return True
        if now < self._next_survey:
            return False
        self._next_survey = now + SURVEY_SECONDS
        return not (self._folder.is_whole(self._needed()) and self._source.is_settled())

    def _lost(self) -> bool:
        """Whether the session in Postgres that has the source's lock has ended, or says something."""
        if self.sink is None:
            return not self._is_kept()
        if (number := self.sink.fileno()) >= 0:
            poll = select.poll()
            poll.register(number, select.POLLIN)
            if not poll.poll(0):
                return False
        self._status.look_at_reads()
        return True

    # -- the session in Postgres -------------------------------------------------------------------

    def await_seat(self, *, copies: bool) -> Iterator[Rest]:
        """Wait until the source may have a session. ``copies``: the whole source is to be copied."""
        while not self._shared.seats.take(self._ring, copies=copies):
            yield from self._until(time.monotonic() + SOON_SECONDS)
        self._seated_at = time.monotonic()

    def begins(self, sink: Sink) -> None:
        """It has a session now."""
        self.sink, self.kept = sink, None

    def is_interrupted(self, *, of_postgres: bool) -> None:
        """An error has interrupted the loop; ``of_postgres``: of its session. A source that has none needs no seat."""
        if of_postgres or (self.sink is None and self.kept is None):
            self.drop()
        elif self.sink is None:
            self._shared.seats.give(self._ring)

    def has_copied(self) -> None:
        """The whole source is not copied, or not any more."""
        self._shared.seats.has_copied(self._ring)

    def drop(self) -> None:
        """Close the session, if there is one, and with it the right to write; another source may have one."""
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.close()
        if self.kept is not None:
            self._shared.keeper.drop(self.kept)
            self.kept = None
        self._shared.seats.give(self._ring)

    close = drop

    def leave_postgres(self) -> bool:
        """Close the session, and keep the right to write; False if that cannot be. Raises ``SinkError``."""
        sink = self.sink
        if sink is None or (sink.indexing[0] is not None and not self.pausing.is_set()):
            return False
        if not sink.rest(self._shared.keeper):
            return False
        self.sink, self.kept = None, sink.source_id
        self._shared.seats.give(self._ring)
        return True

    def stand_still(self, open_sink: Callable[[], None], requests: Requests) -> Iterator[Rest]:
        """Paused: leave source and Postgres alone until it is resumed; then it goes on as after a restart.

        Meanwhile nobody else may write. ``open_sink``: opens a session. Raises ``FencedError``.
        """
        self._feed.disconnect()
        self._source.close()
        self._source.was_ours()
        self._hooks.reopened()
        self._status.is_paused()
        self._publishing.update(None, self._status, agreed=False)
        self._status.keep(self._folder.folder)
        requests.paused = _paused(self._source.database)
        requests.has_changed()
        self.paused.set()
        said, due, sealed = "", 0.0, False
        try:
            while self.pausing.is_set():
                if not sealed and time.monotonic() >= due and not self._is_kept():
                    due = time.monotonic() + LOCK_SECONDS
                    try:
                        if self.sink is None:
                            yield from self.await_seat(copies=False)
                            open_sink()
                        self.leave_postgres()
                    except FencedError:
                        raise
                    except SealedError:
                        sealed = True  # nothing is mirrored into Postgres
                        self.drop()
                    except SinkError as error:
                        self.drop()
                        if str(error) != said:
                            said = str(error)
                            words = "{}: paused, and another mirror may take it: {error}"
                            logger.warning(words, self._name, error=error)
                self._status.is_paused()
                yield from self._until(time.monotonic() + SOON_SECONDS)
        finally:
            self.paused.clear()
            requests.paused = None
        self._status.phase = Phase.STARTING

    def _is_kept(self) -> bool:
        return self.kept is not None and self._shared.keeper.keeps(self.kept)

    def rest_apart(self, wanted: Callable[[], bool]) -> Iterator[Rest]:
        """Without a session: wait until one is needed. ``wanted``: whether there is something to do in Postgres."""
        keeper = self._shared.keeper
        while self.kept is not None and self._is_kept() and not wanted():
            if self._status.reads_are_due:
                try:
                    keeper.look(self.kept, self._status.source, self._status.looks_at_reads)
                except SinkError:
                    return  # its own session says what is wrong
            yield from self._until(time.monotonic() + LOOK_SECONDS, self._tick)


def _paused(source: Path) -> PausedError:
    """The error of a request to the mirror of a source that is paused."""
    step = f"`mirror resume {shlex.quote(str(source))}` goes on"
    return PausedError("ask the mirror", str(source), "it is paused", next_step=step, retryable=True)
