"""Statements as SQL for Postgres.

Every value is a parameter in text form with a cast, so that a prepared statement has one form whatever type Python's
value has. Only an embedding is in binary form: to write and read its text would take a third of a search. ``agent`` is
the SQL expression of the agent whose rows are meant; row security says the same once more.

A read is one statement, which also names the agent for row security and brings the position up to which the source has
been applied, in the snapshot of the answer::

    SELECT p.generation, p.frame, p.salt1, p.salt2, q.*
      FROM (SELECT set_config('app.agent_id', $1, true) AS agent OFFSET 0) w
      LEFT JOIN LATERAL (SELECT ... FROM mirror.position WHERE source_id = $2 AND w.agent <> '' OFFSET 0) p ON true
      LEFT JOIN LATERAL (SELECT ... WHERE agent_id = w.agent ... OFFSET 0) q ON true

``LATERAL`` with ``OFFSET 0`` makes both depend on ``w``, so they are scanned after the agent was set. If they were not,
row security would find no agent, and no row: it fails closed. Each is the inner side of a nested loop over one row, so
the order of ``q`` is the order of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from mirror.core.quote import quoted
from mirror.postgres.typed import original
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
    SameName,
    Select,
    SelectCounting,
    StartsWith,
    Statement,
    Unexpired,
    Update,
)
from mirror.storage.tables import Column, Embedding, NoObject, Table, texts_in
from mirror.storage.times import utc

_TYPES = {
    "text": "text", "integer": "bigint", "real": "double precision", "flag": "boolean", "time": "timestamptz",
    "millis": "timestamptz", "json": "jsonb", "vector": "vector",
}  # fmt: skip
#: A parameter: a value in text form, or an embedding.
Value = str | Embedding | None
_OPERATORS = {"eq": "=", "ne": "IS DISTINCT FROM", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Parameters:
    """The parameters of one statement, numbered as they are added."""

    def __init__(self, *values: Value) -> None:
        self.values: list[Value] = list(values)

    def add(self, value: Value, pg_type: str = "text") -> str:
        """Add a value; returns its place in the statement."""
        self.values.append(value)
        return f"${len(self.values)}::{pg_type}"


# -- values --------------------------------------------------------------------------------------------


def sent(column: Column, value: Any) -> Value:
    """A value as the parameter that it is sent in; milliseconds as a number, see :func:`_placed`."""
    return value if isinstance(value, Embedding) else encoded(column, value)


def encoded(column: Column, value: Any) -> str | None:
    """A value in the text form of the column's type; milliseconds as a number."""
    if value is None:
        return None
    match column.kind:
        case "json":
            return to_json(value)
        case "vector":
            return (value if isinstance(value, Embedding) else Embedding(value)).to_text()
        case "flag":
            return "true" if value else "false"
        case "real":
            return repr(float(value))
        case "time":
            return _iso(value)
        case _:
            return str(value)


def _placed(column: Column, value: Any, out: Parameters) -> str:
    if column.kind == "millis":
        return f"to_timestamp({out.add(encoded(column, value), 'double precision')} / 1000)"
    return out.add(sent(column, value), _TYPES[column.kind])


def has_original(table: Table) -> bool:
    """Whether a table's rows come from SQLite, with texts that the typed value does not give back."""
    return table.source != "postgres"


def columns(table: Table) -> str:
    """The table's columns in order, then ``_original`` where the table has times in text form."""
    made = [_selected(column) for column in table.columns]
    if keeps_texts(table):
        made.append("_original")
    return ", ".join(made)


def keeps_texts(table: Table) -> bool:
    """Whether ``_original`` is needed to give a row back as it was."""
    return has_original(table) and any(column.kind == "time" for column in table.columns)


def _selected(column: Column) -> str:
    name = quoted(column.in_postgres)
    if column.kind == "millis":
        return f"(extract(epoch FROM {name}) * 1000)::bigint AS {name}"
    return name


