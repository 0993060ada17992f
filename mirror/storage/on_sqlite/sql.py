"""Statements as SQL for SQLite, and values as SQLite stores them in a MemuStore.

Times in texts come in two forms (``2026-11-23T00:05:04.442Z`` and ``2026-11-23 00:05:04``), which do not sort as text.
So they are compared and ordered as ``julianday``. An index on the text still serves a limited list: times of different
days sort the same either way, so only the days of the rows that count are sorted again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mirror.core.quote import quoted as quote_identifier
from mirror.storage.jsontext import to_json
from mirror.storage.statements import (
    Add,
    All,
    Any_,
    Compare,
    Condition,
    Contains,
    Count,
    CountBy,
    CountOf,
    Delete,
    Insert,
    Linked,
    Not,
    OneOf,
    Ranked,
    Referring,
    SameName,
    Select,
    SelectCounting,
    StartsWith,
    Unexpired,
    Update,
)
from mirror.storage.tables import Column, Embedding, NoObject, Table, texts_in
from mirror.storage.words import search_words

_MOST_MARKS = 500
_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
Sql = tuple[str, list[Any]]


# -- values --------------------------------------------------------------------------------------------


def stored(column: Column, value: Any) -> Any:
    """A value as the column has it."""
    if value is None:
        return None
    match column.kind:
        case "json":
            return to_json(value)
        case "vector":
            return value.to_bytes()
        case "flag":
            return int(value)
        case "real":
            return float(value)
        case _:
            return value


#: Types of rows that fit their columns, of each table: what most rows have is found in it at once.
_MOST_SHAPES = 1000
_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "time": (str,), "integer": (int,), "millis": (int,), "real": (float, int),
}  # fmt: skip


def reader(table: Table) -> Callable[[tuple[Any, ...]], Any]:
    """A function that makes a table's row of a row of SQLite, which has the table's columns in order.

    SQLite takes any value in any column. What another program has left that does not fit its column counts as no value
    there, or as the column's default: one row must not keep the others from being read.
    """
    special = [(at, load) for at, column in enumerate(table.columns) if (load := _loader(column)) is not None]
    plain = [(at, column) for at, column in enumerate(table.columns) if column.kind in _TYPES]
    row_type = table.row
    fitting: set[tuple[type, ...]] = set()

    def read(row: tuple[Any, ...]) -> Any:
        values = list(row)
        kinds = tuple(map(type, row))
        if kinds not in fitting:
            for at, column in plain:
                values[at] = _fitted(column, values[at])
            if len(fitting) < _MOST_SHAPES and all(now is was for now, was in zip(values, row, strict=True)):
                fitting.add(kinds)
        for at, load in special:
            values[at] = load(values[at])
        return row_type(*values)

    return read


def _fitted(column: Column, value: Any) -> Any:
    is_number = column.kind in ("integer", "millis", "real")
    if isinstance(value, _TYPES[column.kind]) or (value is None and (column.optional or not is_number)):
        return value
    if not is_number:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    return None if column.optional else column.default


def _loader(column: Column) -> Callable[[Any], Any] | None:
    match column.kind:
        case "json":
            if column.sequence:
                return _optional_texts if column.optional else _texts
            return _optional_object if column.optional else _object
        case "vector":
            return _embedding
        case "flag":
            return bool
        case _:
            return None


def _embedding(blob: Any) -> Embedding | None:
    return Embedding.from_bytes(blob) if isinstance(blob, bytes) and blob and len(blob) % 4 == 0 else None


def _no_constant(name: str) -> None:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _parse(text: Any) -> Any:
    """The JSON of a text; None for what is none, too."""
    try:
        return _decode(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _object(text: Any) -> dict[str, Any]:
    """The object in a column."""
    if text is None or text in ("", "{}", "null"):
        return {}
    found = _parse(text)
    return found if isinstance(found, dict) else NoObject()


def _optional_object(text: Any) -> Any:
    return None if text is None or text in ("", "null") else _object(text)


def _optional_texts(text: Any) -> Any:
    return None if text is None or text == "" else _texts(text)


def _texts(text: Any) -> Any:
    found = _parse(text)
    return texts_in(found)


# -- conditions ----------------------------------------------------------------------------------------


def where(table: Table, condition: Condition) -> Sql:
    """A condition as SQL, never NULL, and its parameters."""
    parameters: list[Any] = []
    return _condition(table, condition, parameters), parameters


def _condition(table: Table, condition: Condition, out: list[Any]) -> str:
    match condition:
        case All(parts):
            made = [_condition(table, part, out) for part in parts]
            return " AND ".join(f"({part})" if " OR " in part else part for part in made) or "TRUE"
        case Any_(parts):
            return "(" + " OR ".join(_condition(table, part, out) for part in parts) + ")" if parts else "FALSE"
        case Not(part):
            return f"({_condition(table, part, out)}) IS NOT TRUE"
        case Compare(name, operator, value):
            return _compare(table, name, operator, value, out)
        case OneOf(name, among):
            if not among:
                return "FALSE"
            expression, convert = _operand(table, name)
            if len(among) > _MOST_MARKS:  # SQLite has a limit of parameters; a list is one
                out.append(to_json([convert(value) for value in among]))
                value = _mark(table, name).replace("?", "value")
                return f"{expression} IN (SELECT {value} FROM json_each(?))"
            out.extend(convert(value) for value in among)
            marks = ", ".join(_mark(table, name) for _ in among)
            return f"{expression} IN ({marks})"
        case Contains(name, part):
            column, dot, member = name.partition(".")
            if table.by_name[column].sequence:
                out.append(part)
                return f"EXISTS (SELECT 1 FROM json_each({_valid(column)}) WHERE type = 'text' AND value = ?)"
            if dot:
                path = _path(member)
                out += [path, path, part, path, path, part]
                valid = _valid(column)
                return (
                    f"(json_type({valid}, ?) = 'text' AND instr(lower(json_extract({valid}, ?)), lower(?)) > 0"
                    f" OR json_type({valid}, ?) = 'array'"
                    f" AND EXISTS (SELECT 1 FROM json_each({valid}, ?) WHERE type = 'text' AND value = ?))"
                )
            out.append(part)
            return f"instr(lower({quote_identifier(column)}), lower(?)) > 0"
        case SameName(name, text):
            out.append(text)
            return f"{quote_identifier(name)} = ? COLLATE NOCASE"
        case StartsWith(name, prefix):
            quoted = quote_identifier(name)
            end = _after(prefix)
            out += [prefix] if end is None else [prefix, end]
            return f"({quoted} >= ?{'' if end is None else f' AND {quoted} < ?'})"
        case Linked(name, other, linked, inner):
            inside = _condition(other, inner, out)
            return (
                f"{quote_identifier(name)} IN (SELECT {quote_identifier(linked)} FROM {quote_identifier(other.name)}"
                f" WHERE {inside})"
            )
        case Unexpired(now):
            out.append(now)
            return (
                "(instr(coalesce(extra, ''), '\"expiresAt\"') = 0 OR"
                f" (json_type({_valid('extra')}, '$.expiresAt') = 'text'"
                f" AND json_extract({_valid('extra')}, '$.expiresAt') <= ?) IS NOT TRUE)"
            )
    raise TypeError(f"no condition: {condition!r}")


def _compare(table: Table, name: str, operator: str, value: Any, out: list[Any]) -> str:
    expression, convert = _operand(table, name)
    if value is None:
        return f"{expression} IS {'NOT ' if operator == 'ne' else ''}NULL"
    out.append(convert(value))
    mark = _mark(table, name)
    if operator in ("eq", "ne"):
        return f"{expression} IS {'NOT ' if operator == 'ne' else ''}{mark}"
    column, dot, member = name.partition(".")
    if dot:  # numbers and texts are not compared with each other
        kind = "('text')" if isinstance(value, str) else "('integer', 'real')"
        valid = _valid(column)
        out[-1:] = [_path(member), _path(member), value]
        return f"(json_type({valid}, ?) IN {kind} AND json_extract({valid}, ?) {_OPERATORS[operator]} ?)"
    return f"({expression} {_OPERATORS[operator]} {mark}) IS TRUE"


def _operand(table: Table, name: str) -> tuple[str, Callable[[Any], Any]]:
    """The expression of a column or a member, and how values are converted to compare with it."""
    column, dot, member = name.partition(".")
    known = table.by_name[column]
    quoted = quote_identifier(column)
    if dot:
        # JSON's null counts as no value, as it does in Postgres.
        return f"nullif({_valid(column)} -> {_literal(_path(member))}, 'null')", to_json
    if known.kind == "time":
        return f"julianday({quoted})", str
    return quoted, lambda value: stored(known, value)


def _after(prefix: str) -> str | None:
    """The first text after all that begin with a prefix, in the order of code points; None: there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at])
        if code < 0x10FFFF:
            return prefix[:at] + chr(code + 1 if code != 0xD7FF else 0xE000)
    return None


