"""What mirror.json says of single columns and tables, in Postgres.

A rule is for a column of a table that is the source's alone, and not of its primary key; another is not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from mirror.core.rules import OMIT, ROWS, Rules
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, MapTable, Profile, Table, TableMapping
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.target import Target

#: By what mirror.json says: the type of the column.
TYPES = {"text": ANY_TEXT, "bytea": ColumnType("bytea", "bytes"), "jsonb": ColumnType("jsonb", "document")}


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
    if table.omitted != target.omitted:
        return False
    wanted = {} if target.agent is not None or target.curated else _of_table(rules, table)
    return all(
        column.type in (wanted.get(column.source, column.type), _instead(wanted.get(column.source)))
        for column in target.columns
    )


def recorded(targets: Mapping[str, Target]) -> Rules:
    """The rules by which the tables in Postgres leave out columns, and have the data of virtual tables."""
    return Rules(
        {f"{target.source}.{column}": OMIT for target in targets.values() for column in target.omitted},
        {target.virtual: ROWS for target in targets.values() if target.virtual is not None},
    )


def unknown(rules: Rules, tables: Mapping[str, Table]) -> list[str]:
    """The rules that no column of the source, outside of primary keys, is meant by. ``tables``: as read by them."""
    known = {f"{table.name}.{name}" for table in tables.values() for name in _of_table(rules, table)}
    known |= {f"{table.name}.{name}" for table in tables.values() for name in table.omitted}
    return sorted(rules.columns.keys() - known)


def _of_table(rules: Rules, table: Table) -> dict[str, ColumnType]:
    found = {column.name: rules.columns.get(f"{table.name}.{column.name}", "") for column in table.columns}
    return {name: TYPES[rule] for name, rule in found.items() if rule in TYPES and name not in table.primary_key}


def _instead(wanted: ColumnType | None) -> ColumnType | None:
    """The type that a value may have made necessary in place of the wanted one."""
    return ANY_VALUE if wanted == ANY_TEXT else wanted


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
    ruled = {name: held for name, held in wanted.items() if overrides.get(name) != _instead(held)}
    return map_table(table, schema, overrides={**overrides, **ruled}, rowid_key=rowid_key, of_agent=of_agent)