def reader(table: Table) -> Callable[[tuple[Any, ...]], Any]:
    """A function that makes a table's row of a row of Postgres, as :func:`columns` orders it."""
    row_type = table.row
    empty: dict[int, Any] = {at: () if column.sequence else {} for at, column in enumerate(table.columns)
             if column.kind == "json" and not column.optional}  # fmt: skip
    objects = [at for at, column in enumerate(table.columns) if column.kind == "json" and not column.sequence]
    sequences = [at for at, column in enumerate(table.columns) if column.sequence]
    times = {column.name: at for at, column in enumerate(table.columns) if column.kind == "time"}
    texts = keeps_texts(table)
    if not objects and not sequences and not texts:
        return lambda row: row_type(*row)

    def read(row: tuple[Any, ...]) -> Any:
        values = list(row)
        kept = values.pop() if texts else None
        for at in sequences:
            if values[at] is not None:
                values[at] = texts_in(values[at])
        for at in objects:
            if values[at] is not None and not isinstance(values[at], dict):
                values[at] = NoObject()
        for at, nothing in empty.items():
            if values[at] is None:
                values[at] = nothing
        if kept:
            for name, text in kept.items():
                if name in times:
                    values[times[name]] = text
        return row_type(*values)

    return read


#: Of a list of more values than this, all are one parameter; with fewer, the planner knows how many they are.
_MANY = 20


def in_one_parameter(column: Column, among: Sequence[Any], *, member: bool = False) -> bool:
    """Whether a list of values is sent as one array. ``member``: they are of a member of a JSON object."""
    return len(among) > _MANY and (member or column.kind not in ("millis", "json", "vector"))


def array(texts: Iterable[str | None]) -> str:
    """Values in text form as the text form of an array."""
    return "{" + ",".join("NULL" if text is None else f'"{escaped(text)}"' for text in texts) + "}"


