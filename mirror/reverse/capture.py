"""Triggers that put the keys of written rows into ``mirror.outbox``.

They are row triggers: with transition tables a statement of one row takes longer, and one of many rows no less. They
fire always (``ENABLE ALWAYS``), also in a session with ``session_replication_role = replica``. Their functions have the
rights of the mirror's user, because programs may not write to the schema ``mirror``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.adopted import is_adopted
from mirror.core.errors import SinkError
from mirror.postgres import moving
from mirror.postgres.ddl import table_sql, type_sql
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import Conn, Target, TargetColumn

#: By type: the text form of a key's column {c} that no setting of a session changes, where that is not ``::text``.
_TEXT: dict[str, LiteralString] = {"bytea": "pg_catalog.encode({c}, 'hex')"}
#: By type: such a text form {c} as a value of the type, where that is not a cast.
_VALUE: dict[str, LiteralString] = {"bytea": "pg_catalog.decode({c}, 'hex')"}

#: By operation: the versions of a row of which the keys are written; none: all rows of the table are meant.
_OPERATIONS: dict[LiteralString, tuple[LiteralString, ...]] = {
    "INSERT": ("NEW",),
    "UPDATE": ("OLD", "NEW"),
    "DELETE": ("OLD",),
    "TRUNCATE": (),
}


def install(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """Make the triggers of a source's tables, switched off; those that are there are made again.

    Each table in a transaction of its own, if the caller has none: it waits for transactions that write to the table,
    and these may come to other tables meanwhile. Raises psycopg's errors.
    """
    for target in targets:
        with conn.transaction():
            for operation in _OPERATIONS:
                _make(conn, source_id, target, operation)


def switch_on(conn: Conn, source_id: int, targets: Iterable[Target]) -> None:
    """Switch the triggers on, each table's in a transaction of its own, if the caller has none; as :func:`install`."""
    for target in targets:
        with conn.transaction():
            switch(conn, source_id, [target], on=True)


def switch(conn: Conn, source_id: int, targets: Iterable[Target], *, on: bool) -> None:
    """Switch the triggers on or off, in the caller's transaction. It waits for transactions that write."""
    how = SQL("ENABLE ALWAYS TRIGGER {}") if on else SQL("DISABLE TRIGGER {}")
    for target in targets:
        steps = SQL(", ").join(how.format(_trigger(source_id, operation)) for operation in _OPERATIONS)
        conn.execute(SQL("ALTER TABLE {} {}").format(table_sql(target), steps))


def switch_off(conn: Conn, source_id: int) -> None:
    """Switch those off that are there, whatever became of the tables. It waits for transactions that write."""
    there: dict[tuple[str, str], list[Composable]] = {}
    for schema, table, trigger in triggers(conn, source_id):
        there.setdefault((schema, table), []).append(SQL("DISABLE TRIGGER {}").format(Identifier(trigger)))
    for name, steps in there.items():
        conn.execute(SQL("ALTER TABLE {} {}").format(Identifier(*name), SQL(", ").join(steps)))


def triggers(conn: Conn, source_id: int) -> list[tuple[str, str, str]]:
    """The triggers of a source that are there: schema and table, as they are called now, and name."""
    return conn.execute(
        "SELECT n.nspname, c.relname, t.tgname FROM pg_catalog.pg_trigger t"
        " JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE t.tgname = ANY ($1::text[]) ORDER BY 1, 2, 3",
        (_names(source_id),),
    ).fetchall()


def version(conn: Conn, source_id: int) -> str:
    """Which triggers there are: another text once one was made again, or switched off, even if only for a moment."""
    [[found]] = conn.execute(
        "SELECT coalesce(md5(string_agg(t.oid || ' ' || t.xmin, ',' ORDER BY t.oid)), '') FROM pg_catalog.pg_trigger t"
        " WHERE t.tgname = ANY ($1::text[])",
        (_names(source_id),),
    ).fetchall()
    return str(found)


def forget_left(conn: Conn, source_id: int) -> bool:
    """Switch the triggers off and empty the outbox, if a command that was killed has left them on; whether it had.

    Else the outbox would grow with all that the mirror writes. ``conn``: of a session that ends soon, because it keeps
    the lock of a move. Raises psycopg's errors.
    """
    left = (
        "SELECT FROM mirror.outbox o JOIN mirror.phase p USING (source_id) WHERE o.source_id = $1::bigint"
        " AND p.sealed_at IS NULL LIMIT 1"
    )
    if conn.execute(left, (str(source_id),)).fetchone() is None or not moving.take(conn, source_id):
        return False
    with conn.transaction():
        if conn.execute(left, (str(source_id),)).fetchone() is None:
            return False
        switch_off(conn, source_id)
        conn.execute("DELETE FROM mirror.outbox WHERE source_id = $1::bigint", (str(source_id),))
    return True


def remove(conn: Conn, source_id: int) -> None:
    """Remove the triggers and their functions, and what is in the outbox of the source.

    Each table's in a transaction of its own, if the caller has none; as :func:`install`.
    """
    by_table: dict[tuple[str, str], list[str]] = {}
    for schema, table, trigger in triggers(conn, source_id):
        by_table.setdefault((schema, table), []).append(trigger)
    for name, theirs in by_table.items():
        with conn.transaction():
            for trigger in theirs:
                conn.execute(SQL("DROP TRIGGER {} ON {}").format(Identifier(trigger), Identifier(*name)))
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
    names = _names(source_id)
    row = conn.execute(
        "SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1::text AND c.relname = $2::text AND t.tgname = ANY ($3::text[]) AND t.tgenabled = 'A'",
        (target.schema, target.name, names),
    ).fetchone()
    return row == (len(names),)


