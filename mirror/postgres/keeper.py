"""The session that holds the locks of all sources which have none of their own, because nothing is to be written.

A lock goes from a source's session to this one, and back, while a second one is held, *handing over*
(:data:`~mirror.core.locks.SOURCE_HANDED_OVER`), without which nobody else takes the first: neither another mirror, nor
a program that writes to Postgres alone.

If this session ends, none of its sources may be written until its loop has taken it again: :meth:`Keeper.keeps` is
false then. Another mirror may have taken it first. That is what the epoch is for, which each take raises: whoever has
an older one cannot commit.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from mirror.core.errors import FencedError, SinkError
from mirror.core.locks import SOURCE_HANDED_OVER, SOURCE_IN_POSTGRES
from mirror.postgres import lease
from mirror.postgres.failures import translated
from mirror.postgres.ledger import Ledger
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import connect
from mirror.postgres.target import Conn

#: Seconds between two looks at whether the session is there.
LOOK_SECONDS = 0.5
#: Milliseconds that it waits for a lock in Postgres, and for the end of a statement.
LOCK_MS, STATEMENT_MS = 200, 2000
#: Seconds after which a server that does not even say that a statement took too long counts as lost.
ANSWER_SECONDS = 20.0
_TRY, _UNLOCK = "SELECT pg_try_advisory_lock($1::int, $2::int)", "SELECT pg_advisory_unlock($1::int, $2::int)"


class Keeper:
    """Thread: any, for each method. They wait for each other only while the keeper's own session is asked something."""

    def __init__(self, dsn: str) -> None:
        """Connects when it is needed."""
        self._dsn = dsn
        self._guard = threading.Lock()
        self._conn: Conn | None = None
        self._backend: str | None = None
        self._kept: set[int] = set()
        self._next_look = 0.0
        self._asked_at: float | None = None
        """Since when its session has been asked something."""

    def take_over(self, conn: Conn, source_id: int, epoch: int, path: str) -> bool:
        """Keep a source whose lock ``conn`` holds; False if that cannot be now, and ``conn`` holds it still.

        Raises ``FencedError``, and ``SinkError`` after which nobody may hold it.
        """
        hand, lock = _keys(SOURCE_HANDED_OVER, source_id), _keys(SOURCE_IN_POSTGRES, source_id)
        with translated("let a source rest", path):
            with self._guard:
                keeper, backend = self._connected(), self._backend
            # Over the source's own session without the guard: what one source waits for holds up no other.
            if not lease.wait_for(conn, hand):
                return False
            try:
                with lease.impatient(conn):
                    moved = conn.execute(
                        "UPDATE mirror.sources SET backend = $3::text WHERE source_id = $1::bigint"
                        " AND epoch = $2::bigint RETURNING true",
                        (str(source_id), str(epoch), backend),
                    ).fetchone()
            except psycopg.errors.LockNotAvailable:
                conn.execute(_UNLOCK, hand)
                return False
            if moved is None:
                raise FencedError("let a source rest", path, "another mirror has taken it over")
            conn.execute(_UNLOCK, lock)
            with self._guard:
                kept = self._conn is keeper and self._ask(_TRY, lock) == (True,)
                if kept:
                    self._kept.add(source_id)
            if not kept:
                raise SinkError("let a source rest", path, "its lock was taken by another program", retryable=True)
            return True

    def hand_over(self, conn: Conn, source_id: int) -> bool:
        """Let go of a source, so that ``conn`` can take it, which holds the second lock then; False if it is not kept.

        Raises ``SinkError`` (retryable).
        """
        if source_id not in self._kept:
            return False
        if not lease.wait_for(conn, _keys(SOURCE_HANDED_OVER, source_id)):
            raise SinkError("take a source over", detail="another program is looking for it", retryable=True)
        with self._guard:
            if source_id in self._kept:  # else its session has just ended
                self._let_go(source_id)
        return True

    def drop(self, source_id: int) -> None:
        """Let go of a source that is not mirrored any more."""
        with self._guard:
            if source_id in self._kept:
                self._let_go(source_id)

    def _let_go(self, source_id: int) -> None:
        self._kept.discard(source_id)
        try:
            self._ask(_UNLOCK, _keys(SOURCE_IN_POSTGRES, source_id))
        except psycopg.Error:
            self._lose()  # with it, all its locks are gone

    def _ask(self, query: str, values: tuple[str, ...] = ()) -> tuple[object, ...] | None:
        """The first row of an answer of the keeper's session, whose connection is cut if it takes too long."""
        assert self._conn is not None
        with self._limited():
            return self._conn.execute(query, values).fetchone()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        self._asked_at = time.monotonic()
        try:
            yield
        finally:
            self._asked_at = None

    def keeps(self, source_id: int) -> bool:
        """Whether it holds the source's lock; it looks whether its session is there, and answers, now and then."""
        now = time.monotonic()
        if now >= self._next_look:
            if self._guard.acquire(blocking=False):
                try:
                    self._look()
                finally:
                    self._guard.release()
            elif (asked := self._asked_at) is not None and now - asked > ANSWER_SECONDS:
                self._cut()
        return source_id in self._kept

    def _cut(self) -> None:
        """End the connection of a session that does not answer: who waits for it gets an error."""
        self._next_look = time.monotonic() + LOOK_SECONDS
        conn = self._conn
        with suppress(OSError, psycopg.Error):  # it has just ended
            if conn is not None:
                with socket.socket(fileno=os.dup(conn.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def look(self, source_id: int, path: str, looks: Callable[[Ledger], None]) -> None:
        """Call ``looks`` with the ledger of a source that is kept. Raises ``SinkError``."""
        with self._guard:
            if self._conn is None:
                return
            try:
                with self._limited():
                    looks(Ledger(self._conn, source_id, path))
            except SinkError:
                self._look(at_once=True)
                raise

    def _look(self, *, at_once: bool = False) -> None:
        self._next_look = time.monotonic() + LOOK_SECONDS
        if self._conn is None:
            return
        try:
            poll = select.poll()
            poll.register(self._conn.fileno(), select.POLLIN)
            # The server says something unasked when it ends the session, and otherwise hardly ever.
            if at_once or poll.poll(0):
                self._ask("SELECT 1")
        except psycopg.Error:
            self._lose()

    def _connected(self) -> Conn:
        if self._conn is None:
            made = connect(self._dsn, name="mirror keeper", raw=True)
            try:
                made.execute(statement("session_search_path"))
                # All sources wait for each other here, so none may wait for what others have locked.
                made.execute(f"SET lock_timeout = '{LOCK_MS}ms'")
                made.execute(f"SET statement_timeout = '{STATEMENT_MS}ms'")
                self._backend = lease.own_backend(made)
            except BaseException:
                made.close()
                raise
            self._conn = made
        return self._conn

    def _lose(self) -> None:
        conn, self._conn = self._conn, None
        self._kept.clear()
        lease.leave(self._backend)
        if conn is not None:
            conn.close()

    def close(self) -> None:
        """Let go of all sources."""
        with self._guard:
            self._lose()


def _keys(kind: int, source_id: int) -> tuple[str, str]:
    return str(kind), str(source_id)
