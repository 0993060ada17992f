"""Whether the file has what Postgres has, while neither is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import apsw
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import SinkError, SourceError
from mirror.core.quote import quoted
from mirror.core.sql_values import decoded, with_classes
from mirror.core.values import Row, Value
from mirror.core.words import counted
from mirror.parity.values import Cells
from mirror.postgres.ddl import table_sql
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target, load_targets
from mirror.reverse.opening import opened
from mirror.reverse.rows import Found, Since, TableRows
from mirror.reverse.stored import is_stored_as
from mirror.reverse.writer import key_condition, rowid_name

#: A connection to the file.
File = apsw.Connection
#: A row of it; None: there is none.
FileRow = Cells | None

#: Of what differs in a table, so much is named.
_MOST = 5
#: Between so many rows, what else is to be done is done.
_MEANWHILE_ROWS = 256
#: Programs wait while rows are counted: that takes 10 ms for so many.
_COUNTED_ROWS = 100_000


def differences(conn: Session, database: Path, schema: str, since: str | None = None) -> tuple[int, list[str]]:
    """Compare every row of Postgres with that of its key in the file, and the numbers of rows.

    ``since``: a snapshot of Postgres, as text: only rows that were written since, by what triggers have captured, and
    the numbers of rows of tables that are not large. ``conn``: raw, of :mod:`mirror.postgres.sessions`, in no
    transaction.

    Returns how many rows were compared, and what differs, a line each (no more than some). Raises ``SinkError``,
    ``SourceError``.
    """
    found: list[str] = []
    count = 0
    with translated("compare with the file", str(database)):
        row = conn.execute(statement("reverse_read"), (str(database), schema)).fetchone()
        if row is None:
            raise SinkError("compare with the file", str(database), "it is not mirrored here")
        targets = load_targets(conn, row[0], row[1])
        try:
            db, _ = opened(database, 0)
        except apsw.Error as error:
            raise SourceError("compare with the file", str(database), str(error)) from error
        try:
            db.execute("BEGIN")
            conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if since is None:
                for target in targets.values():
                    rows = TableRows(conn, target)
                    compared, lines = _of_table(db, rows, rows.all())
                    count += compared
                    found += lines
            else:
                count, found = compare_written(db, conn, targets, Since(row[0], since))
            found += _counted(conn, db, targets.values(), whole=since is None)
        except apsw.Error as error:
            raise SourceError("compare with the file", str(database), str(error)) from error
        finally:
            db.close()
            if not conn.broken:
                conn.execute("ROLLBACK")
    return count, found


def compare_written(
    db: apsw.Connection,
    conn: Session,
    targets: Mapping[str, Target],
    since: Since,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[int, list[str]]:
    """Compare the rows that were written since: both connections are in a transaction, and are to show the same.

    ``meanwhile``: called every few hundred rows. Returns how many, and what differs. Raises psycopg's errors, APSW's.
    """
    count, found = 0, list[str]()
    for name, whole in written_tables(conn, since).items():
        if name in targets:
            rows = TableRows(conn, targets[name])
            compared, lines = _of_table(db, rows, rows.all() if whole else keyed(rows, since), meanwhile)
            count += compared
            found += lines
    return count, found


def written_tables(conn: Session, since: Since) -> dict[str, bool]:
    """The tables that were written to since: whether all rows are meant."""
    query = SQL("SELECT o.source_table, bool_or(o.key IS NULL) FROM mirror.outbox o WHERE {} GROUP BY 1")
    return dict(conn.execute(query.format(since.condition())).fetchall())


def keyed(rows: TableRows, since: Since) -> Iterator[Found]:
    """The rows that were written since, and the keys of those that are gone."""
    for gone in (True, False):
        yield from rows.written(since, gone=gone)


def _counted(conn: Session, db: apsw.Connection, targets: Collection[Target], *, whole: bool) -> Iterator[str]:
    """What differs in the numbers of rows; without ``whole``, of tables that Postgres does not know to be large."""
    if not targets:
        return
    queries = SQL(" UNION ALL ").join(
        SQL("SELECT {}, CASE WHEN {} THEN (SELECT count(*) FROM {}{}) END").format(
            Literal(target.source),
            SQL("true")
            if whole
            else SQL("(SELECT c.reltuples <= {} FROM pg_catalog.pg_class c WHERE c.oid = {}::regclass)").format(
                Literal(_COUNTED_ROWS), Literal(table_sql(target).as_string(conn))
            ),
            table_sql(target),
            SQL("") if target.agent is None else SQL(" WHERE {} = {}").format(Identifier(AGENT), Literal(target.agent)),
        )
        for target in targets
    )
    for name, theirs in conn.execute(queries).fetchall():
        if theirs is None:
            continue
        [[mine]] = db.execute(f"SELECT count(*) FROM {quoted(name)}").fetchall()
        assert isinstance(mine, int)
        if theirs != mine:
            yield f"{name}: {counted(mine, 'row')} in the file, {theirs:,} in Postgres"


def _of_table(
    db: apsw.Connection, rows: TableRows, rows_there: Iterable[Found], meanwhile: Callable[[], None] = lambda: None
) -> tuple[int, list[str]]:
    read, left_out, equals = reader(db, rows), computed(db, rows.target), comparing(db, rows)
    count, found = 0, []
    for one in rows_there:
        if count % _MEANWHILE_ROWS == 0:
            meanwhile()
        count += 1
        if differs := difference(rows.target, one, read(one.key), equals, left_out):
            found.append(differs)
        if len(found) > _MOST:
            break
    return count, found


def reader(db: apsw.Connection, rows: TableRows) -> Callable[[Row], FileRow]:
    """What reads a table's row in the file by its key; None: there is none. Raises ``SourceError``, APSW's errors."""
    target = rows.target
    columns = [column.source for column in target.columns]
    keys = _keys(rows)
    text = f"SELECT {with_classes([quoted(column) for column in columns])} FROM {quoted(target.source)} WHERE "
    encoding = str(db.pragma("encoding"))

    def read(key: Row) -> FileRow:
        condition, bound = key_condition(keys, key)
        try:
            raw = db.execute(text + condition, bound).fetchall()
        except apsw.Error as error:
            place = f"{db.filename}, table {target.source}"
            raise SourceError("compare with the file", place, str(error), retryable=True) from error
        return decoded(raw[0], encoding) if raw else None

    return read


def comparing(db: apsw.Connection, rows: TableRows) -> Callable[[Row, str, Value], bool]:
    """What tells whether SQLite finds a column of a row equal to a value, by its affinity. Raises APSW's errors."""
    keys = _keys(rows)

    def equals(key: Row, column: str, value: Value) -> bool:
        condition, bound = key_condition(keys, key)
        text = f"SELECT {quoted(column)} IS ? COLLATE BINARY FROM {quoted(rows.target.source)} WHERE {condition}"
        return db.execute(text, [value, *bound]).fetchall() == [(1,)]

    return equals


