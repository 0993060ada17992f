"""Triggers that put the keys of written rows into ``mirror.outbox``.

They are statement triggers with transition tables, one for each operation, so a statement of any number of rows writes
its keys with one statement more. They fire always (``ENABLE ALWAYS``), also in a session with
``session_replication_role = replica``. Their functions have the rights of the mirror's user, because programs may not
write to the schema ``mirror``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.errors import SinkError
from mirror.postgres.ddl import table_sql
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import Conn, Target

#: By type: the text form of a key's column {c} that no setting of a session changes, where that is not ``::text``.
_TEXT: dict[str, LiteralString] = {"bytea": "pg_catalog.encode({c}, 'hex')"}
#: By type: such a text form {c} as a value of the type, where that is not a cast.
_VALUE: dict[str, LiteralString] = {"bytea": "pg_catalog.decode({c}, 'hex')"}

#: By operation: the transition tables, and the names that they have.
_OPERATIONS: dict[str, tuple[LiteralString, tuple[str, ...]]] = {
    "INSERT": ("REFERENCING NEW TABLE AS mirror_new", ("mirror_new",)),
    "UPDATE": ("REFERENCING OLD TABLE AS mirror_old NEW TABLE AS mirror_new", ("mirror_old", "mirror_new")),
    "DELETE": ("REFERENCING OLD TABLE AS mirror_old", ("mirror_old",)),
    "TRUNCATE": ("", ()),
}


def install(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """Make the triggers of a source's tables, switched off; those that are there are made again.

    In the caller's transaction. It waits for transactions that write to the tables. Raises psycopg's errors.
    """
    for target in targets:
        for operation in _OPERATIONS:
            _make(conn, source_id, target, operation)


def switch(conn: Conn, source_id: int, targets: Iterable[Target], *, on: bool) -> None:
    """Switch the triggers on or off, in the caller's transaction. It waits for transactions that write."""
    how = SQL("ENABLE ALWAYS TRIGGER {}") if on else SQL("DISABLE TRIGGER {}")
    for target in targets:
        steps = SQL(", ").join(how.format(_trigger(source_id, operation)) for operation in _OPERATIONS)
        conn.execute(SQL("ALTER TABLE {} {}").format(table_sql(target), steps))


def remove(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """Remove the triggers and their functions, and what is in the outbox of the source."""
    for target in targets:
        for operation in _OPERATIONS:
            conn.execute(
                SQL("DROP TRIGGER IF EXISTS {} ON {}").format(_trigger(source_id, operation), table_sql(target))
            )
    rows = conn.execute(
        "SELECT p.proname FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'mirror'::regnamespace"
        " AND p.proname LIKE $1::text",
        (f"capture\\_{source_id}\\_%",),
    ).fetchall()
    for (name,) in rows:
        conn.execute(SQL("DROP FUNCTION {}").format(Identifier("mirror", name)))
    conn.execute("DELETE FROM mirror.outbox WHERE source_id = $1::bigint", (str(source_id),))


def is_on(conn: Conn, source_id: int, target: Target) -> bool:
    """Whether all triggers of a table are there and switched on."""
    names = [f"mirror_capture_{source_id}_{operation.lower()}" for operation in _OPERATIONS]
    row = conn.execute(
        "SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1::text AND c.relname = $2::text AND t.tgname = ANY ($3::text[]) AND t.tgenabled = 'A'",
        (target.schema, target.name, names),
    ).fetchone()
    return row == (len(names),)


def key_sql(target: Target, key: Composable) -> Composable:
    """The columns of a key, with their types and names, of {key}: an array as in the outbox."""
    types = {column.name: column.pg_type for column in target.columns}
    parts = []
    for at, name in enumerate(own_key(target), 1):
        pg_type = types.get(name, "bigint")  # _rowid
        item = SQL("({})[{}]").format(key, Literal(at))
        value = SQL(_VALUE[pg_type]).format(c=item) if pg_type in _VALUE else item + SQL("::" + _castable(pg_type))
        parts.append(SQL("{} AS {}").format(value, Identifier(name)))
    return SQL(", ").join(parts)


def own_key(target: Target) -> tuple[str, ...]:
    """Postgres names of the key's columns, with ``_rowid``, without ``agent_id``."""
    return tuple(name for name in target.key_columns if target.agent is None or name != AGENT)


_CASTS: dict[str, LiteralString] = {
    "bigint": "bigint",
    "text": "text",
    "jsonb": "jsonb",
    "boolean": "boolean",
    "numeric": "numeric",
    "double precision": "double precision",
}


def _castable(pg_type: str) -> LiteralString:
    if pg_type not in _CASTS:
        raise SinkError("capture writes", pg_type, "a key of this type cannot be carried back")
    return _CASTS[pg_type]


def _make(conn: Conn, source_id: int, target: Target, operation: str) -> None:
    tables, names = _OPERATIONS[operation]
    row = conn.execute(SQL("SELECT {}::regclass::oid").format(Literal(table_sql(target).as_string(conn)))).fetchone()
    assert row is not None
    function = Identifier("mirror", f"capture_{source_id}_{row[0]}_{operation.lower()}")
    types = {column.name: column.pg_type for column in target.columns}
    parts = []
    for name in own_key(target):
        pg_type = types.get(name, "bigint")
        parts.append(SQL(_TEXT.get(pg_type, "{c}::text")).format(c=Identifier(name)))
    key = SQL("ARRAY[{}]").format(SQL(", ").join(parts))
    selects: list[Composable] = [
        SQL("SELECT {}::bigint, {}, {} FROM {}{}").format(
            Literal(source_id), Literal(target.source), key, Identifier(name), _of_agent(target)
        )
        for name in names
    ] or [SQL("SELECT {}::bigint, {}, NULL").format(Literal(source_id), Literal(target.source))]
    body = SQL("BEGIN INSERT INTO mirror.outbox (source_id, source_table, key) {}; RETURN NULL; END").format(
        SQL(" UNION ").join(selects)
    )
    # The shortest text of a double that reads as the same one, whatever the session has.
    exact = SQL(" SET extra_float_digits = 1") if "double precision" in types.values() else SQL("")
    conn.execute(
        SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp{} AS {}"
        ).format(function, exact, Literal(body.as_string(conn)))
    )
    conn.execute(SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function))
    conn.execute(
        SQL("CREATE OR REPLACE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
            _trigger(source_id, operation), SQL(_WORDS[operation]), table_sql(target), SQL(tables), function
        )
    )
    conn.execute(SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table_sql(target), _trigger(source_id, operation)))


_WORDS: dict[str, LiteralString] = {name: name for name in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")}


def _trigger(source_id: int, operation: str) -> Identifier:
    return Identifier(f"mirror_capture_{source_id}_{operation.lower()}")


def _of_agent(target: Target) -> Composable:
    if target.agent is None:
        return SQL("")
    return SQL(" WHERE {} = {}").format(Identifier(AGENT), Literal(target.agent))
