"""Triggers on mirrored tables by which ``mirror.others_wrote`` knows the rows that others than the mirror have written.

Nothing else tells: rows have no writer, statistics are not exact, an xmin says nothing without a list of the mirror's
own transactions (a thousand a second), and what Postgres should have is not known any more once the state directory is
lost. The condition of the triggers is a setting of the session, so for the mirror's own writes none is ever queued, and
a new table is filled before it has any. Others pay an insert a row. ``scripts/bench/watch.py`` measures both.

The triggers fire always (``ENABLE ALWAYS``). What they miss: a session that says it is the mirror's
(``mirror.writer``), one that switches the triggers off, and tables where none could be made, which is logged: among
them those that Citus has, where a trigger would fire on another server, without this schema and that setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from loguru import logger
from psycopg import errors
from psycopg.sql import SQL, Composable, Composed, Identifier

from mirror.postgres.ddl import table_sql
from mirror.postgres.distributed import distributed
from mirror.postgres.target import Conn, Target

_NAMES = "mirror_watch", "mirror_watch_all"
_ROWS, _ALL = map(Identifier, _NAMES)
_OURS = SQL("pg_catalog.current_setting('mirror.writer', true) IS DISTINCT FROM 'on'")
#: How long to wait for others that write to a table: until they have ended, whoever comes next would wait, too.
_LOCK_SECONDS = 5
_NOT_NOW = (errors.LockNotAvailable, errors.FeatureNotSupported, errors.InsufficientPrivilege)
_UNWATCHED = (
    "SELECT w.s, w.t FROM unnest($1::text[], $2::text[]) AS w (s, t)"
    " JOIN pg_catalog.pg_namespace n ON n.nspname = w.s"
    " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p')"
    " WHERE 2 <> (SELECT count(*) FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid"
    " AND g.tgname IN ('mirror_watch', 'mirror_watch_all') AND g.tgenabled = 'A')"
)
_WATCHED = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1::text AND c.relname = $2::text AND g.tgname = 'mirror_watch')"
)

_USED = (
    "SELECT t.target_schema, t.target_table FROM mirror.tables t WHERE t.source_id <> $1::bigint"
    " AND NOT EXISTS (SELECT FROM mirror.phase p WHERE p.source_id = t.source_id AND p.sealed_at IS NOT NULL)"
)


def watch(conn: Conn, targets: Iterable[Target]) -> None:
    """Make the triggers where they are missing, in the caller's transaction if there is one.

    A table that others lock or on which no trigger can be made is left for the next start, and logged. Raises psycopg's
    errors.
    """
    by_name = {(target.schema, target.name): target for target in targets}
    if there := distributed(conn, by_name.values()):
        _say_distributed(frozenset(there))
        by_name = {name: target for name, target in by_name.items() if name not in there}
    schemas, tables = [schema for schema, _ in by_name], [name for _, name in by_name]
    for found in conn.execute(_UNWATCHED, (schemas, tables)).fetchall():
        table = table_sql(by_name[found])
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'".encode())
                for each in _made(table):
                    conn.execute(each)
                conn.execute("SET LOCAL lock_timeout = 0")
        except _NOT_NOW as error:
            logger.warning(
                "{}.{}: not known from now on is which rows others write there: {}", *found, str(error).splitlines()[0]
            )


@cache
def _say_distributed(tables: frozenset[tuple[str, str]]) -> None:
    """Log it once for the same tables, and not each time that they are looked at."""
    names = ", ".join(f"{schema}.{name}" for schema, name in sorted(tables))
    logger.warning("Citus has tables on its nodes, and which rows others write there is not known: {}", names)


def _made(table: Composable) -> Iterable[Composed]:
    made = SQL("CREATE OR REPLACE TRIGGER {} AFTER {} ON {} FOR EACH {} WHEN ({}) EXECUTE FUNCTION mirror.note_write()")
    yield made.format(_ROWS, SQL("INSERT OR UPDATE OR DELETE"), table, SQL("ROW"), _OURS)
    yield made.format(_ALL, SQL("TRUNCATE"), table, SQL("STATEMENT"), _OURS)
    always = SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}, ENABLE ALWAYS TRIGGER {}")
    yield always.format(table, _ROWS, _ALL)


def is_watched(conn: Conn, schema: str, name: str) -> bool:
    """Whether a table has them, also switched off: it is one that a mirror has made, and not another of its name.

    One that was made in this transaction has none yet, and one on which none can be made never has. Raises psycopg's
    errors.
    """
    return conn.execute(_WATCHED, (schema, name)).fetchone() == (True,)


def pause(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """The source is sealed in the caller's transaction: what programs write is no news, and costs them nothing here.

    :func:`watch` ends the pause. A table that agents share is still watched while a source of another one is mirrored
    into it. Raises psycopg's errors.
    """
    used = set(conn.execute(_USED, (str(source_id),)).fetchall())
    switch_off(conn, (target for target in targets if (target.schema, target.name) not in used), _NAMES)
    conn.execute("DELETE FROM mirror.others_wrote WHERE source_id = $1::bigint", (str(source_id),))


def remove(conn: Conn, targets: Iterable[Target]) -> None:
    """Remove the triggers of tables that are not mirrored any more; those that agents share keep theirs."""
    for target in targets:
        if target.agent is None:
            for name in (_ROWS, _ALL):
                conn.execute(SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name, table_sql(target)))


def switch_off(conn: Conn, targets: Iterable[Target], names: Iterable[str]) -> None:
    """Switch triggers of these names off, where they are: to drop one would wait for programs that read.

    It waits for transactions that write to the tables. Raises psycopg's errors.
    """
    by_name = {(target.schema, target.name): target for target in targets}
    for schema, table, there in conn.execute(
        "SELECT n.nspname, c.relname, array_agg(g.tgname::text) FROM unnest($1::text[], $2::text[]) AS w (s, t)"
        " JOIN pg_catalog.pg_namespace n ON n.nspname = w.s"
        " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.t"
        " JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid AND g.tgname = ANY ($3::text[]) AND g.tgenabled <> 'D'"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        ([schema for schema, _ in by_name], [name for _, name in by_name], list(names)),
    ).fetchall():
        steps = SQL(", ").join(SQL("DISABLE TRIGGER {}").format(Identifier(name)) for name in there)
        conn.execute(SQL("ALTER TABLE {} {}").format(table_sql(by_name[schema, table]), steps))
