"""Tables with the rows of several agents; each source writes only its agent's rows.

Such a table is never renamed, dropped or rebuilt, because its other rows belong to other sources: what one source
drops is moved out of it. Columns are only added, and only widened; both are done for all sources at once. Another
mirror that still uses a column's old type gets an error from Postgres, and reads the table's definition again.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Identifier, Literal

from mirror.core.errors import NameTakenError, RefusedError
from mirror.core.positions import Lsn
from mirror.core.tables import ANY_VALUE
from mirror.postgres import ddl
from mirror.postgres.migrate import statement
from mirror.postgres.names import free_name, make_way
from mirror.postgres.originals import ENCODERS as KEEPING
from mirror.postgres.profiles.generic import AGENT, ORIGINAL
from mirror.postgres.target import Conn, Target, TargetColumn, step_beside

_OWN_SCHEMA = "give this source a schema of its own with --schema"


def adopt(conn: Conn, source_id: int, wanted: Target) -> Target:
    """Create the table of a target unless it is there, and add missing columns; returns the target as it then is.

    A generic column that the table has in another type becomes jsonb. Raises :class:`RefusedError` where the table
    is not shared by agents with the same key, or has rows of this agent from another source.
    """
    place = f"{wanted.schema}.{wanted.name}"
    row = conn.execute(statement("target_shape"), (wanted.schema, wanted.name)).fetchone()
    if row is None and not wanted.curated:
        # Another source may be making the shared table: once its transaction has ended, the table is there.
        conn.execute(statement("name_await"), (wanted.schema, wanted.name))
        row = conn.execute(statement("target_shape"), (wanted.schema, wanted.name)).fetchone()
    if row is None:
        if wanted.curated:
            raise RefusedError(
                "use a table", place, f"{place} was dropped by hand", next_step="create it again, as sql/ has it"
            )
        make_way(conn, wanted.schema, wanted.name)
        conn.execute(ddl.create_table(wanted))
        conn.execute(ddl.add_primary_key(wanted))
        conn.execute("SELECT mirror.secure($1::text, $2::text)", (wanted.schema, wanted.name))
        return wanted
    _require_shared(conn, source_id, wanted, place)
    types, uniques, _ = row
    if sorted(wanted.key_columns) not in uniques:
        raise NameTakenError("use a table", place, f"{place} has another key", next_step=_OWN_SCHEMA)
    return _with_columns(conn, wanted, types)


def _require_shared(conn: Conn, source_id: int, wanted: Target, place: str) -> None:
    """Raise :class:`NameTakenError` unless the table is one that the target's agent may share."""
    holders = conn.execute(statement("target_holders"), (wanted.schema, wanted.name)).fetchall()
    if not holders and not wanted.curated:
        raise NameTakenError(
            "create a table",
            place,
            f"{place} is there already and is not the mirror's",
            next_step=f"rename or drop it, or {_OWN_SCHEMA}",
        )
    for holder, path, agent, curated in holders:
        if agent is None or curated != wanted.curated:
            raise NameTakenError(
                "use a table", place, f"{place} mirrors a table of another kind, of {path}", next_step=_OWN_SCHEMA
            )
        if agent == wanted.agent and holder != source_id:
            raise NameTakenError(
                "use a table",
                place,
                f"{place} has rows of the agent {agent} from another source, {path}",
                next_step=step_beside(
                    conn, source_id, str(path), f"give this source another --agent, or {_OWN_SCHEMA}"
                ),
            )


def _with_columns(conn: Conn, wanted: Target, types: dict[str, str]) -> Target:
    misfits: set[str] = set()
    for column in wanted.columns:
        there = types.get(column.name)
        if there is None:
            conn.execute(ddl.add_plain_column(wanted, column.name, column.pg_type))
        elif there != column.pg_type:
            if column.codec and column.codec not in KEEPING:
                place = f"{wanted.schema}.{wanted.name}.{column.name}"
                raise RefusedError(
                    "use a table", place, f"{place} was altered by hand: it is {there}, not {column.pg_type}"
                )
            misfits.add(column.source)
    narrow = [column for column in wanted.columns if column.source in misfits and types[column.name] != "jsonb"]
    if narrow:
        widen(conn, wanted, narrow)
    target = wanted.with_types(dict.fromkeys(misfits, ANY_VALUE))
    if target.keeps_original and ORIGINAL not in types:
        conn.execute(ddl.add_plain_column(wanted, ORIGINAL, "jsonb"))
    return target


def widen(conn: Conn, target: Target, columns: Sequence[TargetColumn]) -> None:
    """Turn columns into jsonb, for all sources that have the table."""
    conn.execute(ddl.widen_columns(target, columns))
    names = [column.name for column in columns]
    conn.execute(statement("table_widened"), (target.schema, target.name, names))


def show_default(conn: Conn, target: Target, column: TargetColumn, text: str) -> None:
    """Set a column that was just added to its default in all rows of the agent."""
    conn.execute(
        SQL("UPDATE {} SET {} = {} WHERE {} = {}").format(
            ddl.table_sql(target), Identifier(column.name), Literal(text), Identifier(AGENT), Literal(target.agent)
        )
    )


def move_out(conn: Conn, source_id: int, target: Target, lsn: Lsn) -> str:
    """Move the agent's rows from the shared table to ``<table>__<agent>__dropped_<lsn>``; returns that name."""
    kept = free_name(conn, target.schema, ddl.dropped_name(f"{target.name}__{target.agent}", lsn))
    conn.execute(
        SQL("CREATE TABLE {} AS SELECT * FROM {} WHERE {} = {}").format(
            Identifier(target.schema, kept), ddl.table_sql(target), Identifier(AGENT), Literal(target.agent)
        )
    )
    conn.execute(ddl.mark_kept(target, kept, source_id))
    take_out(conn, target)
    return kept


def take_out(conn: Conn, target: Target) -> None:
    """Delete the agent's rows."""
    conn.execute(
        SQL("DELETE FROM {} WHERE {} = {}").format(ddl.table_sql(target), Identifier(AGENT), Literal(target.agent))
    )


def has_rows(conn: Conn, target: Target) -> bool:
    """Whether the table has rows of the agent."""
    row = conn.execute(
        SQL("SELECT EXISTS (SELECT FROM {} WHERE {} = {})").format(
            ddl.table_sql(target), Identifier(AGENT), Literal(target.agent)
        )
    ).fetchone()
    return row is not None and bool(row[0])


def is_small(conn: Conn, schema: str, table: str) -> bool:
    """Whether a table has too few rows to be analyzed (``is_small.sql``)."""
    return conn.execute(statement("is_small"), (schema, table)).fetchone() == (True,)


def drop_if_unused(conn: Conn, target: Target) -> None:
    """Drop a generic table that no source uses any more and that is empty; its rows were moved out."""
    if target.curated or conn.execute(statement("target_holders"), (target.schema, target.name)).fetchall():
        return
    empty = conn.execute(SQL("SELECT NOT EXISTS (SELECT FROM {})").format(ddl.table_sql(target))).fetchone()
    if empty is not None and empty[0]:
        conn.execute(ddl.drop_table(target))
