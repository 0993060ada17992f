"""Other types for columns of a table that is there: narrower ones once every value fits again, or what a rule says;
and columns that a rule leaves out, or does not any more.

The table stays as it is, with its grants and indexes. What cannot be converted in SQL is NULL for the moment: whoever
changes types sends all rows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import LiteralString

from psycopg.sql import SQL, Identifier

from mirror.core.rows import RowChange
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType
from mirror.postgres import ddl, originals_ddl
from mirror.postgres.codecs import Misfit, Reject, UnfitText, key_encoder
from mirror.postgres.target import Conn, Target
from mirror.postgres.typed import encoder

#: By type: SQL for a jsonb column {c} in the lossless encoding, for values that fit the type.
_FROM_ANY_VALUE: dict[str, LiteralString] = {
    "bigint": "({c} #>> '{{}}')::bigint",
    "double precision": "coalesce({c} ->> 'real', {c} #>> '{{}}')::float8",
    "text": "{c} #>> '{{}}'",
    "bytea": "decode({c} ->> 'blob', 'base64')",
    "boolean": "({c} #>> '{{}}')::int::boolean",
    "numeric": "coalesce({c} ->> 'real', {c} #>> '{{}}')::numeric",
}


def may_change(held: Target, wanted: Target) -> bool:
    """Whether a table becomes the wanted one by other types of its columns, and columns at the end."""
    names = [(column.source, column.name) for column in wanted.columns]
    return (
        held.agent is wanted.agent is None
        and not held.curated
        and (held.schema, held.name, held.key) == (wanted.schema, wanted.name, wanted.key)
        and [(column.source, column.name) for column in held.columns] == names[: len(held.columns)]
    )


def may_select(held: Target, wanted: Target) -> bool:
    """Whether a table becomes the wanted one, but for types, by leaving out columns that a rule leaves out now, and
    adding those that one has left out before."""
    if held.omitted == wanted.omitted or held.agent is not None or held.curated:
        return False
    kept = [(c.source, c.name) for c in held.columns if c.source not in wanted.omitted]
    found = [(c.source, c.name) for c in wanted.columns if c.source not in held.omitted]
    return (held.schema, held.name, held.key, kept) == (wanted.schema, wanted.name, wanted.key, found[: len(kept)])


def select_columns(conn: Conn, held: Target, wanted: Target) -> Target:
    """Drop and add the columns that rules leave out and do not; returns the target as it then is.

    Those that are added are NULL. The order of columns in Postgres may then be another than the source's.
    """
    gone = [column for column in held.columns if column.source in wanted.omitted]
    there = {column.source: column for column in held.columns if column not in gone}
    last = len(there) + sum(column.source in held.omitted for column in wanted.columns)
    columns = tuple(there.get(column.source, column) for column in wanted.columns[:last])
    target = replace(held, columns=columns, omitted=wanted.omitted)
    originals_ddl.rename_members(conn, held, {name: name for name in there})
    steps = [SQL("DROP COLUMN {}").format(Identifier(column.name)) for column in gone]
    for column in columns:
        if column.source not in there:
            steps.append(SQL("ADD COLUMN {} {}").format(Identifier(column.name), ddl.type_sql(column.pg_type)))
    if steps:
        conn.execute(SQL("ALTER TABLE {} {}").format(ddl.table_sql(held), SQL(", ").join(steps)))
    originals_ddl.agree(conn, held, target)
    return target


def change_types(conn: Conn, held: Target, wanted: Target) -> Target:
    """Give the columns of a table the types of the wanted one; returns the target as it then is.

    Raises psycopg's errors: where a view uses a column, say.
    """
    target = held.with_types({column.source: column.type for column in wanted.columns})
    steps = []
    for old, new in zip(held.columns, target.columns, strict=True):
        if old.pg_type == new.pg_type:
            continue
        convert = _FROM_ANY_VALUE[new.pg_type] if old.type == ANY_VALUE and not new.codec else "NULL"
        step = SQL("ALTER COLUMN {c} TYPE {t} USING " + convert)  # only constants are joined
        steps.append(step.format(c=Identifier(new.name), t=ddl.type_sql(new.pg_type)))
    if steps:
        conn.execute(SQL("ALTER TABLE {} {}").format(ddl.table_sql(held), SQL(", ").join(steps)))
    same = {old.source: old.source for old, new in zip(held.columns, target.columns, strict=True) if old == new}
    originals_ddl.rename_members(conn, held, same)
    originals_ddl.agree(conn, held, target)
    return target


def still_needed(held: Target, declared: Target, rows: Iterable[RowChange]) -> dict[str, ColumnType]:
    """The overrides of a table that its rows still need, by source column.

    ``declared``: the table with the types that its columns are declared with, or that a rule says.
    """
    key, overrides = held.key or (), held.overrides
    tests = [
        (at, c.source, key_encoder(c.pg_type) if c.name in key and not c.codec else encoder(c.pg_type, c.codec))
        for at, c in enumerate(declared.columns[: len(held.columns)])
        if c.source in overrides
    ]
    # Those that a rule asks for stay.
    needed = {c.source: c.type for c in declared.columns if overrides.get(c.source) == c.type}
    for change in rows:
        assert change.after is not None
        for at, name, encode in tests:
            if needed.get(name) == overrides[name]:
                continue
            try:
                encode(change.after[at])
            except (Misfit, UnfitText) as error:
                needed[name] = ANY_TEXT if isinstance(error, UnfitText) else ANY_VALUE
            except Reject:
                needed[name] = overrides[name]
        if needed == overrides:
            break
    return needed
