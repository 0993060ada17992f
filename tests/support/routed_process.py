"""A program over its own tables with a read router: Django's, SQLAlchemy's (also asynchronous) or LangGraph's.

``python -m tests.support.routed_process KIND app.db DSN STATE_DIR mirror.json``. Each line of its input is a call, as
JSON: the name of a method of :class:`Program`, and its arguments; each line of its output the answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

from psycopg.conninfo import conninfo_to_dict

import mirror.storage.reads as counting

KINDS = ("django", "sqlalchemy", "sqlalchemy-async", "langgraph")


class Program:
    """A counter that is written and read by the object mapper; the rest is made of that."""

    def __init__(self, source: str, dsn: str, state_dir: str, config: str) -> None:
        self.given = source, dsn, state_dir, config
        self.set_up()

    def set_up(self) -> None:
        raise NotImplementedError

    def write(self, number: int) -> None:
        raise NotImplementedError

    def read(self) -> int:
        raise NotImplementedError

    def read_async(self) -> int:
        raise NotImplementedError

    def seen(self, method: str = "read", *args: Any) -> list[Any]:
        """What a read gives, and which store answered for which reason; None: it was no question of a router."""
        before = counting.READS.values()
        value = getattr(self, method)(*args)
        after = counting.READS.values()
        new = [f"{store} {why}" for (store, why), n in after.items() if n > before.get((store, why), 0)]
        return [value, *new]

    def count(self, start: int, times: int) -> dict[str, Any]:
        """Write a number and read it, so often; those that were read and not written."""
        wrong = []
        before = counting.READS.values()
        for number in range(start, start + times):
            self.write(number)
            if (found := self.read()) != number:
                wrong.append([number, found])
        after = counting.READS.values()
        return {
            "wrong": wrong,
            **{f"{store} {why}": n - before.get((store, why), 0) for (store, why), n in after.items()},
        }


class DjangoProgram(Program):
    def set_up(self) -> None:
        import django
        from django.conf import settings

        source, dsn, state_dir, config = self.given
        named = conninfo_to_dict(dsn)
        postgres = {"ENGINE": "django.db.backends.postgresql", "NAME": named.pop("dbname"), "OPTIONS": named}
        immediate = {"transaction_mode": "IMMEDIATE"}
        settings.configure(
            DATABASES={
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": source, "OPTIONS": immediate},
                "mirrored": postgres,
            },
            DATABASE_ROUTERS=["mirror.storage.routers.django.MirrorRouter"],
            MIRROR_ROUTER={"SQLITE": "default", "POSTGRES": "mirrored", "STATE_DIR": state_dir, "CONFIG": config},
            INSTALLED_APPS=["app"],
            USE_TZ=True,
        )
        application = sys.modules["app"] = ModuleType("app")
        application.__path__ = [state_dir]
        django.setup()
        from django.db import models

        def model(name: str, **fields: Any) -> Any:
            options = type("Meta", (), {"app_label": "app", "db_table": name.lower()})
            return type(name, (models.Model,), {"__module__": "app", "Meta": options, **fields})

        self.counter = model("Counter", n=models.IntegerField())
        self.label = model("Label", counter=models.ForeignKey(self.counter, models.CASCADE), text=models.TextField())
        self.owner = model("Owner", n=models.IntegerField())
        self.apart = model("Apart", owner=models.ForeignKey(self.owner, models.CASCADE), n=models.IntegerField())

    def write(self, number: int) -> None:
        self.counter.objects.update_or_create(pk=1, defaults={"n": number})

    def read(self) -> int:
        return int(self.counter.objects.get(pk=1).n)

    def read_async(self) -> int:
        async def view() -> int:
            found = await self.counter.objects.aget(pk=1)
            return int(found.n) + len([each async for each in self.label.objects.filter(pk=-1)])

        return asyncio.run(view())

    def joined(self) -> Any:
        return self.label.objects.select_related("counter").get(pk=1).counter.n

    def left_out(self) -> Any:
        return self.apart.objects.get(pk=1).n

    def leads_to_left_out(self) -> Any:
        return self.owner.objects.filter(apart__n=7).count()

    def in_transaction(self, number: int) -> int:
        from django.db import transaction

        with transaction.atomic():
            before = self.read()
            self.write(number)
            assert self.read() == number != before
            transaction.set_rollback(True)
        return self.read()

    def mixed(self, number: int) -> int:
        """An object that was read from Postgres is changed, and linked to another."""
        found = self.counter.objects.get(pk=1)
        found.n = number
        found.save()
        assert found._state.db == "default"
        label = self.label(counter=found, text="made")
        label.save()
        again = self.counter.objects.get(pk=1)
        label.counter = again  # of the other database, which is the same
        label.delete()
        again.refresh_from_db()
        return int(again.n)


class SQLAlchemyProgram(Program):
    is_async = False

    def set_up(self) -> None:
        from sqlalchemy import Column, ForeignKey, Integer, Text, create_engine
        from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
        from sqlalchemy.orm import declarative_base, relationship, sessionmaker

        from mirror.storage.routers.sqlalchemy import Reads, RoutedSession

        base: Any = declarative_base()

        class Counter(base):
            __tablename__ = "counter"
            id = Column(Integer, primary_key=True)
            n = Column(Integer)

        class Label(base):
            __tablename__ = "label"
            id = Column(Integer, primary_key=True)
            counter_id = Column(ForeignKey("counter.id"))
            text = Column(Text)
            counter = relationship(Counter, lazy="joined")

        class Owner(base):
            __tablename__ = "owner"
            id = Column(Integer, primary_key=True)
            n = Column(Integer)
            parts = relationship("Apart", lazy="selectin")

        class Apart(base):
            __tablename__ = "apart"
            id = Column(Integer, primary_key=True)
            owner_id = Column(ForeignKey("owner.id"))
            n = Column(Integer)

        self.counter, self.label, self.owner, self.apart = Counter, Label, Owner, Apart
        source, dsn, state_dir, config = self.given
        named = conninfo_to_dict(dsn)
        driver = "sqlite+aiosqlite" if self.is_async else "sqlite"
        make: Callable[..., Any] = create_async_engine if self.is_async else create_engine
        postgres = make("postgresql+psycopg://", connect_args=named, pool_pre_ping=True)
        self.reads = Reads(make(f"{driver}:///{source}"), postgres, state_dir, config)
        self.session = (
            async_sessionmaker(sync_session_class=RoutedSession, reads=self.reads)
            if self.is_async
            else sessionmaker(class_=RoutedSession, reads=self.reads)
        )

    def write(self, number: int) -> None:
        from sqlalchemy import update

        with self.session() as session, session.begin():
            session.execute(update(self.counter).values(n=number))

    def read(self) -> int:
        with self.session() as session:
            return int(session.get_one(self.counter, 1).n)

    def joined(self) -> Any:
        with self.session() as session:
            return session.get_one(self.label, 1).counter.n

    def left_out(self) -> Any:
        with self.session() as session:
            return session.get_one(self.apart, 1).n

    def leads_to_left_out(self) -> Any:
        with self.session() as session:
            return len([part for part in session.get_one(self.owner, 1).parts if part.n == 7])

    def core(self, kind: str) -> Any:
        """A select that is no class's."""
        from sqlalchemy import func, select, text

        counter, label, apart = (each.__table__ for each in (self.counter, self.label, self.apart))
        statement = {
            "table": select(counter.c.n),
            "savepoint": select(counter.c.n),
            "count": select(func.count()).select_from(counter),
            "text": select(counter.c.n).where(text("1 = 1")),
            "only text": text("SELECT n FROM counter"),
            "join": select(counter.c.n).join(label, label.c.counter_id == counter.c.id),
            "subquery": select(counter.c.n).where(counter.c.id.in_(select(apart.c.id))),
            "update": select(counter.c.n).with_for_update(),
            "function": select(func.abs(-3)),
        }[kind]
        with self.session() as session, session.begin_nested() if kind == "savepoint" else nullcontext():
            return session.execute(statement).scalar()

    def in_transaction(self, number: int) -> int:
        with self.session() as session:
            found = session.get_one(self.counter, 1)
            before, found.n = found.n, number
            session.flush()
            session.expire_all()
            assert session.get_one(self.counter, 1).n == number != before
            session.rollback()
            return int(session.get_one(self.counter, 1).n)