def key_sql(target: Target, key: Composable) -> Composable:
    """The columns of a key, with their types and names, of {key}: an array as in the outbox."""
    types = {column.name: column for column in target.columns}
    parts = []
    for at, name in enumerate(own_key(target), 1):
        column = types.get(name, TargetColumn(name, name, "bigint"))  # _rowid
        item = SQL("({})[{}]").format(key, Literal(at))
        pg_type = column.pg_type
        value = SQL(_VALUE[pg_type]).format(c=item) if pg_type in _VALUE else item + SQL("::") + _castable(column)
        parts.append(SQL("{} AS {}").format(value, Identifier(name)))
    return SQL(", ").join(parts)


def own_key(target: Target) -> tuple[str, ...]:
    """Postgres names of the key's columns, with ``_rowid``, without ``agent_id``."""
    return tuple(name for name in target.key_columns if target.agent is None or name != AGENT)


#: The types of keys in tables that the mirror makes.
_OWN = frozenset(("bigint", "text", "jsonb", "boolean", "numeric", "double precision"))


def _castable(column: TargetColumn) -> SQL:
    if column.pg_type not in _OWN and not is_adopted(column.codec):
        raise SinkError("capture writes", column.pg_type, "a key of this type cannot be carried back")
    return type_sql(column.pg_type)


def _make(conn: Conn, source_id: int, target: Target, operation: LiteralString) -> None:
    versions = _OPERATIONS[operation]
    row = conn.execute(SQL("SELECT {}::regclass::oid").format(Literal(table_sql(target).as_string(conn)))).fetchone()
    assert row is not None
    function = Identifier("mirror", f"capture_{source_id}_{row[0]}_{operation.lower()}")
    name = _trigger(source_id, operation)
    insert = SQL("INSERT INTO mirror.outbox (source_id, source_table, key, change) VALUES ({}, {}, {}, {});")
    ours = Literal(source_id), Literal(target.source)
    if operation == "UPDATE":
        (old, gone), (new, come) = ((_key_of(target, version), _is_ours(target, version)) for version in versions)
        step: Composable = SQL("IF {} IS DISTINCT FROM {} THEN {} {} ELSE {} END IF;").format(
            old,
            new,
            insert.format(*ours, old, SQL("-{}").format(gone)),
            insert.format(*ours, new, come),
            insert.format(*ours, new, SQL("{} - {}").format(come, gone)),
        )
    else:
        key = _key_of(target, versions[0]) if versions else SQL("NULL")
        step = insert.format(*ours, key, SQL({"INSERT": "1", "DELETE": "-1"}.get(operation, "NULL")))
    body = SQL("BEGIN {} RETURN NULL; END").format(step)
    # The shortest text of a double that reads as the same one, whatever the session has.
    doubles = any(column.pg_type in ("double precision", "real") for column in target.columns)
    settings = [SQL(" SET extra_float_digits = 1")] if doubles else []
    if target.adopted:  # keys may be times
        settings.append(SQL(" SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres'"))
    conn.execute(
        SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp{} AS {}"
        ).format(function, SQL("").join(settings), Literal(body.as_string(conn)))
    )
    conn.execute(SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function))
    rows = SQL("FOR EACH ROW{}").format(_of_agent(target, versions)) if versions else SQL("FOR EACH STATEMENT")
    conn.execute(
        SQL("CREATE OR REPLACE TRIGGER {} AFTER {} ON {} {} EXECUTE FUNCTION {}()").format(
            name, SQL(operation), table_sql(target), rows, function
        )
    )
    conn.execute(SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table_sql(target), name))


def _key_of(target: Target, version: LiteralString) -> Composable:
    """The key of a row of a trigger, as it is in the outbox."""
    types = {column.name: column.pg_type for column in target.columns}
    parts = []
    for name in own_key(target):
        column = SQL(version + ".{}").format(Identifier(name))
        parts.append(SQL(_TEXT.get(types.get(name, "bigint"), "{c}::text")).format(c=column))
    return SQL("ARRAY[{}]").format(SQL(", ").join(parts))


def _is_ours(target: Target, version: LiteralString) -> Composable:
    """1 if a row of a trigger is one of the source's agent, else 0."""
    if target.agent is None:
        return SQL("1")
    return SQL("(" + version + ".{} = {})::integer").format(Identifier(AGENT), Literal(target.agent))


def _trigger(source_id: int, operation: str) -> Identifier:
    return Identifier(_name(source_id, operation))


def _name(source_id: int, operation: str) -> str:
    return f"mirror_capture_{source_id}_{operation.lower()}"


def _names(source_id: int) -> list[str]:
    return [_name(source_id, operation) for operation in _OPERATIONS]


def _of_agent(target: Target, versions: tuple[LiteralString, ...]) -> Composable:
    """The condition of a trigger: a row of the source's agent, before or after."""
    if target.agent is None:
        return SQL("")
    same = SQL(" OR ").join(
        SQL(version + ".{} = {}").format(Identifier(AGENT), Literal(target.agent)) for version in versions
    )
    return SQL(" WHEN ({})").format(same)