def _mark(table: Table, name: str) -> str:
    return "julianday(?)" if "." not in name and table.by_name[name].kind == "time" else "?"


def _valid(column: str) -> str:
    """The JSON of a column; NULL where it is none."""
    quoted = quote_identifier(column)
    return f"CASE WHEN json_valid({quoted}) THEN {quoted} END"


def _path(member: str) -> str:
    escaped = member.replace("\\", "\\\\").replace('"', '\\"')
    return f'$."{escaped}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# -- statements ----------------------------------------------------------------------------------------


def columns(table: Table, prefix: str = "") -> str:
    """The table's columns in order."""
    return ", ".join(prefix + quote_identifier(column.name) for column in table.columns)


def select(statement: Select, more: Sql = ("", [])) -> Sql:
    """A Select as SQL. ``more``: columns after the table's."""
    table = statement.table
    name = quote_identifier(table.name)
    condition, parameters = where(table, statement.where)
    order = order_by(table, statement.order)
    text = f"SELECT {columns(table)}{more[0]} FROM {name} WHERE {condition}"
    leading = statement.order[0] if statement.order else ""
    if statement.limit is not None and isinstance(leading, str) and leading and _always_has_a_time(table, leading):
        # Rows of other days than these cannot be among the first: the index on the text finds them.
        column = quote_identifier(leading.removeprefix("-"))
        falling = leading.startswith("-")
        edge = (
            f"(SELECT date({column}, '{'-' if falling else '+'}1 day') FROM {name} WHERE {condition}"
            f" ORDER BY {column} {'DESC' if falling else 'ASC'} LIMIT 1 OFFSET ?)"
        )
        compared = (
            f"{column} >= coalesce({edge}, '')" if falling else f"{column} < coalesce(date({edge}, '+1 day'), '~')"
        )
        text += f" AND {compared}"
        parameters = [*parameters, *parameters, statement.limit + statement.offset - 1]
    text += order
    if statement.limit is not None or statement.offset:
        text += " LIMIT ? OFFSET ?"
        parameters = [*parameters, -1 if statement.limit is None else statement.limit, statement.offset]
    return text, [*more[1], *parameters]


