"""The threads that work for all sources of a mirror: few, however many sources there are.

A source's loop is a generator. Where it has nothing to do it yields a :class:`Rest`: its thread works for another
source then, until a descriptor is readable, or it is time. Meanwhile the source's *tick* is called every second, by
which it says that it is there, and sees what nobody would tell it.

A loop may also wait inside a turn, for a statement in Postgres or for a file, and that may take for ever. So a thread
whose turn takes long does not count: there are at most :data:`WORKERS`, and one for each source that is stuck.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from loguru import logger

from mirror.sidecar.priority import lower_priority

#: Threads, but for those of sources that are stuck.
WORKERS = 16
#: Seconds after which a turn counts as one that is stuck.
STUCK_SECONDS = 0.5
#: Seconds in which each source that rests is ticked once, and the parts in which that is done.
TICK_SECONDS, TICK_PARTS = 1.0, 2
#: Seconds after which a rest ends of which not everything can be watched.
BLIND_SECONDS = 1.0
#: Seconds after which a thread ends that has had nothing to do.
_SPARE_SECONDS = 10.0


class Readable(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """-1: it is closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """A loop has nothing to do."""

    until: float
    """On the monotonic clock."""
    on: tuple[Readable, ...] = ()
    """What ends the rest when it is readable."""
    tick: Callable[[], bool] | None = None
    """Called every second, in any thread; True ends the rest."""


class _State(Enum):
    READY = auto()
    RUNNING = auto()
    RESTING = auto()
    TICKING = auto()
    ENDED = auto()


class Job:
    """A loop, and where it is. Made by :meth:`Crew.start`."""

    def __init__(self, crew: Crew, loop: Iterator[Rest], source: str) -> None:
        self.loop, self.source = loop, source
        self.thread: threading.Thread | None = None
        """The one that works for it now; None: it rests, or waits for a thread."""
        self.done = threading.Event()
        """It has come to its end."""
        self._crew = crew
        self.state = _State.READY
        self.rest: Rest | None = None
        self.watched: list[int] = []
        self.woken = False

    def wake(self) -> None:
        """End its rest; the next one, if it does not rest. Thread: any."""
        self._crew.wake(self)


