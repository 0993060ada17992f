"""Unique indexes, and so also UNIQUE and PRIMARY KEY: which rows break them in Postgres, and what makes them there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg.sql import SQL, Composable, Identifier

from mirror.core.sql_words import written
from mirror.cutover.breaches import longest, repeated
from mirror.cutover.conditions import Condition, translated
from mirror.cutover.held import Held, Place, Rail, folded
from mirror.postgres.profiles.generic import MAX_KEY_COLUMNS
from mirror.replica.declared import Index

#: Bytes of the keys of one row in an index, at least; Postgres takes 2,704 less what lies between the columns.
MOST_BYTES = 2600

#: The columns of a unique index, of the table with that name in Postgres.
PlainKey = tuple[str, frozenset[str]]


class UniqueKeys:
    """Judges the unique indexes of tables."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.rail = Rail()
        self.plain: set[PlainKey] = set()
        """Those of all rows and of columns as they are, which a foreign key can refer to: in Postgres, or made by a
        statement of the rail."""

    def judge(self, tables: Iterable[Held]) -> Rail:
        """What is there and what is missing. Raises psycopg's errors."""
        for held in tables:
            for index in held.declared.indexes:
                if index.unique:
                    self.rail.total += 1
                    self._judge(held, index)
        return self.rail

    def note_present(self, tables: Iterable[Held]) -> None:
        """Add what Postgres has to :attr:`plain`."""
        for held in tables:
            for each in held.indexes:
                keys = each["keys"]
                if each["unique"] and each["immediate"] and each["condition"] is None and _are_columns(keys):
                    self.plain.add((held.target, frozenset(key.removeprefix("c:") for key in keys)))

    def _judge(self, held: Held, index: Index) -> None:
        rail, label = self.rail, f"{held.name}({', '.join(part.column or 'an expression' for part in index.parts)})"
        condition = None
        try:
            keys, parts = index_keys(self._place, held, index)
            if index.partial:
                label += " where a condition holds"
                condition = _condition(held, index)
        except KeyError as error:
            rail.cannot(label, error.args[0])
            return
        if any(_is(each, keys, condition) for each in held.indexes):
            return
        if reason := self._obstacle(held, index, label, parts, condition):
            rail.cannot(label, reason)
            return
        where: Composable = SQL("") if condition is None else SQL(" WHERE {}").format(condition.sql)
        made = SQL("CREATE UNIQUE INDEX ON {} ({}){}").format(
            self._place.table(held), SQL(", ").join([*map(Identifier, self._place.led), *parts]), where
        )
        rail.make(label, self._place.sql(made))
        if condition is None and _are_columns(keys):
            self.plain.add((held.target, frozenset(key.removeprefix("c:") for key in keys)))

    def _obstacle(
        self, held: Held, index: Index, label: str, parts: list[Composable], condition: Condition | None
    ) -> str:
        """Why no statement makes it; empty if one does."""
        columns = [held.column(str(part.column)) for part in index.parts]
        if len(self._place.led) + len(columns) > MAX_KEY_COLUMNS:
            return f"Postgres takes {MAX_KEY_COLUMNS} columns in an index"
        if lossy := [name for name in columns if held.is_lossy(name)]:
            return f"different values of SQLite may be the same in Postgres, as {held.type_of(lossy[0])}"
        owned = self._place.owned
        if condition is not None:
            owned = SQL("{} AND {}").format(owned, condition.sql)
        connection, table = self._place.connection, self._place.table(held)
        taken = repeated(connection, table, parts, owned)
        if taken:
            self.rail.broken.append(f"{label}: {taken.count:,} taken more than once: {taken.named}")
            return "these rows come first"
        size = longest(connection, table, list(map(Identifier, columns)), owned)
        if size > MOST_BYTES:
            return f"a row has {size:,} bytes of it, and an index of Postgres takes about {MOST_BYTES:,}"
        return ""


def index_keys(place: Place, held: Held, index: Index) -> tuple[list[str], list[Composable]]:
    """What an index has in Postgres: its keys as ``enforced.sql`` lists them, and those of the source as SQL.

    Raises ``KeyError``, with the reason, where there is nothing like it in Postgres.
    """
    listed, composed = [f"c:{name}" for name in place.led], list[Composable]()
    for part in index.parts:
        if part.column is None:
            raise KeyError("it is of an expression, which is not carried over")
        try:
            name = held.column(part.column)
        except KeyError:
            raise KeyError(f"{part.column} is not in Postgres") from None
        kind = held.type_of(name)
        if part.collation == "BINARY" or kind not in ("text", "jsonb"):
            listed.append(f"c:{name}")
            composed.append(Identifier(name))
        elif kind == "text" and part.collation in held.columns[name]:
            listed.append(f"e:{held.columns[name][part.collation]}")
            composed.append(folded(Identifier(name), part.collation))
        else:
            raise KeyError(f"{part.column} is compared by {part.collation}, which Postgres has not for {kind}")
    return listed, composed


def _condition(held: Held, index: Index) -> Condition:
    condition = translated(held, index.condition)
    if condition is None:
        raise KeyError(f"its condition is not carried over: {written(index.condition)}")
    return condition


def _is(found: Any, keys: list[str], condition: Condition | None) -> bool:
    """Whether an index of Postgres is the one that is wanted."""
    stored = None if condition is None else condition.stored
    return bool(found["unique"] and sorted(found["keys"]) == sorted(keys) and found["condition"] == stored)


def _are_columns(keys: Iterable[str]) -> bool:
    return all(key.startswith("c:") for key in keys)
