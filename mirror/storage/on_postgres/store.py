"""Runs operations on Postgres, over a pool of connections."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from psycopg import RawCursor
from psycopg_pool import ConnectionPool, PoolTimeout

from mirror.core.errors import ConfigError, SinkError
from mirror.storage.forks import Lock
from mirror.storage.on_postgres import session
from mirror.storage.on_postgres.attempts import CONNECT_SECONDS, Attempts
from mirror.storage.on_postgres.sql import Value
from mirror.storage.on_postgres.values import register
from mirror.storage.operations.base import Context, Operation
from mirror.storage.proofs import PositionRow, Unasked
from mirror.storage.statements import ComparesVectors, Op

Result = TypeVar("Result")
Conn = psycopg.Connection[tuple[Any, ...]]

#: What the pools are called, and servers are told.
NAME = "mirror storage"
#: Pools of parent processes: kept, because dropping them here would end the parent's sessions.
_OF_PARENTS: list[object] = []


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not (isinstance(record.args, tuple) and record.args[:1] == (NAME,))


#: It logs each attempt to connect that fails; why reads go elsewhere is said by us, once, or raised.
logging.getLogger("psycopg.pool").addFilter(_is_not_ours)


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection of the pool, which itself does not say why one could not be made."""

    @classmethod
    def connect(cls, conninfo: str = "", **more: Any) -> Self:
        attempts: Attempts = more.pop("attempts")
        attempts.begins()
        try:
            return super().connect(conninfo, **more)
        except psycopg.Error as error:
            attempts.failed(session.storage_error(error, "connect to Postgres"))
            raise