class Crew:
    """Thread: any, for each method."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ready: deque[Job] = deque()
        self._due: deque[Job] = deque()
        """To be ticked."""
        self._round: dict[Job, None] = {}
        """Those that rest with a tick; the first one's was the longest ago."""
        self._next_part = 0.0
        self._times: list[tuple[float, int, Job, Rest]] = []
        self._numbers = itertools.count()
        self._spare: list[threading.Lock] = []
        """One for each thread that has nothing to do, released to call it. The last one is called first: so few threads
        do what there is, and the others end."""
        self._workers = self._living = 0
        self._running: dict[Job, float] = {}
        """Since when each is at work, on the monotonic clock."""
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        for end in (self._bell, self._ring):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._watches_until = 0.0
        self._watcher: threading.Thread | None = None

    def start(self, loop: Iterator[Rest], source: str) -> Job:
        """Work for a loop, to its end. ``source``: what the log says that it is about."""
        job = Job(self, loop, source)
        with self._guard:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="mirror watch", daemon=True)
                self._watcher.start()
            self._living += 1
            self._enqueue(job)
        return job

    @property
    def crowded(self) -> bool:
        """Whether loops wait for a thread."""
        return bool(self._ready)

    def wake(self, job: Job) -> None:
        """See :meth:`Job.wake`."""
        with self._guard:
            if job.state is _State.RESTING:
                self._rouse(job)
            else:
                job.woken = True

    def close(self) -> None:
        """End the threads that have nothing to do; the others end with the turn that they are in."""
        with self._guard:
            self._closed = True
            while self._spare:
                self._spare.pop().release()
            if self._watcher is None:
                self._release()
            else:
                self._ring_bell()

    # -- with the guard ----------------------------------------------------------------------------

    def _enqueue(self, job: Job) -> None:
        job.state, job.rest, job.woken = _State.READY, None, False
        self._ready.append(job)
        self._hire()

    def _hire(self) -> None:
        """Have a thread take what is there; a new one, if none is spare and there may be more."""
        if self._spare:
            self._spare.pop().release()
        elif self._workers < self._most_workers():
            self._workers += 1
            threading.Thread(target=self._run, name="mirror worker", daemon=True).start()

    def _most_workers(self) -> int:
        before = time.monotonic() - STUCK_SECONDS
        return WORKERS + sum(since < before for since in self._running.values())

    def _rouse(self, job: Job) -> None:
        self._watch_no_more(job)
        self._enqueue(job)

    def _watch_no_more(self, job: Job) -> None:
        self._round.pop(job, None)
        for number in job.watched:
            try:
                self._selector.unregister(number)
            except (KeyError, OSError):
                pass  # it was closed meanwhile
        job.watched.clear()

    def _lay_down(self, job: Job, rest: Rest) -> None:
        if job.woken or rest.until <= time.monotonic():
            self._enqueue(job)
            return
        job.state, job.rest = _State.RESTING, rest
        until = rest.until
        for each in rest.on:
            if (number := each.fileno()) >= 0:
                try:
                    self._selector.register(number, selectors.EVENT_READ, job)
                except OSError as error:  # the system has no room for more
                    until = min(until, time.monotonic() + BLIND_SECONDS)
                    logger.debug("{}: it looks once a second itself: {}", job.source, error)
                else:
                    job.watched.append(number)
        if rest.tick is not None:
            self._round[job] = None
        heapq.heappush(self._times, (until, next(self._numbers), job, rest))
        if until < self._watches_until or rest.tick is not None:
            self._ring_bell()

    def _ring_bell(self) -> None:
        try:
            self._ring.send(b"!")
        except OSError:
            pass  # it rings already; or nobody watches any more

    def _release(self) -> None:
        """Close the descriptors: nothing is watched any more."""
        self._selector.close()
        self._bell.close()
        self._ring.close()

    # -- the thread that watches -------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            with self._guard:
                if self._closed and not self._living:
                    self._release()
                    return
                self._watches_until = self._next_look(time.monotonic())
                seconds = max(0.0, self._watches_until - time.monotonic())
            ready = self._selector.select(None if seconds > 1e6 else seconds)
            with self._guard:
                for key, _ in ready:
                    self._hears(key)
                now = time.monotonic()
                while self._times and self._times[0][0] <= now:
                    _, _, job, rest = heapq.heappop(self._times)
                    if job.rest is rest and job.state is _State.RESTING:
                        self._rouse(job)
                    elif job.rest is rest and job.state is _State.TICKING:
                        job.woken = True
                self._tick_some(now)
                if (self._ready or self._due) and not self._spare:
                    self._hire()  # there may be more now, as some are stuck

    def _next_look(self, now: float) -> float:
        due = [float("inf")]
        while self._times and self._times[0][2].rest is not self._times[0][3]:
            heapq.heappop(self._times)  # that rest has ended
        if self._times:
            due.append(self._times[0][0])
        if self._round:
            due.append(self._next_part)
        if self._ready or self._due:
            due.append(now + STUCK_SECONDS)
        return min(due)

    def _hears(self, key: selectors.SelectorKey) -> None:
        job: Job | None = key.data
        if job is None:
            try:
                self._bell.recv(4096)
            except BlockingIOError:
                pass
        elif job.state is _State.RESTING:
            self._rouse(job)
        elif job.state is _State.TICKING:
            self._watch_no_more(job)
            job.woken = True

    def _tick_some(self, now: float) -> None:
        if not self._round or now < self._next_part:
            return
        self._next_part = now + TICK_SECONDS / TICK_PARTS
        some = list(itertools.islice(self._round, -(-len(self._round) // TICK_PARTS)))
        for job in some:
            del self._round[job]
            self._round[job] = None
            if job.state is _State.RESTING:
                self._due.append(job)
        if self._due:
            self._hire()

    # -- the threads that work ---------------------------------------------------------------------

    def _run(self) -> None:
        lower_priority()
        call = threading.Lock()
        call.acquire()
        while (job := self._next(call)) is not None:
            if job.state is _State.TICKING:
                self._tick(job)
            else:
                with logger.contextualize(source=job.source):
                    self._turn(job)

    def _next(self, call: threading.Lock) -> Job | None:
        """Wait for something to do; None: this thread is not needed. ``call``: its own, locked."""
        with self._guard:
            while True:
                if (job := self._take()) is not None:
                    return job
                if self._closed or self._workers > self._most_workers():
                    break
                self._spare.append(call)
                self._guard.release()
                try:
                    called = call.acquire(timeout=_SPARE_SECONDS)
                finally:
                    self._guard.acquire()
                if not called and call in self._spare:
                    self._spare.remove(call)
                    break
                if not called:
                    call.acquire()  # it was called in this very moment
            self._workers -= 1
            return None

    def _take(self) -> Job | None:
        if self._ready:
            job = self._ready.popleft()
            job.state, job.thread = _State.RUNNING, threading.current_thread()
            self._running[job] = time.monotonic()
            return job
        while self._due:
            job = self._due.popleft()
            # It may have worked since, and rest otherwise.
            if job.state is _State.RESTING and job.rest is not None and job.rest.tick is not None:
                job.state = _State.TICKING
                self._running[job] = time.monotonic()
                return job
        return None

    def _turn(self, job: Job) -> None:
        try:
            rest = next(job.loop, None)
        except Exception:
            logger.exception("{}: its loop has failed", job.source)  # a bug: it reports its own errors
            rest = None
        with self._guard:
            job.thread = None
            del self._running[job]
            if rest is None:
                job.state = _State.ENDED
                self._living -= 1
                if self._closed:
                    self._ring_bell()
            else:
                self._lay_down(job, rest)
        if rest is None:
            job.done.set()

    def _tick(self, job: Job) -> None:
        rest = job.rest
        assert rest is not None and rest.tick is not None
        try:
            wanted = rest.tick()
        except Exception:
            logger.bind(source=job.source).exception("{}: a look at it has failed", job.source)
            wanted = True
        with self._guard:
            del self._running[job]
            if job.woken or wanted:
                self._rouse(job)
            else:
                job.state = _State.RESTING
