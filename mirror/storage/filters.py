"""Filters that callers write as dictionaries, as conditions.

``{"significance": "core"}``: equal. ``{"reinforcement_count": {"gte": 3, "lt": 10}}``: all of these. ``{"or": [{...},
{...}]}``, ``{"and": [...]}``, ``{"not": {...}}``. Operators: eq, ne, in, gt, gte, lt, lte, contains. A column is
named as the row's field; ``extra.topic`` is a member of the JSON object ``extra``.

``contains``: a part of a text, without regard to the case of ASCII letters, or a text in a JSON list. Comparing with
None (eq, ne) finds rows without, or with, any value. A row without a value is equal to nothing and different from
everything. In ``extra`` only texts and lists of texts can contain something. Times are compared as moments
(:mod:`mirror.storage.times`), whole numbers with others exactly. A filter is
:data:`MOST_DEPTH` deep at most, and has :data:`MOST_COMPARISONS` comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mirror.core.errors import ConfigError
from mirror.storage.arguments import is_finite
from mirror.storage.statements import All, Any_, Compare, Condition, Contains, Not, OneOf
from mirror.storage.tables import Table, misfit_of_text
from mirror.storage.times import NEEDED, utc

#: How deep filters may be in each other: more than a person writes, and less than a store's parser can take.
MOST_DEPTH = 20
#: How many comparisons a filter may have: SQLite takes no expression of more than 1,000 in a row.
MOST_COMPARISONS = 500

_COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte")
_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "time": (str,), "integer": (int, float), "real": (int, float), "millis": (int, float),
    "flag": (bool,), "json": (str, int, float, bool), "vector": (),
}  # fmt: skip


def condition(table: Table, where: Mapping[str, Any] | None) -> Condition | None:
    """The condition of a filter; None for none. Raises ``ConfigError`` for what is no filter of this table."""
    if where is None:
        return None
    made = _all(table, where, 0)
    if (found := _comparisons(made)) > MOST_COMPARISONS:
        _refuse("", f"{found} comparisons; {MOST_COMPARISONS} at most")
    return made


def _comparisons(made: Condition) -> int:
    if isinstance(made, All | Any_):
        return sum(map(_comparisons, made.parts))
    return _comparisons(made.part) if isinstance(made, Not) else 1


def _all(table: Table, where: Any, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        _refuse(f"{where!r:.60}", "not an object")
    if depth > MOST_DEPTH:
        _refuse("", f"filters in each other, more than {MOST_DEPTH} deep")
    return All(tuple(_entry(table, name, value, depth) for name, value in where.items()))


def _entry(table: Table, name: Any, value: Any, depth: int) -> Condition:
    if wrong := misfit_of_text(name):
        _refuse(f"{name!r:.60}", wrong)
    if name in ("and", "or"):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
            _refuse(name, "needs a list of filters")
        parts = tuple(_all(table, part, depth + 1) for part in value)
        return All(parts) if name == "and" else Any_(parts)
    if name == "not":
        return Not(_all(table, value, depth + 1))
    column, dot, member = name.partition(".")
    known = table.by_name.get(column)
    if known is None or known.kind == "vector" or (dot and not member):
        _refuse(name, "no column to filter by")
    if bool(dot) != (known.kind == "json" and not known.sequence):
        _refuse(name, "name a member of a JSON object, as in extra.topic, and of nothing else")
    if isinstance(value, Mapping):
        return All(tuple(_compare(table, name, operator, item) for operator, item in value.items()))
    return _compare(table, name, "eq", value)


def _compare(table: Table, name: str, operator: Any, value: Any) -> Condition:
    kind = table.by_name[name.partition(".")[0]]
    if kind.sequence and operator != "contains":
        _refuse(f"{name}: {operator}", "a list of texts can only be asked what it contains")
    if operator == "contains":
        if not isinstance(value, str) or kind.kind not in ("text", "json"):
            _refuse(name, "contains needs a text, and a column of texts")
        return Contains(name, _fitting(kind.kind, name, value))
    if operator == "in":
        if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
            _refuse(name, "in needs a list of values")
        fitting = [_fitting(kind.kind, name, item) for item in value if item is not None]
        if kind.kind in ("integer", "millis"):
            fitting = [int(item) for item in fitting if _is_whole(item)]
        among = OneOf(name, tuple(fitting))
        return Any_((Compare(name, "eq", None), among)) if any(item is None for item in value) else among
    if operator not in _COMPARISONS:
        _refuse(f"{name}: {operator!r:.60}", "no operator")
    if value is None:
        if operator not in ("eq", "ne"):
            _refuse(f"{name}: {operator}", "there is nothing to compare with")
        return Compare(name, operator, None)
    fitted = _fitting(kind.kind, name, value)
    if kind.kind in ("integer", "millis"):
        return _exactly(name, operator, fitted)
    if kind.kind == "json" and isinstance(fitted, bool) and operator not in ("eq", "ne"):
        _refuse(f"{name}: {operator}", "true and false have no order")
    return Compare(name, operator, fitted)


def _is_whole(value: float) -> bool:
    """Whether a number is one that a column of whole numbers can have."""
    return value == math.floor(value) and -(2**63) <= value < 2**63


def _exactly(name: str, operator: Any, value: float) -> Condition:
    """A column of whole numbers against any number: as a comparison with a whole number of 64 bits, or none at all."""
    if _is_whole(value):
        return Compare(name, operator, int(value))
    if operator == "eq":
        return Any_(())
    if operator == "ne":
        return All(())
    above = operator in ("gt", "gte")
    if not -(2**63) <= value < 2**63:  # all rows with a value are on one side of it
        return Compare(name, "ne", None) if above == (value < 0) else Any_(())
    return Compare(name, "gt" if above else "lte", math.floor(value))


def _fitting(kind: str, name: str, value: Any) -> Any:
    """A value as it is compared with a column. Raises ``ConfigError`` for one that does not fit it."""
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and bool not in _TYPES[kind]):
        _refuse(name, f"{type(value).__name__} does not fit a column of kind {kind}")
    if isinstance(value, str):
        if wrong := misfit_of_text(value):
            _refuse(name, wrong)
        if kind != "time":
            return value
        moment = utc(value)
        return moment if moment is not None else _refuse(name, f"{value!r:.60}, but it needs {NEEDED}")
    if isinstance(value, int | float) and not is_finite(value):
        _refuse(name, "it needs a finite number")
    if kind == "json" and isinstance(value, int) and not -(2**63) <= value < 2**63:
        _refuse(name, "more than 64 bits")
    return value


def _refuse(what: Any, why: str) -> NoReturn:
    raise ConfigError(
        "read a filter", f"{what}" or "where", why, next_step="see mirror.storage.filters for what a filter may be"
    )
