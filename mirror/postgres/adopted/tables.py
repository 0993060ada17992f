"""Tables that the application's migrations made, as the mirror uses them: it writes their rows, and nothing else.

They are never made, renamed, dropped or given other columns. Where neither SQLite nor the table has a key, it gets the
column ``_rowid`` while it is mirrored, which may be NULL, so that an INSERT of the application needs none.
"""

from __future__ import annotations

from psycopg.sql import SQL, Identifier

from mirror.core.errors import RefusedError
from mirror.core.words import counted
from mirror.postgres.ddl import table_sql
from mirror.postgres.dml import Stage
from mirror.postgres.migrate import statement
from mirror.postgres.target import ROWID, Conn, Target, is_intact

_OPERATION = "use an application's table"


def adopt(conn: Conn, source_id: int, target: Target) -> None:
    """Take a table that is there for a target's rows, in the caller's transaction.

    Raises :class:`RefusedError` if it does not have the target's columns and key, or another source has it, and
    psycopg's errors.
    """
    place = f"{target.schema}.{target.name}"
    held = conn.execute(statement("target_holders"), (target.schema, target.name)).fetchall()
    for holder, path, *_ in held:
        if holder != source_id:
            raise RefusedError(
                _OPERATION, place, f"{place} mirrors a table of {path}", next_step=f"mirror remove {path}"
            )
    if target.key is None and not held:
        if conn.execute(statement("has_column"), (target.schema, target.name, ROWID)).fetchone() == (True,):
            raise RefusedError(
                _OPERATION,
                place,
                f"{place} has a column {ROWID} of its own, which the mirror needs: neither side has a key",
                next_step=f"give the table a key in Postgres, or `mirror adopt` again with --exclude {target.source}",
            )
        at, name = table_sql(target), Identifier(ROWID)
        conn.execute(SQL("ALTER TABLE {} ADD COLUMN {} bigint").format(at, name))
        conn.execute(SQL("CREATE UNIQUE INDEX ON {} ({})").format(at, name))
    if not is_intact(conn, target):
        raise RefusedError(
            _OPERATION,
            place,
            f"{place} does not have the columns and the key that were adopted",
            next_step="run the application's migrations there, and `mirror adopt` again",
        )


def has_rows(conn: Conn, target: Target) -> bool:
    """Whether the table has any row."""
    row = conn.execute(SQL("SELECT EXISTS (SELECT FROM {})").format(table_sql(target))).fetchone()
    return row is not None and bool(row[0])


def has_rows_without_key(conn: Conn, target: Target) -> bool:
    """Whether others have inserted rows, which have no ``_rowid``; no range of keys includes one."""
    if target.key is not None:
        return False
    rows = SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)").format(table_sql(target), Identifier(ROWID))
    row = conn.execute(rows).fetchone()
    return row is not None and bool(row[0])


def require_replaceable(conn: Conn, target: Target, stage: Stage | None) -> None:
    """Raise :class:`RefusedError` if the table has rows that the source does not have, of which nobody has said that
    they may go.

    ``stage``: has all rows of the source; None: it has none of those that are there.
    """
    count = stage.count_absent() if stage else SQL("SELECT count(*) FROM {}").format(table_sql(target))
    row = conn.execute(count).fetchone()
    if row is not None and row[0]:
        place = f"{target.schema}.{target.name}"
        raise RefusedError(
            _OPERATION,
            place,
            f"{counted(row[0], 'row')} of {place} {'is' if row[0] == 1 else 'are'} not in the source, and would go",
            next_step="`mirror adopt` again with --replace-rows, or with --exclude for the table",
        )


def release(conn: Conn, target: Target) -> None:
    """Take what the mirror needed out of a table again: its triggers, and the column ``_rowid`` with its index."""
    there = (
        "SELECT t.tgname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid"
        " WHERE t.tgrelid = $1::text::regclass AND NOT t.tgisinternal AND p.pronamespace = 'mirror'::regnamespace"
    )
    for (name,) in conn.execute(there, (table_sql(target).as_string(conn),)).fetchall():
        conn.execute(SQL("DROP TRIGGER {} ON {}").format(Identifier(name), table_sql(target)))
    if target.key is None:
        conn.execute(SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}").format(table_sql(target), Identifier(ROWID)))


def clear(conn: Conn, target: Target) -> None:
    """Delete all rows, which come again in the same transaction."""
    conn.execute(SQL("DELETE FROM {}").format(table_sql(target)))
