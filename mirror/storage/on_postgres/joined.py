"""Searches, and statements about rows of several tables or groups of rows, as SQL for Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mirror.core.quote import quoted
from mirror.storage.on_postgres.sql import Parameters, array, columns, keeps_texts, query, where_sql
from mirror.storage.places import SIMILARITY_DIGITS
from mirror.storage.statements import (
    All,
    Along,
    Condition,
    Count,
    CountBy,
    Counts,
    Merged,
    Near,
    OneOf,
    Pairs,
    Select,
    SelectCounting,
    Statement,
    Summary,
    Together,
    Unexpired,
    Words,
)
from mirror.storage.tables import Table
from mirror.storage.words import search_words


def read(statement: Statement[Any], agent: str, out: Parameters) -> str:
    """A statement that reads, as SQL. ``agent``: the expression of the agent whose rows are meant."""
    match statement:
        case Words() | Near():
            return _ranked(statement, agent, out, len(statement.along))
        case Merged():
            return _merged(statement, agent, out)
        case Together(parts):
            width = max((len(part.along) for part in parts if not isinstance(part, Select)), default=0)
            made = [f"(SELECT {at} AS part, x.* FROM ({_ranked(part, agent, out, width)}) x)"
                    for at, part in enumerate(parts)]  # fmt: skip
            return " UNION ALL ".join(made)
        case Pairs():
            return _pairs(statement, agent, out)
        case Counts():
            return _counts(statement, agent, out)
        case Summary():
            return _summary(statement, agent, out)
    return query(statement, agent, out)


def _ranked(statement: Select | Words | Near, agent: str, out: Parameters, width: int) -> str:
    """Rows, a rank, and ``width`` columns of what is along, each a JSON list."""
    table = statement.table
    if isinstance(statement, Select):
        nothing = "".join(", NULL::jsonb" for _ in range(width))
        return f"SELECT x.*, NULL::float8{nothing} FROM ({query(statement, agent, out)}) x"
    found, order = _candidates(statement, agent, out) or _compared(statement, agent, out)
    limit = out.add(str(statement.limit), "bigint")
    return (
        f"SELECT {columns(table)}, rank{_along(table, statement.along, width)} FROM ({found} ORDER BY {order}"
        f" LIMIT {limit}) r ORDER BY {order}"
    )


def _candidates(statement: Words | Near, agent: str, out: Parameters) -> tuple[str, str] | None:
    """Memory items by the indexes, and their order; None for other tables, and filters that the function does not have.

    ``memory_candidates`` (sql/profiles/memustore/0007_search.sql) uses the indexes of words and embeddings, which row
    security would keep a query of the application's role from, and gives as many as it is asked for.
    """
    by_words = isinstance(statement, Words)
    words, near = (statement, None) if isinstance(statement, Words) else (None, statement)
    found = _function(words, near, statement.limit, out)
    if found is None:
        return None
    rank = "rank::float8" if by_words else _similarity("distance")
    place = "rank_place" if by_words else _place_by_embedding("distance")
    alike = "" if by_words else f" WHERE {rank} > 0"
    others = isinstance(statement, Words) and statement.shared
    return (
        f"SELECT m.*, c.rank, c.place FROM (SELECT agent_id, id, {rank} AS rank, {place} AS place FROM {found}{alike}"
        f" ORDER BY place) c CROSS JOIN LATERAL ({_item(statement, agent, out, others)}) m",
        "place",
    )


def _similarity(distance: str) -> str:
    """The rounded similarity of a distance below 1, else 0: of NaN, too, as a vector of zeros has no direction."""
    unit = f"1e{SIMILARITY_DIGITS}::float8"
    return f"CASE WHEN {distance} < 1 THEN round((1 - {distance}) * {unit}) / {unit} ELSE 0 END"


def _place_by_embedding(distance: str) -> str:
    """The place of a row by its distance, from 1. The function's own is by what is not rounded."""
    return f'row_number() OVER (ORDER BY {_similarity(distance)} DESC, id COLLATE "C")'


def _function(words: Words | None, near: Near | None, limit: int, out: Parameters) -> str | None:
    """The call of ``memory_candidates``; None for other tables, and filters that it does not have."""
    asked = near or words
    if asked is None or asked.table.name != "memory_items":
        return None
    types: str | None = None
    now = ""
    for part in _parts(asked.where):
        match part:
            case OneOf("memory_type", among) if types is None:
                types = array(among)
            case Unexpired(time):
                now = time
            case _:
                return None
    scope = "others" if words is not None and words.shared else "own"
    arguments = (
        out.add(None if words is None else " ".join(search_words(words.text))),
        out.add(None if near is None else near.embedding, "vector"),
        out.add(str(limit), "int"),
        f"'{scope}', {out.add(types, 'text[]')}, NULL, 'any', {out.add(now)}",
    )
    return f"memory_candidates({', '.join(arguments)})"


