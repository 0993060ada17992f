"""Making Postgres equal to a whole SQLite file: the first copy, and the copy after a loss.

A new table is filled by COPY and gets its key afterwards. A table that is there is compared with a
temporary copy, and only the rows that differ are written, so that readers see one committed state
and then the other. The fast path sends SQLite's values to COPY in binary form and expects them to fit
their columns. The first value that does not fit ends it: SQLite's query, psycopg or Postgres refuses it, and the
table is rolled back. One aggregate query then checks all values at once, and the table is loaded again, with other
types or another key; or, where neither explains the error (NUL, broken UTF-8, a row that is too big, a virtual column
that cannot be computed), on the careful path: with rows that the caller has decoded, each checked by the
codecs. A table that Postgres does not take even then is refused, and the others are loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import apsw
from psycopg.sql import SQL, Composed

from mirror.core.errors import RefusedError, SinkError, SourceError
from mirror.core.positions import Lsn
from mirror.core.quote import quoted
from mirror.core.rows import RowChange
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, Table
from mirror.postgres import ddl
from mirror.postgres.apply import RejectFile
from mirror.postgres.codecs import MAX_KEY_BYTES, MAX_ROW_BYTES, Unfit
from mirror.postgres.dml import Stage
from mirror.postgres.dumpers import JsonDumper, JsonKeyDumper, NumericDumper
from mirror.postgres.failures import concerns_one_row
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.refusals import attempt, in_parts
from mirror.postgres.retype import may_change, still_needed
from mirror.postgres.row_by_row import parts
from mirror.postgres.rows import RowPlan, RowPlanner
from mirror.postgres.schema import SchemaEditor
from mirror.postgres.shared_tables import has_rows, is_small
from mirror.postgres.signals import ColumnMisfit, NullInKey, RowsNeeded
from mirror.postgres.target import Conn, Target

#: Called with (table, rows done, about how many rows in all; None: not known).
Progress = Callable[[str, int, int | None], None]
#: All rows of a table as inserts, decoded, with broken text as :class:`~mirror.core.values.BadText`.
AllRows = Callable[[Table], Iterator[RowChange]]

_PROGRESS_ROWS = 500
#: The least bytes that a row takes in a file: its offset, its size, its rowid and an empty record.
_LEAST_ROW_BYTES = 5
#: Columns checked in one aggregate query: SQLite returns at most 2,000 results.
_SCANNED_COLUMNS = 400

#: By Postgres type: an SQL condition on column {0} that is true where a value does not fit.
#: A real zero in a NUMERIC column can only be -0.0, which numeric does not have.
_MISFIT_TESTS = {
    "bigint": "typeof({0}) NOT IN ('integer', 'null')",
    "double precision": "typeof({0}) NOT IN ('real', 'null')",
    "text": "typeof({0}) NOT IN ('text', 'null')",
    "bytea": "typeof({0}) NOT IN ('blob', 'null')",
    "boolean": "CASE typeof({0}) WHEN 'null' THEN 0 WHEN 'integer' THEN {0} NOT IN (0, 1) ELSE 1 END",
    "numeric": "CASE typeof({0}) WHEN 'real' THEN {0} = 0.0 ELSE typeof({0}) IN ('text', 'blob') END",
    "jsonb": "0",
}

#: From a small sample, a tenth of the work, so that the first queries have a good plan. Autovacuum analyzes the table
#: again soon, because it has rows that are not counted yet.
_ANALYZE = SQL("SET LOCAL default_statistics_target = 20; ANALYZE {}")

_BINARY_TYPES = {"double precision": "float8", "bigint": "int8", "boolean": "bool"}

#: Where psycopg would turn a value that does not fit into one that does; other types' dumpers refuse it.
_CONVERTED_TYPES = frozenset({"boolean", "double precision", "numeric"})

#: What psycopg's dumpers raise for a value of another type: those in C the first, those in Python any of them.
_DUMPER_ERRORS = (TypeError, AttributeError, struct.error)

#: Bytes in an index entry for each byte of the value, where it is not of fixed size.
_KEY_WEIGHTS = {"text": 1, "bytea": 1, "jsonb": 6}


class _Surprise(Exception):  # noqa: N818 - not an error: another path follows
    """The fast path has read a row that does not fit its table's types, key or limits."""


