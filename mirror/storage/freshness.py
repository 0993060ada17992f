"""Reads that never see the past: what a read needs to know before and after it asks Postgres.

::

    start = freshness.begin()                                # the newest commit now: some microseconds
    reason = start.reason or freshness.wait(start, time.monotonic() + 0.02)
    if reason is None:
        row, answer = ...                                    # one statement: position row and answer
        if freshness.proves(start, row): ...                 # the answer is not older than that commit
    ...                                                      # else: the same question to SQLite

The proof is the position row in the answer's own snapshot (:mod:`mirror.storage.proofs`), so it holds through a pooler,
on a standby and after a failover. The published position (:mod:`mirror.core.published`) only says whether it pays to
ask.

Before any of that the mirror is asked once what it follows: by a thread of its own, so no read waits for it, and
again whenever the files, the mirror or its copy of the source are others. Until it has answered, reads go to SQLite.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakSet

from mirror.core.backoff import Backoff
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, MirrorError, SourceError
from mirror.core.folders import resolve, source_folder
from mirror.core.positions import Lsn
from mirror.core.published import Published, PublishedReader
from mirror.storage.forks import Lock
from mirror.storage.newest import WalIndex
from mirror.storage.proofs import PositionRow, Proofs, Start
from mirror.storage.reads import Reason

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Seconds between two looks at the published position while a read waits.
PAUSE = 0.0002
#: Seconds that the mirror may take to say what it follows, and between two questions that failed.
ANSWER_SECONDS, FIRST_PAUSE, LONGEST_PAUSE = 2.0, 0.05, 1.0

_all: WeakSet[Freshness] = WeakSet()


class Freshness:
    """What this process knows of one source and its mirror. Thread: any."""

    def __init__(self, database: Path | str, state_dir: Path, connect: Callable[[], object] = lambda: None) -> None:
        """``database``: the source. ``state_dir``: the state directory of its mirror. Neither need be there.

        ``connect``: called before the mirror is asked; where the process has no connection to the file that is there
        now (it was forked, or the file replaced), it opens one, or raises a ``MirrorError``.

        The process must have a connection of its own to the database, and have read through it, from before this until
        the end: then nothing can happen to the WAL that this does not see (:mod:`mirror.storage.proofs`).
        """
        source = resolve(database)
        self._connect = connect
        self._name, self._source = source.name, source
        self.path = str(source)
        """The source's, by which its reads are counted."""
        self.folder = source_folder(state_dir, source)
        """The source's folder in the state directory."""
        self._guard = Lock()
        self._closed = False
        self._reader = PublishedReader(self.folder)
        self.error: MirrorError | None = None
        """Why the mirror could not be asked the last time what it follows; None: it has answered."""
        self.ask_sealed: Callable[[int], bool] = lambda source_id: False
        """Whether a source (``source_id``) is sealed in Postgres; raises a ``MirrorError``."""
        self._unsealed_in: tuple[int, float] | None = None
        """What was published, by its run and beat, when Postgres was asked last and said so."""
        self._start_over()
        _all.add(self)

    def _start_over(self) -> None:
        """Also in a process that was forked: its parent's connections and threads are not there, so nothing is proved,
        and what a thread was changing may be half-changed.
        """
        self._index = WalIndex(self._source)
        self._reader.close()
        self._reader = PublishedReader(self.folder)
        self._proofs = Proofs()
        self._pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._next_try = 0.0
        self._asking = False

    # -- a read ------------------------------------------------------------------------------------

    def begin(self) -> Start:
        """A read begins. Never waits and never raises; some microseconds."""
        with self._guard:
            newest = self._index.newest()
            if isinstance(newest, Reason):
                return Start(None, newest)
            published = self._published()
            start = self._proofs.begin(newest, published)
            if published is None or not published.following:
                return start._replace(reason=Reason.NOT_FOLLOWED)
            if not published.wal:
                return start._replace(reason=Reason.NO_INDEX)
            if start.floor is None or start.floor.mirror != published.mirror:
                self._ask_soon()
                return start._replace(reason=Reason.UNPROVED)
            return start

    def proves(self, start: Start, row: PositionRow | None) -> bool:
        """Whether an answer with this position row has all that was committed when the read began.

        ``row``: None if there is none.
        """
        if start.reason is not None or row is None:
            return False
        with self._guard:
            return self._covers(start, row)

    def covers(self, start: Start, row: PositionRow) -> bool:
        """:meth:`proves`, also where no mirror follows the source any more."""
        with self._guard:
            return self._covers(start, row)

    def is_at(self, start: Start, row: PositionRow) -> bool:
        """Whether an answer with this position row is of exactly the newest commit when the read began."""
        if start.reason is not None:
            return False
        with self._guard:
            now = self._index.newest()
            if isinstance(now, Reason):
                return False
            self._proofs.look(now)
            return self._proofs.is_at(start, row)

    def _covers(self, start: Start, row: PositionRow) -> bool:
        if self._proofs.covers(start, row):
            return True
        newest = start.newest
        if newest is None or (row.salt1, row.salt2) == newest.salts:
            return False
        now = self._index.newest()  # the WAL was reset since, or the row is old
        if isinstance(now, Reason):
            return False
        self._proofs.look(now)
        return self._proofs.covers(start, row)

    def at_once(self, start: Start) -> Reason | None:
        """Whether it pays to ask Postgres now, by what was published when the read began; as :meth:`applied`."""
        return self._applied(start, start.published)

    # -- waiting -----------------------------------------------------------------------------------

    def wait(self, start: Start, deadline: float) -> Reason | None:
        """Wait until Postgres has all that was committed when the read began; then None, else why it has not.

        ``deadline``: of ``time.monotonic``; one that has passed: do not wait.
        """
        reason = self.at_once(start)
        for pause in self._pauses(reason, deadline):
            time.sleep(pause)
            if (reason := self.applied(start)) is not Reason.BEHIND:
                break
        return reason

    async def wait_async(self, start: Start, deadline: float) -> Reason | None:
        """The same, without holding up other tasks."""
        reason = self.at_once(start)
        for pause in self._pauses(reason, deadline):
            await asyncio.sleep(pause)
            if (reason := self.applied(start)) is not Reason.BEHIND:
                break
        return reason

    def _pauses(self, reason: Reason | None, deadline: float) -> Iterator[float]:
        while reason is Reason.BEHIND and (left := deadline - time.monotonic()) > 0:
            yield min(left, PAUSE)

    def applied(self, start: Start) -> Reason | None:
        """Whether it pays to ask Postgres now: None, ``BEHIND`` (it soon may), or ``NOT_FOLLOWED``, ``UNPROVED``."""
        return self._applied(start, self.published())

    def _applied(self, start: Start, published: Published | None) -> Reason | None:
        if start.reason is not None:
            return start.reason
        if published is None or not published.following:
            return Reason.NOT_FOLLOWED
        if published is not start.published and (start.floor is None or start.floor.mirror != published.mirror):
            return Reason.UNPROVED
        row = PositionRow(*published[6:10], published.lineage)
        with self._guard:
            if self._covers(start, row):
                return None
        return Reason.NOT_FOLLOWED if published.is_silent(time.monotonic()) else Reason.BEHIND

    def is_published_at(self, start: Start) -> bool:
        """Whether what the mirror has published last is exactly the newest commit when the read began."""
        published = self.published()
        if published is None or not published.following:
            return False
        return self.is_at(start, PositionRow(*published[6:10], published.lineage))

    def published(self) -> Published | None:
        """What the mirror has published; None: nothing."""
        with self._guard:
            return self._published()

    def _published(self, *, look: bool = False) -> Published | None:
        return None if self._closed else self._reader.read(look=look)

    def is_moved(self) -> bool | None:
        """Whether programs were moved to Postgres alone, whatever the configuration says; a microsecond.

        None: they are not moved by phases, or nothing is known of that.
        """
        published = self.published()
        return published.sealed if published is not None and published.in_phases else None

    def in_doubt(self) -> int | None:
        """The ``source_id`` of a source that programs were moved from when its mirror ended; None: it is no such one.

        Whether it is sealed only Postgres knows then.
        """
        published = self.published()
        if published is None or not published.moves or published.sealed:
            return None
        return None if published.following and published.moving else published.source_id

    def require_writable(self, *, locked: bool = False) -> None:
        """Raise ``SourceError`` (retryable) while programs are being moved, or if they were.

        ``locked``: the file's write lock is held. A move that was interrupted with its mirror is asked for in Postgres
        then: no source is sealed by anyone without that lock.
        """
        published = self.published()
        if published is None:
            return
        step = "try again; `mirror cutover status` shows how far it is"
        if not published.sealed and not published.moving:
            known = published.run, published.beat
            if not published.moves or not locked or known == self._unsealed_in:
                return
            try:
                sealed = self.ask_sealed(published.source_id)
            except MirrorError as error:
                detail = f"programs were being moved when the mirror ended, and Postgres does not say how: {error}"
                raise SourceError("write", str(self._source), detail, next_step=step, retryable=True) from error
            if not sealed:
                self._unsealed_in = known
                return
        raise SourceError("write", str(self._source), "programs are being moved", next_step=step, retryable=True)

    def close(self) -> None:
        """Close what may be closed: the index of a database stays open (:mod:`mirror.storage.newest`).

        From then on nothing counts as published.
        """
        with self._guard:
            self._closed = True
            self._reader.close()

    # -- asking the mirror -------------------------------------------------------------------------

    def prepare(self, timeout: float) -> bool:
        """Ask the mirror now, if need be; whether reads can be proved. ``timeout``: seconds that it may take.

        For the beginning of a program; without it the first read asks, in the background.
        """
        deadline = time.monotonic() + timeout
        while self.begin().reason is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def mark(self, deadline: float) -> tuple[str, Lsn]:
        """Lineage and position of all that is committed now. ``deadline``: of ``time.monotonic``.

        Raises ``ControlError`` (retryable) if the mirror does not say in time, or does not follow the source, and
        ``SourceError`` if the file cannot be opened.
        """
        while True:
            self._connect()
            with self._guard:
                before = self._index.newest()
                asked = None if isinstance(before, Reason) else self._proofs.begin(before)
                published = self._published(look=True)
            if asked is None or published is None or not (published.following and published.wal):
                raise self._not_followed("it does not follow the source at present")
            seconds = max(deadline - time.monotonic(), 0.001)
            with ControlClient(self.folder, seconds) as client:
                lsn = client.mark(max(deadline - time.monotonic(), 0.001), slack=0.0)
            if lsn is None:
                raise self._not_followed("it did not say in time what is committed")
            with self._guard:
                now, again = self._index.newest(), self._published(look=True)
                if again is not None and again.following and again.mirror == published.mirror:
                    confirmed = not isinstance(now, Reason) and self._proofs.confirm(
                        asked, now, lsn, published.lineage, published.mirror
                    )
                    if confirmed:
                        return published.lineage, lsn
            if time.monotonic() > deadline:
                raise self._not_followed("the files, or the mirror, changed meanwhile")

    def _not_followed(self, detail: str) -> ControlError:
        return ControlError("ask the mirror", str(self.folder), detail, retryable=True)

    def _ask_soon(self) -> None:
        """Have a thread ask the mirror, unless one does, or has just failed to."""
        if self._asking or time.monotonic() < self._next_try:
            return
        self._asking = True
        try:
            threading.Thread(target=self._ask, name="mirror freshness", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, or there can be no more threads
            self._asking, self._next_try = False, time.monotonic() + LONGEST_PAUSE

    def _ask(self) -> None:
        problem: MirrorError | None = None
        try:
            self.mark(time.monotonic() + ANSWER_SECONDS)
        except MirrorError as error:
            problem = error
            if str(error) != str(self.error):
                logger.info("%s: reads go to SQLite for now: %s", self._name, error)
        with self._guard:
            self.error = problem
            if problem is None:
                self._pause.reset()
            else:
                self._next_try = time.monotonic() + self._pause.next()
            self._asking = False


def _forked() -> None:
    for freshness in list(_all):
        freshness._start_over()


os.register_at_fork(after_in_child=_forked)
