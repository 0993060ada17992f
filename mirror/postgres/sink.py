"""The way into Postgres for one source: take it over, load it, apply batches to it.

A :class:`Sink` holds one connection and the source's advisory lock. It does not reconnect: after a
retryable :class:`~mirror.errors.SinkError` the caller closes it, opens another and asks it for the position.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import RawCursor

from mirror.errors import FencedError, SinkError
from mirror.model import Batch, Faults, Lsn, Position, Salts, Table, TableResult, no_fault
from mirror.postgres.apply import Transaction, advance, apply_rows
from mirror.postgres.careful import CarefulTransaction
from mirror.postgres.failures import sink_error, translated
from mirror.postgres.migrate import migrate, statement
from mirror.postgres.refusals import Refusal, load_refusals
from mirror.postgres.rows import RowPlanner
from mirror.postgres.schema import SchemaEditor, create_schema
from mirror.postgres.snapshot import AllRows, Loader, Progress, open_copy
from mirror.postgres.target import Conn, MapTable, Target, is_intact, load_targets

#: First key of the two-key advisory locks of sources; the second is the source's id. ("mirr")
_LOCK_CLASS = 0x6D697272

#: Backends of connections that this process has given up. One that the server has not noticed yet to be
#: gone may hold a source's lock: it is ours to end.
_LEFT_BEHIND: set[int] = set()

#: How long to wait for a dead mirror's backend to let go of its lock.
_DEAD_HOLDER_SECONDS = 5.0

_SESSION = (
    "SET search_path = pg_catalog, pg_temp",
    "SET statement_timeout = 0",
    "SET client_min_messages = warning",
    "SET maintenance_work_mem = '256MB'",
)


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where contiguity was lost, as ``mirror.gaps`` has it."""

    generation: int
    reason: str
    detected_at: datetime
    healed_at: datetime | None


