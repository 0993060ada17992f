"""Filters that callers write as dictionaries, as conditions.

``{"significance": "core"}``: equal. ``{"reinforcement_count": {"gte": 3, "lt": 10}}``: all of these. ``{"or": [{...},
{...}]}``, ``{"and": [...]}``, ``{"not": {...}}``. Operators: eq, ne, in, gt, gte, lt, lte, contains. A column is
named as the row's field; ``extra.topic`` is a member of the JSON object ``extra``.

``contains``: a part of a text, without regard to the case of ASCII letters, or a text in a JSON list. Comparing with
None (eq, ne) finds rows without, or with, any value. A row without a value is equal to nothing and different from
everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from mirror.core.errors import ConfigError
from mirror.storage.statements import All, Any_, Compare, Condition, Contains, Not, OneOf
from mirror.storage.tables import Table

_COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte")
_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "time": (str,), "integer": (int, float), "real": (int, float), "millis": (int, float),
    "flag": (bool,), "json": (str, int, float, bool), "vector": (),
}  # fmt: skip


def condition(table: Table, where: Mapping[str, Any] | None) -> Condition | None:
    """The condition of a filter; None for none. Raises ``ConfigError`` for what is no filter of this table."""
    return None if where is None else _all(table, where)


def _all(table: Table, where: Any) -> Condition:
    if not isinstance(where, Mapping):
        _refuse(where, "not an object")
    return All(tuple(_entry(table, str(name), value) for name, value in where.items()))


def _entry(table: Table, name: str, value: Any) -> Condition:
    if name in ("and", "or"):
        if not isinstance(value, Sequence) or isinstance(value, str):
            _refuse(name, "needs a list of filters")
        parts = tuple(_all(table, part) for part in value)
        return All(parts) if name == "and" else Any_(parts)
    if name == "not":
        return Not(_all(table, value))
    column, dot, member = name.partition(".")
    known = table.by_name.get(column)
    if known is None or known.kind == "vector" or (dot and not member):
        _refuse(name, "no column to filter by")
    if bool(dot) != (known.kind == "json" and not known.sequence):
        _refuse(name, "name a member of a JSON object, as in extra.topic, and of nothing else")
    if isinstance(value, Mapping):
        return All(tuple(_compare(table, name, str(operator), item) for operator, item in value.items()))
    return _compare(table, name, "eq", value)


def _compare(table: Table, name: str, operator: str, value: Any) -> Condition:
    kind = table.by_name[name.partition(".")[0]]
    if kind.sequence and operator != "contains":
        _refuse(f"{name}: {operator}", "a list of texts can only be asked what it contains")
    if operator == "contains":
        if not isinstance(value, str) or kind.kind not in ("text", "json"):
            _refuse(name, "contains needs a text, and a column of texts")
        return Contains(name, value)
    if operator == "in":
        if not isinstance(value, Sequence) or isinstance(value, str):
            _refuse(name, "in needs a list of values")
        if any(item is None for item in value):
            rest = tuple(item for item in value if item is not None)
            return Any_((Compare(name, "eq", None), _checked(table, name, OneOf(name, rest), rest)))
        return _checked(table, name, OneOf(name, tuple(value)), tuple(value))
    if operator not in _COMPARISONS:
        _refuse(f"{name}: {operator}", "no operator")
    if value is None and operator not in ("eq", "ne"):
        _refuse(f"{name}: {operator}", "there is nothing to compare with")
    made = Compare(name, operator, value)  # type: ignore[arg-type]  # it is one of them
    return made if value is None else _checked(table, name, made, (value,))


def _checked(table: Table, name: str, made: Condition, values: tuple[Any, ...]) -> Condition:
    kind = table.by_name[name.partition(".")[0]].kind
    for value in values:
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and bool not in _TYPES[kind]):
            _refuse(name, f"{type(value).__name__} does not fit a column of kind {kind}")
        if kind == "time" and not _is_time(str(value)):
            _refuse(name, f"{value!r} is not a time in ISO 8601")
    return made


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _refuse(what: Any, why: str) -> NoReturn:
    raise ConfigError("read a filter", str(what), why, next_step="see mirror.storage.filters for what a filter may be")
