"""Runs operations on Postgres, over a pool of connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import RawCursor
from psycopg_pool import ConnectionPool, PoolTimeout

from mirror.core.errors import ConfigError, MirrorError, SinkError
from mirror.storage.on_postgres import session
from mirror.storage.on_postgres.session import Place
from mirror.storage.on_postgres.values import register
from mirror.storage.operations.base import Context, Operation
from mirror.storage.statements import Op

Result = TypeVar("Result")
Conn = psycopg.Connection[tuple[Any, ...]]

_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: Seconds to wait for a connection.
CONNECT_SECONDS = 5.0


class PostgresStore:
    """The tables of one schema. Thread: any. A child of fork needs a store of its own."""

    def __init__(self, dsn: str, schema: str = "public", most_connections: int = 10) -> None:
        self.schema = schema
        self._pool: ConnectionPool[Conn] = ConnectionPool(
            dsn,
            min_size=1,
            max_size=most_connections,
            timeout=CONNECT_SECONDS,
            kwargs={"autocommit": True, "cursor_factory": RawCursor, "application_name": "mirror storage"},
            configure=self._configure,
            name="mirror storage",
            open=False,
        )
        self._problem: MirrorError | None = None

    def open(self) -> None:
        """Connect; raises ``SinkError`` when Postgres cannot be reached, ``ConfigError`` without the tables."""
        self._pool.open()
        with self._connection("open the store in Postgres"):
            pass

    def close(self) -> None:
        """Close the connections. The store cannot be used any more."""
        self._pool.close()

    def _configure(self, conn: Conn) -> None:
        self._problem = None
        try:
            if self.schema != "public":
                conn.execute(session.search_path(self.schema))
            if not session.require_tables(conn.execute(session.CHECK).fetchone(), self.schema):
                conn.execute(f"SET ROLE {session.APP_ROLE}")
            register(conn, session.vector_type(conn.execute(session.VECTOR).fetchone()))
        except ConfigError as error:
            self._problem = error
            raise
        except psycopg.Error as error:
            self._problem = session.storage_error(error, "open the store in Postgres")
            raise

    @contextmanager
    def _connection(self, operation: str) -> Iterator[Conn]:
        try:
            with self._pool.connection() as conn:
                yield conn
        except PoolTimeout as error:
            if self._problem is not None:
                raise self._problem from error
            raise SinkError(
                operation,
                detail=f"no connection to Postgres within {CONNECT_SECONDS:g} s",
                next_step="check that Postgres is up, the DSN, and postgres.maxConnections",
                retryable=True,
            ) from error
        except psycopg.Error as error:
            raise session.storage_error(error, operation) from error

    def run(
        self, ctx: Context, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Result:
        """Run an operation to its result; raises a ``MirrorError``, and then nothing is written."""
        if operation.reads:
            return self.read(ctx, operation, args, kwargs, None)[0]
        op = operation.make(ctx, *args, **kwargs)
        with self._connection(operation.name) as conn:
            return self._in_transaction(conn, "BEGIN", session.named(ctx.agent), ctx, op)[0]

    def read(
        self,
        ctx: Context,
        operation: Operation[..., Result],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        source_id: int | None,
    ) -> tuple[Result, Place | None]:
        """Run an operation that reads; also the position of a source in the answer's snapshot, if one is named."""
        op = operation.make(ctx, *args, **kwargs)
        with self._connection(operation.name) as conn:
            if not operation.many:
                return _single(conn, op, ctx, source_id)
            first = session.named(ctx.agent) if source_id is None else session.named_place(ctx.agent, source_id)
            result, row = self._in_transaction(conn, _BEGIN_READ, first, ctx, op)
            return result, None if source_id is None or row is None or row[0] is None else Place(*row)

    def _in_transaction(
        self, conn: Conn, begin: str, first: tuple[str, list[str | None]], ctx: Context, op: Op[Result]
    ) -> tuple[Result, Any]:
        with conn.pipeline():
            conn.execute(begin)
            named = conn.execute(*first, binary=True)
        row = named.fetchone()
        try:
            result = _drive(op, lambda statement: _execute(conn, statement, ctx.agent))
            conn.execute("COMMIT")
        except BaseException:
            if not conn.closed:
                conn.execute("ROLLBACK")
            raise
        return result, row


def _single(conn: Conn, op: Op[Result], ctx: Context, source_id: int | None) -> tuple[Result, Place | None]:
    try:
        statement = op.send(None)
    except StopIteration as stop:  # nothing had to be asked
        return stop.value, None
    read = session.single_read(statement, ctx.agent, source_id)
    found = conn.execute(read.text, read.parameters, binary=True).fetchall()
    try:
        op.send(session.answer(statement, read.rows(found)))
    except StopIteration as stop:
        return stop.value, read.place(found)
    raise AssertionError("an operation of one statement has a second one: declare it with many=True")


def _execute(conn: Conn, statement: Any, agent: str) -> Any:
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
