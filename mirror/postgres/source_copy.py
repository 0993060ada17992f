"""A private copy of the source, read through SQL: the fast path of :mod:`mirror.postgres.load`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import apsw

from mirror.core.errors import SourceError
from mirror.core.quote import quoted
from mirror.core.tables import ANY_TEXT, ANY_VALUE, Affinity, ColumnType, Table
from mirror.postgres import kinds
from mirror.postgres.codecs import MAX_KEY_BYTES, MAX_ROW_BYTES
from mirror.postgres.target import Target, TargetColumn

#: The least bytes that a row takes in a file: its offset, its size, its rowid and an empty record.
_LEAST_ROW_BYTES = 5
#: Columns checked in one aggregate query: SQLite returns at most 2,000 results.
_SCANNED_COLUMNS = 400
#: The same with a test of each type that a column may get.
_TYPED_COLUMNS = 100

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

#: Where psycopg would turn a value that does not fit into one that does; other types' dumpers refuse it.
_CONVERTED_TYPES = frozenset({"boolean", "double precision", "numeric"})

#: Types that hold reals alone.
_DOUBLES = frozenset({ColumnType("double precision"), ColumnType("double precision", kinds.FOUND)})

#: Bytes in an index entry for each byte of the value, where it is not of fixed size.
_KEY_WEIGHTS = {"text": 1, "bytea": 1, "jsonb": 6}


#: SQLite asks for these too, in a UTF-16 database, and has them if it gets no answer.
_OWN_COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})


class Surprise(Exception):  # noqa: N818 - not an error: another path follows
    """The fast path has read a row that does not fit its table's types, key or limits."""


