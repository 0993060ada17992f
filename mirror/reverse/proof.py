"""Whether the file has what Postgres has, while neither is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import apsw
from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import SinkError, SourceError
from mirror.core.quote import quoted
from mirror.core.sql_values import decoded, with_classes
from mirror.parity.values import Cell, same
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.sessions import connect
from mirror.postgres.target import Target, load_targets
from mirror.reverse.opening import opened
from mirror.reverse.rows import Found, Since, TableRows
from mirror.reverse.writer import key_condition, rowid_name

#: Of what differs in a table, so much is named.
_MOST = 5


def differences(dsn: str, database: Path, schema: str, since: str | None = None) -> tuple[int, list[str]]:
    """Compare every row of Postgres with that of its key in the file, and the numbers of rows.

    ``since``: a snapshot of Postgres, as text: only rows that were written since, by what triggers have captured.

    Returns how many rows were compared, and what differs, a line each (no more than some). Raises ``SinkError``,
    ``SourceError``.
    """
    found: list[str] = []
    count = 0
    with connect(dsn, name="mirror cutover", raw=True) as conn, translated("compare with the file", str(database)):
        row = conn.execute(statement("reverse_read"), (str(database), schema)).fetchone()
        if row is None:
            raise SinkError("compare with the file", str(database), "it is not mirrored here")
        targets = load_targets(conn, row[0], row[1])
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            db, _ = opened(database, 0)
        except apsw.Error as error:
            raise SourceError("compare with the file", str(database), str(error)) from error
        try:
            db.execute("BEGIN")
            for target in targets.values():
                rows = TableRows(conn, target)
                compared, lines = _of_table(db, rows, target, _found(rows, row[0], since))
                count += compared
                found += lines
                owned = (
                    SQL("")
                    if target.agent is None
                    else SQL(" WHERE {} = {}").format(Identifier(AGENT), Literal(target.agent))
                )
                theirs = conn.execute(
                    SQL("SELECT count(*) FROM {}{}").format(Identifier(target.schema, target.name), owned)
                ).fetchone()
                [[mine]] = db.execute(f"SELECT count(*) FROM {quoted(target.source)}").fetchall()
                if theirs != (mine,):
                    found.append(f"{target.source}: {mine:,} rows in the file, {theirs and theirs[0]:,} in Postgres")
        except apsw.Error as error:
            raise SourceError("compare with the file", str(database), str(error)) from error
        finally:
            db.close()
            conn.execute("ROLLBACK")
    return count, found


def _found(rows: TableRows, source_id: int, since: str | None) -> Iterator[Found]:
    written = True if since is None else rows.written_at_all(Since(source_id, since))
    if since is None or written is True:
        yield from rows.all()
        return
    if written is None:
        return
    for gone in (True, False):
        yield from rows.written(Since(source_id, since), gone=gone)


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