def select_counting(statement: SelectCounting) -> Sql:
    """A SelectCounting as SQL: the counts come after the table's columns."""
    table = statement.select.table
    parameters: list[Any] = []
    counts = "".join(f", {_referring(table, each, parameters)}" for each in statement.counts)
    return select(statement.select, (counts, parameters))


def _referring(table: Table, counted: Referring, out: list[Any]) -> str:
    (key,) = table.key
    inside = _condition(counted.table, counted.where, out)
    return (
        f"(SELECT count(*) FROM {quote_identifier(counted.table.name)} AS referring"
        f" WHERE referring.{quote_identifier(counted.column)} = {quote_identifier(table.name)}.{quote_identifier(key)}"
        f" AND ({inside}))"
    )


def _always_has_a_time(table: Table, ordered: str) -> bool:
    column = table.by_name[ordered.removeprefix("-")]
    return column.kind == "time" and not column.optional


def _kind(table: Table, ordered: str) -> str:
    return table.by_name[ordered.removeprefix("-")].kind


def order_by(table: Table, order: tuple[str | Ranked, ...]) -> str:
    """ORDER BY, ties by the key; empty for no order."""
    if not order:
        return ""
    terms = []
    named = {part.removeprefix("-") for part in order if isinstance(part, str)}
    for name in (*order, *(key for key in table.key if key not in named)):
        if isinstance(name, Ranked):
            ranks = " ".join(f"WHEN {_literal(text)} THEN {rank}" for rank, text in enumerate(name.texts))
            terms.append(f"CASE {quote_identifier(name.column)} {ranks} ELSE {len(name.texts)} END")
            continue
        quoted = quote_identifier(name.removeprefix("-"))
        expression = f"julianday({quoted})" if _kind(table, name) == "time" else quoted
        terms.append(expression + (" DESC NULLS LAST" if name.startswith("-") else " NULLS LAST"))
    return " ORDER BY " + ", ".join(terms)


