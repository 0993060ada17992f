"""A SQLAlchemy session that writes to SQLite and reads where the settings say, and never the past.

::

    reads = Reads(create_engine("sqlite:///app.db"), create_engine(DSN, pool_pre_ping=True), "state", "mirror.json")
    Session = sessionmaker(class_=RoutedSession, reads=reads)
    AsyncSession = async_sessionmaker(sync_session_class=RoutedSession, reads=reads)  # with asynchronous engines

``storage`` of that mirror.json has the settings (``backend``: dual, ``readFrom``: postgres), which are followed. Make
one ``Reads`` for each source in a process.

* A transaction of a session that has used SQLite stays there until it ends, and so do its reads: what it has flushed,
  and what it would read twice. Until then each read may be from Postgres, each at its own moment: as with SQLAlchemy's
  own use of SQLite, which begins no transaction before the first write. One that begins with ``session.connection()``
  is all on SQLite.
* From Postgres come ``select()`` of tables, and what the ORM loads. Text, selects with a text in them, ``FOR UPDATE``,
  functions without a table and what is in a savepoint are SQLite's; so are selects of tables that the mirror does not
  carry, or of classes from which relationships lead to one. What is named wins: ``bind_arguments={"bind": engine}``.
* ``AsyncSession`` works, with aiosqlite and psycopg; a read that waits does not hold up the event loop.
* Connections to Postgres are used in autocommit mode: each read is a snapshot of its own, and a session that stays
  open holds none up. A connection that breaks in the middle of a transaction ends that with an error, as it would
  without a router; ``pool_pre_ping`` finds those that broke before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Mapper, Session, SessionTransaction, registry
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ClauseElement, ColumnClause, TextClause
from sqlalchemy.sql.selectable import GenerativeSelect, TableClause

from mirror.core.errors import ConfigError
from mirror.storage.routers.choosing import Choice

#: Of each registry, how many classes it had, and for each its tables and those to which it leads.
_leads: WeakKeyDictionary[registry, tuple[int, list[tuple[set[str], set[str]]]]] = WeakKeyDictionary()


class Reads:
    """What the sessions of one source share. Thread: any."""

    def __init__(
        self,
        sqlite: Engine | AsyncEngine,
        postgres: Engine | AsyncEngine,
        state_dir: str | Path,
        config: str | Path | None = None,
    ) -> None:
        """``sqlite``: of the source. ``postgres``: of the database that its mirror fills. ``state_dir``: the mirror's.

        ``config``: the mirror.json with the settings; None: in the usual places. Raises ``ConfigError``.
        """
        self.sqlite = sqlite.sync_engine if isinstance(sqlite, AsyncEngine) else sqlite
        self.postgres = postgres.sync_engine if isinstance(postgres, AsyncEngine) else postgres
        self.to_read = self.postgres.execution_options(isolation_level="AUTOCOMMIT")
        source = self.sqlite.url.database
        if not source or source == ":memory:":
            raise ConfigError("route reads", str(self.sqlite.url), "that is no file", next_step="name the source's")
        self.choice = Choice(source.removeprefix("file:").partition("?")[0], state_dir, config, (SQLAlchemyError,))


class RoutedSession(Session):
    """A session over both stores."""

    def __init__(self, *args: Any, reads: Reads, **more: Any) -> None:
        """``args``, ``more``: as those of ``Session``; no ``bind``."""
        super().__init__(*args, **more)
        self._reads = reads
        self._stays: Engine | None = None
        """What the transaction goes on with."""

    def get_bind(
        self,
        mapper: Any = None,
        *,
        clause: ClauseElement | None = None,
        bind: Engine | Connection | None = None,
        **more: Any,
    ) -> Engine | Connection:
        """The engine for a statement. Raises ``SourceError``, retryable, for a write while the source is moved."""
        if bind is not None:
            return bind
        reads = self._reads
        if self._stays is not None:
            return self._stays
        if not self.in_nested_transaction() and (tables := _tables(mapper, clause)):
            return reads.to_read if reads.choice.read(tables, self._ask, self._sleep) else reads.sqlite
        return reads.postgres if reads.choice.write(self._ask) else reads.sqlite

    def _connection(self) -> Connection:
        return self.connection(bind_arguments={"bind": self._reads.to_read})

    def _ask(self, sql: str) -> Sequence[Sequence[Any]]:
        return self._connection().exec_driver_sql(sql).fetchall()

    def _sleep(self, seconds: float) -> None:
        if not self._reads.postgres.dialect.is_async:
            time.sleep(seconds)
            return
        used: Any = self._connection().connection.dbapi_connection
        used.run_async(lambda _: asyncio.sleep(seconds))


@event.listens_for(RoutedSession, "after_begin")
def _begun(session: RoutedSession, transaction: SessionTransaction, connection: Connection) -> None:
    """The transaction uses a connection for the first time."""
    if connection.engine is not session._reads.to_read:
        session._stays = connection.engine


@event.listens_for(RoutedSession, "after_transaction_end")
def _ended(session: RoutedSession, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session._stays = None


def _tables(mapper: Any, clause: ClauseElement | None) -> frozenset[str]:
    """The tables that a statement may read, in small letters; empty: it is SQLite's, whatever the settings say."""
    if not isinstance(clause, GenerativeSelect):
        return frozenset()
    found = set[str]()
    for element in visitors.iterate(clause):
        if isinstance(element, (TextClause, UpdateBase)) or getattr(element, "_for_update_arg", None) is not None:
            return frozenset()
        if isinstance(element, ColumnClause) and element.is_literal and "select" in element.name.lower():
            return frozenset()
        if isinstance(element, TableClause):
            if element.schema is not None:
                return frozenset()
            found.add(element.name.lower())
    return frozenset(found) if mapper is None else _with_related(inspect(mapper).mapper.registry, found)


def _with_related(known: registry, tables: set[str]) -> frozenset[str]:
    """With the tables of all classes to which relationships lead: the ORM may join them."""
    mappers = list(known.mappers)
    leads = _leads.get(known)
    if leads is None or leads[0] != len(mappers):
        leads = _leads[known] = len(mappers), [_related(mapper) for mapper in mappers]
    reached, before = set(tables), 0
    while before < len(reached):
        before = len(reached)
        for own, more in leads[1]:
            if not reached.isdisjoint(own):
                reached |= more
    return frozenset(reached)


def _related(mapper: Mapper[Any]) -> tuple[set[str], set[str]]:
    """The tables of a class, and those to which it leads, its own with them."""
    own = _names(mapper)
    more = own.union(*(_names(each) for each in mapper.base_mapper.self_and_descendants))
    for relationship in mapper.relationships:
        more |= _names(relationship.mapper)
        if isinstance(relationship.secondary, TableClause):
            more.add(relationship.secondary.name.lower())
    return own, more


def _names(mapper: Mapper[Any]) -> set[str]:
    return {table.name.lower() for table in mapper.tables if isinstance(table, TableClause)}