def _keys(rows: TableRows) -> tuple[str, ...]:
    columns = [column.source for column in rows.target.columns]
    return rows.key_sources if rows.target.key is not None else (rowid_name(columns),)


def computed(db: apsw.Connection, target: Target) -> Collection[str]:
    """The columns that SQLite computes: in Postgres they are whatever a program has written. Raises APSW's errors."""
    names = db.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden IN (2, 3)", (target.source,)).fetchall()
    return {str(name) for (name,) in names}


def difference(
    target: Target,
    one: Found,
    there: FileRow,
    equals: Callable[[Row, str, Value], bool],
    left_out: Collection[str] = (),
) -> str:
    """What differs between a row of Postgres and that of the file, but for some columns; empty if nothing does.

    ``equals``: see :func:`comparing`.
    """
    label = f"{target.source}: row {', '.join(one.text)}"
    if one.row is None or there is None:
        return "" if one.row is there else f"{label} is only in {'the file' if one.row is None else 'Postgres'}"
    pairs = zip(target.columns, there, one.row, strict=True)
    wrong = next(
        (
            column.source
            for column, mine, theirs in pairs
            if column.source not in left_out
            and not is_stored_as(
                theirs, cast("Value", mine), partial(equals, one.key, column.source, theirs), column.codec
            )
        ),
        None,
    )
    return "" if wrong is None else f"{label} differs in {wrong}"