def count(statement: Count) -> Sql:
    """A Count as SQL."""
    condition, parameters = where(statement.table, statement.where)
    return f"SELECT count(*) FROM {quote_identifier(statement.table.name)} WHERE {condition}", parameters


def count_by(statement: CountBy) -> Sql:
    """A CountBy as SQL."""
    condition, parameters = where(statement.table, statement.where)
    column = quote_identifier(statement.column)
    name = quote_identifier(statement.table.name)
    return f"SELECT {column}, count(*) FROM {name} WHERE {condition} GROUP BY 1 ORDER BY 1", parameters


def insert(statement: Insert) -> Sql:
    """An Insert as SQL."""
    table, values = statement.table, statement.values
    columns = table.by_name
    parameters = [stored(columns[name], value) for name, value in values.items()]
    return _insert_text(table.name, tuple(values), statement.ignore, statement.replace), parameters


@lru_cache(maxsize=500)
def _insert_text(table: str, names: tuple[str, ...], ignore: bool, replace: bool) -> str:
    how = "INSERT OR REPLACE" if replace else "INSERT"
    marks = ", ".join("?" for _ in names)
    # OR IGNORE would ignore a NULL that must not be there, too.
    otherwise = " ON CONFLICT DO NOTHING" if ignore else ""
    columns = ", ".join(map(quote_identifier, names))
    return f"{how} INTO {quote_identifier(table)} ({columns}) VALUES ({marks}){otherwise}"


def update(statement: Update) -> Sql:
    """An Update as SQL."""
    table = statement.table
    parameters: list[Any] = []
    sets = ", ".join(_assignment(table, name, value, parameters) for name, value in statement.values.items())
    condition = _condition(table, statement.where, parameters)
    return f"UPDATE {quote_identifier(table.name)} SET {sets} WHERE {condition}", parameters


def _assignment(table: Table, name: str, value: Any, out: list[Any]) -> str:
    quoted = quote_identifier(name)
    match value:
        case Add(amount, least, most):
            out.append(amount)
            made = f"{quoted} + ?"
            for bound, function in ((least, "max"), (most, "min")):
                if bound is not None:
                    out.append(bound)
                    made = f"{function}({made}, ?)"
            return f"{quoted} = {made}"
        case CountOf(other, condition):
            inside = _condition(other, condition, out)
            return f"{quoted} = (SELECT count(*) FROM {quote_identifier(other.name)} WHERE {inside})"
    out.append(stored(table.by_name[name], value))
    return f"{quoted} = ?"


def delete(statement: Delete) -> Sql:
    """A Delete as SQL."""
    condition, parameters = where(statement.table, statement.where)
    return f"DELETE FROM {quote_identifier(statement.table.name)} WHERE {condition}", parameters


def match_query(text: str) -> str | None:
    """An FTS5 query for any of the words of a text; None if it has none. Never a syntax error: words are quoted."""
    return " OR ".join(f'"{word}"' for word in search_words(text)) or None


def rows_of(
    table: Table, found: list[tuple[Any, ...]], read: Callable[[tuple[Any, ...]], Any]
) -> list[tuple[Any, ...]]:
    """(row, rank, values of each of ``along``), of rows with these after the table's columns."""
    width = len(table.columns)
    return [(read(row[:width]), float(row[width]), *map(tuple, map(json.loads, row[width + 1 :]))) for row in found]
