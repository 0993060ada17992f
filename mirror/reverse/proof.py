"""Whether the file has what Postgres has, while neither is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import cast

import apsw
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import SinkError, SourceError
from mirror.core.quote import quoted
from mirror.core.sql_values import decoded, with_classes
from mirror.parity.values import Cell, same
from mirror.postgres.ddl import table_sql
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target, load_targets
from mirror.reverse.opening import opened
from mirror.reverse.rows import Found, Since, TableRows
from mirror.reverse.writer import key_condition, rowid_name

#: Of what differs in a table, so much is named.
_MOST = 5
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
            written = None if since is None else _written(conn, Since(row[0], since))
            for target in targets.values():
                rows = TableRows(conn, target)
                if written is None or written.get(target.source):
                    compared, lines = _of_table(db, rows, target, rows.all())
                elif target.source in written:
                    assert since is not None
                    compared, lines = _of_table(db, rows, target, _keyed(rows, Since(row[0], since)))
                else:
                    continue
                count += compared
                found += lines
            found += _counted(conn, db, targets.values(), whole=since is None)
        except apsw.Error as error:
            raise SourceError("compare with the file", str(database), str(error)) from error
        finally:
            db.close()
            if not conn.broken:
                conn.execute("ROLLBACK")
    return count, found


def _written(conn: Session, since: Since) -> dict[str, bool]:
    """The tables that were written to since: whether all rows are meant."""
    query = SQL("SELECT o.source_table, bool_or(o.key IS NULL) FROM mirror.outbox o WHERE {} GROUP BY 1")
    return dict(conn.execute(query.format(since.condition())).fetchall())


def _keyed(rows: TableRows, since: Since) -> Iterator[Found]:
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
        if theirs != mine:
            yield f"{name}: {mine:,} rows in the file, {theirs:,} in Postgres"


def _of_table(
    db: apsw.Connection, rows: TableRows, target: Target, rows_there: Iterable[Found]
) -> tuple[int, list[str]]:
    columns = [column.source for column in target.columns]
    keys = rows.key_sources
    if target.key is None:
        keys = (rowid_name(columns),)
    text = f"SELECT {with_classes([quoted(column) for column in columns])} FROM {quoted(target.source)} WHERE "
    encoding = str(db.pragma("encoding"))
    count, found = 0, []
    for one in rows_there:
        count += 1
        condition, bound = key_condition(keys, one.key)
        raw = db.execute(text + condition, bound).fetchall()
        if one.row is None:
            if raw:
                found.append(f"{target.source}: Postgres has no row {', '.join(one.text)}")
            continue
        if not raw:
            found.append(f"{target.source}: the file has no row {', '.join(one.text)}")
            continue
        there = decoded(raw[0], encoding)
        wrong = [
            c for c, mine, theirs in zip(columns, there, one.row, strict=True) if not same(mine, cast("Cell", theirs))
        ]
        if wrong:
            found.append(f"{target.source}: row {', '.join(one.text)} differs in {wrong[0]}")
        if len(found) > _MOST:
            break
    return count, found
