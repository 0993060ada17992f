"""Frequent reads without making their SQL again: the shape of a statement, by which its text is kept, and its values.

Only what gives one parameter for each value, in the order of the statement, has a shape here; for the rest the text is
made each time. A test compares both ways.
"""

from __future__ import annotations

from typing import Any

from mirror.storage.on_postgres.sql import Value, array, encoded, in_one_parameter, sent
from mirror.storage.statements import (
    All,
    Compare,
    Condition,
    Count,
    Linked,
    OneOf,
    SameName,
    Select,
    Statement,
    Unexpired,
)
from mirror.storage.tables import Table


def shape_of(statement: Statement[Any]) -> tuple[Any, ...] | None:
    """The shape of a statement; None if its text is not kept."""
    match statement:
        case Select(table, where, order, limit, offset) if _is_plain(where):
            return ("select", table.name, where.shape(), order, limit is None, offset > 0)
        case Count(table, where) if _is_plain(where):
            return ("count", table.name, where.shape())
    return None


def _is_plain(condition: Condition) -> bool:
    match condition:
        case All(parts):
            return all(map(_is_plain, parts))
        case Compare(column) | OneOf(column):
            return "." not in column
        case Linked(_, _, _, where):
            return _is_plain(where)
    return isinstance(condition, Unexpired | SameName)


def parameters_of(statement: Statement[Any]) -> list[Value]:
    """The parameters of a statement that has a shape."""
    assert isinstance(statement, Select | Count)
    made: list[Value] = []
    _collect(statement.table, statement.where, made)
    if isinstance(statement, Select):
        if statement.limit is not None:
            made.append(str(max(0, statement.limit)))
        if statement.offset > 0:
            made.append(str(statement.offset))
    return made


def _collect(table: Table, condition: Condition, out: list[Value]) -> None:
    match condition:
        case All(parts):
            for part in parts:
                _collect(table, part, out)
        case Compare(column, _, value):
            if value is not None:
                out.append(sent(table.by_name[column], value))
        case OneOf(column, among):
            known = table.by_name[column]
            texts = [encoded(known, value) for value in among]
            out.extend([array(texts)] if in_one_parameter(known, among) else texts)
        case SameName(_, name):
            out.append(name)
        case Unexpired(now):
            out.append(now)
        case Linked(_, other, _, where):
            _collect(other, where, out)