def _surprise(*_: object) -> NoReturn:
    raise Surprise


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
        """Open the file without locks; raises :class:`SourceError` if SQLite cannot.

        Raises ``FileNotFoundError`` if it is gone: it is in the state directory, which may be deleted at any time.
        """
        try:
            self._db = apsw.Connection(
                f"file:{quote(str(database.resolve()))}?immutable=1",
                # One thread uses it, so that no lock is needed for each value that is read.
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX,
            )
            self._size = database.stat().st_size
            self._db.create_scalar_function("mirror_surprise", _surprise, 0)
            # SQLite does not read a table without the collations of its indexes; but nothing here compares by them.
            self._db.collation_needed(stand_in)
            self.encoding = str(self._db.pragma("encoding")).lower()
        except apsw.Error as error:
            database.stat()
            raise SourceError("open the snapshot", str(database), str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def scan(self, table: Table, target: Target, declared: Target) -> Scan:
        """Check every value's type, in one pass over the table for most tables.

        ``declared``: with the types that the columns are declared with, or that a rule says.
        """
        found = Scan()
        try:
            misfits = self._scan(table, target, found)
            odd = [column for column in declared.columns if column.source in misfits]
            found.types.update(self._types(table, odd, declared))
        except apsw.Error:
            found.careful = True
        return found

    def kinds(self, table: Table, columns: list[TargetColumn], of: Target) -> dict[str, ColumnType]:
        """By source column, the kind of the values of columns, which are given as declared, where it is another type.

        Empty if the table cannot be read.
        """
        try:
            types = dict(self._types(table, columns, of))
        except apsw.Error:
            return {}
        return {column.source: types[column.source] for column in columns if types[column.source] != column.type}

    def _types(self, table: Table, columns: list[TargetColumn], of: Target) -> Iterator[tuple[str, ColumnType]]:
        """The type that each of some columns gets, which are given as declared."""
        for start in range(0, len(columns), _TYPED_COLUMNS):
            part = columns[start : start + _TYPED_COLUMNS]
            offered = [
                kinds.choices(column.type, of_key=column.name in (of.key or ()), shared=of.without_kinds)
                for column in part
            ]
            tests = [
                f"total({test.format(quoted(column.source))})"
                for column, choices in zip(part, offered, strict=True)
                for test in (_undecided_test(column), *map(kinds.misfit_test, choices))
            ]
            row = iter(next(iter(self._db.execute(f"SELECT {', '.join(tests)} FROM {quoted(table.name)}"))))
            for column, choices in zip(part, offered, strict=True):
                fits = not next(row)
                fitting = [choice for choice in choices if not next(row)]
                yield column.source, column.type if fits else kinds.chosen(fitting)

    def _scan(self, table: Table, target: Target, found: Scan) -> set[str]:
        """The columns with values that do not fit; the rest goes into ``found``."""
        misfits: set[str] = set()
        key_bytes = 0
        for start in range(0, len(target.columns), _SCANNED_COLUMNS):
            columns = target.columns[start : start + _SCANNED_COLUMNS]
            results = []
            for column in columns:
                name = quoted(column.source)
                results.append(f"total({_misfit_test(column).format(name)})")
                if column.name in (target.key or ()):
                    results.append(f"total({name} IS NULL)")
                    weight = _KEY_WEIGHTS.get(column.pg_type, 0)
                    results.append(f"{weight} * ifnull(max(octet_length({name})), 0)")
            query = f"SELECT {', '.join(results)} FROM {quoted(table.name)}"
            row = iter(next(iter(self._db.execute(query))))
            for column in columns:
                if next(row):
                    misfits.add(column.source)
                if column.name in (target.key or ()):
                    found.null_key = bool(next(row)) or found.null_key
                    key_bytes += int(next(row)) + 16
        found.careful = key_bytes > MAX_KEY_BYTES or self._longest_row(table) > MAX_ROW_BYTES
        return misfits

    def rows_at_most(self, table: Table) -> int | None:
        """Roughly how many rows a table has, without reading it; None if that cannot be estimated."""
        try:
            rowid, name = self._rowid_name(table), quoted(table.name)
            if rowid is None:
                return None
            ends = f"SELECT (SELECT max({rowid}) FROM {name}) - (SELECT min({rowid}) FROM {name}) + 1"
            span = int(self._db.execute(ends).get or 0)
        except apsw.Error:
            return None
        return span if span <= self._size // _LEAST_ROW_BYTES else None  # else most rowids are not taken

    def _longest_row(self, table: Table) -> int:
        """An upper bound of the bytes of one row."""
        if self._size < MAX_ROW_BYTES:
            return self._size
        length = _sum([_length(column.name) for column in table.columns])
        return int(self._db.execute(f"SELECT ifnull(max({length}), 0) FROM {quoted(table.name)}").get)

    def rows(self, table: Table, target: Target) -> Iterator[tuple[Any, ...]]:
        """Read the stored columns of all rows as they are.

        Ends with Surprise at a value that psycopg would convert, at a key or row that is too long, and where no
        column name is left for the rowid; with UnicodeDecodeError at broken text.
        """
        affinities = {column.name: column.affinity for column in table.columns}
        results = [_sent(column, affinities[column.source]) for column in target.columns]
        if target.key is None:
            rowid = self._rowid_name(table)
            if rowid is None:
                raise Surprise
            results.insert(0, rowid)
        if target.agent is not None:
            results.insert(0, "'" + target.agent.replace("'", "''") + "'")
        # Before the row is read: the texts of one that is too long are then never in memory.
        too_long = " OR ".join(self._limits(target))
        if too_long:
            results[0] = _unless(too_long, results[0])
        return iter(self._db.execute(f"SELECT {', '.join(results)} FROM {quoted(table.name)}"))

    def plain_rows(self, table: Table) -> Iterator[tuple[Any, ...]]:
        """Read all rows: the rowid (NULL where there is none), and the values of the columns as they are.

        Ends with UnicodeDecodeError at broken text, with Surprise where no column name is left for the rowid.
        """
        rowid = self._rowid_name(table)
        if rowid is None and not table.without_rowid:
            raise Surprise
        names = ", ".join([rowid or "NULL", *(quoted(column.name) for column in table.columns)])
        return iter(self._db.execute(f"SELECT {names} FROM {quoted(table.name)}"))

    def _limits(self, target: Target) -> Iterator[str]:
        """SQL conditions that are true of a row that the careful path must check before it is sent."""
        measured = [column for column in target.columns if column.pg_type in _KEY_WEIGHTS]
        key = target.key or ()
        weighed = [f"{_KEY_WEIGHTS[c.pg_type]} * {_length(c.source)}" for c in measured if c.name in key]
        if weighed:
            yield f"{_sum(weighed)} > {MAX_KEY_BYTES - 16 * len(key)}"
        if measured and self._size >= MAX_ROW_BYTES:
            yield f"{_sum([_length(column.source) for column in measured])} > {MAX_ROW_BYTES}"

    def _rowid_name(self, table: Table) -> str | None:
        """Return a name of the rowid that no column hides; None if there is no such name."""
        if table.without_rowid:
            return None
        taken = {str(row[1]).lower() for row in self._db.execute(f"PRAGMA table_xinfo({quoted(table.name)})")}
        free = (name for name in ("rowid", "_rowid_", "oid") if name not in taken)
        return next(free, None if table.rowid_alias is None else quoted(table.rowid_alias))


class Scan:
    """What a scan of a table found: columns that need another type, NULL in its key, rows that may be too long."""

    def __init__(self) -> None:
        self.types: dict[str, ColumnType] = {}
        """By source column, the type that it needs; it may be the declared one."""
        self.null_key = False
        self.careful = False
        """Whether a row or a key may be too long, so that each row has to be checked."""


def _misfit_test(column: TargetColumn) -> str:
    """SQL that is true of a value ``{0}`` that does not fit."""
    if (test := kinds.TESTS.get(column.codec)) is not None:
        return test
    return _MISFIT_TESTS[column.pg_type] if column.codec in ("", kinds.FOUND, ANY_TEXT.codec) else "0"


def _sent(column: TargetColumn, affinity: Affinity) -> str:
    """SQL for what psycopg is given of a column, which ends the query at a value that it would convert."""
    name = quoted(column.source)
    # From such a column SQLite gives no integer, and neither a text nor a blob is a double to psycopg.
    only_reals = affinity == "REAL" and column.type in _DOUBLES
    if only_reals or column.pg_type not in _CONVERTED_TYPES:
        return name
    return _unless(_misfit_test(column).format(name), kinds.fast_sql(column.codec).format(name))


def _undecided_test(column: TargetColumn) -> str:
    """SQL that is true of a value ``{0}`` of a column, as declared, because of which its type has to be found."""
    return "{0} IS NOT NULL" if column.type == ANY_VALUE else _misfit_test(column)


def stand_in(database: apsw.Connection, collation: str) -> None:
    """Give a connection something for a collation that only the program has (a callback for ``collation_needed``).

    Only for queries that compare nothing by it.
    """
    if collation.upper() not in _OWN_COLLATIONS:
        database.create_collation(collation, lambda left, right: (left > right) - (left < right))


def _length(column: str) -> str:
    return f"ifnull(octet_length({quoted(column)}), 0)"


def _sum(terms: list[str]) -> str:
    """An SQL sum in parts, because SQLite takes no expression of more than a thousand levels."""
    parts = [" + ".join(terms[at : at + _SCANNED_COLUMNS]) for at in range(0, len(terms), _SCANNED_COLUMNS)]
    return " + ".join(f"({part})" for part in parts)


def _unless(condition: str, value: str) -> str:
    """SQL that gives a value as it is, or ends the query if a condition is true."""
    return f"CASE WHEN {condition} THEN mirror_surprise() ELSE {value} END"
