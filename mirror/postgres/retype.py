"""Other types for columns of a table that is there: narrower ones once every value fits again, or what a rule says;
and columns that a rule leaves out, or does not any more.

The table stays as it is, with its grants and indexes. What cannot be converted in SQL is NULL for the moment: whoever
changes types sends all rows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import LiteralString

from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.rows import RowChange
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType
from mirror.core.values import BadText, Row
from mirror.postgres import ddl, kinds, originals_ddl
from mirror.postgres.codecs import Misfit, Reject, key_encoder
from mirror.postgres.target import Conn, Target, TargetColumn
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
        and all(
            old.type == new.type or old.name not in (held.key or ()) or _converted(old, new) is not None
            for old, new in zip(held.columns, wanted.columns, strict=False)
        )
    )


def may_select(held: Target, wanted: Target) -> bool:
    """Whether a table becomes the wanted one, but for types, by leaving out columns that a rule leaves out now, and
    adding those that one has left out before."""
    as_held = held.omitted, held.inherited
    if as_held == (wanted.omitted, wanted.inherited) or held.agent is not None or held.curated:
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
    target = replace(held, columns=columns, omitted=wanted.omitted, inherited=wanted.inherited)
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
        kind: Composable = ddl.type_sql(new.pg_type)
        if new.pg_type == "text" and new.name in (held.key or ()):
            kind += SQL(' COLLATE "C"')  # as in ddl.create_table
        convert = _converted(old, new) or SQL("NULL")
        steps.append(SQL("ALTER COLUMN {} TYPE {} USING {}").format(Identifier(new.name), kind, convert))
    if steps:
        conn.execute(SQL("ALTER TABLE {} {}").format(ddl.table_sql(held), SQL(", ").join(steps)))
    same = {old.source: old.source for old, new in zip(held.columns, target.columns, strict=True) if old == new}
    originals_ddl.rename_members(conn, held, same)
    originals_ddl.agree(conn, held, target)
    return target


def _converted(old: TargetColumn, new: TargetColumn) -> Composable | None:
    """SQL for a column's values in another type; None: they cannot be converted."""
    if new.type == ANY_VALUE and old.widenable:
        return ddl.lossless_sql(old)
    if old.type != ANY_VALUE:
        return None
    name = Identifier(new.name)
    if words := kinds.WORDS.get(new.codec):
        return SQL("({} #>> '{{}}') = {}").format(name, Literal(words[0]))
    if new.codec in ("", kinds.FOUND, kinds.NUMBER):
        return SQL(_FROM_ANY_VALUE[new.pg_type]).format(c=name)
    return None


def still_needed(held: Target, declared: Target, rows: Iterable[RowChange]) -> dict[str, ColumnType]:
    """The overrides of a table that its rows still need, by source column.

    ``declared``: the table with the types that its columns are declared with, or that a rule says.
    """
    needed = overrides_for(declared, rows, held.overrides)
    # Those that a rule asks for stay; those that are jsonb without a misfit, and those of one kind that have no values
    # any more; and in a key those that cannot be converted: it has no rows.
    key, overrides = held.key or (), held.overrides
    asked = {c.source: c.type for c in declared.columns if overrides.get(c.source) == c.type}
    free = {c.source for c in declared.columns if c.type == ANY_VALUE}
    found = {c.source: c.type for c in held.columns if overrides.get(c.source, ANY_VALUE) != ANY_VALUE}
    of_key = {c.source for c in held.columns if c.name in key}
    left = {source: kind for source, kind in found.items() if source in free}
    kept = {source: kind for source, kind in found.items() if source in of_key}
    return asked | left | needed | kept


def overrides_for(
    declared: Target, rows: Iterable[RowChange], among: Collection[str] | None = None
) -> dict[str, ColumnType]:
    """By source column, the types that rows need in place of the declared ones; ``among``: of these columns alone.

    What Postgres cannot hold in any type changes nothing.
    """
    columns = [
        _Column(at, declared, column)
        for at, column in enumerate(declared.columns)
        if among is None or column.source in among
    ]
    undecided = columns
    for change in rows:
        assert change.after is not None
        for column in undecided:
            column.see(change.after)
        if any(column.is_any_value for column in undecided):
            undecided = [column for column in undecided if not column.is_any_value]
            if not undecided:
                break
    return {column.source: becomes for column in columns if (becomes := column.becomes) is not None}


class _Column:
    """One column, and what its values need."""

    def __init__(self, at: int, declared: Target, column: TargetColumn) -> None:
        self.source = column.source
        self._at = at
        self._of_key = column.name in (declared.key or ())
        self._encode = (
            key_encoder(column.pg_type) if self._of_key and not column.codec else encoder(column.pg_type, column.codec)
        )
        self._kinds = kinds.Kinds(kinds.choices(column.type, of_key=self._of_key, shared=declared.without_kinds))
        self._declared = declared
        self._shared = declared.agent is not None
        self._column = column
        self._misfits = False
        self._odd_text = False

    def see(self, row: Row) -> None:
        """Take a row's value into account."""
        value = row[self._at]
        self._kinds.see(value)
        self._odd_text = self._odd_text or isinstance(value, BadText) or (isinstance(value, str) and "\0" in value)
        if not self._misfits:
            try:
                self._encode(value)
            except Misfit:
                self._misfits = True
            except Reject:  # of its row alone
                self._misfits = kinds.is_odd_key(value, of_key=self._of_key, shared=self._shared)

    @property
    def is_any_value(self) -> bool:
        """Whether no value could change that it needs jsonb."""
        decided = self._misfits or (self._column.type == ANY_VALUE and self._kinds.any_seen)
        return decided and self._kinds.becomes == ANY_VALUE

    @property
    def becomes(self) -> ColumnType | None:
        """The type that it needs; None: its own."""
        found = self._kinds.of_values(self._column.type, fits=not self._misfits)
        held = replace(self._column, pg_type=found.pg_type, codec=found.codec)
        if self._odd_text and self._declared.may_be_any_text(held):
            return ANY_TEXT
        return None if found == self._column.type else found