class PostgresStore:
    """The tables of one schema. Thread: any."""

    def __init__(self, dsn: str, schema: str = "public", most_connections: int = 10) -> None:
        self.schema = schema
        self._dsn = dsn
        self._most = most_connections
        self._attempts = Attempts()
        self._in_use: set[int] = set()
        self._agents: set[str] = set()
        """Those that are known to be there."""
        self._guard = Lock()
        self._pool: ConnectionPool[Conn] | None = None
        self._pid = 0

    def open(self, patience: float | None = None) -> None:
        """Connect; raises ``SinkError`` when Postgres cannot be reached, ``ConfigError`` without the tables.

        ``patience``: seconds to wait; where it ends it is only a ``SinkError``, and connecting goes on. None: as usual.
        """
        with self._connection("open the store in Postgres", patience):
            pass

    def require(self, agent: str) -> None:
        """Raise ``ConfigError`` if an agent's data are not there, ``SinkError`` when Postgres cannot be reached."""
        with self._connection("open the store in Postgres") as conn:
            self._require_agent(conn, agent)

    def close(self) -> None:
        """Close the connections; those that are in use, when they are not any more."""
        with self._guard:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _opened(self) -> ConnectionPool[Conn]:
        """The pool: made at first use, and anew in a child of fork, which must not use its parent's connections."""
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            return pool
        with self._guard:
            if self._pool is None or self._pid != os.getpid():
                if self._pool is not None:
                    _OF_PARENTS.append(self._pool)
                self._pid = os.getpid()
                self._in_use, self._attempts = set(), Attempts()
                self._pool = ConnectionPool(
                    self._dsn,
                    connection_class=_Connection,
                    min_size=1,
                    max_size=self._most,
                    timeout=CONNECT_SECONDS,
                    kwargs={
                        "autocommit": True,
                        "cursor_factory": RawCursor,
                        "application_name": NAME,
                        "attempts": self._attempts,
                    },
                    configure=self._configure,
                    name=NAME,
                    open=True,
                )
            return self._pool

    def _configure(self, conn: Conn) -> None:
        self._attempts.reached()

        def no_statements() -> None:
            conn.prepare_threshold = None

        steps = session.preparing(self.schema, conn.info.backend_pid, no_statements)
        row: Any = None
        try:
            while True:
                try:
                    asked = steps.send(row)
                except StopIteration as stop:
                    register(conn, stop.value)
                    self._attempts.made()
                    return
                cursor = conn.execute(*asked)
                row = cursor.fetchone() if cursor.description else None
        except ConfigError as error:
            self._attempts.failed(error)
            raise
        except psycopg.Error as error:
            self._attempts.failed(session.storage_error(error, "open the store in Postgres"))
            raise

    @contextmanager
    def _connection(self, operation: str, patience: float | None = None) -> Iterator[Conn]:
        pool = self._opened()
        try:
            conn = pool.getconn(patience)
            self._attempts.made()
            self._in_use.add(id(conn))
            try:
                yield conn
            finally:
                self._in_use.discard(id(conn))
                pool.putconn(conn)
        except PoolTimeout as error:
            if self._attempts.problem is not None and patience is None:
                raise self._attempts.problem from error
            raise self._attempts.no_connection(operation, patience, len(self._in_use)) from error
        except psycopg.Error as error:
            raise session.storage_error(error, operation) from error

    def run(
        self, ctx: Context, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Result:
        """Run an operation to its result; raises a ``MirrorError``, and then nothing is written."""
        if operation.reads:
            return self.read(ctx, operation, args, kwargs, None)[0]
        for pause in session.pauses():
            op = operation.make(ctx, *args, **kwargs)
            try:
                with self._connection(operation.name) as conn:
                    self._require_agent(conn, ctx.agent)
                    return self._in_transaction(conn, operation, session.first(operation, ctx.agent), ctx, op)[0]
            except SinkError as error:
                if error.sqlstate not in session.MET_ANOTHER or pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError("the last try has no pause")

    def read(
        self,
        ctx: Context,
        operation: Operation[..., Result],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        source: session.SourceKey | None,
        patience: float | None = None,
    ) -> tuple[Result, PositionRow | Unasked | None]:
        """Run an operation that reads; also the position of a source in the answer's snapshot, if one is named.

        ``patience``: seconds to wait for a connection; None: as long as usual, and a read whose connection is lost is
        sent once more.
        """
        for last in (False, True):
            try:
                op = operation.make(ctx, *args, **kwargs)
                with self._connection(operation.name, patience) as conn:
                    self._require_agent(conn, ctx.agent)
                    if not operation.many:
                        return _single(conn, op, ctx, source)
                    first = session.named(ctx.agent) if source is None else session.named_place(ctx.agent, source)
                    result, row = self._in_transaction(conn, operation, first, ctx, op)
                    return result, None if source is None else session.place(row)
            except SinkError as error:
                if last or patience is not None or not session.was_lost(error):
                    raise
            # The other connections were lost with the server, too, or ended by it.
            self._opened().check()
        raise AssertionError("the last try raises or returns")

    def _require_agent(self, conn: Conn, agent: str) -> None:
        """Look for an agent once; raises ``ConfigError`` if there is none: all its reads would find nothing."""
        if agent not in self._agents:
            session.require_agent(conn.execute(*session.agent_in(agent)).fetchone(), agent, self.schema)
            self._agents.add(agent)

    def position(self, ctx: Context, source: session.SourceKey) -> PositionRow | None:
        """How far a source is; None: it is not there, or not this agent's. Raises ``SinkError``."""
        rows = self.call("read the position", *session.whole_place(ctx.agent, source))
        return session.place_of(rows[0]) if rows else None

    def is_sealed(self, ctx: Context, source_id: int) -> bool:
        """Whether Postgres is the original of a source, or is about to be. Raises ``SinkError``."""
        [[about_to]] = self.call("look for a move", *session.sealing(source_id))
        row = None if about_to else self.position(ctx, source_id)
        return bool(about_to or (row is not None and row.sealed))

    def call(self, operation: str, text: str, parameters: list[Value]) -> list[tuple[Any, ...]]:
        """Run one statement that is no operation's; returns its rows. Raises a ``MirrorError``."""
        with self._connection(operation) as conn:
            return conn.execute(text.encode(), parameters).fetchall()

    def _in_transaction(
        self,
        conn: Conn,
        operation: Operation[..., Result],
        first: tuple[str, list[Value]],
        ctx: Context,
        op: Op[Result],
    ) -> tuple[Result, Any]:
        with conn.pipeline():
            conn.execute(session.begin(operation))
            named = conn.execute(*first, binary=True)
        row = named.fetchone()
        try:
            if session.fills_mirrored(operation) and session.require_no_mirror(operation, row):
                conn.execute(*session.noting_writes(operation))
            result = _drive(op, lambda statement: _execute(conn, statement, ctx.agent))
            conn.execute("COMMIT")
        except BaseException:
            if not conn.closed:
                conn.execute("ROLLBACK")
            raise
        return result, row


def _single(
    conn: Conn, op: Op[Result], ctx: Context, source: session.SourceKey | None
) -> tuple[Result, PositionRow | Unasked | None]:
    try:
        statement = op.send(None)
    except StopIteration as stop:  # nothing had to be asked
        return stop.value, Unasked.UNASKED
    read = session.single_read(statement, ctx.agent, source)
    found = conn.execute(read.text, read.parameters, binary=True).fetchall()
    return session.finish(op, session.answer(statement, read.rows(found))), read.place(found)


def _execute(conn: Conn, statement: Any, agent: str) -> Any:
    if isinstance(statement, ComparesVectors):
        return True
    if session.reads(statement):
        found = conn.execute(*session.later_read(statement, agent), binary=True).fetchall()
        return session.answer(statement, found)
    return conn.execute(*session.write(statement, agent)).rowcount


def _drive(op: Op[Result], execute: Callable[[Any], Any]) -> Result:
    answer: Any = None
    try:
        while True:
            answer = execute(op.send(answer))
    except StopIteration as stop:
        result: Result = stop.value
        return result
