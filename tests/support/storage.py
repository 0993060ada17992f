"""Stores for the contract suite: each is the same program's data, behind the same interface."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import RawCursor

from mirror.postgres.migrate import migrate, migrate_profile, sql_directory
from mirror.storage.adapters import Adapter, DualAdapter, PostgresAdapter, SQLiteAdapter
from mirror.storage.dashboard import Tasks, Teams
from mirror.storage.facade import Methods
from mirror.storage.jobs import Jobs
from mirror.storage.memory import Memory
from mirror.storage.operations.base import Context, Operation
from mirror.storage.reads import READS
from mirror.storage.runners import RoutedRunner
from mirror.storage.statements import Op, Update, eq, run
from mirror.storage.tables import Table
from tests.support.clock import Clock
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess

AGENT = "argent"


@dataclass
class Stores:
    """One store under test, with its clock and raw access to what is in it."""

    kind: str
    """sqlite, dual or postgres."""
    adapter: Adapter
    clock: Clock
    sql: Callable[[str], list[tuple[Any, ...]]]
    """Runs a statement on the file memory.db (or, with Postgres alone, on Postgres), past the interface."""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        return self.adapter.memory

    @property
    def tasks(self) -> Tasks:
        return self.adapter.tasks

    @property
    def teams(self) -> Teams:
        return self.adapter.teams

    @property
    def jobs(self) -> Jobs:
        return self.adapter.jobs


def set_columns(methods: Methods, table: Table, row_id: str, values: dict[str, Any]) -> None:
    """Set columns of a row to what no method of the interface writes."""

    def make(_: Context) -> Op[int]:
        return run(Update(table, values, eq("id", row_id)))

    source: Any = table.source
    methods._runner.run(Operation(make, source, reads=False, many=False), (), {})


def create_files(folder: Path) -> None:
    """memory.db and dashboard.db, without rows."""
    for name, content in _empty_files().items():
        (folder / name).write_bytes(content)


@functools.cache
def _empty_files() -> dict[str, bytes]:
    """Made once: hundreds of tests need them, and two programs that create tables take half a second."""
    with tempfile.TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
        at = Path(folder)
        create_store(at / "memory.db").close()
        create_dashboard(at / "dashboard.db", words=True).close()
        assert not list(at.glob("*-wal")), "the log is part of the content"
        return {path.name: path.read_bytes() for path in at.iterdir()}


def write_config(folder: Path, dsn: str, **storage: Any) -> Path:
    """A configuration of the files of a folder."""
    config = folder / "mirror.json"
    named = storage | {"postgres": {"connectionString": dsn}}
    value = {"sources": ["memory.db", "dashboard.db"], "stateDir": str(folder / "state"), "storage": named}
    config.write_text(json.dumps(value))
    return config


def with_clock(adapter: Adapter, clock: Clock) -> Adapter:
    """Let an adapter's operations have a clock of the test's."""
    runner = adapter.memory._runner
    assert isinstance(runner, RoutedRunner)
    runner.context = Context(runner.context.agent, clock)
    return adapter


def _sql_of(adapter: Adapter) -> Callable[[str], list[tuple[Any, ...]]]:
    store = adapter._files.stores["memory"]

    def sql(text: str) -> list[tuple[Any, ...]]:
        with store._session() as session:
            return session.connection.execute(text)

    return sql


def on_sqlite(folder: Path) -> Iterator[Stores]:
    """The adapter on SQLite files of a test."""
    create_files(folder)
    clock = Clock()
    adapter = SQLiteAdapter(write_config(folder, "postgresql:///nothing"))
    with with_clock(adapter, clock):
        adapter.init()
        yield Stores("sqlite", adapter, clock, _sql_of(adapter))


def fill_postgres(dsn: str) -> None:
    """The tables of agents, as a mirror makes them, with the constraints of the day after, and the agent."""
    with psycopg.connect(dsn, autocommit=True, cursor_factory=RawCursor) as conn:
        migrate(conn)
        with conn.transaction():
            migrate_profile(conn, "memustore", "public")
        constraints = sql_directory() / "profiles" / "memustore" / "constraints.sql"
        with psycopg.connect(dsn, autocommit=True) as plain:
            plain.execute(constraints.read_bytes())
        conn.execute("INSERT INTO agents(agent_id) VALUES ($1)", (AGENT,))


#: Deletes all rows of the agents' tables, and nothing of which agents there are.
_EMPTY = """
DO $$
DECLARE
    filled regclass;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no foreign key minds the order
    FOR filled IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
                     AND c.relname <> 'agents' LOOP
        EXECUTE format('DELETE FROM %s', filled);
    END LOOP;
END
$$
"""


@contextmanager
def postgres_program(folder: Path, dsn: str) -> Iterator[Callable[[], Iterator[Stores]]]:
    """The adapter on Postgres alone, for many tests one after the other; each begins with empty tables.

    ``dsn``: of a database that :func:`fill_postgres` has filled.
    """
    config = write_config(folder, dsn, backend="postgres")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sources": []}))
    with PostgresAdapter(config, agent=AGENT) as adapter, psycopg.connect(dsn, autocommit=True) as conn:
        adapter.init()

        def sql(text: str) -> list[tuple[Any, ...]]:
            cursor = conn.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

        def one() -> Iterator[Stores]:
            clock = Clock()
            conn.execute(_EMPTY)
            with_clock(adapter, clock)
            yield Stores("postgres", adapter, clock, sql)

        yield one


@contextmanager
def dual_program(folder: Path, dsn: str) -> Iterator[Callable[[], Iterator[Stores]]]:
    """A program with its mirror, for many tests one after the other; each begins with empty tables.

    Reads come from Postgres, however long it takes: an answer from SQLite in its place fails the test.
    """
    create_files(folder)
    mirror = MirrorProcess([folder / "memory.db", folder / "dashboard.db"], dsn, folder / "state")
    config = write_config(folder, dsn, backend="dual", readFrom="postgres", reads={"maxWaitMs": 60_000})
    try:
        mirror.start()
        mirror.wait_applied()

        def one() -> Iterator[Stores]:
            clock = Clock()
            adapter = DualAdapter(config)
            with with_clock(adapter, clock):
                adapter.init()
                for kind, store in adapter._files.stores.items():
                    with store._session() as session:
                        for table in TABLES[kind]:
                            session.connection.execute(f"DELETE FROM {table}")
                    assert adapter._files.freshness[kind].prepare(30)
                before = _from_sqlite()
                yield Stores("dual", adapter, clock, _sql_of(adapter))
                assert _from_sqlite() == before, READS.values()

        yield one
        mirror.check()
    finally:
        mirror.end()


TABLES = {
    "memory": (
        "category_items", "item_entities", "memory_items", "memory_categories", "entities", "resources", "reflections",
        "lessons", "model_feedback", "live_memory_candidates", "memory_promotion_events", "personal_skill_candidates",
        "personal_skill_reviews",
    ),
    "dashboard": ("team_members", "teams", "tasks"),
}  # fmt: skip


def _from_sqlite() -> int:
    return sum(number for (store, _), number in READS.values().items() if store == "sqlite")
