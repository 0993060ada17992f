"""Stores for the contract suite: each is the same program's data, behind the same interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.storage.dashboard import Tasks, Teams
from mirror.storage.facade import Runner
from mirror.storage.jobs import Jobs
from mirror.storage.memory import Memory
from mirror.storage.models import jobs
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.operations.base import Context
from tests.support.memustore import create_dashboard, create_store

POSTGRES_TABLES = (jobs.TEMPLATES, jobs.ASSIGNMENTS, jobs.RUNS, jobs.EVENTS)
_SQLITE_TYPES = {
    "text": "TEXT", "integer": "INTEGER", "real": "REAL", "flag": "INTEGER", "time": "TEXT", "millis": "INTEGER",
    "json": "TEXT", "vector": "BLOB",
}  # fmt: skip


class Clock:
    """A clock that tests move; each look at it is a millisecond later, so that no two rows are of one time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 28, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Stores:
    """One store under test, with its clock and raw access to what is in it."""

    memory: Memory
    clock: Clock
    sql: Callable[[str], list[tuple[Any, ...]]]
    """Runs a statement on the file memory.db (or, with Postgres alone, on Postgres), past the interface."""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.memory._runner)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.memory._runner)

    @property
    def teams(self) -> Teams:
        return Teams(self.memory._runner)


class OnSqlite(Runner):
    """Runs operations on two files."""

    def __init__(self, folder: Path, clock: Clock, agent: str = "argent") -> None:
        create_store(folder / "memory.db").close()
        create_dashboard(folder / "dashboard.db", words=True).close()
        self._stores = {name: SQLiteStore(folder / f"{name}.db") for name in ("memory", "dashboard")}
        self._context = Context(agent, clock)

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operation.require_file()
        return self._stores[operation.source].run(self._context, operation, args, kwargs)

    def close(self) -> None:
        for store in self._stores.values():
            store.close()


def on_sqlite(folder: Path) -> Iterator[Stores]:
    """The adapter's methods on SQLite files of a test."""
    clock = Clock()
    runner = OnSqlite(folder, clock)
    connection = runner._stores["memory"]

    def sql(text: str) -> list[tuple[Any, ...]]:
        with connection._session() as session:
            return session.connection.execute(text)

    yield Stores(Memory(runner), clock, sql)
    runner.close()


class OnTablesOfPostgres(OnSqlite):
    """Runs operations that need Postgres on tables made for them in the files: what they ask, without its server."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, clock)
        with self._stores["dashboard"]._session() as session:
            for table in POSTGRES_TABLES:
                columns = ", ".join(f'"{column.name}" {_SQLITE_TYPES[column.kind]}' for column in table.columns)
                session.connection.execute(f"CREATE TABLE {table.name}({columns}, PRIMARY KEY({', '.join(table.key)}))")
            session.connection.execute("CREATE UNIQUE INDEX job_events_key ON job_events(idempotency_key)")

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        source = "dashboard" if operation.source == "postgres" else operation.source
        return super().run(dataclasses.replace(operation, source=source), args, kwargs)


def on_tables_of_postgres(folder: Path) -> Iterator[Stores]:
    """As :func:`on_sqlite`, and what is in Postgres alone, too."""
    clock = Clock()
    runner = OnTablesOfPostgres(folder, clock)
    yield Stores(Memory(runner), clock, lambda _: [])
    runner.close()
