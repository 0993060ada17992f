"""Rows of one table in Postgres by the keys in the outbox, as SQLite's values, in the caller's snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from mirror.core.values import Row, Value
from mirror.parity.selected import identifier
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import ROWID, Target, TargetColumn
from mirror.postgres.typed import encoder
from mirror.reverse.capture import key_sql, own_key
from mirror.reverse.values import Convert, converting, expression

#: Rows in one round trip.
FETCH_ROWS = 2000

#: The events that a snapshot sees and the one before ($1) did not.
SINCE = SQL(
    "o.source_id = {source_id} AND (o.xid >= pg_snapshot_xmax({since}::pg_snapshot)"
    " OR o.xid IN (SELECT pg_snapshot_xip({since}::pg_snapshot)))"
)


class Found(NamedTuple):
    """One key, and its row in the snapshot."""

    key: Row
    row: Row | None
    """The values of the table's columns; None: there is no such row."""
    text: list[str]
    """The key as it is in the outbox."""


@dataclass(frozen=True, slots=True)
class Since:
    """Where a batch begins."""

    source_id: int
    snapshot: str

    def condition(self) -> Composed:
        """Of the events ``o`` of the batch."""
        return SINCE.format(source_id=Literal(self.source_id), since=Literal(self.snapshot))


class TableRows:
    """Reads one table's rows by key. The connection is one of :mod:`mirror.postgres.sessions`, in a transaction."""

    def __init__(self, conn: psycopg.Connection[Any], target: Target) -> None:
        self.target = target
        self._conn = conn
        named = {column.name: column for column in target.columns}
        self._key = [named.get(name, TargetColumn(ROWID, ROWID, "bigint")) for name in own_key(target)]
        self._converters: list[Convert] = [converting(column) for column in (*self._key, *target.columns)]

    @property
    def key_sources(self) -> tuple[str, ...]:
        """Names of the key's columns in the source; ``_rowid`` for the rowid."""
        return tuple(column.source for column in self._key)

    def written(self, since: Since, *, gone: bool) -> Iterator[Found]:
        """The rows of the keys in a batch: those that are gone, or those that are there."""
        events = SQL(
            "SELECT DISTINCT o.key FROM mirror.outbox o WHERE {} AND o.source_table = {} AND o.key IS NOT NULL"
        ).format(since.condition(), Literal(self.target.source))
        return self._found(events, SQL(" WHERE x.mirror_there IS NULL") if gone else SQL(" WHERE x.mirror_there"))

    def by_keys(self, keys: Sequence[Sequence[str]]) -> Iterator[Found]:
        """The rows of keys in the form of the outbox."""
        events = SQL("SELECT DISTINCT key FROM (VALUES {}) AS k(key)").format(
            SQL(", ").join(SQL("({}::text[])").format(Literal(list(key))) for key in keys)
        )
        return self._found(events, SQL(""))

    def all(self) -> Iterator[Found]:
        """All rows of the table."""
        keys = SQL(", ").join(
            SQL("{}::text").format(Identifier(name))
            if _type(self.target, name) != "bytea"
            else SQL("encode({}, 'hex')").format(Identifier(name))
            for name in own_key(self.target)
        )
        events = SQL("SELECT ARRAY[{}] AS key FROM {}{}").format(
            keys, Identifier(self.target.schema, self.target.name), self._owned(SQL(" WHERE "), None)
        )
        return self._found(events, SQL(" WHERE x.mirror_there"))

    def key_text(self, key: Row) -> list[str]:
        """A key of SQLite's values in the form of the outbox; raises ``Unfit`` for one that Postgres cannot hold."""
        texts = []
        for column, value in zip(self._key, key, strict=True):
            text = encoder(column.pg_type, column.codec)(value)
            assert text is not None
            texts.append(text.removeprefix("\\x") if column.pg_type == "bytea" else text)
        return texts

    def _owned(self, word: Composable, alias: str | None) -> Composable:
        if self.target.agent is None:
            return SQL("")
        name = Identifier(alias, AGENT) if alias else Identifier(AGENT)
        return word + SQL("{} = {}").format(name, Literal(self.target.agent))

    def _doubled(self, part: Composable) -> Composable:
        """Part of a query, for psycopg, which looks for placeholders everywhere."""
        return SQL(part.as_string(self._conn).replace("%", "%%"))

    def _found(self, events: Composable, which: Composable) -> Iterator[Found]:
        target, doubled = self.target, self._doubled
        own = own_key(target)
        keys = [SQL("{} AS {}").format(expression(c), Identifier(f"mirror_k{at}")) for at, c in enumerate(self._key)]
        # Columns that a name in the query could mean are only the table's: inside, nothing else has a FROM.
        typed = doubled(SQL("SELECT d.key AS mirror_key, {} FROM ({}) d").format(key_sql(target, SQL("d.key")), events))
        e = SQL("SELECT mirror_key, {}, {} FROM ({}) t").format(
            SQL(", ").join(map(identifier, own)), SQL(", ").join(keys), typed
        )
        values = [
            SQL("{} AS {}").format(expression(c), Identifier(f"mirror_c{at}")) for at, c in enumerate(target.columns)
        ]
        same = SQL(" AND ").join(
            SQL("{} = {}").format(identifier("mirror_row", name), identifier("e", name)) for name in own
        )
        query = SQL(
            "SELECT e.mirror_key, x.mirror_there, {} FROM ({}) e LEFT JOIN LATERAL (SELECT true AS mirror_there{}"
            " FROM {} AS mirror_row WHERE {}{}) x ON true{}"
        ).format(
            SQL(", ").join(
                [
                    *(Identifier("e", f"mirror_k{at}") for at in range(len(self._key))),
                    *(Identifier("x", f"mirror_c{at}") for at in range(len(target.columns))),
                ]
            ),
            e,
            SQL("").join(SQL(", ") + value for value in values),
            identifier(target.schema, target.name),
            same,
            doubled(self._owned(SQL(" AND "), "mirror_row")),
            which,
        )
        width = len(self._key)
        with psycopg.ServerCursor(self._conn, "mirror_reverse", row_factory=tuple_row) as cursor:
            cursor.execute(query, (), binary=True)
            while rows := cursor.fetchmany(FETCH_ROWS):
                for text, there, *parts in rows:
                    converted: list[Value] = [c(v) for c, v in zip(self._converters, parts, strict=True)]
                    row = tuple(converted[width:]) if there else None
                    yield Found(tuple(converted[:width]), row, text)


def _type(target: Target, name: str) -> str:
    return next((column.pg_type for column in target.columns if column.name == name), "bigint")
