"""Runs operations on Postgres without blocking the event loop: :mod:`.store`, on psycopg's asynchronous connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncRawCursor
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from mirror.core.errors import ConfigError, SinkError
from mirror.storage.on_postgres import session
from mirror.storage.on_postgres.attempts import CONNECT_SECONDS, Attempts
from mirror.storage.on_postgres.sql import Value
from mirror.storage.on_postgres.store import NAME
from mirror.storage.on_postgres.values import register
from mirror.storage.operations.base import Context, Operation
from mirror.storage.proofs import PositionRow, Unasked
from mirror.storage.statements import ComparesVectors, Op

Result = TypeVar("Result")
Conn = psycopg.AsyncConnection[tuple[Any, ...]]


class _Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection of the pool, which itself does not say why one could not be made."""

    @classmethod
    async def connect(cls, conninfo: str = "", **more: Any) -> Self:
        attempts: Attempts = more.pop("attempts")
        attempts.begins()
        try:
            return await super().connect(conninfo, **more)
        except psycopg.Error as error:
            attempts.failed(session.storage_error(error, "connect to Postgres"))
            raise


class AsyncPostgresStore:
    """The tables of one schema. For one event loop."""

    def __init__(self, dsn: str, schema: str = "public", most_connections: int = 10) -> None:
        self.schema = schema
        self._attempts = Attempts()
        self._in_use: set[int] = set()
        self._agents: set[str] = set()
        """Those that are known to be there."""
        self._dsn = dsn
        self._most = most_connections
        self._pool: AsyncConnectionPool[Conn] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self, patience: float | None = None) -> None:
        """Connect; raises ``SinkError`` when Postgres cannot be reached, ``ConfigError`` without the tables.

        ``patience``: seconds to wait; where it ends it is only a ``SinkError``, and connecting goes on. None: as usual.
        """
        async with self._connection("open the store in Postgres", patience):
            pass

    async def close(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if pool is not None:
            await pool.close()  # the task may have been cancelled before it began

    async def _opened(self) -> AsyncConnectionPool[Conn]:
        """The pool, made at first use."""
        if self._pool is None:
            self._pool = AsyncConnectionPool(
                self._dsn,
                connection_class=_Connection,
                min_size=1,
                max_size=self._most,
                timeout=CONNECT_SECONDS,
                kwargs={
                    "autocommit": True,
                    "cursor_factory": AsyncRawCursor,
                    "application_name": NAME,
                    "attempts": self._attempts,
                },
                configure=self._configure,
                name=NAME,
                open=False,
            )
            self._keeper = asyncio.create_task(_keep(self._pool), name=NAME)
            await self._pool.open()
        return self._pool

    async def _configure(self, conn: Conn) -> None:
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
                cursor = await conn.execute(*asked)
                row = await cursor.fetchone() if cursor.description else None
        except ConfigError as error:
            self._attempts.failed(error)
            raise
        except psycopg.Error as error:
            self._attempts.failed(session.storage_error(error, "open the store in Postgres"))
            raise

    @asynccontextmanager
    async def _connection(self, operation: str, patience: float | None = None) -> AsyncIterator[Conn]:
        pool = await self._opened()
        try:
            conn = await pool.getconn(patience)
            self._attempts.made()
            self._in_use.add(id(conn))
            try:
                yield conn
            finally:
                self._in_use.discard(id(conn))
                await pool.putconn(conn)
        except PoolTimeout as error:
            if self._attempts.problem is not None and patience is None:
                raise self._attempts.problem from error
            raise self._attempts.no_connection(operation, patience, len(self._in_use)) from error
        except psycopg.Error as error:
            raise session.storage_error(error, operation) from error

    async def run(
        self, ctx: Context, operation: Operation[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Result:
        """Run an operation to its result; raises a ``MirrorError``, and then nothing is written."""
        if operation.reads:
            return (await self.read(ctx, operation, args, kwargs, None))[0]
        first = session.first(operation, ctx.agent)
        for pause in session.pauses():
            op = operation.make(ctx, *args, **kwargs)
            try:
                async with self._connection(operation.name) as conn:
                    await self._require_agent(conn, ctx.agent)
                    return (await self._in_transaction(conn, operation, first, ctx, op))[0]
            except SinkError as error:
                if error.sqlstate not in session.MET_ANOTHER or pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last try has no pause")

    async def read(
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
                async with self._connection(operation.name, patience) as conn:
                    await self._require_agent(conn, ctx.agent)
                    if not operation.many:
                        return await self._single(conn, op, ctx, source)
                    first = session.named(ctx.agent) if source is None else session.named_place(ctx.agent, source)
                    result, row = await self._in_transaction(conn, operation, first, ctx, op)
                    return result, None if source is None else session.place(row)
            except SinkError as error:
                if last or patience is not None or not session.was_lost(error):
                    raise
            # The other connections were lost with the server, too, or ended by it.
            await (await self._opened()).check()
        raise AssertionError("the last try raises or returns")

    async def _require_agent(self, conn: Conn, agent: str) -> None:
        """Look for an agent once; raises ``ConfigError`` if there is none: all its reads would find nothing."""
        if agent not in self._agents:
            session.require_agent(await (await conn.execute(*session.agent_in(agent))).fetchone(), agent, self.schema)
            self._agents.add(agent)

    async def position(self, ctx: Context, source: session.SourceKey) -> PositionRow | None:
        """How far a source is; None: it is not there, or not this agent's. Raises ``SinkError``."""
        async with self._connection("read the position") as conn:
            text, parameters = session.whole_place(ctx.agent, source)
            return session.place_of(await (await conn.execute(text.encode(), parameters)).fetchone())

    async def _in_transaction(
        self,
        conn: Conn,
        operation: Operation[..., Result],
        first: tuple[str, list[Value]],
        ctx: Context,
        op: Op[Result],
    ) -> tuple[Result, Any]:
        async with conn.pipeline():
            await conn.execute(session.begin(operation))
            named = await conn.execute(*first, binary=True)
        row = await named.fetchone()
        answer: Any = None
        try:
            if session.fills_mirrored(operation) and session.require_no_mirror(operation, row):
                await conn.execute(*session.noting_writes(operation))
            while True:
                try:
                    statement = op.send(answer)
                except StopIteration as stop:
                    result: Result = stop.value
                    break
                answer = await self._execute(conn, statement, ctx.agent)
            await conn.execute("COMMIT")
        except BaseException:
            if not conn.closed:
                await conn.execute("ROLLBACK")
            raise
        return result, row

    async def _single(
        self, conn: Conn, op: Op[Result], ctx: Context, source: session.SourceKey | None
    ) -> tuple[Result, PositionRow | Unasked | None]:
        try:
            statement = op.send(None)
        except StopIteration as stop:  # nothing had to be asked
            return stop.value, Unasked.UNASKED
        read = session.single_read(statement, ctx.agent, source)
        found = await (await conn.execute(read.text, read.parameters, binary=True)).fetchall()
        return session.finish(op, session.answer(statement, read.rows(found))), read.place(found)

    async def _execute(self, conn: Conn, statement: Any, agent: str) -> Any:
        if isinstance(statement, ComparesVectors):
            return True
        if session.reads(statement):
            cursor = await conn.execute(*session.later_read(statement, agent), binary=True)
            return session.answer(statement, await cursor.fetchall())
        return (await conn.execute(*session.write(statement, agent))).rowcount


async def _keep(pool: AsyncConnectionPool[Conn]) -> None:
    """Close a pool when this task is cancelled: by its store, or because the event loop ends.

    ``asyncio.run`` cancels what still runs, and waits for it. A worker of the pool that connects at that moment takes
    the cancellation for a failed connection, and would wait for work for ever.
    """
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await pool.close()
