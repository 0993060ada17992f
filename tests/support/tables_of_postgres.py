"""What is in Postgres alone, as tables in a SQLite file: operations can be tried without a server."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from mirror.core.errors import SourceError
from mirror.storage.dashboard import Tasks, Teams
from mirror.storage.facade import Runner
from mirror.storage.jobs import Jobs
from mirror.storage.knowledge import Knowledge
from mirror.storage.memory import Memory
from mirror.storage.models import jobs, keys, knowledge, sessions
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.operations.base import Context
from mirror.storage.statements import Together, Words
from tests.support.clock import Clock
from tests.support.memustore import create_dashboard
from tests.support.waiting import LIMIT

TABLES = (
    jobs.TEMPLATES,
    jobs.ASSIGNMENTS,
    jobs.RUNS,
    jobs.EVENTS,
    knowledge.OBSERVATIONS,
    knowledge.EVIDENCE,
    keys.SERVICE_KEYS,
    keys.CREDENTIALS,
    knowledge.COLLECTIONS,
    knowledge.GRANTS,
    knowledge.DOCUMENTS,
    knowledge.CHUNKS,
    sessions.SESSIONS,
    sessions.SESSION_OBSERVATIONS,
    sessions.AGENTS,
)
_INDEXES = (
    "CREATE UNIQUE INDEX job_events_key ON job_events(idempotency_key)",
    "CREATE UNIQUE INDEX service_keys_variable ON service_keys(variable)",
    "CREATE UNIQUE INDEX auth_credentials_profile ON auth_credentials(profile_id)",
    "CREATE UNIQUE INDEX knowledge_collections_name ON knowledge_collections(name)",
    "CREATE UNIQUE INDEX knowledge_documents_content ON knowledge_documents(collection_id, content_hash)",
    "CREATE TRIGGER documents_of AFTER DELETE ON knowledge_collections BEGIN"
    " DELETE FROM knowledge_documents WHERE collection_id = old.id; END",
    "CREATE TRIGGER chunks_of AFTER DELETE ON knowledge_documents BEGIN"
    " DELETE FROM knowledge_chunks WHERE document_id = old.id; END",
    "CREATE VIRTUAL TABLE knowledge_chunks_fts USING fts5(content, content='knowledge_chunks')",
    "CREATE TRIGGER words_of_chunk AFTER INSERT ON knowledge_chunks BEGIN INSERT INTO knowledge_chunks_fts"
    "(rowid, content) VALUES (new.rowid, new.content); END",
    "CREATE TRIGGER words_of_no_chunk AFTER DELETE ON knowledge_chunks BEGIN INSERT INTO knowledge_chunks_fts"
    "(knowledge_chunks_fts, rowid, content) VALUES ('delete', old.rowid, old.content); END",
    "CREATE UNIQUE INDEX active_truths ON knowledge_observations(canonical_key) WHERE status = 'active'",
    "CREATE VIRTUAL TABLE knowledge_observations_fts"
    " USING fts5(summary, detail, tags, content='knowledge_observations', tokenize='porter unicode61')",
    "CREATE TRIGGER words_of_new AFTER INSERT ON knowledge_observations BEGIN INSERT INTO knowledge_observations_fts"
    "(rowid, summary, detail, tags) VALUES (new.rowid, new.summary, new.detail, new.tags); END",
)
_TYPES = {
    "text": "TEXT", "integer": "INTEGER", "real": "REAL", "flag": "INTEGER", "time": "TEXT", "millis": "INTEGER",
    "json": "TEXT", "vector": "BLOB",
}  # fmt: skip


class TablesOfPostgres(Runner):
    """Runs all operations on one file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        create_dashboard(path).close()
        self.store = SQLiteStore(path)
        self.context = Context("argent", clock)
        self.clock = clock
        with self.store._session() as session:
            for table in TABLES:
                columns = ", ".join(f'"{column.name}" {_TYPES[column.kind]}' for column in table.columns)
                session.connection.execute(f"CREATE TABLE {table.name}({columns}, PRIMARY KEY({', '.join(table.key)}))")
            for index in _INDEXES:
                session.connection.execute(index)
        self.memory, self.jobs, self.knowledge = Memory(self), Jobs(self), Knowledge(self)
        self.tasks, self.teams = Tasks(self), Teams(self)

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        alone = dataclasses.replace(operation, source="memory", make=_of_nobody_else(operation.make))
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                return self.store.run(self.context, alone, args, kwargs)
            except SourceError as error:  # the store waits for the lock for a moment only: its caller asks again
                if not error.retryable or time.monotonic() > deadline:
                    raise
            time.sleep(0.001)


def _of_nobody_else(make: Any) -> Any:
    """An operation where no other agent has a row: a search of others' rows finds nothing."""

    @wraps(make)
    def changed(*args: Any, **kwargs: Any) -> Any:
        op, answer = make(*args, **kwargs), None
        while True:
            try:
                statement = op.send(answer)
            except StopIteration as stop:
                return stop.value
            if isinstance(statement, Words) and statement.shared:
                answer = []
            elif isinstance(statement, Together):
                own = [part for part in statement.parts if not (isinstance(part, Words) and part.shared)]
                found = iter((yield Together(tuple(own))) if own else [])
                answer = [next(found) if part in own else [] for part in statement.parts]
            else:
                answer = yield statement

    return changed


def tables_of_postgres(folder: Path) -> Iterator[TablesOfPostgres]:
    """The tables, in a file of a folder."""
    made = TablesOfPostgres(folder / "postgres.db", Clock())
    yield made
    made.store.close()