class AsyncSQLAlchemyProgram(SQLAlchemyProgram):
    is_async = True

    def set_up(self) -> None:
        super().set_up()
        self.loop = asyncio.new_event_loop()

    def write(self, number: int) -> None:
        from sqlalchemy import update

        async def change() -> None:
            async with self.session() as session, session.begin():
                await session.execute(update(self.counter).values(n=number))

        self.loop.run_until_complete(change())

    async def _read(self) -> int:
        async with self.session() as session:
            return int((await session.get_one(self.counter, 1)).n)

    def read(self) -> int:
        return self.loop.run_until_complete(self._read())

    def read_async(self) -> int:
        return self.read()

    def read_and_let_go_on(self, pids: list[int]) -> int:
        """Read while other processes stand still, which another coroutine lets go on once the read has begun."""

        async def both() -> int:
            reading = asyncio.ensure_future(self._read())
            for _ in range(100):
                await asyncio.sleep(0)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            return await reading

        return self.loop.run_until_complete(both())


class LangGraphProgram(Program):
    def set_up(self) -> None:
        import sqlite3

        from langgraph.store.postgres import PostgresStore
        from langgraph.store.sqlite import SqliteStore
        from psycopg.rows import dict_row
        from psycopg_pool import ConnectionPool

        source, dsn, state_dir, config = self.given
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self.pool: Any = ConnectionPool(dsn, kwargs=options, min_size=1, open=True)
        self.sqlite = SqliteStore(sqlite3.connect(source, check_same_thread=False, isolation_level=None))
        self.postgres = PostgresStore(self.pool)
        self.sqlite.setup()
        self.postgres.setup()
        self.state = state_dir, config
        self._made: Any = None

    @property
    def store(self) -> Any:
        from mirror.storage.routers.langgraph import RoutedStore

        if self._made is None:
            self._made = RoutedStore(self.sqlite, self.postgres, *self.state)
        return self._made

    def write(self, number: int) -> None:
        self.store.put(("app",), "counter", {"n": number})

    def read(self) -> int:
        return int(self.store.get(("app",), "counter").value["n"])

    def read_async(self) -> int:
        async def node() -> int:
            return int((await self.store.aget(("app",), "counter")).value["n"])

        return asyncio.run(node())

    def search(self, query: str | None) -> Any:
        return [item.value["n"] for item in self.store.search(("app",), query=query)]

    def namespaces(self) -> Any:
        return self.store.list_namespaces()

    def batch(self, number: int) -> Any:
        """A read and a write of one batch."""
        from langgraph.store.base import GetOp, PutOp

        [before, _] = self.store.batch([GetOp(("app",), "counter"), PutOp(("app",), "counter", {"n": number})])
        return before.value["n"]

    def ages(self) -> Any:
        """Whether the times of items, and of those that are found, can be compared with one that has a zone."""
        from datetime import UTC, datetime, timedelta

        items = [self.store.get(("app",), "counter"), *self.store.search(("app",))]
        times = [time for item in items for time in (item.created_at, item.updated_at)]
        return [abs(datetime.now(UTC) - time) < timedelta(hours=1) for time in times]

    def refreshing(self) -> Any:
        """A read that prolongs the life of a row."""
        self.sqlite.ttl_config = self.store.ttl_config = {"refresh_on_read": True}
        try:
            return self.read()
        finally:
            self.sqlite.ttl_config = self.store.ttl_config = None


def main(kind: str, *given: str) -> None:
    made = dict(zip(KINDS, (DjangoProgram, SQLAlchemyProgram, AsyncSQLAlchemyProgram, LangGraphProgram), strict=True))
    program = made[kind](*given)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        method, *args = json.loads(line)
        print(json.dumps(getattr(program, method)(*args)), flush=True)
    assert "apsw" not in sys.modules, "a second library of SQLite"


if __name__ == "__main__":
    main(*sys.argv[1:])
