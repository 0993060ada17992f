"""Statements about rows of several tables, or groups of rows, as SQL for SQLite."""

from __future__ import annotations

from typing import Any

from mirror.core.quote import quoted as quote_identifier
from mirror.storage.on_sqlite.sql import Sql, where
from mirror.storage.statements import Along, CountBy, Counts, OneOf, Pairs, Summary
from mirror.storage.tables import Table


def along(table: Table, joined: tuple[Along, ...]) -> str:
    """Columns after the table's: each a JSON list. The table has a key of one column, if there are any."""
    if not joined:
        return ""
    (key,) = table.key
    own = f"{quote_identifier(table.name)}.{quote_identifier(key)}"
    return "".join(
        f", (SELECT json_group_array(value) FROM (SELECT {_joined(each)}"
        f" WHERE l.{quote_identifier(each.own)} = {own} ORDER BY 1))"
        for each in joined
    )


def _joined(each: Along) -> str:
    key, other = quote_identifier(*each.table.key), quote_identifier(each.other)
    return (
        f"{_value(each)} AS value FROM {quote_identifier(each.links.name)} AS l"
        f" JOIN {quote_identifier(each.table.name)} AS t ON t.{key} = l.{other}"
    )


def _value(each: Along) -> str:
    """What is no number, in a column of numbers, counts as its default; a list in JSON has no blobs."""
    name, column = f"t.{quote_identifier(each.column)}", each.table.by_name[each.column]
    if column.kind == "real":
        return f"CASE WHEN typeof({name}) IN ('real', 'integer') THEN {name} ELSE {column.default} END"
    return f"CASE typeof({name}) WHEN 'blob' THEN '' ELSE {name} END"


def pairs(statement: Pairs) -> Sql:
    """Pairs as SQL."""
    each = statement.along
    condition, parameters = where(each.links, OneOf(each.own, statement.keys))
    own = f"l.{quote_identifier(each.own)}"
    return f"SELECT {own}, {_joined(each)} WHERE {condition} ORDER BY 1, 2", parameters


def counts(statement: Counts) -> Sql:
    """Counts as SQL: the name of each, the value by which a CountBy counts, and the number."""
    texts, parameters = [], []
    for at, (_, part) in enumerate(statement.parts):
        condition, values = where(part.table, part.where)
        by = quote_identifier(part.column) if isinstance(part, CountBy) else "NULL"
        group = " GROUP BY 2" if isinstance(part, CountBy) else ""
        texts.append(f"SELECT {at}, {by}, count(*) FROM {quote_identifier(part.table.name)} WHERE {condition}{group}")
        parameters += values
    return " UNION ALL ".join(texts), parameters


def counted(statement: Counts, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The result of Counts, of its rows."""
    found: dict[str, Any] = {name: {} for name, part in statement.parts if isinstance(part, CountBy)}
    for at, by, number in rows:
        name, part = statement.parts[at]
        if isinstance(part, CountBy):
            found[name][by] = number
        else:
            found[name] = number
    return found


def summary(statement: Summary) -> Sql:
    """A Summary as SQL."""
    table = statement.table
    by = [quote_identifier(name) for name in statement.by]
    conditions = [where(table, each) for each in (*statement.counts, statement.where)]
    means = [f"avg({quote_identifier(name)})" for name in statement.means]
    counted = [f"count(*) FILTER (WHERE {condition})" for condition, _ in conditions[:-1]]
    return (
        f"SELECT {', '.join([*by, 'count(*)', *means, *counted])} FROM {quote_identifier(table.name)}"
        f" WHERE {conditions[-1][0]} GROUP BY {', '.join(by)}",
        [value for _, values in conditions for value in values],
    )
