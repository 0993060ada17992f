"""What mirror.json says of single columns and tables, in Postgres.

A rule is for a column of a table that is the source's alone, and not of its primary key; another is not followed. Where
values do not fit, a column has another type all the same, as without a rule, except one of bytes, documents or times,
which holds any value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from mirror.core.rules import OMIT, ROWS, Rules
from mirror.core.tables import ANY_TEXT, ANY_VALUE, Column, ColumnType, MapTable, Profile, Table, TableMapping
from mirror.postgres import kinds
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.target import Target

#: By what mirror.json says: the type of the column.
TYPES = {
    "text": ANY_TEXT,
    "bytea": ColumnType("bytea", "bytes"),
    "jsonb": ColumnType("jsonb", "document"),
    "timestamptz": ColumnType("timestamp with time zone", "moment"),
    "bigint": ColumnType("bigint"),
    "double precision": ColumnType("double precision", kinds.NUMBER),
    "boolean": ColumnType("boolean"),
}


def with_rules(profiles: Mapping[str, Profile], rules: Rules) -> Mapping[str, Profile]:
    """The profiles, which follow the rules as well."""
    if not rules.columns:
        return profiles
    return {
        name: replace(profile, map_table=partial(_map_table, profile.map_table, rules))
        for name, profile in profiles.items()
    }


def is_followed(rules: Rules, table: Table, target: Target) -> bool:
    """Whether a table in Postgres is as the rules say. ``table``: as it is read by them."""
    if (table.omitted, table.inherited) != (target.omitted, target.inherited):
        return False
    wanted = {} if target.agent is not None or target.curated else _of_table(rules, table)
    return all(
        column.type == wanted.get(column.source, column.type) or _stands_in(column.type, wanted.get(column.source))
        for column in target.columns
    )


def recorded(targets: Mapping[str, Target]) -> Rules:
    """The rules by which the tables in Postgres leave out columns, and have the data of virtual tables."""
    inherited = recorded_heirs(targets)
    omitted = {f"{target.source}.{column}" for target in targets.values() for column in target.omitted}
    return Rules(
        dict.fromkeys((omitted - inherited.keys()) | set(inherited.values()), OMIT),
        {target.virtual: ROWS for target in targets.values() if target.virtual is not None},
        inherited,
    )


def recorded_heirs(targets: Mapping[str, Target]) -> dict[str, str]:
    """As :attr:`~mirror.core.rules.Rules.inherited`, as it is recorded with the tables in Postgres."""
    return {f"{target.source}.{column}": rule for target in targets.values() for column, rule in target.inherited}


def may_be_followed(rules: Rules, table: Table, target: Target) -> bool:
    """Whether a column has the type of its values, of which a rule says another one that they may fit."""
    wanted = {} if target.agent is not None or target.curated else _of_table(rules, table)
    return any(
        column.codec in kinds.CODECS and column.pg_type != wanted[column.source].pg_type
        for column in target.columns
        if column.source in wanted
    )


def _of_table(rules: Rules, table: Table) -> dict[str, ColumnType]:
    found = ((column, rules.of_column(table.name, column.name)) for column in table.columns)
    return {
        column.name: _type(rule, column)
        for column, rule in found
        if rule in TYPES and column.name not in table.primary_key
    }


def _type(rule: str, column: Column) -> ColumnType:
    # SQLite makes every number a real there, and in no other column that may have integers.
    is_real = rule == "double precision" and column.affinity == "REAL"
    return ColumnType(rule) if is_real else TYPES[rule]


def _stands_in(held: ColumnType | None, wanted: ColumnType | None) -> bool:
    """Whether a type is one that values may have made necessary in place of the wanted one."""
    if held is None or wanted is None:
        return False
    if wanted == ANY_TEXT:
        return held == ANY_VALUE
    return wanted.codec in ("", kinds.NUMBER) and (held == ANY_VALUE or held.codec in kinds.CODECS)


def _map_table(
    map_table: MapTable,
    rules: Rules,
    table: Table,
    schema: str,
    *,
    overrides: Mapping[str, ColumnType] = NO_OVERRIDES,
    rowid_key: bool = False,
    of_agent: bool = False,
) -> TableMapping:
    wanted = {} if of_agent else _of_table(rules, table)
    ruled = {name: kind for name, kind in wanted.items() if not _stands_in(overrides.get(name), kind)}
    return map_table(table, schema, overrides={**overrides, **ruled}, rowid_key=rowid_key, of_agent=of_agent)
