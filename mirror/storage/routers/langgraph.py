"""A store for LangGraph that writes to SQLite and reads where the settings say, and never the past.

::

    with SqliteStore.from_conn_string("store.db") as sqlite, PostgresStore.from_conn_string(DSN) as postgres:
        store = RoutedStore(sqlite, postgres, "state", "mirror.json")

``storage`` of that mirror.json has the settings (``backend``: dual, ``readFrom``: postgres), which are followed. Make
one for each file in a process.

* A batch with a write in it is all SQLite's. So are searches by meaning (``query``), which the two stores limit and
  score in other ways, and reads that prolong the life of what they read (``refresh_on_read`` of the SQLite store): they
  write.
* Do not start the Postgres store's sweeper of what has expired, nor write by that store: the mirror fills its table.
* ``asearch()`` and the like run in threads. :class:`AsyncSqliteStore` is not needed for them.
* Where the values are equal the answers are, but for the order of rows that were changed at one time. Times have a
  zone, as the Postgres store gives them: those of SQLite are in UTC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import Any

import psycopg
from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, Op, Result, SearchOp
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from mirror.core.errors import ConfigError
from mirror.storage.routers.choosing import Choice

#: Seconds that a read waits for a connection of a pool.
_PATIENCE = 0.25
#: Its only table that is read without a vector, under the name that both stores give it.
_TABLES = frozenset(("store",))


class RoutedStore(BaseStore):
    """A store over both. Thread: any, if the stores' connections allow it."""

    supports_ttl = True

    def __init__(
        self, sqlite: SqliteStore, postgres: PostgresStore, state_dir: str | Path, config: str | Path | None = None
    ) -> None:
        """``sqlite``: of the source. ``postgres``: of the database that its mirror fills. ``state_dir``: the mirror's.

        ``config``: the mirror.json with the settings; None: in the usual places. Neither store is closed by this.
        Raises ``ConfigError``.
        """
        self.ttl_config = sqlite.ttl_config
        self._sqlite = sqlite
        self._postgres = postgres
        [*_, source] = next(row for row in sqlite.conn.execute("PRAGMA database_list") if row[1] == "main")
        if not source:
            raise ConfigError("route reads", detail="the SQLite store has no file", next_step="name the source's")
        self._choice = Choice(source, state_dir, config, (psycopg.Error, PoolTimeout))

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As each of the stores does. Raises ``SourceError``, retryable, for a write while the source is moved."""
        ops = list(ops)
        store: BaseStore = self._sqlite
        with ExitStack() as taken:
            use = _Use(self._postgres, taken)
            if not all(self._only_reads(op) for op in ops):
                if self._choice.write(use.ask):
                    store = self._postgres
            elif self._choice.read(_TABLES, use.ask):
                store, ops = use.store, [_without_refresh(op) for op in ops]
            results = store.batch(ops)
        return list(map(_in_utc, results)) if store is self._sqlite else results

    def _only_reads(self, op: Op) -> bool:
        """Whether both stores do the same, and neither writes."""
        if isinstance(op, ListNamespacesOp):
            return True
        if isinstance(op, GetOp) or (isinstance(op, SearchOp) and op.query is None):
            return not (op.refresh_ttl and self.ttl_config and self.ttl_config.get("refresh_on_read", False))
        return False

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same, in a thread."""
        return await asyncio.to_thread(self.batch, ops)


class _Use:
    """The connection to Postgres on which a batch asks for the position, and then reads. Thread: one."""

    def __init__(self, store: PostgresStore, taken: ExitStack) -> None:
        """``taken``: gives back the connection, if it is one of a pool."""
        self.store = store
        """Reads on that connection, once something was asked."""
        self._taken = taken

    def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        connection = self.store.conn
        if isinstance(connection, ConnectionPool):
            connection = self._taken.enter_context(connection.connection(_PATIENCE))
            self.store = PostgresStore(connection, deserializer=self.store._deserializer)
        with self.store.lock, connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(sql.encode()).fetchall()


def _in_utc(result: Result) -> Result:
    """What the SQLite store answers, with the zone that it leaves out: a program may compare times of both stores."""
    for item in result if isinstance(result, list) else [result]:
        if isinstance(item, Item):
            item.created_at = item.created_at.replace(tzinfo=UTC)
            item.updated_at = item.updated_at.replace(tzinfo=UTC)
    return result


def _without_refresh(op: Op) -> Op:
    """The Postgres store would prolong the life of what it reads by default: the mirror's table is not its to write."""
    return op._replace(refresh_ttl=False) if isinstance(op, (GetOp, SearchOp)) else op
