"""HNSW indexes of vectors: one for each dimension in use, built in the background while the mirror goes on.

And statistics of the agents' tables after the first copy, without which the planner reads every row.

An HNSW index has vectors of one dimension, so each is partial; Postgres uses it for queries with
``WHERE vector_dims(embedding) = 768 ORDER BY embedding::vector(768) <=> $1``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import Event

import psycopg
from loguru import logger
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import SinkError
from mirror.postgres.failures import sink_error
from mirror.postgres.migrate import statement
from mirror.postgres.prepared import Queued
from mirror.postgres.sessions import connect
from mirror.postgres.shared_tables import is_small
from mirror.postgres.target import Conn

#: pgvector indexes vectors up to this dimension.
MAX_INDEXED = 2_000

#: Advisory lock under which one mirror at a time builds indexes.
_INDEX_LOCK = 0x6D6972726F74

#: Seconds between two attempts to get it, and after a retryable error.
_LOCK_SECONDS, _RETRY_SECONDS = 0.2, 1.0

_CREATE = SQL(
    "CREATE INDEX CONCURRENTLY {index} ON {table} USING hnsw (({column}::vector({dimension})) vector_cosine_ops)"
    " WITH (m = 16, ef_construction = 200) WHERE vector_dims({column}) = {dimension}"
)


def build_missing(conn: Conn, schema: str, progress: Callable[[str], None], closing: Event) -> None:
    """Analyze new tables, then build the indexes that a schema's vectors still need, without blocking writes.

    ``conn`` must be in autocommit mode. ``progress`` is called with the name of each as it begins. An index that is
    invalid, because the server or the mirror ended while it was built, is built again. ``closing``: set to end the
    wait for other mirrors that build. Raises psycopg's errors.
    """
    conn.execute(statement("session_search_path"))
    # No wait for the lock inside a statement: the build that has it waits for all running statements to end.
    while conn.execute("SELECT pg_try_advisory_lock($1::bigint)", (str(_INDEX_LOCK),)).fetchone() != (True,):
        if closing.wait(_LOCK_SECONDS):
            return
    try:
        # A load does not analyze tables of vectors: its transaction could conflict with another mirror's build.
        for (table,) in conn.execute(statement("never_analyzed"), (schema,)).fetchall():
            _analyze(conn, schema, table)
        for table, column, dimension, name, valid in conn.execute(statement("vector_indexes"), (schema,)).fetchall():
            if valid or dimension > MAX_INDEXED:
                continue
            _analyze(conn, schema, table)
            progress(f"{table}.{column}, {dimension} dimensions")
            if valid is not None:
                conn.execute(SQL("DROP INDEX CONCURRENTLY {}").format(Identifier(schema, name)))
            conn.execute(
                _CREATE.format(
                    index=Identifier(name),
                    table=Identifier(schema, table),
                    column=Identifier(column),
                    dimension=Literal(dimension),
                )
            )
    finally:
        if not conn.broken:
            conn.execute("SELECT pg_advisory_unlock($1::bigint)", (str(_INDEX_LOCK),))


def _analyze(conn: Conn, schema: str, table: str) -> None:
    if not is_small(conn, schema, table):
        conn.execute(SQL("ANALYZE {}").format(Identifier(schema, table)))


class Dimensions:
    """Which dimensions the vectors of a schema have, as far as the mirror has saved them."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._saved: set[tuple[str, str, int]] = set()
        self._noted: set[tuple[str, str, int]] = set()

    def new(self, seen: set[tuple[str, str, int]]) -> list[Queued]:
        """The statements that save those that were not saved before: table, column, dimension."""
        self._noted = seen - self._saved
        values = [(self._schema, table, column, str(dimension)) for table, column, dimension in sorted(self._noted)]
        return [(statement("dimension_save"), value) for value in values]

    def took(self) -> bool:
        """The transaction with the last statements has committed. Returns whether there were any."""
        if not self._noted:
            return False
        self._saved |= self._noted
        self._noted = set()
        return True


class VectorIndexer:
    """Builds missing indexes in a thread of its own, over a connection of its own."""

    def __init__(self, dsn: str, schema: str, name: str) -> None:
        """``name``: of the source, for the log."""
        self.error: str | None = None
        """Why the last attempt failed."""
        self._building: str | None = None
        self._dsn = dsn
        self._schema = schema
        self._name = name
        self._thread: threading.Thread | None = None
        self._conn: Conn | None = None
        self._again = False
        self._closing = Event()
        self._guard = threading.Lock()

    @property
    def busy(self) -> str | None:
        """What is being built or looked for; None: all indexes are there, or the last attempt has failed."""
        if self._building is not None:
            return self._building
        return None if self._thread is None else "looking for missing indexes"

    def wake(self) -> None:
        """Look for missing indexes, now or when the present build is done."""
        with self._guard:
            self._again = True
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name=f"mirror index {self._name}", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Cancel what is being built; the next start builds it again."""
        with self._guard:
            self._closing.set()
            thread, conn = self._thread, self._conn
        if thread is None:
            return
        while thread.is_alive():
            if conn is not None and not conn.closed:
                conn.cancel_safe(timeout=1.0)
            thread.join(0.2)

    def _run(self) -> None:
        while True:
            with self._guard:
                if self._closing.is_set() or not self._again:
                    self._thread = None
                    return
                self._again = False
            try:
                self._build()
                self.error = None
            except (psycopg.Error, SinkError) as error:
                what = self._building or self._name
                problem = error if isinstance(error, SinkError) else sink_error(error, "build a vector index", what)
                if problem.retryable and not self._closing.wait(_RETRY_SECONDS):
                    self._again = True
                elif not self._closing.is_set():
                    self.error = str(problem)
                    logger.warning("{}: {}", self._name, self.error)
            finally:
                self._building = None

    def _build(self) -> None:
        with connect(self._dsn, name="mirror index", raw=True) as conn:
            with self._guard:
                if self._closing.is_set():
                    return
                self._conn = conn
            build_missing(conn, self._schema, self._progress, self._closing)

    def _progress(self, what: str) -> None:
        self._building = what
        logger.info("{}: building the vector index of {}", self._name, what)
