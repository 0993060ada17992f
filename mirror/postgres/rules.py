"""What ``columns`` in mirror.json says of single columns, by ``table.column`` in the source's names.

A rule is for a column of a table that is the source's alone, and not of its primary key; another is not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, MapTable, Profile, Table, TableMapping
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.target import Target

#: By what mirror.json says: the type of the column.
TYPES = {"text": ANY_TEXT, "bytea": ColumnType("bytea", "bytes"), "jsonb": ColumnType("jsonb", "document")}

Rules = Mapping[str, str]


def with_rules(profiles: Mapping[str, Profile], rules: Rules) -> Mapping[str, Profile]:
    """The profiles, which follow the rules as well."""
    if not rules:
        return profiles
    return {
        name: replace(profile, map_table=partial(_map_table, profile.map_table, rules))
        for name, profile in profiles.items()
    }


def is_followed(rules: Rules, table: Table, target: Target) -> bool:
    """Whether a table in Postgres is as the rules say."""
    wanted = {} if target.agent is not None or target.curated else _of_table(rules, table)
    return all(
        column.type in (wanted.get(column.source, column.type), _instead(wanted.get(column.source)))
        for column in target.columns
    )


def unknown(rules: Rules, tables: Mapping[str, Table]) -> list[str]:
    """The rules that no column of the source, outside of primary keys, is meant by."""
    known = {f"{table.name}.{name}" for table in tables.values() for name in _of_table(rules, table)}
    return sorted(rules.keys() - known)


def _of_table(rules: Rules, table: Table) -> dict[str, ColumnType]:
    found = {column.name: rules.get(f"{table.name}.{column.name}") for column in table.columns}
    return {name: TYPES[rule] for name, rule in found.items() if rule is not None and name not in table.primary_key}


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