class Sink:
    """One source's side of Postgres. Not for use from two threads at once."""

    def __init__(
        self,
        conn: Conn,
        path: str,
        schema: str,
        map_table: MapTable,
        faults: Faults = no_fault,
    ) -> None:
        """Use :meth:`open`. ``faults`` is called with the names of places where a kill is of interest."""
        self._conn = conn
        self._path = path
        self._schema = schema
        self._map_table = map_table
        self._faults = faults
        self._backend = conn.info.backend_pid
        self._source_id = 0
        self._epoch = 0
        self._position: Position | None = None
        self._lineage: str | None = None
        self._targets: dict[str, Target] = {}
        self._refusals: dict[str, Refusal] = {}
        self._rejects: dict[str, int] = {}
        self._planners: dict[str, RowPlanner] = {}

    @classmethod
    def open(
        cls,
        dsn: str,
        path: str,
        schema: str,
        map_table: MapTable,
        *,
        faults: Faults = no_fault,
    ) -> Sink:
        """Connect, migrate and take the source over.

        ``path``: the source's name for good, its absolute path. ``schema``: where its tables go.
        ``map_table``: the profile. Raises :class:`FencedError` if another mirror holds the source,
        :class:`SinkError` if Postgres cannot be used.
        """
        with translated("connect to Postgres"):
            conn: Conn = psycopg.Connection.connect(
                dsn,
                autocommit=True,
                cursor_factory=RawCursor,
                connect_timeout=10,
                application_name="mirror",
                keepalives=1,
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                # Linux: what is sent and not acknowledged either; otherwise it is sent again for a quarter of an hour.
                tcp_user_timeout=60_000,
            )
        sink = cls(conn, path, schema, map_table, faults)
        try:
            with translated("prepare Postgres for a source", path):
                sink._prepare()
        except BaseException:
            conn.close()
            raise
        return sink

    def _prepare(self) -> None:
        conn = self._conn
        encoding = conn.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise SinkError(
                "prepare Postgres",
                conn.info.dbname,
                f"the database's encoding is {encoding}",
                next_step="create a database with ENCODING 'UTF8'",
            )
        for setting in _SESSION:
            conn.execute(setting)
        conn.prepared_max = 500
        migrate(conn)
        create_schema(conn, self._schema)
        conn.execute(statement("source_register"), (self._path, self._schema))
        self._read_source()
        self._lock()
        taken = conn.execute(
            statement("source_take"), (str(self._source_id), socket.gethostname(), str(os.getpid()))
        ).fetchone()
        self._epoch = int(taken[0]) if taken else 0
        # Again, now that nobody else can change it.
        self._read_source()
        self._targets = load_targets(conn, self._source_id)
        self._refusals = load_refusals(conn, self._source_id)
        self._rejects = self._count_rejects()

    def _read_source(self) -> tuple[str | None, int | None]:
        """Read the source's row; return host and pid of the mirror that last held it."""
        row = self._conn.execute(statement("source_read"), (self._path, self._schema)).fetchone()
        if row is None:
            raise SinkError("read the position", self._path, "the source's row is gone")
        source_id, lineage, _, generation, frame, salt1, salt2, committed_at, host, pid = row
        self._source_id = int(source_id)
        self._lineage = lineage
        self._position = (
            None if generation is None else Position(Lsn(generation, frame), Salts(salt1, salt2), committed_at or 0.0)
        )
        return host, pid

    def _lock(self) -> None:
        """Take the source's lock; a backend left behind by a dead mirror of this host is ended."""
        deadline = time.monotonic() + _DEAD_HOLDER_SECONDS
        keys = (str(_LOCK_CLASS), str(self._source_id))
        while True:
            got = self._conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", keys).fetchone()
            if got == (True,):
                return
            host, pid = self._read_source()
            holder = self._conn.execute(statement("lock_holder"), keys).fetchone()
            ours = holder is not None and int(holder[0]) in _LEFT_BEHIND
            alive = not ours and (host != socket.gethostname() or _process_lives(pid))
            if alive or time.monotonic() > deadline:
                raise FencedError(
                    "take a source over",
                    self._path,
                    f"another mirror holds it: host {host}, pid {pid}",
                    next_step="stop that mirror, or mirror into another --schema",
                    retryable=True,
                )
            if holder is not None:
                self._conn.execute("SELECT pg_terminate_backend($1::int)", (str(holder[0]),))
            time.sleep(0.02)

    @property
    def source_id(self) -> int:
        """Key of the source in ``mirror.sources``."""
        return self._source_id

    @property
    def position(self) -> Position | None:
        """The applied position; None: there is no snapshot yet."""
        return self._position

    @property
    def lineage(self) -> str | None:
        """The lineage that the loaded copy belongs to."""
        return self._lineage

    @property
    def mappings(self) -> dict[str, Target]:
        """Where the source's tables are held, by source table."""
        return dict(self._targets)

    @property
    def refusals(self) -> dict[str, Refusal]:
        """The tables that Postgres does not take as they are, by source table."""
        return dict(self._refusals)

    @property
    def rejects(self) -> dict[str, int]:
        """How many rows Postgres could not hold, by source table; tables without any are not in it."""
        return dict(self._rejects)

    @property
    def reject_total(self) -> int:
        """How many rows of the source Postgres could not hold."""
        return sum(self._rejects.values())

    def load(
        self,
        database: Path,
        tables: Sequence[Table],
        rows: AllRows,
        position: Position,
        lineage: str,
        progress: Progress | None = None,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Make Postgres equal to a SQLite file, and the position with it, in one transaction.

        ``database``: a private copy that nobody writes. ``tables``: all tables to hold; those held so
        far and not among them are renamed as dropped. ``rows``: the decoded rows of one of them.
        ``before_commit``: called last; what it raises undoes everything. Raises
        :class:`SinkError`, :class:`FencedError`; :class:`SourceError` if the file cannot be read.
        """
        with self._transaction("load a source"), open_copy(database) as copy:
            self._conn.execute("BEGIN")
            editor = self._editor()
            for name in set(editor.targets) - {table.name for table in tables}:
                editor.retire(name, position.lsn)
            for name in set(editor.refusals) - {table.name for table in tables}:
                editor.lift(name)
            loader = Loader(self._conn, self._source_id, editor, rows, copy, position.lsn, progress)
            for table in tables:
                loader.load(table)
                self._faults("load:table")
            lsn, salts = position.lsn, position.salts
            moved = self._conn.execute(
                statement("source_loaded"),
                (str(self._source_id), str(self._epoch), str(lsn.generation), str(lsn.frame),
                 str(salts.salt1), str(salts.salt2), repr(position.committed_at), lineage),
            ).fetchone()  # fmt: skip
            if moved is None:
                raise FencedError("load a source", self._path, "another mirror has taken it over")
            # A whole copy needs no history: what was lost does not matter any more.
            self._conn.execute(statement("gap_heal"), (str(self._source_id), str(2**63 - 1)))
            rejects = self._count_rejects()
            before_commit()
            self._faults("load:before-commit")
            self._conn.execute("COMMIT")
        self._took(editor, rejects)
        self._position, self._lineage = position, lineage
        self._faults("load:after-commit")

    def mend(self, table: Table, rows: AllRows) -> bool:
        """Try a refused table again: make it equal to the source at the applied position, in one transaction.

        ``rows``: its rows as of that position. Returns whether it is equal now. Raises
        :class:`SinkError`, :class:`FencedError`.
        """
        position = self._position
        assert position is not None
        with self._transaction("mend a table"):
            self._conn.execute("BEGIN")
            editor = self._editor()
            held = editor.targets.get(table.name)
            intact = held is None or is_intact(self._conn, held)
            if intact is None:
                editor.forget(table.name)
            elif not intact:
                editor.retire(table.name, position.lsn)
            Loader(self._conn, self._source_id, editor, rows, None, position.lsn).load(table)
            rejects = self._count_rejects()
            # Goes nowhere, but only for the mirror that holds the source.
            self._conn.execute(*advance(self._source_id, self._epoch, position, 0))
            self._conn.execute("COMMIT")
        self._took(editor, rejects)
        return table.name not in self._refusals

    def _took(self, editor: SchemaEditor, rejects: dict[str, int]) -> None:
        self._targets, self._refusals, self._rejects = editor.targets, editor.refusals, rejects

    def apply(
        self,
        batch: Batch,
        *,
        widen: Collection[tuple[str, str]] = frozenset(),
        rekey: Collection[str] = frozenset(),
        careful: bool = False,
    ) -> list[TableResult]:
        """Apply one batch and its position in one transaction; return what it did to each table.

        ``widen``: (source table, source column) that become jsonb first. ``rekey``: tables that the
        batch rebuilds because their declared key holds NULL. ``careful``: what Postgres refuses is kept
        aside, and the rest applied. After :class:`MisfitError`, :class:`KeyShapeError` or
        :class:`RefusedError` nothing has been applied; decode the batch again and say so here.
        Raises :class:`FencedError` if another mirror took over, :class:`SinkError` otherwise.
        """
        with self._transaction("apply a batch"):
            lsn = batch.position.lsn
            editor, rejects = self._editor(), self._rejects
            kind = CarefulTransaction if careful else Transaction
            transaction = kind(self._conn, self._source_id, lsn, rejects, self._planners, refuse=editor.refuse)
            if batch.schema_changes or widen:
                transaction.flush()
                editor.apply(batch.schema_changes, lsn, widen=widen, rekey=rekey, careful=careful)
                rejects = transaction.rejects = self._count_rejects()
            results = apply_rows(transaction, batch, lambda table: _held(editor, table))
            transaction.queue(*advance(self._source_id, self._epoch, batch.position, batch.commits))
            if self._position is not None and self._position.lsn.generation < lsn.generation:
                transaction.queue(statement("gap_heal"), (str(self._source_id), str(lsn.generation)))
            if transaction.rejects_touched:
                transaction.flush()
                rejects = self._count_rejects()
            self._faults("apply:before-commit")
            transaction.commit()
        self._took(editor, rejects)
        self._position = batch.position
        self._faults("apply:after-commit")
        return results

    def read_position(self) -> Position | None:
        """Read the position from Postgres again and return it."""
        with translated("read the position", self._path):
            self._read_source()
        return self._position

    def record_gap(self, generation: int, reason: str) -> None:
        """Remember that contiguity was lost in ``generation``; healed when the position leaves it."""
        with translated("record a gap", self._path):
            self._conn.execute(
                "INSERT INTO mirror.gaps (source_id, generation, reason) VALUES ($1::bigint, $2::bigint, $3::text)",
                (str(self._source_id), str(generation), reason),
            )

    def gaps(self) -> list[Gap]:
        """Return the gaps of the source, oldest first."""
        with translated("read the gaps", self._path):
            rows = self._conn.execute(
                "SELECT generation, reason, detected_at, healed_at FROM mirror.gaps"
                " WHERE source_id = $1::bigint ORDER BY gap_id",
                (str(self._source_id),),
            ).fetchall()
        return [Gap(*row) for row in rows]

    def close(self) -> None:
        """Close the connection, which also lets go of the source. May be called twice."""
        _LEFT_BEHIND.add(self._backend)
        self._conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _editor(self) -> SchemaEditor:
        targets, refusals = dict(self._targets), dict(self._refusals)
        return SchemaEditor(self._conn, self._source_id, self._schema, self._map_table, targets, refusals)

    def _count_rejects(self) -> dict[str, int]:
        rows: list[tuple[Any, ...]] = self._conn.execute(
            "SELECT source_table, count(*) FROM mirror.rejects WHERE source_id = $1::bigint GROUP BY 1",
            (str(self._source_id),),
        ).fetchall()
        return {str(table): int(count) for table, count in rows}

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[None]:
        """Roll back whatever the block has begun if it fails; psycopg's errors become SinkError."""
        try:
            yield
        except BaseException as error:
            try:
                self._conn.rollback()
            except psycopg.Error:
                # The connection is what failed; the server rolls back by itself. The first error tells.
                self._conn.close()
            if isinstance(error, psycopg.Error):
                raise sink_error(error, operation, self._path) from error
            raise


def _held(editor: SchemaEditor, table: str) -> Target | None:
    if table in editor.refusals:
        return None
    target = editor.targets.get(table)
    if target is None:
        raise SinkError("apply a batch", table, "the table is not held in Postgres")
    return target


def _process_lives(pid: int | None) -> bool:
    """Whether a process of this host has this id."""
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
