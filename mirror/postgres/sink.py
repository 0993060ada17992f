"""The entry point to Postgres for one source: take the source over, load it, apply batches.

A :class:`Sink` holds one connection and the source's advisory lock. It does not reconnect: after a
retryable :class:`~mirror.core.errors.SinkError` the caller closes it, opens another and reads its position.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from mirror.core.changes import Announcing
from mirror.core.errors import FencedError, FormatError, RefusedError, SinkError
from mirror.core.faults import Faults, no_fault
from mirror.core.inherited import withheld
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import Batch, TableResult
from mirror.core.tables import ColumnType, Profile, Table
from mirror.postgres import lease, row_security
from mirror.postgres.adopted.adoption import Adoption
from mirror.postgres.adopted.after_copy import AfterCopy
from mirror.postgres.announce import Announcer
from mirror.postgres.apply import Transaction, advance, apply_rows, keep_not_json, set_loaded
from mirror.postgres.binding import bind
from mirror.postgres.created import types_of_made
from mirror.postgres.failures import sink_error, translated
from mirror.postgres.history import not_json
from mirror.postgres.ledger import Ledger
from mirror.postgres.load import AllRows, Loader, Progress, damage
from mirror.postgres.migrate import create_schema, migrate, migrate_profile, statement
from mirror.postgres.others import Others
from mirror.postgres.phase import require_unsealed
from mirror.postgres.prepared import PreparedStatements
from mirror.postgres.refusals import Moved, count_rejects, load_refusals, settle_rejects
from mirror.postgres.repair import outcome, repair_by_ranges
from mirror.postgres.row_by_row import CarefulTransaction
from mirror.postgres.rows import RowPlanner
from mirror.postgres.schema import NO_WIDENING, SchemaEditor
from mirror.postgres.sessions import connect, require_utf8
from mirror.postgres.signals import ColumnMisfit, Seen
from mirror.postgres.source_copy import open_copy
from mirror.postgres.source_records import SourceRecords
from mirror.postgres.target import Conn, is_intact, load_targets
from mirror.postgres.vectors import Dimensions, VectorIndexer

if TYPE_CHECKING:
    from mirror.postgres.keeper import Keeper


class Sink(SourceRecords, AbstractContextManager["Sink"]):
    """One source's side of Postgres. Not for use from two threads at once."""

    def __init__(
        self,
        conn: Conn,
        dsn: str,
        path: str,
        schema: str,
        profiles: Mapping[str, Profile],
        agent: str | None,
        faults: Faults = no_fault,
        changes: Announcing | None = None,
    ) -> None:
        """Use :meth:`open`. ``faults``: see :mod:`~mirror.core.faults`."""
        super().__init__()
        self._changes = Announcer(changes, path)
        self._conn, self._dsn, self._path, self._schema = conn, dsn, path, schema
        self._profiles = profiles
        self._wanted_agent = agent
        self._faults = faults
        self._backend: str | None = None
        self.moved: list[Moved] = []  #: What batches did to rejects, since the caller took it out.
        self._misfits: dict[tuple[str, str], Seen] = {}
        self.after_copy_error = ""  #: Why the SQL of ``mirror adopt --after-copy`` could not be run.
        self.may_replace = False  #: Whether a copy or repair may replace rows that others have written.
        self._planners: dict[str, RowPlanner] = {}
        self._statements = PreparedStatements(conn)
        self._dimensions = Dimensions(schema)
        self._indexer = VectorIndexer(dsn, schema, Path(path).name)

    @classmethod
    def open(
        cls,
        dsn: str,
        path: str,
        schema: str,
        profiles: Mapping[str, Profile],
        *,
        agent: str | None = None,
        unnamed: bool = False,
        keeper: Keeper | None = None,
        faults: Faults = no_fault,
        changes: Announcing | None = None,
    ) -> Sink:
        """Connect, migrate and take the source over.

        ``path``: the source's permanent name, its absolute path. ``schema``: where its tables go.
        ``unnamed``: nobody has named that schema, it is the default. ``profiles``: by name, the ways to store them.
        ``agent``: owner of the rows; None: as before, or the profile's default. ``keeper``: may hold the source.
        ``changes``: is told what is committed.

        Raises :class:`FencedError` if another mirror holds the source, :class:`SinkError` if Postgres cannot be used,
        if the source is bound to another agent, or if it was mirrored into other schemas only and none is named.
        """
        conn = connect(dsn, name="mirror", raw=True)
        sink = cls(conn, dsn, path, schema, profiles, agent, faults, changes)
        try:
            with translated("prepare Postgres for a source", path):
                sink._prepare(keeper, unnamed=unnamed)
        except BaseException:
            lease.leave(sink._backend)
            conn.close()
            raise
        return sink

    def _prepare(self, keeper: Keeper | None, *, unnamed: bool) -> None:
        conn = self._conn
        require_utf8(conn)
        conn.execute("SET maintenance_work_mem = '256MB'")
        conn.execute(statement("session_search_path"))
        conn.prepare_threshold = None  # psycopg would have the server forget all statements, also ours
        migrate(conn)
        self._backend = lease.own_backend(conn)
        if unnamed:
            lease.require_no_other_schema(conn, self._path, self._schema)
        create_schema(conn, self._schema)
        conn.execute(statement("source_register"), (self._path, self._schema))
        self._read_source()
        require_unsealed(conn, self._source_id, self._path)
        if self._profile is not None:
            lease.require_agent(self._path, self._wanted_agent, self._agent)
        self._epoch = lease.take(conn, self._source_id, self._path, self._backend, self._read_source, keeper)
        # Again, now that no other mirror can change it; and nobody can have sealed it unnoticed.
        self._read_source()
        self.in_phases = require_unsealed(conn, self._source_id, self._path)
        if migrations := self._profiles[self._profile or "generic"].migrations:
            with conn.transaction():  # the tables may be those of an older mirror
                migrate_profile(conn, migrations, self._schema)
        self.adoption = Adoption.begin(conn, self._source_id)
        if self.adoption is not None:
            lease.require_agent(self._path, self._wanted_agent, None)
        self._use(load_targets(conn, self._source_id, self._agent))
        places = [(target.schema, target.name) for target in self._targets.values()]
        row_security.require_open(conn, "mirror a source", places)
        self.not_json = not_json(self._targets)
        self.others.watch(self._targets)
        self._refusals = load_refusals(conn, self._source_id)
        self._rejects = count_rejects(self._conn, self._source_id)
        if self._profiles[self._profile or "generic"].migrations:
            self._indexer.wake()  # an earlier build may have been interrupted
        self._changes.begins(conn, self._source_id, self._epoch, self._position, self._lineage)

    def require_unsealed(self) -> None:
        """Raise :class:`SealedError` if Postgres is the original of the source now; ``SinkError``."""
        self.in_phases = require_unsealed(self._conn, self._source_id, self._path)

    def _read_source(self) -> lease.Holder:
        """Read the source's row; return the mirror that last took it."""
        row = self._conn.execute(statement("source_read"), (self._path, self._schema)).fetchone()
        if row is None:
            raise SinkError("read the position", self._path, "the source's row is gone")
        source_id, lineage, _, generation, frame, salt1, salt2, committed_at, *holder, agent, profile = row
        self._source_id = int(source_id)
        self._lineage, self._agent, self._profile = lineage, agent, profile
        self._position = (
            None if generation is None else Position(Lsn(generation, frame), Salts(salt1, salt2), committed_at or 0.0)
        )
        return lease.Holder(*holder)

    @property
    def indexing(self) -> tuple[str | None, str | None]:
        """The vector index that is being built, and why the last build failed; each None if not so."""
        return self._indexer.busy, self._indexer.error

    def load(
        self,
        database: Path,
        tables: Sequence[Table],
        rows: AllRows,
        position: Position,
        lineage: str,
        progress: Progress | None = None,
        before_commit: Callable[[], Mapping[str, FormatError] | None] = lambda: None,
        profile: str = "generic",
        agent: str | None = None,
        *,
        damaged: bool = False,
    ) -> None:
        """Make Postgres equal to a SQLite file, and the position with it, in one transaction.

        ``database``: a private copy that no process writes. ``tables``: all tables to store; tables that are in
        Postgres and not among them are renamed as dropped. ``rows``: the decoded rows of one of them.
        ``profile``, ``agent``: how they are stored from now on, and their owner; the tables of another profile are
        dropped, because all rows are loaded again.
        ``before_commit``: called last; returns the tables that it found damaged; an error in it undoes everything.
        ``damaged``: such tables are refused, with the rows that can be read; otherwise :class:`FormatError` is raised.
        Raises :class:`SinkError`, :class:`FencedError`; :class:`SourceError` if the file cannot be read.
        """
        self._decide(tables, rows)
        with self._transaction("load a source"), open_copy(database) as copy:
            theirs = self.others.begin("a whole copy", self._targets)
            editor = self._editor()
            if (profile, agent) != (self._profile, self._agent):
                editor = self._bind(editor, profile, agent, position.lsn)
            for name in set(editor.targets) - {table.name for table in tables}:
                gone = editor.targets[name].known
                editor.retire(name, position.lsn, without={out for table in tables for out in withheld(gone, table)})
            for name in set(editor.refusals) - {table.name for table in tables}:
                editor.lift(name)
            salvaged = self._path if damaged else None
            loader = Loader(*self._session, editor, rows, copy, position.lsn, progress, damaged=salvaged)
            for table in tables:
                loader.load(table)
                self._faults("load:table")
            editor.finish()
            for dimension in self._dimensions.new(loader.dimensions):
                self._conn.execute(*dimension)
            moved = self._conn.execute(*set_loaded(self._source_id, self._epoch, position, lineage)).fetchone()
            if moved is None:
                raise FencedError("load a source", self._path, "another mirror has taken it over")
            entry = self._changes.copy(position, lineage, self._position)
            for logged in self._changes.logged(entry):
                self._conn.execute(*logged)
            # After a whole copy, no earlier gap matters any more.
            self._conn.execute(statement("gap_heal"), (str(self._source_id), str(2**63 - 1)))
            rejects = count_rejects(self._conn, self._source_id)
            for name, error in (before_commit() or {}).items():
                editor.refuse(name, damage(self._path, name, error))
            self._faults("load:before-commit")
            self.others.commit(theirs, editor.targets)
        self._took(editor, rejects)
        self._position, self._lineage, self._profile, self._agent = position, lineage, profile, agent
        self._changes.committed(entry)
        if self._profiles[profile].migrations:
            self._indexer.wake()
        self._faults("load:after-commit")

    def run_after_copy(self, check: Callable[[], None]) -> None:
        """Run the SQL that the source was adopted with, if that is due: once all of it is in Postgres.

        ``check``: called meanwhile; may raise to end the work. Raises :class:`SinkError` where it is to be tried again.
        """
        if self.adoption is not None:
            script = AfterCopy(self._conn, self._dsn, self._source_id, self._schema, Path(self._path).name)
            with translated("run the SQL for after the copy", self._path):
                script.run(self._epoch, check, self._faults)
                self.after_copy_error = script.error()

    def _decide(self, tables: Sequence[Table], rows: AllRows) -> None:
        """Have rows decide what was left open when the source was adopted."""
        if self.adoption is not None:
            with translated("adopt a table", self._path):
                self.adoption.look()
                for table in tables:
                    self.adoption.decide(table, rows)

    def _bind(self, editor: SchemaEditor, profile: str, agent: str | None, lsn: Lsn) -> SchemaEditor:
        """Use a profile and an agent for the source from now on; returns the editor for them."""
        for name in list(editor.targets):
            editor.retire(name, lsn, drop=True)
        bind(self._conn, self._source_id, self._schema, agent, profile, self._profiles[profile].migrations)
        return self._editor(profile, agent)

    def repair(self, table: Table, rows: AllRows) -> str:
        """Make a table equal to the source at the applied position; each change is recorded in ``mirror.repairs``.

        Returns what was done, in words for the report. See :mod:`~mirror.postgres.repair`; ``rows`` and errors as for
        :meth:`reload`.
        """
        position = self._position
        assert position is not None
        noted = self.ledger.repairs()
        editor = self._editor()
        loader = Loader(*self._session, editor, rows, None, position.lsn)
        fence = advance(self._source_id, self._epoch, position, 0)
        with self._transaction("repair a table"):
            whole = not repair_by_ranges(self._conn, self.others, editor, loader, table, fence, self._faults)
            self._rejects = count_rejects(self._conn, self._source_id)
        if whole and not self.reload(table, rows, log=True):
            return f"Postgres refuses it: {self._refusals[table.name].reason}"
        return outcome(self.ledger.repairs() - noted, self._targets[table.name], whole=whole)

    def reload(
        self, table: Table, rows: AllRows, *, log: bool = False, narrow: bool = False, refuse: bool = True
    ) -> bool:
        """Make a table equal to the source at the applied position, in one transaction, or refuse it.

        Only rows that differ are written. ``rows``: its rows as of that position. ``log``: each is recorded in
        ``mirror.repairs``. ``narrow``: only if columns can have narrower types now; then, and without ``refuse``, what
        Postgres refuses is a :class:`RefusedError`. Returns whether it is equal. Raises :class:`SinkError`.
        """
        position = self._position
        assert position is not None
        self._decide([table], rows)
        with self._transaction("reload a table"):
            theirs = self.others.begin("a repair" if log else "a copy of a table", self._targets, [table.name])
            editor = self._editor()
            held = editor.targets.get(table.name)
            intact = held is None or is_intact(self._conn, held)
            if intact is None:
                editor.forget(table.name)
            elif not intact:
                editor.retire(table.name, position.lsn, without=() if held is None else withheld(held.known, table))
            loader = Loader(*self._session, editor, rows, None, position.lsn, log=log, damaged=self._path)
            loader.load(table, narrow=narrow, refuse=refuse)
            editor.finish()
            for dimension in self._dimensions.new(loader.dimensions):
                self._conn.execute(*dimension)
            rejects = count_rejects(self._conn, self._source_id)
            # Moves the position nowhere, but fails unless this mirror holds the source.
            self._conn.execute(*advance(self._source_id, self._epoch, position, 0))
            self.others.commit(theirs, editor.targets)
        self._took(editor, rejects)
        return table.name not in self._refusals

    def retire(self, tables: Collection[str]) -> None:
        """Stop mirroring tables that the source has, by a rule; what is in Postgres is kept under other names.

        Raises :class:`SinkError`, :class:`FencedError`.
        """
        position = self._position
        assert position is not None
        with self._transaction("stop mirroring a table"):
            self._conn.execute("BEGIN")
            editor = self._editor()
            for table in tables:
                editor.lift(table)
                if table in editor.targets:
                    editor.retire(table, position.lsn)
            rejects = count_rejects(self._conn, self._source_id)
            self._conn.execute(*advance(self._source_id, self._epoch, position, 0))
            self._conn.execute("COMMIT")
        self._took(editor, rejects)

    def _took(self, editor: SchemaEditor, rejects: dict[str, int], *, columns: bool = True) -> None:
        """Take over what a committed transaction has changed. ``columns``: what is kept of columns, too."""
        self._use(editor.targets)
        if columns:
            self._statements.forget()
            self.not_json = not_json(editor.targets)
        self._refusals, self._rejects = editor.refusals, rejects
        self._misfits.clear()
        if self._dimensions.took():
            self._indexer.wake()

    def apply(
        self,
        batch: Batch,
        *,
        widen: Mapping[tuple[str, str], ColumnType] = NO_WIDENING,
        rekey: Collection[str] = frozenset(),
        careful: bool = False,
    ) -> list[TableResult]:
        """Apply one batch and its position in one transaction; return what it did to each table.

        ``widen``: types that hold more, which columns get first, by source table and column. ``rekey``: tables that the
        batch rebuilds because their declared key has NULL. ``careful``: what Postgres refuses is saved as rejects
        and refusals, and the rest applied. After :class:`ColumnMisfit`, :class:`NullInKey` or :class:`RefusedError`
        nothing has been applied; decode the batch again and call this with ``widen``, ``rekey`` or ``careful``. Raises
        :class:`FencedError` if another mirror took over, :class:`SinkError` otherwise.
        """
        with self._transaction("apply a batch"):
            lsn = batch.position.lsn
            editor, rejects, moved = self._editor(look=bool(batch.schema_changes)), self._rejects, list[Moved]()
            kind = CarefulTransaction if careful else Transaction
            transaction = kind(
                self._conn, self._statements, self._source_id, lsn, rejects, self._planners, refuse=editor.refuse
            )
            if batch.schema_changes or widen:
                transaction.flush()
                editor.apply(batch.schema_changes, lsn, widen=widen, rekey=rekey, careful=careful)
                self._statements.forget()
                self.others.watch(editor.targets)
                rejects = transaction.rejects = count_rejects(self._conn, self._source_id)
            results = apply_rows(transaction, self._changes.watch(batch, editor.stored), editor.stored)
            editor.finish(transaction.flush)
            noted = keep_not_json(transaction, self._source_id, self._planners.values(), editor.targets)
            seen = {(each.target.name, *found) for each in self._planners.values() for found in each.dimensions}
            for dimension in self._dimensions.new(seen):
                transaction.queue(*dimension)
            entry = self._changes.rows(self._lineage, self._position, results)
            transaction.log(self._changes.logged(entry))
            transaction.queue(*advance(self._source_id, self._epoch, batch.position, batch.commits))
            if self._position is not None and self._position.lsn.generation < lsn.generation:
                transaction.queue(statement("gap_heal"), (str(self._source_id), str(lsn.generation)))
            if transaction.rejects_touched:
                transaction.flush()
                rejects, moved = settle_rejects(self._conn, self._source_id, results)
            self._faults("apply:before-commit")
            transaction.commit()
        self._took(editor, rejects, columns=noted or bool(batch.schema_changes or widen))
        self.moved += moved
        self._position = batch.position
        self._faults("apply:after-commit")
        self._changes.committed(entry)
        return results

    def types_of_made(self, batch: Batch, names: Collection[str]) -> dict[tuple[str, str], ColumnType]:
        """See :func:`mirror.postgres.created.types_of_made`."""
        return types_of_made(self._editor(), batch, names) if self._agent is None and self.adoption is None else {}

    def read_position(self) -> Position | None:
        """Read the position from Postgres again and return it."""
        with translated("read the position", self._path):
            self._read_source()
        return self._position

    @property
    def others(self) -> Others:
        """What others than the mirror have written in the source's tables."""
        return Others(self._conn, self._source_id, self._path, may_replace=self.may_replace)

    @property
    def ledger(self) -> Ledger:
        """What Postgres records about the source besides its rows."""
        return Ledger(self._conn, self._source_id, self._path)

    def close(self) -> None:
        """Close the connection, which also releases the source. May be called twice."""
        lease.leave(self._backend)
        self._conn.close()
        self._indexer.close()

    def rest(self, keeper: Keeper) -> bool:
        """Have ``keeper`` hold the source, and close; False if that cannot be now. Raises ``SinkError``."""
        if kept := keeper.take_over(self._conn, self._source_id, self._epoch, self._path):
            self.close()
        return kept

    def fileno(self) -> int:
        """The connection's descriptor, readable when the server has said something unasked; -1: it is closed."""
        return -1 if self._conn.closed else self._conn.fileno()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _session(self) -> tuple[Conn, PreparedStatements, int]:
        return self._conn, self._statements, self._source_id

    def _editor(self, profile: str | None = None, agent: str | None = None, *, look: bool = True) -> SchemaEditor:
        """An editor of the tables as they are; or, for another profile and agent, of no tables yet.

        ``look``: an application's tables may have changed since they were looked at.
        """
        if look and self.adoption is not None:
            self.adoption.look()
        if profile is None:
            profile, agent, targets = self._profile or "generic", self._agent, dict(self._targets)
        else:
            targets = {}
        refusals, misfits, adoption = dict(self._refusals), self._misfits, self.adoption
        map_table = self._profiles[profile].map_table if adoption is None else adoption.map_table
        known = self._conn, self._source_id, self._schema, map_table, targets, refusals, agent, misfits
        return SchemaEditor(*known, adopted=adoption is not None, replace_rows=bool(adoption and adoption.replace_rows))

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[None]:
        """Roll back the block's transaction if the block fails; psycopg's errors become SinkError."""
        try:
            yield
        except BaseException as error:
            self._statements.forget()  # what changed a table is undone
            if isinstance(error, ColumnMisfit):
                self._misfits[error.table, error.column] = error.seen
            try:
                self._conn.rollback()
                if isinstance(error, RefusedError | psycopg.ProgrammingError):
                    self._require_unchanged(operation)
            except psycopg.Error:
                # The connection failed; the server rolls back by itself. The first error is the one to raise.
                self._conn.close()
            if isinstance(error, psycopg.Error):
                raise sink_error(error, operation, self._path) from error
            raise

    def _require_unchanged(self, operation: str) -> None:
        """Raise a retryable :class:`SinkError` if another mirror has widened a table that this source shares."""
        if self._agent is not None and load_targets(self._conn, self._source_id, self._agent) != self._targets:
            raise SinkError(operation, self._path, "another mirror has changed a table that both write", retryable=True)