def _surprise(*_: object) -> NoReturn:
    raise _Surprise


@contextmanager
def open_copy(database: Path) -> Iterator[SourceCopy]:
    """A copy of the source for as long as the block runs; SQLite's errors in it become :class:`SourceError`."""
    copy = SourceCopy(database)
    try:
        yield copy
    except apsw.Error as error:
        raise SourceError("read the snapshot", str(database), str(error)) from error
    finally:
        copy.close()


class SourceCopy:
    """A private, quiescent copy of the source, read through SQL."""

    def __init__(self, database: Path) -> None:
        """Open the file without locks; raises :class:`SourceError` if SQLite cannot."""
        try:
            self._db = apsw.Connection(
                f"file:{quote(str(database.resolve()))}?immutable=1",
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            )
            self._size = database.stat().st_size
            self._db.create_scalar_function("mirror_surprise", _surprise, 0)
            self.encoding = str(self._db.pragma("encoding")).lower()
        except apsw.Error as error:
            raise SourceError("open the snapshot", str(database), str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def scan(self, table: Table, target: Target) -> Scan:
        """Check every value's type, in one pass over the table for most tables."""
        found = Scan()
        try:
            self._scan(table, target, found)
        except apsw.SQLError:
            if not table.definition:
                raise
            found.careful = True  # a virtual column cannot be computed everywhere
        return found

    def _scan(self, table: Table, target: Target, found: Scan) -> None:
        key_bytes = 0
        for start in range(0, len(target.columns), _SCANNED_COLUMNS):
            columns = target.columns[start : start + _SCANNED_COLUMNS]
            results = []
            for column in columns:
                name = quoted(column.source)
                test = "0" if column.codec not in ("", ANY_TEXT.codec) else _MISFIT_TESTS[column.pg_type].format(name)
                results.append(f"total({test})")
                if column.name in (target.key or ()):
                    results.append(f"total({name} IS NULL)")
                    weight = _KEY_WEIGHTS.get(column.pg_type, 0)
                    results.append(f"{weight} * ifnull(max(octet_length({name})), 0)")
            query = f"SELECT {', '.join(results)} FROM {quoted(table.name)}"
            row = iter(next(iter(self._db.execute(query))))
            for column in columns:
                if next(row):
                    found.misfits.add(column.source)
                if column.name in (target.key or ()):
                    found.null_key = bool(next(row)) or found.null_key
                    key_bytes += int(next(row)) + 16
        # Half, because the text form doubles blobs.
        found.careful = key_bytes > MAX_KEY_BYTES or self._longest_row(table) > MAX_ROW_BYTES // 2

    def rows_at_most(self, table: Table) -> int | None:
        """Roughly how many rows a table has, without reading it; None if that cannot be estimated."""
        rowid, name = self._rowid_name(table), quoted(table.name)
        if rowid is None:
            return None
        ends = f"SELECT (SELECT max({rowid}) FROM {name}) - (SELECT min({rowid}) FROM {name}) + 1"
        span = int(self._db.execute(ends).get or 0)
        return span if span <= self._size // _LEAST_ROW_BYTES else None  # else most rowids are not taken

    def _longest_row(self, table: Table) -> int:
        """An upper bound of the bytes of one row."""
        if self._size < MAX_ROW_BYTES // 2:
            return self._size
        length = _sum([_length(column.name) for column in table.columns])
        return int(self._db.execute(f"SELECT ifnull(max({length}), 0) FROM {quoted(table.name)}").get)

    def rows(self, table: Table, target: Target) -> Iterator[tuple[Any, ...]]:
        """Read the stored columns of all rows as they are.

        Ends with _Surprise at a value that psycopg would convert, and at a key or row that is too long;
        with UnicodeDecodeError at broken text.
        """
        results = []
        for column in target.columns:
            name = quoted(column.source)
            if column.pg_type in _CONVERTED_TYPES:
                name = _unless(_MISFIT_TESTS[column.pg_type].format(name), name)
            results.append(name)
        if target.key is None:
            rowid = self._rowid_name(table)
            if rowid is None:
                raise SinkError(
                    "copy a table",
                    table.name,
                    "its columns hide all names of the rowid",
                    next_step="rename one of the columns rowid, _rowid_, oid",
                )
            results.insert(0, rowid)
        if target.agent is not None:
            results.insert(0, "'" + target.agent.replace("'", "''") + "'")
        # Before the row is read: the texts of one that is too long are then never in memory.
        too_long = " OR ".join(self._limits(target))
        if too_long:
            results[0] = _unless(too_long, results[0])
        return iter(self._db.execute(f"SELECT {', '.join(results)} FROM {quoted(table.name)}"))

    def _limits(self, target: Target) -> Iterator[str]:
        """SQL conditions that are true of a row that the careful path must check before it is sent."""
        measured = [column for column in target.columns if column.pg_type in _KEY_WEIGHTS]
        key = target.key or ()
        weighed = [f"{_KEY_WEIGHTS[c.pg_type]} * {_length(c.source)}" for c in measured if c.name in key]
        if weighed:
            yield f"{_sum(weighed)} > {MAX_KEY_BYTES - 16 * len(key)}"
        if measured and self._size >= MAX_ROW_BYTES // 2:
            # Half, because the text form doubles blobs.
            yield f"{_sum([_length(column.source) for column in measured])} > {MAX_ROW_BYTES // 2}"

    def _rowid_name(self, table: Table) -> str | None:
        """Return a name of the rowid that no column hides; None if there is no such name."""
        if table.without_rowid:
            return None
        taken = {str(row[1]).lower() for row in self._db.execute(f"PRAGMA table_xinfo({quoted(table.name)})")}
        free = (name for name in ("rowid", "_rowid_", "oid") if name not in taken)
        return next(free, None if table.rowid_alias is None else quoted(table.rowid_alias))


class Scan:
    """What a scan of a table found: columns that need jsonb, NULL in its key, rows that may be too long."""

    def __init__(self) -> None:
        self.misfits: set[str] = set()
        self.null_key = False
        self.careful = False
        """Whether a row or a key may be too long, so that each row has to be checked."""


class Loader:
    """Loads tables of one source inside the caller's transaction."""

    def __init__(
        self,
        conn: Conn,
        source_id: int,
        editor: SchemaEditor,
        rows: AllRows,
        copy: SourceCopy | None,
        lsn: Lsn,
        progress: Progress | None = None,
        *,
        log: bool = False,
    ) -> None:
        """``copy``: the source as a SQLite file, for the fast path; None: there is only the careful one.

        ``log``: each row that is changed in a table that is there is recorded in ``mirror.repairs``.
        """
        self._log = log
        self._conn = conn
        self._source_id = str(source_id)
        self._editor = editor
        self._rows = rows
        self._copy = copy
        self._lsn = lsn
        self._progress = progress or (lambda table, done, total: None)
        self._stages = 0
        self.dimensions: set[tuple[str, str, int]] = set()
        """Postgres table, column of vectors, and a dimension that it has."""

    def load(self, table: Table, *, narrow: bool = False) -> None:
        """Make the Postgres table equal to the source's, or have it refused; raises SinkError and psycopg's errors.

        ``narrow``: only if columns can have narrower types now; raises RefusedError where Postgres refuses that.
        """
        editor = self._editor
        held = editor.targets.get(table.name)
        overrides: dict[str, ColumnType] = held.overrides if held else {}
        by_rowid = held is not None and held.key is None and bool(table.primary_key)
        if narrow:
            declared = editor.mapped(table, NO_OVERRIDES, by_rowid)
            if held is None or (needed := still_needed(held, declared, self._rows(table))) == overrides:
                return
            overrides = needed
        # From a UTF-16 database SQLite returns broken text repaired, so that nothing would refuse it.
        careful = self._copy is None or self._copy.encoding != "utf-8"
        unseen = self._copy
        before = dict(editor.targets)
        while True:
            surprise: Exception | None = None
            try:
                with attempt(self._conn, "load a table", table.name):
                    self._load_once(table, overrides, by_rowid, careful)
                editor.lift(table.name)
                return
            except ColumnMisfit as misfit:
                overrides[misfit.column] = misfit.becomes
            except NullInKey:
                by_rowid = True
            except (_Surprise, Unfit, UnicodeDecodeError, RefusedError) as error:
                surprise = error
            editor.targets.clear()
            editor.targets.update(before)
            if narrow and isinstance(surprise, RefusedError):
                raise surprise
            if surprise is not None and (careful or not _may_pass_carefully(surprise)):
                if not isinstance(surprise, RefusedError):
                    raise surprise
                editor.refuse(table.name, surprise)
                return
            tried = dict(overrides), by_rowid
            if unseen is not None:
                scan = unseen.scan(table, editor.mapped(table, overrides, by_rowid))
                overrides |= dict.fromkeys(scan.misfits, ANY_VALUE)
                by_rowid = by_rowid or scan.null_key
                careful = careful or scan.careful
                unseen = None
            if surprise is not None and tried == (overrides, by_rowid):
                careful = True  # the types do not explain it

    def stage(self, table: Table, stage: Stage, *, careful: bool = True) -> None:
        """Stage all rows of a table, which is stored as the stage's target, and save its rejects again."""
        self._forget_rejects(table)
        self._conn.execute(stage.create())
        self._fill(table, stage.target, stage.copy_rows(), careful)
        self._conn.execute(stage.analyze())

    def _forget_rejects(self, table: Table) -> None:
        self._conn.execute(
            "DELETE FROM mirror.rejects WHERE source_id = $1::bigint AND source_table = $2::text",
            (self._source_id, table.name),
        )

    def _load_once(self, table: Table, overrides: Mapping[str, ColumnType], by_rowid: bool, careful: bool) -> None:
        target = self._prepared(table, self._editor.mapped(table, overrides, by_rowid))
        if target is None:
            self._forget_rejects(table)
            target = self._editor.create(table, overrides=overrides, rowid_key=by_rowid, primary_key=False)
            if target.agent is None or not has_rows(self._conn, target):
                names = ddl.names_sql(tuple(name for name, _ in target.stored))
                into = SQL("COPY {} ({}) FROM STDIN").format(ddl.table_sql(target), names)
                self._fill(table, target, into, careful)
                if target.agent is None:
                    self._conn.execute(ddl.add_primary_key(target))
                has_vectors = any(column.codec == "vector" for column in target.columns)  # see vectors.py
                if not has_vectors and not is_small(self._conn, target.schema, target.name):
                    self._conn.execute(_ANALYZE.format(ddl.table_sql(target)))
                return
        self._stages += 1
        stage = Stage(target, f"mirror_load_{self._stages}")
        self.stage(table, stage, careful=careful)
        if self._log:
            for statement_ in stage.log_repairs(whole=True):
                self._conn.execute(statement_, (self._source_id,))
        self._conn.execute(stage.delete_absent())
        self._conn.execute(stage.upsert_different())
        self._conn.execute(SQL("DROP TABLE {}").format(stage.table))

    def _prepared(self, table: Table, wanted: Target) -> Target | None:
        """Change the table that is there to the wanted shape; None if it has to be created again."""
        held = self._editor.targets.get(table.name)
        if held is None:
            return None
        shared = wanted.columns[: len(held.columns)]
        grown = {
            new.source: new.type
            for old, new in zip(held.columns, shared, strict=False)
            if (new.type == ANY_VALUE and old.widenable) or (new.type == ANY_TEXT and held.may_be_any_text(old))
        }
        as_held = (held.schema, held.name, held.key, held.with_types(grown).columns)
        if as_held != (wanted.schema, wanted.name, wanted.key, shared):
            if not may_change(held, wanted):
                self._editor.retire(table.name, self._lsn)
                return None
            held, grown = self._editor.change_types(wanted), {}
        if grown:
            held = self._editor.widen(table.name, grown)
        if len(wanted.columns) > len(held.columns):
            try:
                held = self._editor.extend(table, wanted.overrides)
            except RowsNeeded:  # a load has all of them
                self._editor.retire(table.name, self._lsn)
                return None
        if held != wanted:  # a default made a new column jsonb
            raise ColumnMisfit(table.name, *_first_difference(held, wanted))
        return held

    def _fill(self, table: Table, target: Target, into: Composed, careful: bool) -> None:
        if careful or self._copy is None or any(column.codec for column in target.columns):
            done = self._fill_carefully(table, target, into)
        else:
            done = self._fill_fast(self._copy, table, target, into)
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
                write = sending.write_row
                try:
                    for row in copy.rows(table, target):
                        write(row)
                        done += 1
                        if done % _PROGRESS_ROWS == 0:
                            self._progress(table.name, done, total)
                except _DUMPER_ERRORS as error:
                    raise _Surprise from error
                except apsw.SQLError as error:
                    if not table.definition:
                        raise
                    raise _Surprise from error
        return done

    def _fill_carefully(self, table: Table, target: Target, into: Composed) -> int:
        """COPY in parts, through the codecs; what Postgres cannot hold becomes rejects. Return the number of rows."""
        total = None if self._copy is None else self._copy.rows_at_most(table)
        planner = RowPlanner(table, target)
        done = 0
        with RejectFile() as rejected:

            def write(part: list[tuple[RowChange, RowPlan]]) -> None:
                with self._conn.cursor().copy(into) as sending:
                    for _, plan in part:
                        if plan.upsert is not None:
                            sending.write_row(plan.upsert)

            def refuse(item: tuple[RowChange, RowPlan], error: RefusedError) -> None:
                keep(planner.refused(item[0], error.detail))

            def keep(plan: RowPlan) -> None:
                if plan.rejected is not None:
                    rejected.add(plan.rejected)

            for part in parts((change, planner.plan(change)) for change in self._rows(table)):
                for _, plan in part:
                    keep(plan)
                in_parts(self._conn, table.name, part, write, refuse)
                done += len(part)
                self._progress(table.name, done, total)
            self.dimensions |= {(target.name, *found) for found in planner.dimensions}
            for entry in rejected:
                self._conn.execute(
                    statement("reject_save"),
                    (self._source_id, table.name, *entry,
                     str(self._lsn.generation), str(self._lsn.frame)),
                )  # fmt: skip
        return done


def _may_pass_carefully(surprise: Exception) -> bool:
    return not isinstance(surprise, RefusedError) or concerns_one_row(surprise)


def _length(column: str) -> str:
    return f"ifnull(octet_length({quoted(column)}), 0)"


def _sum(terms: list[str]) -> str:
    """An SQL sum in parts, because SQLite takes no expression of more than a thousand levels."""
    parts = [" + ".join(terms[at : at + _SCANNED_COLUMNS]) for at in range(0, len(terms), _SCANNED_COLUMNS)]
    return " + ".join(f"({part})" for part in parts)


def _unless(condition: str, value: str) -> str:
    """SQL that gives a value as it is, or ends the query if a condition is true."""
    return f"CASE WHEN {condition} THEN mirror_surprise() ELSE {value} END"


def _first_difference(held: Target, wanted: Target) -> tuple[str, str, ColumnType]:
    pairs = zip(held.columns, wanted.columns, strict=True)
    return next((old.source, "default value", old.type) for old, new in pairs if old != new)
