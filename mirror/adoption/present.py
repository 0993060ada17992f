"""The rows that an application's tables have before anything is copied: migrations leave some in most of them.

A table that is mirrored becomes equal to the source's: what has a key that the source has is replaced, and a row that
the source never had would go. Which these are is found here; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from psycopg.sql import SQL, Composed, Identifier

from mirror.adoption.columns import SHOWN_KEYS
from mirror.adoption.scan import Plan
from mirror.adoption.source import Source, shown_key
from mirror.core.adopted import INTEGERS
from mirror.postgres.adopted.codecs import encoder
from mirror.postgres.codecs import Encoder, Reject
from mirror.postgres.target import Conn

#: Keys that are sent to Postgres at once.
_KEYS_AT_ONCE = 10_000
#: Rows in Postgres of which the keys are compared: they are in memory.
MOST_ROWS = 1_000_000


@dataclass(slots=True)
class Present:
    """What a table has already."""

    rows: int
    replaced: int = 0
    """Rows with a key that the source has as well."""
    only_there: int = 0
    """Rows that the source never had."""
    keys: list[str] = field(default_factory=list)
    """Of the first of these."""
    too_many: bool = False
    """Whether there are more than :data:`MOST_ROWS`, and they were not compared."""


def look(conn: Conn, source: Source, plan: Plan) -> Present:
    """Compare the keys in Postgres with those of the source. Raises psycopg's errors, and apsw's."""
    place = Identifier(plan.mapping.schema, plan.mapping.name)
    if plan.mapping.key is None:
        # Nothing says which row of the source one is.
        found = conn.execute(SQL("SELECT count(*) FROM {}").format(place)).fetchone()
        rows = 0 if found is None else int(found[0])
        return Present(rows, only_there=rows)
    key = plan.mapping.key
    listed = SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in key)
    rest = set(conn.execute(SQL("SELECT {} FROM {} LIMIT {}").format(listed, place, MOST_ROWS + 1)).fetchall())
    rows = len(rest)
    if rows > MOST_ROWS:
        return Present(rows, too_many=True)
    if rest:
        for keys in _keys(conn, source, plan, key):
            rest.difference_update(keys)
            if not rest:
                break
    whole = [plan.forms[plan.sources[name]].kind in INTEGERS for name in key]
    first = [[int(text) if is_whole else text for text, is_whole in zip(each, whole, strict=True)] for each in rest]
    shown = [shown_key(tuple(values)) for values in nsmallest(SHOWN_KEYS, first)]
    return Present(rows, rows - len(rest), len(rest), shown)


def _keys(conn: Conn, source: Source, plan: Plan, key: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """The keys of the source's rows as Postgres writes them."""
    sources, forms = plan.sources, plan.forms
    encoders = [encoder(forms[sources[name]]) for name in key]
    numbered = [SQL("${}::text[]").format(SQL(str(at))) for at in range(1, len(key) + 1)]
    names = [Identifier(f"k{at}") for at in range(len(key))]
    shown = [
        SQL("{}::{}::text").format(name, SQL(plan.found.column(column).type.base))  # as Postgres writes it
        for name, column in zip(names, key, strict=True)
    ]
    query = SQL("SELECT {} FROM unnest({}) AS k ({})").format(
        SQL(", ").join(shown), SQL(", ").join(numbered), SQL(", ").join(names)
    )
    waiting: list[tuple[str, ...]] = []
    for part in source.parts(plan.table, [sources[name] for name in key]):
        for row in part.rows:
            if (texts := _texts(encoders, row)) is not None:
                waiting.append(texts)
            if len(waiting) == _KEYS_AT_ONCE:
                yield _as_written(conn, query, waiting)
                waiting = []
    if waiting:
        yield _as_written(conn, query, waiting)


def _texts(encoders: Sequence[Encoder], row: Sequence[Any]) -> tuple[str, ...] | None:
    """A key as it is written to Postgres; None: it cannot be."""
    texts = []
    for encode, value in zip(encoders, row, strict=True):
        try:
            text = encode(value)
        except Reject:
            return None
        if text is None:
            return None
        texts.append(text)
    return tuple(texts)


def _as_written(conn: Conn, query: Composed, keys: Sequence[tuple[str, ...]]) -> list[tuple[Any, ...]]:
    columns = [list(column) for column in zip(*keys, strict=True)]
    return conn.execute(query, columns).fetchall()