def _item(statement: Words | Near, agent: str, out: Parameters, others: bool = False) -> str:
    """The row of a candidate ``c``, read as the caller: row security and the condition count once more."""
    where = where_sql(statement.table, statement.where, agent, out)
    return (
        f"SELECT * FROM {quoted(statement.table.name)} WHERE agent_id = c.agent_id AND id = c.id"
        f" AND agent_id {'<>' if others else '='} {agent} AND {where} OFFSET 0"
    )


def _asked(candidates: int) -> int:
    """For how many ``memory_candidates`` has to be asked for so many of each list: it gives four times as many, but no
    more than 150 more.
    """
    return -(-candidates // 4) if candidates <= 200 else candidates - 150


def _merged(statement: Merged, agent: str, out: Parameters) -> str:
    """As :func:`mirror.storage.places.merged`: the score is computed in the same steps."""
    near, words, table = statement.near, statement.words, statement.near.table
    found = _function(words, near, max(statement.limit, _asked(max(near.limit, words.limit))), out)
    if found is None:
        found = _lists(near, words, agent, out)
    weight, limit = out.add(repr(float(statement.weight)), "float8"), out.add(str(statement.limit), "bigint")
    in_near = f"similarity > 0 AND near_place <= {out.add(str(near.limit), 'bigint')}"
    in_words = f"rank_place <= {out.add(str(words.limit), 'bigint')}"
    places = (
        f"SELECT agent_id, id, CASE WHEN {in_near} THEN near_place - 1 END AS near, similarity,"
        f" CASE WHEN {in_words} THEN rank_place - 1 END AS words, rank::float8 AS rank FROM"
        f" (SELECT *, {_similarity('distance')} AS similarity, {_place_by_embedding('distance')} AS near_place"
        f" FROM {found} d) f"
    )
    scored = (
        f"SELECT *, CASE WHEN words IS NULL THEN 0 ELSE (1 - {weight}) * (1 / (1 + words::float8 / 5)) END"
        f" + CASE WHEN near IS NULL THEN 0 ELSE {weight} * (1 / (1 + near::float8 / 5)) END AS score FROM ({places}) p"
    )
    best = f'SELECT * FROM ({scored}) s WHERE score > 0 ORDER BY score DESC, id COLLATE "C"'
    return (
        f"SELECT {columns(table)}, near, CASE WHEN near IS NOT NULL THEN similarity END, words,"
        f" CASE WHEN words IS NOT NULL THEN merged_rank END{_along(table, near.along, len(near.along))}"
        f" FROM (SELECT m.*, c.near, c.similarity, c.words, c.rank AS merged_rank, c.score FROM ({best}) c"
        f' CROSS JOIN LATERAL ({_item(near, agent, out)}) m ORDER BY c.score DESC, c.id COLLATE "C" LIMIT {limit}) r'
        f' ORDER BY score DESC, id COLLATE "C"'
    )


def _lists(near: Near, words: Words, agent: str, out: Parameters) -> str:
    """What ``memory_candidates`` gives, by comparing rows one by one."""
    made = []
    for part, value, place in ((near, "1 - x.rank AS distance", "distance_place"), (words, "x.rank", "rank_place")):
        found, order = _compared(part, agent, out)
        limit = out.add(str(part.limit), "bigint")
        made.append(
            f"(SELECT agent_id, id, {value}, row_number() OVER (ORDER BY {order}) AS {place}"
            f" FROM ({found} ORDER BY {order} LIMIT {limit}) x)"
        )
    return f"({made[0]} v FULL JOIN {made[1]} w USING (agent_id, id))"


def _parts(condition: Condition) -> list[Condition]:
    """The conditions that all have to be true."""
    if isinstance(condition, All):
        return [each for part in condition.parts for each in _parts(part)]
    return [condition]


def _compared(statement: Words | Near, agent: str, out: Parameters) -> tuple[str, str]:
    """Rows of any table, compared one by one, and their order."""
    table = statement.table
    key = ", ".join(quoted(name) + (' COLLATE "C"' if table.by_name[name].kind == "text" else "") for name in table.key)
    if isinstance(statement, Words):
        # In a subquery, so that it is made once and not for each row.
        asked = f"(SELECT any_word({out.add(' '.join(search_words(statement.text)))}))"
        whose = f"agent_id <> {agent}" if statement.shared else f"agent_id = {agent}"
        where = where_sql(table, statement.where, agent, out)
        # 1: a long text counts less, as it does for BM25.
        return (
            f"SELECT *, ts_rank(search, {asked}, 1)::float8 AS rank FROM {quoted(table.name)}"
            f" WHERE {whose} AND search @@ {asked} AND {where}",
            f"rank DESC, {key}",
        )
    wanted = out.add(statement.embedding, "vector")
    where = where_sql(table, statement.where, agent, out)
    return (
        f"SELECT *, {_similarity('distance')} AS rank FROM (SELECT *, embedding <=> {wanted} AS distance"
        f" FROM {quoted(table.name)} WHERE agent_id = {agent} AND vector_dims(embedding) = {len(statement.embedding)}"
        f" AND {where} OFFSET 0) near WHERE {_similarity('distance')} > 0",
        f"rank DESC, {key}",
    )


def _along(table: Table, along: Sequence[Along], width: int) -> str:
    key = table.key[0]  # of a table with links, the only one
    made = [
        f", (SELECT coalesce(jsonb_agg({_value(each)} ORDER BY {_value(each)}), '[]') {_links(each)}"
        f" WHERE l.agent_id = r.agent_id AND l.{quoted(each.own)} = r.{quoted(key)})"
        for each in along
    ]
    return "".join(made) + ", NULL::jsonb" * (width - len(along))


def _value(each: Along) -> str:
    collation = ' COLLATE "C"' if each.table.by_name[each.column].kind == "text" else ""
    return f"t.{quoted(each.table.by_name[each.column].in_postgres)}{collation}"


def _links(each: Along) -> str:
    (key,) = each.table.key
    return (
        f"FROM {quoted(each.links.name)} AS l JOIN {quoted(each.table.name)} AS t"
        f" ON t.agent_id = l.agent_id AND t.{quoted(key)} = l.{quoted(each.other)}"
    )


def _pairs(statement: Pairs, agent: str, out: Parameters) -> str:
    each = statement.along
    if not statement.keys:
        return f"SELECT NULL::text, {_value(each)} {_links(each)} WHERE false"
    keys = out.add(array(statement.keys), "text[]")
    own = f"l.{quoted(each.own)}"
    return (
        f"SELECT {own}, {_value(each)} {_links(each)} WHERE l.agent_id = {agent} AND {own} = ANY({keys}) ORDER BY 1, 2"
    )


def _counts(statement: Counts, agent: str, out: Parameters) -> str:
    made = []
    for at, (_, part) in enumerate(statement.parts):
        by = f"{quoted(part.table.by_name[part.column].in_postgres)}::text" if isinstance(part, CountBy) else "NULL"
        group = " GROUP BY 2" if isinstance(part, CountBy) else ""
        where = where_sql(part.table, part.where, agent, out)
        name = quoted(part.table.name)
        made.append(f"SELECT {at}, {by} AS by, count(*) FROM {name} WHERE agent_id = {agent} AND {where}{group}")
    return " UNION ALL ".join(made)


def _summary(statement: Summary, agent: str, out: Parameters) -> str:
    table = statement.table
    by = [quoted(table.by_name[name].in_postgres) for name in statement.by]
    means = [f"avg({quoted(table.by_name[name].in_postgres)})::float8" for name in statement.means]
    counts = [f"count(*) FILTER (WHERE {where_sql(table, each, agent, out)})" for each in statement.counts]
    where = where_sql(table, statement.where, agent, out)
    named = [f"{expression} AS c{at}" for at, expression in enumerate([*by, "count(*)", *means, *counts])]
    groups = ", ".join(by)
    return f"SELECT {', '.join(named)} FROM {quoted(table.name)} WHERE agent_id = {agent} AND {where} GROUP BY {groups}"


# -- answers -------------------------------------------------------------------------------------------


def answer(statement: Statement[Any], rows: Sequence[tuple[Any, ...]], reader: Callable[[Table], Any]) -> Any:
    """What the operation is sent for a statement that reads. ``reader``: makes a table's row of its columns."""
    match statement:
        case Select(table):
            make = reader(table)
            return [make(row) for row in rows]
        case SelectCounting(inner, counts):
            make, width = reader(inner.table), -len(counts)
            return [(make(row[:width]), *row[width:]) for row in rows]
        case Count():
            return rows[0][0]
        case CountBy() | Pairs():
            return dict(rows) if isinstance(statement, CountBy) else list(rows)
        case Words(table) | Near(table):
            return _found(table, rows, len(statement.along), reader(table))
        case Merged(near):
            width, make = _width(near.table), reader(near.table)
            return [(make(row[:width]), *row[width : width + 4], *map(tuple, row[width + 4 :])) for row in rows]
        case Together(parts):
            made: list[Any] = []
            for at, part in enumerate(parts):
                own = [row[1:] for row in rows if row[0] == at]
                if isinstance(part, Select):
                    width = _width(part.table)
                    made.append(answer(part, [row[:width] for row in own], reader))
                else:
                    made.append(_found(part.table, own, len(part.along), reader(part.table)))
            return made
        case Counts(named):
            return _counted(named, rows)
        case Summary():
            return list(rows)
    raise TypeError(f"no statement that reads: {statement!r}")


def _width(table: Table) -> int:
    return len(table.columns) + keeps_texts(table)


def _found(table: Table, rows: Sequence[tuple[Any, ...]], along: int, make: Any) -> list[tuple[Any, ...]]:
    width = _width(table)
    return [(make(row[:width]), row[width], *map(tuple, row[width + 1 : width + 1 + along])) for row in rows]


def _counted(parts: tuple[tuple[str, Count | CountBy], ...], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {name: {} if isinstance(part, CountBy) else 0 for name, part in parts}
    for at, by, number in rows:
        name, part = parts[at]
        if isinstance(part, CountBy):
            found[name][by] = number
        else:
            found[name] = number
    return found
