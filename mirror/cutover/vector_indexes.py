"""Whether vector indexes are warm: searches find what they need of them in the server's memory.

It is measured by searching: the server counts the pages that a search finds in its buffers and those that it reads
(``EXPLAIN (ANALYZE, BUFFERS)``). That needs no extension and no right, is of what searches use and not of the whole
index, and brings what was missing into memory: so warming is searching until nothing much is missing. It has limits. A
page in the operating system's cache counts as read. What searches for vectors of the table do not come by is not
looked at. And an index that is larger than ``shared_buffers`` may never be warm.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import RawCursor
from psycopg.sql import SQL, Composed, Identifier, Literal

from mirror.core.checks import Code
from mirror.core.errors import SinkError
from mirror.core.words import counted
from mirror.cutover.readiness import Readiness
from mirror.postgres.ddl import table_sql
from mirror.postgres.migrate import statement
from mirror.postgres.target import Target

NAME = "vector indexes"

#: Searches by which an index is judged, each for another vector of the table.
_SEARCHES = 8
#: Of the pages that they visit, as often as that may be, the part that may be missing; and one for each search.
_MISSING = 0.1
#: Seconds for which an index is warmed at most; programs go on meanwhile. What takes longer is larger than the memory.
_SECONDS = 60.0
#: Pages of the table from which the vectors are taken.
_SAMPLE_PAGES = 16


class VectorIndex(NamedTuple):
    """An index, and what a search that uses it has to say."""

    schema: str
    name: str
    pages: int
    table_schema: str
    table: str
    table_pages: int
    vector: str
    type: str
    condition: str
    operator: str


@dataclass(frozen=True, slots=True)
class Warmth:
    """What searches found of an index in memory."""

    index: VectorIndex
    searches: int
    """0 if the index has no vectors."""
    visits: int
    """Of pages; many are visited more than once."""
    missing: int
    """Pages that were not in the server's buffers."""
    unused: bool = False
    """Whether the server did not use the index, so that nothing is known of it."""

    @property
    def warm(self) -> bool:
        """Whether searches find in memory what they need."""
        visited = min(self.visits, self.index.pages)
        return not self.unused and self.missing <= max(self.searches, _MISSING * visited)

    def __str__(self) -> str:
        if self.unused:
            return f"{self.index.name}: not known, because the server does not use it for a search"
        if not self.searches:
            return f"{self.index.name}: no vectors"
        found = f"{counted(self.searches, 'search', 'searches')} visited {counted(self.visits, 'page')}"
        found = f"{found}, of which {self.missing:,} not in memory"
        return f"{self.index.name}: {found} (it has {self.index.pages:,})"


def judge(found: Readiness, connection: psycopg.Connection[Any], targets: Iterable[Target]) -> None:
    """Add a guard rail, if there is such an index. Raises psycopg's errors."""
    measured = [measure(connection, index) for index in _indexes(connection, targets)]
    if measured:
        passed = all(each.warm for each in measured)
        steps = [_step(found)]
        found.add_many(Code.VECTOR_INDEXES, NAME, passed, figure=[("", [*map(str, measured)], "; ")], steps=steps)


def _step(found: Readiness) -> str:
    return (
        f"search, which warms them, until they are: {found.step('cutover plan', found.acknowledging())}; a move does"
        f" so, too. What is larger than shared_buffers never is: enlarge that, or {found.plan_with(NAME)}"
    )


def warm_all(
    connection: psycopg.Connection[Any], targets: Iterable[Target], acknowledged: Collection[str], found: Readiness
) -> str:
    """Warm the indexes of tables by searching; returns what to say of it.

    Raises ``SinkError`` if one does not become warm and that is not acknowledged, psycopg's errors.
    """
    measured = [_warm(connection, index) for index in _indexes(connection, targets)]
    said = "; ".join(map(str, measured))
    if NAME not in acknowledged and not all(each.warm for each in measured):
        raise SinkError("warm vector indexes", found.source, said, next_step=_step(found))
    return said


def _warm(connection: psycopg.Connection[Any], index: VectorIndex) -> Warmth:
    deadline = time.monotonic() + _SECONDS
    while True:
        found = measure(connection, index)
        if found.warm or found.unused or time.monotonic() > deadline:
            return found


def _indexes(connection: psycopg.Connection[Any], targets: Iterable[Target]) -> list[VectorIndex]:
    names = [table_sql(target).as_string(connection) for target in targets]
    rows = RawCursor(connection).execute(statement("vector_searches"), (names,)).fetchall()
    return [VectorIndex(*row) for row in rows]


def measure(connection: psycopg.Connection[Any], index: VectorIndex) -> Warmth:
    """Search, and see what was in memory. Raises psycopg's errors."""
    visits = missing = 0
    vectors = _sample(connection, index)
    with connection.transaction():
        cursor = RawCursor(connection)
        # There is no other way to the rows that would not cost more.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        query = _text(
            index,
            "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) SELECT FROM {table} WHERE {condition}"
            " ORDER BY {vector} {operator} $1::text::{type} LIMIT 10",
        )
        for vector in vectors:
            row = cursor.execute(query, (vector,)).fetchone()
            assert row is not None
            nodes = [node for node in _nodes(row[0][0]["Plan"]) if node.get("Index Name") == index.name]
            if not nodes:
                return Warmth(index, len(vectors), 0, 0, unused=True)
            missing += sum(node["Shared Read Blocks"] for node in nodes)
            visits += sum(node["Shared Read Blocks"] + node["Shared Hit Blocks"] for node in nodes)
    return Warmth(index, len(vectors), visits, missing)


def _sample(connection: psycopg.Connection[Any], index: VectorIndex) -> Sequence[str]:
    """Some vectors of the table, others each time."""
    percent = min(100.0, 100 * _SAMPLE_PAGES / max(index.table_pages, 1))
    text = "SELECT v::text FROM (SELECT {vector} AS v FROM {table}{sampled} WHERE {condition}) s WHERE v IS NOT NULL"
    cursor = RawCursor(connection)
    for sampled in (SQL(" TABLESAMPLE SYSTEM ({})").format(Literal(percent)), SQL("")):
        query = _text(index, text, sampled=sampled) + SQL(" ORDER BY random() LIMIT {}").format(Literal(_SEARCHES))
        if found := [row[0] for row in cursor.execute(query).fetchall()]:
            return found
    return []


def _text(index: VectorIndex, text: str, **more: Composed | SQL) -> Composed:
    # Expressions as the server writes them: they are in the catalog already.
    parts = {name: SQL(getattr(index, name)) for name in ("vector", "type", "condition", "operator")}
    table = Identifier(index.table_schema, index.table)
    return SQL(text).format(table=table, **parts, **more)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
