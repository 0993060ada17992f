"""Foreign keys and triggers of an application's tables, while the mirror writes their rows.

SQLite has committed what the mirror writes: no foreign key may refuse it (SQLite may not enforce them, and the order of
tables in a batch is not that of the program), none may delete a second time, and what triggers compute is in the rows
already. In a session with ``session_replication_role = replica`` neither is done
(https://www.postgresql.org/docs/current/runtime-config-client.html). Only superusers may set that, and roles with
``GRANT SET ON PARAMETER session_replication_role`` (Postgres 15). For others the foreign keys are dropped and the
triggers disabled, which the owner of a table may do; what they were is in ``mirror.set_aside``, in the same
transaction, and :func:`put_back` makes them again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import LiteralString

from psycopg import errors
from psycopg.sql import SQL, Composed, Identifier

from mirror.core.errors import SinkError
from mirror.postgres.adopted.full_names import in_full
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

#: How long to wait for others that use a table.
_LOCK_SECONDS = 10
FOREIGN_KEY, TRIGGER = "foreign key", "trigger"
NOT_VALID: LiteralString = " NOT VALID"


def suspend(conn: Conn, source_id: int, schema: str, tables: Collection[str]) -> None:
    """Have no foreign key and no trigger of these tables act on what this session writes.

    ``conn`` is in autocommit mode. Raises :class:`SinkError` (retryable) while others use a table, and psycopg's
    errors.
    """
    try:
        conn.execute("SET session_replication_role = 'replica'")
    except errors.InsufficientPrivilege:
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'".encode())
                set_aside(conn, source_id, schema, tables)
        except errors.LockNotAvailable as error:
            raise SinkError(
                "set foreign keys aside",
                schema,
                "others use the tables",
                next_step="grant the mirror's user SET on session_replication_role, which needs no locks",
                retryable=True,
            ) from error


def set_aside(conn: Conn, source_id: int, schema: str, tables: Collection[str]) -> None:
    """Drop the foreign keys of these tables and to them, and switch their triggers off, in the caller's transaction.

    :func:`put_back` makes them again. Raises psycopg's errors.
    """
    found = in_full(conn, statement("adopted_guards"), (schema, list(tables)))
    for kind, table_schema, table, name, definition in found:
        conn.execute(
            # It may be noted already: a migration of the application has made it again since.
            "INSERT INTO mirror.set_aside (source_id, schema_name, table_name, kind, name, definition)"
            " VALUES ($1::bigint, $2::text, $3::text, $4::text, $5::text, $6::text)"
            " ON CONFLICT (schema_name, table_name, kind, name) DO UPDATE SET definition = excluded.definition",
            (str(source_id), table_schema, table, kind, name, definition),
        )
        at = Identifier(table_schema, table)
        step = "ALTER TABLE {} DROP CONSTRAINT {}" if kind == FOREIGN_KEY else "ALTER TABLE {} DISABLE TRIGGER {}"
        conn.execute(SQL(step).format(at, Identifier(name)))


def put_back(conn: Conn, source_id: int) -> list[tuple[str, str, str]]:
    """Make again what was set aside for a source, in the caller's transaction.

    Returns the foreign keys, as schema, table and name, that are NOT VALID now and were not before: rows that the
    mirror wrote refer to none. Raises psycopg's errors.
    """
    invalid: list[tuple[str, str, str]] = []
    for kind, schema, table, name, definition in conn.execute(
        "SELECT kind, schema_name, table_name, name, definition FROM mirror.set_aside s WHERE source_id = $1::bigint"
        " AND pg_catalog.to_regclass(pg_catalog.format('%I.%I', schema_name, table_name)) IS NOT NULL"
        " ORDER BY kind, schema_name, table_name, name",
        (str(source_id),),
    ).fetchall():
        conn.execute(_made_again(kind, schema, table, name, definition))
        if kind == FOREIGN_KEY and not definition.endswith(NOT_VALID):
            try:
                with conn.transaction():
                    at = Identifier(schema, table)
                    conn.execute(SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(at, Identifier(name)))
            except errors.ForeignKeyViolation:
                invalid.append((schema, table, name))
    conn.execute("DELETE FROM mirror.set_aside WHERE source_id = $1::bigint", (str(source_id),))
    return invalid


def _made_again(kind: str, schema: str, table: str, name: str, definition: str) -> Composed:
    at = Identifier(schema, table)
    if kind == TRIGGER:
        return SQL("ALTER TABLE {} ENABLE {} TRIGGER {}").format(
            at, SQL("" if definition == "O" else "ALWAYS" if definition == "A" else "REPLICA"), Identifier(name)
        )
    more = SQL("" if definition.endswith(NOT_VALID) else NOT_VALID)
    return SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(at, Identifier(name), SQL(definition)) + more
