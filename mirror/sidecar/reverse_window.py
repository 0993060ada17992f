"""The reverse window: once it has elapsed, the mirror ends the way back, as ``mirror cutover finalize`` does.

It does not where somebody may still want what would be left behind: rows that only the file has, or that only Postgres
has, or that differ without a reason. Then the way back stays open, and the status says why. Whoever has begun to move
the source meanwhile wins: the end names the epoch of the phase that was read before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

from mirror.core.errors import FencedError, MirrorError, SinkError
from mirror.postgres import phase
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.phase import Phase
from mirror.postgres.sessions import Session, connect
from mirror.postgres.table_locks import TableLocks
from mirror.postgres.target import load_targets
from mirror.reverse import ending
from mirror.reverse.follower import ReverseFollower
from mirror.sidecar.source_folder import SourceTask

ELAPSED = "the reverse window has elapsed"
#: Seconds until the end is tried again while programs' transactions have the tables.
AGAIN_SECONDS = 1.0
#: The same for a comparison that found what should not be, and for how many times as long as it took.
COMPARE_SECONDS, REST = 60.0, 10.0
#: Attempts to remove what is switched off already.
TIDY_ATTEMPTS = 20


class ReverseWindow:
    """That of one source. Thread: the loop's."""

    def __init__(self, task: SourceTask, check: Callable[[], None]) -> None:
        """``check``: raises when the mirror is to end."""
        self.kept_open = ""
        """Why the way back is open, although its time has come; empty: that has not come, or it is about to end."""
        self._task, self._check = task, check
        self._place = str(task.database)
        self._begun: Phase | None = None
        """As the phase was when the end was begun."""
        self._since = self._agreed = self._logged = ""
        self._not_before = 0.0
        self._locks = TableLocks()

    def turn(self, follower: ReverseFollower) -> None:
        """Do what is due after a step of the way back. Raises as ``ReverseFollower.agree`` does, and ``SinkError``."""
        now = follower.phase
        if not now.elapsed or now.moving_to is not None:
            self._begun, self.kept_open = None, ""
            return
        if time.monotonic() < self._not_before:
            return
        if self._begun is None or self._begun.epoch != now.epoch or follower.strays or follower.rejects:
            self._begin(follower, now)  # the next step carries what is there by now
            return
        if not self._agreed and not self._compare(follower, self._begun):
            return
        follower.let_go()
        try:
            with self._connected() as conn, translated(ending.END, self._place):
                self._end(conn, follower.source_id, self._begun, ELAPSED)
            follower.ask_again()  # it would be ended twice
        except FencedError:
            self._begun = None  # somebody moves it
        except SinkError as error:
            if not error.retryable:
                raise
            self._not_before = time.monotonic() + AGAIN_SECONDS  # programs have the tables

    def _begin(self, follower: ReverseFollower, now: Phase) -> None:
        self._begun, self._agreed = None, ""
        with self._connected() as conn, translated(ending.CHECK, self._place):
            way = ending.state(conn, follower.source_id)
            if way.strays or way.rejects:
                kinds = f"{bool(way.strays)} {bool(way.rejects)}"
                self._stays_open(conn, follower.source_id, now, ending.CHECK, way.said(), kinds)
                self._not_before = time.monotonic() + AGAIN_SECONDS
                return
            self.kept_open = self._logged = ""
            phase.log(conn, follower.source_id, now.epoch, ending.CHECK, "done", ELAPSED)
        self._begun, self._since = now, way.now

    def _compare(self, follower: ReverseFollower, begun: Phase) -> bool:
        started = time.monotonic()
        found = follower.agree(self._since)
        if found is None:
            return False
        with self._connected() as conn, translated(ending.COMPARE, self._place):
            try:
                self._agreed = ending.judged(found, self._place)
            except SinkError as error:
                self._begun = None
                self._stays_open(conn, follower.source_id, begun, ending.COMPARE, error.detail, "differs")
                took = time.monotonic() - started
                self._not_before = time.monotonic() + max(COMPARE_SECONDS, REST * took)
                return False
            phase.log(conn, follower.source_id, begun.epoch, ending.DRAIN, "done")
            phase.log(conn, follower.source_id, begun.epoch, ending.COMPARE, "done", self._agreed)
        return True

    def _stays_open(self, conn: Session, source_id: int, now: Phase, step: str, why: str, kind: str) -> None:
        """``kind``: what is logged once, however the figures change."""
        self.kept_open = why
        if kind == self._logged:
            return
        self._logged = kind
        logger.warning("{}: {}, and the way back stays open: {}", self._task.name, ELAPSED, why)
        phase.log(conn, source_id, now.epoch, step, "failed", f"{ELAPSED}, and the way back stays open: {why}")

    def end_lost(self, why: str) -> None:
        """The way back is lost: end it, if its time has come. Raises ``SealedError`` if it has ended, ``SinkError``."""
        with self._connected() as conn, translated(ending.END, self._place):
            row = conn.execute(statement("reverse_read"), (self._place, self._task.schema)).fetchone()
            if row is None:
                return
            now = phase.read(conn, row[0])
            if now.elapsed and now.moving_to is None and now.finalized_at is None:
                try:
                    self._end(conn, row[0], now, f"{ELAPSED}, and {why}")
                except FencedError:
                    return  # somebody moves it
                phase.require_open(phase.read(conn, row[0]), self._place)

    def _end(self, conn: Session, source_id: int, begun: Phase, why: str) -> None:
        with conn.transaction():
            ending.end(conn, source_id, begun.epoch, self._locks, why)
            phase.log(conn, source_id, begun.epoch, ending.END, "journal", why)
        logger.warning("{}: the way back has ended: {}", self._task.name, why)
        try:
            self._tidy(conn, source_id, begun)
        except MirrorError as error:
            step = "`mirror cutover finalize` removes them"
            logger.warning("{}: triggers are left, switched off: {}; next: {}", self._task.name, error.detail, step)

    def _tidy(self, conn: Session, source_id: int, begun: Phase) -> None:
        row = conn.execute("SELECT agent_id FROM mirror.sources WHERE source_id = $1::bigint", (str(source_id),))
        [[agent]] = row.fetchall()
        targets = list(load_targets(conn, source_id, agent).values())
        for attempt in range(TIDY_ATTEMPTS):
            self._check()
            try:
                with translated(ending.TIDY, self._place), conn.transaction():
                    ending.tidy(conn, source_id, targets, self._locks)
                    phase.log(conn, source_id, begun.epoch, ending.TIDY, "done")
                return
            except SinkError as error:
                if not error.retryable or attempt + 1 == TIDY_ATTEMPTS:
                    raise

    def _connected(self) -> Session:
        return connect(self._task.dsn, name="mirror reverse", raw=True)
