"""The column ``_original`` of a generic table: it is there exactly while a column needs it, and its members have the
names of the source's columns."""

from __future__ import annotations

import json
from collections.abc import Mapping

from psycopg.sql import SQL, Identifier, Literal

from mirror.postgres import ddl
from mirror.postgres.profiles.generic import ORIGINAL
from mirror.postgres.target import Conn, Target
from mirror.postgres.typed import LOSSY


def agree(conn: Conn, before: Target, after: Target) -> None:
    """Add the column ``_original`` to a table, or drop it, as the change of its target asks for."""
    if after.keeps_original and not before.keeps_original:
        conn.execute(ddl.add_plain_column(after, ORIGINAL, "jsonb"))
    elif before.keeps_original and not after.keeps_original:
        conn.execute(
            SQL("ALTER TABLE {} DROP COLUMN {}").format(Identifier(before.schema, after.name), Identifier(ORIGINAL))
        )


def add_member(conn: Conn, target: Target, source: str, member: str) -> None:
    """Set a column's member, which is JSON text, in every row: that of a new column's default."""
    added = f"{{{json.dumps(source)}:{member}}}"
    conn.execute(
        SQL("UPDATE {0} SET {1} = coalesce({1}, '{{}}') || {2}::jsonb").format(
            ddl.table_sql(target), Identifier(ORIGINAL), Literal(added)
        )
    )


def rename_members(conn: Conn, held: Target, sources: Mapping[str, str]) -> None:
    """Give the members the new names of their columns. ``sources``: old names to new; those not in it are dropped."""
    keeping = [column.source for column in held.columns if column.codec in LOSSY]
    if all(sources.get(name) == name for name in keeping):
        return
    kept = {name: sources[name] for name in keeping if name in sources}
    conn.execute(
        SQL(
            "UPDATE {0} SET {1} = (SELECT jsonb_object_agg({2}::jsonb ->> m.key, m.value)"
            " FROM jsonb_each({1}) AS m WHERE {2}::jsonb ? m.key) WHERE {1} IS NOT NULL"
        ).format(ddl.table_sql(held), Identifier(ORIGINAL), Literal(json.dumps(kept)))
    )