def escaped(text: str) -> str:
    """A text between the quotes of an array's text form."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


# -- conditions ----------------------------------------------------------------------------------------


def where_sql(table: Table, condition: Condition, agent: str, out: Parameters) -> str:
    """A condition as SQL, and its values as parameters. ``agent``: the expression of the agent whose rows are meant."""
    match condition:
        case All(parts):
            return " AND ".join(where_sql(table, part, agent, out) for part in parts) or "true"
        case Any_(parts):
            made = " OR ".join(f"({where_sql(table, part, agent, out)})" for part in parts)
            return f"({made})" if made else "false"
        case Not(part):
            return f"(({where_sql(table, part, agent, out)}) IS NOT TRUE)"
        case Compare(name, operator, value):
            return _compare(table, name, operator, value, out)
        case OneOf(name, among):
            if not among:
                return "false"
            column, dot, _ = name.partition(".")
            if (known := table.by_name[column]) and in_one_parameter(known, among, member=bool(dot)):
                texts = [to_json(value) if dot else encoded(known, value) for value in among]
                pg_type = "jsonb" if dot else _TYPES[known.kind]
                return f"{operand(table, name)} = ANY({out.add(array(texts), pg_type + '[]')})"
            if dot:
                marks = ", ".join(out.add(to_json(value), "jsonb") for value in among)
            else:
                marks = ", ".join(_placed(table.by_name[column], value, out) for value in among)
            return f"{operand(table, name)} IN ({marks})"
        case Contains(name, part):
            column, dot, _ = name.partition(".")
            if table.by_name[column].sequence:
                return f"{operand(table, name)} @> jsonb_build_array({out.add(part)})"
            if dot:
                member, mark = operand(table, name), out.add(part)
                text = _folded(f"({member} #>> '{{}}')")
                return (
                    f"(CASE jsonb_typeof({member}) WHEN 'array' THEN {member} @> jsonb_build_array({mark})"
                    f" WHEN 'string' THEN strpos({text}, {_folded(mark)}) > 0 ELSE false END)"
                )
            return f"strpos({_folded(operand(table, name))}, {_folded(out.add(part))}) > 0"
        case SameName(name, text):
            return f"{_folded(operand(table, name))} = {_folded(out.add(text))}"
        case StartsWith(name, prefix):
            return f"starts_with({operand(table, name)}, {out.add(prefix)})"
        case Linked(name, other, linked, inner):
            return (
                f"{operand(table, name)} IN (SELECT {quoted(other.by_name[linked].in_postgres)} FROM"
                f" {quoted(other.name)} WHERE agent_id = {agent} AND {where_sql(other, inner, agent, out)})"
            )
        case Unexpired(now):
            return (
                "CASE WHEN jsonb_typeof(extra -> 'expiresAt') = 'string'"
                f" THEN (extra ->> 'expiresAt') COLLATE \"C\" > {out.add(now)} ELSE true END"
            )
    raise TypeError(f"no condition: {condition!r}")


def _compare(table: Table, name: str, operator: str, value: Any, out: Parameters) -> str:
    expression = operand(table, name)
    column, dot, _ = name.partition(".")
    if value is None:
        return f"{expression} IS {'NOT ' if operator == 'ne' else ''}NULL"
    sign = _OPERATORS[operator]
    if not dot:
        collation = ' COLLATE "C"' if table.by_name[column].kind == "text" and operator not in ("eq", "ne") else ""
        return f"{expression}{collation} {sign} {_placed(table.by_name[column], value, out)}"
    if operator in ("eq", "ne"):
        return f"{expression} {sign} {out.add(to_json(value), 'jsonb')}"
    kind, made = ("string", out.add(value)) if isinstance(value, str) else ("number", out.add(str(value), "numeric"))
    plain = f"({expression} #>> '{{}}')"
    compared = f'{plain} COLLATE "C" {sign} {made}' if kind == "string" else f"{plain}::numeric {sign} {made}"
    return f"(CASE WHEN jsonb_typeof({expression}) = '{kind}' THEN {compared} ELSE false END)"


def operand(table: Table, name: str) -> str:
    """The expression of a column, or of a member of a JSON object."""
    column, dot, member = name.partition(".")
    made = quoted(table.by_name[column].in_postgres)
    if not dot:
        return made
    literal = member.replace("'", "''")
    # JSON's null counts as no value, as it does in SQLite.
    return f"nullif({made} -> '{literal}', 'null')"


def _folded(expression: str) -> str:
    """In lower case as SQLite has it: ASCII letters only."""
    return f'lower({expression} COLLATE "C")'


# -- statements ----------------------------------------------------------------------------------------


def query(statement: Statement[Any], agent: str, out: Parameters) -> str:
    """A statement that reads, as SQL. ``agent``: the expression of the agent whose rows are meant."""
    match statement:
        case Select(table, where, order, limit, offset):
            text = f"SELECT {columns(table)} FROM {quoted(table.name)} WHERE agent_id = {agent}"
            text += f" AND {where_sql(table, where, agent, out)}{order_by(table, order)}"
            if limit is not None:
                text += f" LIMIT {out.add(str(max(0, limit)), 'bigint')}"
            return text + f" OFFSET {out.add(str(offset), 'bigint') if offset > 0 else '0'}"
        case SelectCounting(inner, counts):
            table = inner.table
            (key,) = table.key
            counted = "".join(
                f", (SELECT count(*) FROM {quoted(each.table.name)} WHERE agent_id = {agent}"
                f" AND {quoted(each.table.by_name[each.column].in_postgres)} = found.{quoted(key)}"
                f" AND {where_sql(each.table, each.where, agent, out)}) AS count_{at}"
                for at, each in enumerate(counts)
            )
            # The order of the rows that are counted for is that of the result.
            return f"SELECT found.*{counted} FROM ({query(inner, agent, out)}) AS found OFFSET 0"
        case Count(table, condition):
            wanted = where_sql(table, condition, agent, out)
            return f"SELECT count(*) FROM {quoted(table.name)} WHERE agent_id = {agent} AND {wanted} OFFSET 0"
        case CountBy(table, column, condition):
            wanted = where_sql(table, condition, agent, out)
            name = quoted(table.by_name[column].in_postgres)
            return (
                f"SELECT {name}, count(*) FROM {quoted(table.name)} WHERE agent_id = {agent} AND {wanted}"
                f" GROUP BY 1 ORDER BY {name} OFFSET 0"
            )
    raise TypeError(f"no statement that reads: {statement!r}")


def order_by(table: Table, order: tuple[str | Ranked, ...]) -> str:
    """ORDER BY, ties by the key; empty for no order."""
    if not order:
        return ""
    terms = []
    named = {part.removeprefix("-") for part in order if isinstance(part, str)}
    for name in (*order, *(key for key in table.key if key not in named)):
        if isinstance(name, Ranked):
            texts = ", ".join("'" + text.replace("'", "''") + "'" for text in name.texts)
            ranked = quoted(table.by_name[name.column].in_postgres)
            terms.append(f"coalesce(array_position(ARRAY[{texts}]::text[], {ranked}), {len(name.texts) + 1})")
            continue
        column = table.by_name[name.removeprefix("-")]
        collation = ' COLLATE "C"' if column.kind == "text" else ""
        falling = " DESC" if name.startswith("-") else ""
        # An index in rising order serves falling order, too, but not with NULLs last: only where there may be any.
        terms.append(quoted(column.in_postgres) + collation + falling + (" NULLS LAST" if column.optional else ""))
    return " ORDER BY " + ", ".join(terms)


def change(statement: Statement[Any], agent: str, out: Parameters) -> str:
    """A statement that writes, as SQL."""
    match statement:
        case Insert(table, values, ignore, replace):
            texts = {name: text for name, text in _originals(table, values).items() if text is not None}
            names = ["agent_id", *(quoted(table.by_name[name].in_postgres) for name in values)]
            marks = [agent, *(_placed(table.by_name[name], value, out) for name, value in values.items())]
            if texts:
                names.append("_original")
                marks.append(out.add(to_json(texts), "jsonb"))
            conflict = " ON CONFLICT DO NOTHING" if ignore else _replacing(table, names) if replace else ""
            return f"INSERT INTO {quoted(table.name)} ({', '.join(names)}) VALUES ({', '.join(marks)}){conflict}"
        case Update(table, values, condition):
            sets = [_assignment(table, name, value, agent, out) for name, value in values.items()]
            if kept := _originals(table, values):
                merged = f"coalesce(_original, '{{}}') || {out.add(to_json(kept), 'jsonb')}"
                sets.append(f"_original = nullif(jsonb_strip_nulls({merged}), '{{}}')")
            where = where_sql(table, condition, agent, out)
            return f"UPDATE {quoted(table.name)} SET {', '.join(sets)} WHERE agent_id = {agent} AND {where}"
        case Delete(table, condition):
            where = where_sql(table, condition, agent, out)
            return f"DELETE FROM {quoted(table.name)} WHERE agent_id = {agent} AND {where}"
    raise TypeError(f"no statement that writes: {statement!r}")


def _replacing(table: Table, names: list[str]) -> str:
    key = ["agent_id", *(quoted(table.by_name[name].in_postgres) for name in table.key)]
    others = [name for name in names if name not in key]
    if has_original(table) and "_original" not in others:
        others.append("_original")
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
    return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sets}"


def _originals(table: Table, values: Any) -> dict[str, str | None]:
    """By column of a kind with a canonical form: the text that the way back to SQLite needs; None: none."""
    if not has_original(table):
        return {}
    made: dict[str, str | None] = {}
    for name, value in values.items():
        kind = table.by_name[name].kind
        if kind in ("time", "json") and not isinstance(value, Add | CountOf):
            text = value if value is None or kind == "time" else to_json(value)
            made[name] = None if text is None else original(kind, text, encoded(table.by_name[name], value))
    return made


def _iso(text: str) -> str:
    """A time in the form that ``datetime.isoformat`` gives."""
    return datetime.fromisoformat(utc(text) or text).replace(tzinfo=UTC).isoformat()


def _assignment(table: Table, name: str, value: Any, agent: str, out: Parameters) -> str:
    column = table.by_name[name]
    quoted_name = quoted(column.in_postgres)
    match value:
        case Add(amount, least, most):
            pg_type = _TYPES[column.kind]
            made = f"{quoted_name} + {out.add(str(amount), pg_type)}"
            for bound, function in ((least, "greatest"), (most, "least")):
                if bound is not None:
                    made = f"{function}({made}, {out.add(str(bound), pg_type)})"
            return f"{quoted_name} = {made}"
        case CountOf(other, condition):
            where = where_sql(other, condition, agent, out)
            return f"{quoted_name} = (SELECT count(*) FROM {quoted(other.name)} WHERE agent_id = {agent} AND {where})"
    return f"{quoted_name} = {_placed(column, value, out)}"
