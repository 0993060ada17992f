"""Making Postgres equal to a whole SQLite file: the first copy, and the copy after a loss.

A new table is filled by COPY and gets its key afterwards. A table that is there is compared with a
temporary copy, and only the rows that differ are written, so that readers see one committed state
and then the other. The fast path sends SQLite's values to COPY in binary form and expects them to fit
their columns. The first value that does not fit ends it: SQLite's query, psycopg or Postgres refuses it, and the
table is rolled back. Aggregate queries then check all values at once, and the table is loaded again, with other types
(:mod:`mirror.postgres.kinds`) or another key; or, where neither explains the error (NUL, broken UTF-8, a row that is
too big, a table that SQLite cannot read), on the careful path: with rows that the caller has decoded, each checked by
the codecs. A table that Postgres does not take even then is refused, and the others are loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import apsw
from psycopg.sql import SQL, Composed, Identifier

from mirror.core.errors import DamagedError, FormatError, RefusedError, recover
from mirror.core.inherited import withheld
from mirror.core.positions import Lsn
from mirror.core.rows import RowChange
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, Table
from mirror.postgres import ddl, kinds, large
from mirror.postgres.adopted import tables
from mirror.postgres.apply import Spilled
from mirror.postgres.codecs import Unfit
from mirror.postgres.distributed import look, stage_for
from mirror.postgres.dml import Stage, on_conflict
from mirror.postgres.dumpers import JsonDumper, JsonKeyDumper, NumericDumper
from mirror.postgres.failures import TOO_MANY_COLUMNS, concerns_one_row
from mirror.postgres.history import note_not_json
from mirror.postgres.migrate import statement
from mirror.postgres.prepared import PreparedStatements
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.refusals import attempt, forget_rejects, in_parts
from mirror.postgres.retype import may_change, may_select, overrides_for, still_needed
from mirror.postgres.row_by_row import parts
from mirror.postgres.rows import Rejected, RowPlan, RowPlanner
from mirror.postgres.schema import SchemaEditor
from mirror.postgres.shared_tables import has_rows, is_small
from mirror.postgres.signals import ColumnMisfit, NullInKey, RowsNeeded
from mirror.postgres.source_copy import Scan, SourceCopy, Surprise
from mirror.postgres.target import Conn, Target

#: Called with (table, rows done, about how many rows in all; None: not known).
Progress = Callable[[str, int, int | None], None]
#: All rows of a table as inserts, decoded, with broken text as :class:`~mirror.core.values.BadText`.
AllRows = Callable[[Table], Iterator[RowChange]]

_PROGRESS_ROWS = 500
#: From a small sample, a tenth of the work, so that the first queries have a good plan. Autovacuum analyzes the table
#: again soon, because it has rows that are not counted yet.
_ANALYZE = SQL("SET LOCAL default_statistics_target = 20; ANALYZE {}")

_BINARY_TYPES = {"double precision": "float8", "bigint": "int8", "boolean": "bool"}

#: What psycopg's dumpers raise for a value of another type: those in C the first, those in Python any of them.
_DUMPER_ERRORS = (TypeError, AttributeError, struct.error)


class Loader:
    """Loads tables of one source inside the caller's transaction."""

    def __init__(
        self,
        conn: Conn,
        statements: PreparedStatements,
        source_id: int,
        editor: SchemaEditor,
        rows: AllRows,
        copy: SourceCopy | None,
        lsn: Lsn,
        progress: Progress | None = None,
        *,
        log: bool = False,
        damaged: str | None = None,
    ) -> None:
        """``statements``: those of ``conn``. ``copy``: the source as a SQLite file, for the fast path; None: there is
        only the careful one.

        ``log``: each row that is changed in a table that is there is recorded in ``mirror.repairs``. ``damaged``: the
        source's path; a table of which pages are damaged is stored as far as it can be read, and refused. None:
        :class:`DamagedError` is raised.
        """
        self._log = log
        self._damaged = damaged
        self._damage: FormatError | None = None
        self._not_json: set[str] = set()
        self._conn, self._statements = conn, statements
        self._source_id = str(source_id)
        self._editor = editor
        self._rows = rows
        self._copy = copy
        self._lsn = lsn
        self._progress = progress or (lambda table, done, total: None)
        self._stages = 0
        self.dimensions: set[tuple[str, str, int]] = set()
        """Postgres table, column of vectors, and a dimension that it has."""

    def load(self, table: Table, *, narrow: bool = False, refuse: bool = True) -> None:
        """Make the Postgres table equal to the source's, or have it refused; raises SinkError and psycopg's errors.

        ``narrow``: only if columns can have narrower types now; then, and without ``refuse``, RefusedError is raised
        where Postgres refuses it.
        """
        editor = self._editor
        held = editor.targets.get(table.name)
        overrides: dict[str, ColumnType] = held.overrides if held else {}
        by_rowid = held is not None and held.key is None and bool(table.primary_key)
        if narrow:
            declared = editor.mapped(table, NO_OVERRIDES, by_rowid)
            try:
                if held is None or (needed := still_needed(held, declared, self._rows(table))) == overrides:
                    return
            except DamagedError:
                return  # values that cannot be read may not fit
            overrides = needed
        # From a UTF-16 database SQLite returns broken text repaired, so that nothing would refuse it.
        careful = self._copy is None or self._copy.encoding != "utf-8"
        unseen = True
        self._progress(table.name, 0, None)
        overrides |= self._kinds(table, held, by_rowid)
        before = dict(editor.targets)
        while True:
            surprise: Exception | None = None
            misfit: ColumnMisfit | None = None
            self._damage, self._not_json = None, set()
            try:
                with attempt(self._conn, "load a table", table.name):
                    self._load_once(table, overrides, by_rowid, careful)
                    whole = self._damage is None
                    note_not_json(
                        self._conn, int(self._source_id), editor.targets, table.name, self._not_json, whole=whole
                    )
                if self._damage is None:
                    editor.lift(table.name)
                elif self._damaged is not None:
                    editor.refuse(table.name, damage(self._damaged, table.name, self._damage))
                return
            except ColumnMisfit as signal:
                misfit = signal
                editor.misfits[table.name, signal.column] = signal.seen
            except NullInKey:
                by_rowid = True
            except (Surprise, Unfit, UnicodeDecodeError, RefusedError) as error:
                surprise = error
            editor.targets.clear()
            editor.targets.update(before)
            if self._editor.adopted and surprise is not None and not careful:
                careful = True  # only that finds the rows, and no other type would help
                continue
            full = isinstance(surprise, RefusedError) and surprise.sqlstate == TOO_MANY_COLUMNS
            if full and table.name in before and before[table.name].agent is None:
                # Columns that were dropped count, too.
                editor.retire(table.name, self._lsn)
                before = dict(editor.targets)
                continue
            if narrow and isinstance(surprise, RefusedError):
                raise surprise
            if surprise is not None and (careful or not _may_pass_carefully(surprise)):
                if not refuse or not isinstance(surprise, RefusedError):
                    raise surprise
                editor.refuse(table.name, surprise)
                return
            tried = dict(overrides), by_rowid
            if unseen and (self._copy is not None or misfit is not None):
                scan = self._scan(table, overrides, by_rowid)
                for name, kind in scan.types.items():
                    self._override(table, overrides, by_rowid, name, kind)
                by_rowid = by_rowid or scan.null_key
                careful = careful or scan.careful
                unseen = False
            if misfit is not None and overrides.get(misfit.column) == tried[0].get(misfit.column):
                overrides[misfit.column] = misfit.becomes
            if surprise is not None and tried == (overrides, by_rowid):
                careful = True  # the types do not explain it

    def _kinds(self, table: Table, held: Target | None, by_rowid: bool) -> dict[str, ColumnType]:
        """The types of new columns of which the declared type says nothing, by their values."""
        try:
            declared = self._editor.mapped(table, NO_OVERRIDES, by_rowid)
        except RefusedError:
            return {}  # so is the table
        known = {column.source for column in held.columns} if held else set()
        free = [column for column in declared.columns if column.type == ANY_VALUE and column.source not in known]
        if not free or declared.without_kinds:
            return {}
        if self._copy is not None:
            return self._copy.kinds(table, free, declared)
        with suppress(DamagedError):  # values that cannot be read may be of another kind
            return overrides_for(declared, self._rows(table), [column.source for column in free])
        return {}

    def _scan(self, table: Table, overrides: Mapping[str, ColumnType], by_rowid: bool) -> Scan:
        declared = self._editor.mapped(table, NO_OVERRIDES, by_rowid)
        if self._copy is not None:
            return self._copy.scan(table, self._editor.mapped(table, overrides, by_rowid), declared)
        found = Scan()
        with suppress(DamagedError):  # values that cannot be read may be of another kind
            needed = overrides_for(declared, self._rows(table))
            found.types = {
                column.source: needed.get(column.source, column.type)
                for column in declared.columns
                if overrides.get(column.source, column.type) not in (ANY_VALUE, ANY_TEXT) or column.source in needed
            }
        return found

    def _override(
        self, table: Table, overrides: dict[str, ColumnType], by_rowid: bool, name: str, kind: ColumnType
    ) -> None:
        """Give a column that has values of another kind its type."""
        declared = self._editor.mapped(table, NO_OVERRIDES, by_rowid)
        held = self._editor.targets.get(table.name)
        own = declared.columns[table.position(name)]
        if held is not None and held.agent is None and own.name in (held.key or ()):
            if kind != next((column.type for column in held.columns if column.source == name), None):
                overrides[name] = ANY_VALUE  # what a key has cannot be converted to anything else
        elif kind == own.type:
            overrides.pop(name, None)
        else:
            overrides[name] = kind

    def stage(self, table: Table, stage: Stage, *, careful: bool = True) -> None:
        """Stage all rows of a table, which is stored as the stage's target, and save its rejects again."""
        forget_rejects(self._conn, int(self._source_id), table.name)
        self._conn.execute(stage.create())
        self._fill(table, stage.target, stage.table, stage.columns, careful)
        self._conn.execute(stage.analyze())

    def _load_once(self, table: Table, overrides: Mapping[str, ColumnType], by_rowid: bool, careful: bool) -> None:
        target = self._prepared(table, self._editor.mapped(table, overrides, by_rowid))
        if new := target is None:
            forget_rejects(self._conn, int(self._source_id), table.name)
            target = self._editor.create(table, overrides=overrides, rowid_key=by_rowid, primary_key=False)
            if not self._may_have_rows(target):
                self._fill(table, target, ddl.table_sql(target), tuple(name for name, _ in target.stored), careful)
                if target.agent is None and not target.adopted:
                    self._conn.execute(ddl.add_primary_key(target))
                has_vectors = any(column.codec == "vector" for column in target.columns)  # see vectors.py
                if not has_vectors and not is_small(self._conn, target.schema, target.name):
                    self._conn.execute(_ANALYZE.format(ddl.table_sql(target)))
                return
        self._stages += 1
        stage = stage_for(self._conn, target, f"mirror_load_{self._stages}", whole=True)
        self.stage(table, stage, careful=careful)
        if new and target.adopted:
            self._editor.require_replaceable(target, stage)
        look(self._conn, stage)
        if self._log:
            extra, others = stage.log_repairs(whole=True)
            for statement_ in (extra, others) if self._damage is None else (others,):
                self._conn.execute(statement_, (self._source_id,))
        if self._damage is None:  # else a row that is not there may be one that cannot be read any more
            self._conn.execute(stage.delete_absent())
        self._upsert(table, stage, careful)
        self._conn.execute(SQL("DROP TABLE {}").format(stage.table))

    def _may_have_rows(self, target: Target) -> bool:
        """Whether a table that is new to the source may have rows already."""
        if target.adopted:
            return tables.has_rows(self._conn, target)
        return target.agent is not None and has_rows(self._conn, target)

    def _upsert(self, table: Table, stage: Stage, careful: bool) -> None:
        """Write the staged rows that differ. Those that break a constraint of an application's table are rejects."""
        if (exchanged := stage.delete_exchanged()) is not None:
            self._conn.execute(exchanged)
        if not stage.target.adopted:
            self._conn.execute(stage.upsert_different())
            return
        try:
            with attempt(self._conn, "load a table", table.name):
                self._conn.execute(stage.upsert_different())
        except RefusedError as error:
            if not concerns_one_row(error, adopted=True):
                raise
            self._upsert_by_rows(table, stage.target)

    def _upsert_by_rows(self, table: Table, target: Target) -> None:
        forget_rejects(self._conn, int(self._source_id), table.name)
        planner = RowPlanner(table, target)
        with Spilled[Rejected]() as rejected:

            def keep(plan: RowPlan) -> None:
                if plan.rejected is not None:
                    rejected.add(plan.rejected)

            def write(part: list[tuple[RowChange, RowPlan]]) -> None:
                kept = [plan.upsert for _, plan in part if plan.upsert is not None and not plan.large]
                if kept:
                    self._statements.run([(planner.statements.upsert, tuple(upsert)) for upsert in kept])
                for _, plan in part:
                    if plan.upsert is not None and plan.large:
                        self._send_large(target, plan)

            def refuse(item: tuple[RowChange, RowPlan], error: RefusedError) -> None:
                plan = planner.plan(item[0])
                if plan.upsert is not None:
                    key = tuple(plan.upsert[at] for at in planner.key_places)
                    self._conn.execute(planner.statements.delete, key)
                keep(planner.refused(item[0], error.detail))

            for part in parts((change, planner.plan(change)) for change in self._readable(table)):
                for _, plan in part:
                    keep(plan)
                in_parts(self._conn, table.name, part, write, refuse, adopted=True)
            self._save_rejects(table, rejected)

    def _send_large(self, target: Target, plan: RowPlan) -> None:
        assert plan.upsert is not None
        names, pg_types = zip(*target.stored, strict=True)
        large.send(self._conn, ddl.table_sql(target), names, pg_types, plan.upsert, on_conflict(target))

    def _save_rejects(self, table: Table, rejected: Spilled[Rejected]) -> None:
        for entry in rejected:
            self._conn.execute(
                statement("reject_save"),
                (self._source_id, table.name, *entry, str(self._lsn.generation), str(self._lsn.frame)),
            )

    def _prepared(self, table: Table, wanted: Target) -> Target | None:
        """Change the table that is there to the wanted shape; None if it has to be created again."""
        held = self._editor.targets.get(table.name)
        if held is None:
            return None
        if wanted.adopted:
            tables.adopt(self._conn, int(self._source_id), wanted)
            self._editor.remember(wanted)
            return wanted
        if may_select(held, wanted):
            held = self._editor.select(wanted)
        shared = wanted.columns[: len(held.columns)]
        grown = {
            new.source: new.type
            for old, new in zip(held.columns, shared, strict=False)
            if (new.type == ANY_VALUE and old.widenable) or (new.type == ANY_TEXT and held.may_be_any_text(old))
        }
        as_held = (held.schema, held.name, held.key, held.with_types(grown).columns)
        if as_held != (wanted.schema, wanted.name, wanted.key, shared):
            if not may_change(held, wanted):
                self._retire(held, table)
                return None
            held, grown = self._editor.change_types(wanted), {}
        if grown:
            held = self._editor.widen(table.name, grown)
        if len(wanted.columns) > len(held.columns):
            try:
                held = self._editor.extend(table, wanted.overrides)
            except RowsNeeded:  # a load has all of them
                self._retire(held, table)
                return None
        if held != wanted:  # a default made a new column jsonb
            raise ColumnMisfit(table.name, *_first_difference(held, wanted))
        return held

    def _retire(self, held: Target, table: Table) -> None:
        """Keep the table that is there under another name, until all rows are in: without what a rule leaves out."""
        gone = withheld(held.known, table)
        self._editor.retire(table.name, self._lsn, without=gone, replaced_by=table.name)

    def _fill(self, table: Table, target: Target, into: Identifier, names: tuple[str, ...], careful: bool) -> None:
        """Send all rows to a table with the target's stored columns under these names."""
        if self._copy is not None and target.adopted and not careful:
            done = self._fill_converted(self._copy, table, target, _copy_into(into, names))
        elif careful or self._copy is None or any(each.codec not in ("", *kinds.CODECS) for each in target.columns):
            done = self._fill_carefully(table, target, into, names)
        else:
            done = self._fill_fast(self._copy, table, target, _copy_into(into, names))
        self._progress(table.name, done, done)

    def _fill_fast(self, copy: SourceCopy, table: Table, target: Target, into: Composed) -> int:
        """COPY in binary form, without Python code for each value; return the number of rows."""
        total = copy.rows_at_most(table)
        done = 0
        with self._conn.cursor() as cursor:
            in_key = any(column.name in (target.key or ()) for column in target.columns if column.pg_type == "jsonb")
            cursor.adapters.register_dumper(None, JsonKeyDumper if in_key else JsonDumper)
            cursor.adapters.register_dumper(None, NumericDumper)
            with cursor.copy(into + SQL(" (FORMAT binary)")) as sending:
                sending.set_types([_BINARY_TYPES.get(pg_type, pg_type) for _, pg_type in target.stored])
                try:
                    # What `write_row` does, with less Python for each row.
                    for block in map(sending.formatter.write_row, copy.rows(table, target)):
                        if block:  # as large as it gets
                            sending.writer.write(block)
                        del block  # it may have a large row, and the next one is read before it would be forgotten
                        done += 1
                        if done % _PROGRESS_ROWS == 0:
                            self._progress(table.name, done, total)
                except _DUMPER_ERRORS as error:
                    raise Surprise from error
                except apsw.Error as error:
                    raise Surprise from error
        return done

    def _fill_converted(self, copy: SourceCopy, table: Table, target: Target, into: Composed) -> int:
        """COPY in text form, each value through its codec; rows that do not fit become rejects. The number of rows."""
        total = copy.rows_at_most(table)
        planner = RowPlanner(table, target)
        done = 0
        with Spilled[Rejected]() as rejected:
            with self._conn.cursor().copy(into) as sending:
                write = sending.write_row
                for rowid, *row in copy.plain_rows(table):
                    if (sent := planner.fitting(row, rowid)) is not None:
                        write(sent)
                    elif (plan := planner.plan(RowChange(rowid, None, tuple(row)))).rejected is not None:
                        rejected.add(plan.rejected)
                    done += 1
                    if done % _PROGRESS_ROWS == 0:
                        self._progress(table.name, done, total)
            self._save_rejects(table, rejected)
        return done

    def _readable(self, table: Table) -> Iterator[RowChange]:
        try:
            yield from self._rows(table)
        except DamagedError as error:
            if self._damaged is None:
                raise
            self._damage = error

    def _fill_carefully(self, table: Table, target: Target, into: Identifier, names: tuple[str, ...]) -> int:
        """COPY in parts, through the codecs; what Postgres cannot hold becomes rejects. Return the number of rows."""
        total = None if self._copy is None else self._copy.rows_at_most(table)
        planner = RowPlanner(table, target)
        done = 0
        with Spilled[Rejected]() as rejected:

            def write(part: list[tuple[RowChange, RowPlan]]) -> None:
                with self._conn.cursor().copy(_copy_into(into, names)) as sending:
                    for _, plan in part:
                        if plan.upsert is not None and not plan.large:
                            sending.write_row(plan.upsert)
                for _, plan in part:
                    if plan.upsert is not None and plan.large:
                        large.send(self._conn, into, names, [pg_type for _, pg_type in target.stored], plan.upsert)

            def refuse(item: tuple[RowChange, RowPlan], error: RefusedError) -> None:
                keep(planner.refused(item[0], error.detail))

            def keep(plan: RowPlan) -> None:
                if plan.rejected is not None:
                    rejected.add(plan.rejected)

            def plan_of(change: RowChange) -> tuple[RowChange, RowPlan]:
                return change, planner.plan(change)

            for part in parts(map(plan_of, self._readable(table))):  # a generator would hold a change
                for _, plan in part:
                    keep(plan)
                    del plan
                in_parts(self._conn, table.name, part, write, refuse, adopted=target.adopted)
                done += len(part)
                self._progress(table.name, done, total)
            self.dimensions |= {(target.name, *found) for found in planner.dimensions}
            self._not_json = planner.not_json
            self._save_rejects(table, rejected)
        return done


def damage(source: str, table: str, error: FormatError) -> RefusedError:
    """The refusal of a table that has damaged pages. ``source``: its path."""
    where = error.detail if isinstance(error, DamagedError) else f"{error.place}: {error.detail}"
    return RefusedError(
        "read a table",
        table,
        f"the file is damaged there ({where}); Postgres has the rows that can be read, and keeps those that could be"
        " read earlier",
        next_step=recover(Path(source)),
    )


def _copy_into(into: Identifier, names: tuple[str, ...]) -> Composed:
    return SQL("COPY {} ({}) FROM STDIN").format(into, ddl.names_sql(names))


def _may_pass_carefully(surprise: Exception) -> bool:
    return not isinstance(surprise, RefusedError) or concerns_one_row(surprise)


def _first_difference(held: Target, wanted: Target) -> tuple[str, str, ColumnType]:
    pairs = zip(held.columns, wanted.columns, strict=True)
    return next((old.source, "default value", old.type) for old, new in pairs if old != new)
