"""Columns that a rule begins to leave out, taken out of tables in Postgres: no copy of them is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg.errors import DependentObjectsStillExist
from psycopg.sql import SQL, Composed, Identifier

from mirror.postgres import ddl, originals_ddl
from mirror.postgres.target import Conn, Target, TargetColumn


def drop_columns(target: Target, columns: Iterable[TargetColumn]) -> Composed:
    """ALTER TABLE that drops columns, as far as they are there; fails if a view shows one."""
    steps = [SQL("DROP COLUMN IF EXISTS {}").format(Identifier(column.name)) for column in columns]
    return SQL("ALTER TABLE {} {}").format(ddl.table_sql(target), SQL(", ").join(steps))


def take_out(conn: Conn, target: Target, sources: Collection[str]) -> None:
    """Drop the columns of these source columns of a table that is kept; of one that a view shows, the values alone.

    Nothing of somebody else's is dropped. Raises psycopg's errors.
    """
    columns = [column for column in target.columns if column.source in sources]
    if not columns:
        return
    originals_ddl.rename_members(conn, target, {c.source: c.source for c in target.columns if c not in columns})
    conn.execute("SAVEPOINT mirror_take_out")
    try:
        conn.execute(drop_columns(target, columns))
    except DependentObjectsStillExist:
        conn.execute("ROLLBACK TO mirror_take_out")
        nothing = [SQL("{} = NULL").format(Identifier(column.name)) for column in columns]
        conn.execute(SQL("UPDATE {} SET {}").format(ddl.table_sql(target), SQL(", ").join(nothing)))
    conn.execute("RELEASE mirror_take_out")


def clear_rejects(conn: Conn, source_id: int, table: str) -> None:
    """Take the values out of the rejects of a source table; they have them again once their rows change."""
    conn.execute(
        "UPDATE mirror.rejects SET row_data = '{}' WHERE source_id = $1::bigint AND source_table = $2::text",
        (str(source_id), table),
    )
