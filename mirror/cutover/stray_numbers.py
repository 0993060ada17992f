"""The numbers of rows that programs have inserted into the file after the switch, where Postgres has given them, too.

SQLite gives the number after the highest one, as the sequence in Postgres does: so both give the same. Such a row can
be adopted under a new number of the sequence. What refers to it by a declared foreign key is to follow, if it is a
stray, too, and was seen in the file before the mirror wrote Postgres' row there: until then that number meant the
program's row. Of one that was seen later it cannot be told which of the two rows is meant.

What has got a new number is kept (``mirror.stray_numbers``) in the transaction that adopts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from psycopg.sql import SQL, Identifier, Literal

from mirror.core.place import where
from mirror.core.rules import folded
from mirror.core.values import Row, Value
from mirror.postgres.codecs import json_array
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target
from mirror.replica.declared import Declarations, read_declarations
from mirror.reverse.strays import key_of, number_column, row_of


class Kept(NamedTuple):
    """A row of ``mirror.strays``; rows and key as JSON."""

    id: int
    table: str
    key: str
    before: str | None
    after: str | None
    state: str
    processes: list[str]
    seen_at: str
    before_known: bool
    seen: int
    overwritten: int | None

    @property
    def is_new(self) -> bool:
        """Whether it is known that a program has inserted it."""
        return self.before_known and self.before is None and self.after is not None


class NotAdoptedError(Exception):
    """Why a row is not written to Postgres."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A number that was given, and until when the file had the program's row (``mirror.stray_order``)."""

    new: int
    until: int


class _Column(NamedTuple):
    """A column that refers to the number of another table's rows."""

    at: int
    name: str
    table: str


@dataclass
class StrayNumbers:
    """Of one source. Raises psycopg's errors, and ``SourceError`` if what the file declares cannot be read."""

    conn: Session
    source_id: int
    place: str
    targets: Mapping[str, Target]
    new_ids: bool
    """Whether rows may be adopted under new numbers."""
    _inserted: dict[tuple[str, int], list[Kept]] = field(init=False, default_factory=dict)
    """By table and number: strays that may yet be adopted."""
    _moved: dict[tuple[str, int], list[Moved]] = field(init=False, default_factory=dict)
    _taken: set[tuple[str, int]] = field(init=False, default_factory=set)
    _declared: Declarations | None = field(init=False, default=None)
    _sequences: dict[str, Identifier] | None = field(init=False, default=None)
    _columns: dict[str, list[_Column]] = field(init=False, default_factory=dict)

    def learn(self, strays: Iterable[Kept]) -> None:
        """Take all strays of the source."""
        for one in strays:
            if (at := self._place_of(one)) is not None:
                self._taken.add(at)
                if one.is_new and one.state != "discarded":
                    self._inserted.setdefault(at, []).append(one)
        for table, number, new, until in self.conn.execute(
            "SELECT source_table, number, new_number, until FROM mirror.stray_numbers WHERE source_id = $1::bigint",
            (str(self.source_id),),
        ):
            self._moved.setdefault((table, number), []).append(Moved(new, until))

    def _place_of(self, one: Kept) -> tuple[str, int] | None:
        target = self.targets.get(one.table)
        if target is None or number_column(target) is None:
            return None
        [number] = key_of(one.key)
        return (one.table, number) if isinstance(number, int) else None

    # -- what refers to it ---------------------------------------------------------------------------

    def followed(self, one: Kept, row: Row) -> Row:
        """A stray's row, where it refers to rows by numbers as they are in Postgres.

        Raises :class:`NotAdoptedError` if it refers to one that Postgres does not have, or it cannot be told to which.
        """
        if not any(self._inserted.values()) and not self._moved:
            return row
        values = list(row)
        target = self.targets[one.table]
        before = None if one.before is None else row_of(one.before, [column.source for column in target.columns])
        for column in self._references(one.table):
            value = values[column.at]
            number = _number(value)
            if number is None or (before is not None and before[column.at] == value):
                continue  # it was so in Postgres
            new = self._meant(one, column, number)
            if new is not None:
                values[column.at] = _like(value, new)
        return tuple(values)

    def itself(self, one: Kept, row: Row, new: int) -> Row:
        """A row that gets a new number, of which the columns that refer to itself have that, too."""
        values = list(row)
        for column in self._references(one.table):
            if column.table == one.table and _number(values[column.at]) == key_of(one.key)[0]:
                values[column.at] = _like(values[column.at], new)
        return tuple(values)

    def _meant(self, one: Kept, column: _Column, number: int) -> int | None:
        at = column.table, number
        waiting = self._inserted.get(at, [])
        if one in waiting:
            return None  # itself
        moved = self._moved.get(at, [])
        if not waiting and not moved:
            return None
        untils = {*(each.overwritten for each in waiting), *(each.until for each in moved)}
        [until, *others] = untils
        if len(waiting) + len(moved) > 1 or others:
            certain = False
        else:
            certain = until is None or one.seen < until or one.overwritten == until
        named = f"{column.name} refers to {column.table} {json_array((number,))}"
        if certain and moved:
            return moved[0].new
        if certain:
            raise NotAdoptedError(f"{named}, as a program wrote that row, and that one is not adopted")
        if self.new_ids:
            raise NotAdoptedError(
                f"{named}; a program wrote such a row, and Postgres another, and which is meant is not known:"
                " --adopt alone takes Postgres' row"
            )
        return None

    def _references(self, table: str) -> list[_Column]:
        if (found := self._columns.get(table)) is not None:
            return found
        found = self._columns[table] = []
        columns = [folded(column.source) for column in self.targets[table].columns]
        declared = self._declarations()
        mine = declared.table(table)
        sources = {folded(name): name for name in self.targets}
        for reference in () if mine is None else mine.references:
            other, name = declared.table(reference.referred), sources.get(folded(reference.referred))
            if other is None or other.given_id is None or name is None:
                continue
            referred_columns = reference.referred_columns or other.primary_key
            for column, referred in zip(reference.columns, referred_columns, strict=False):  # SQLite lets them differ
                if folded(referred) == folded(other.given_id) and folded(column) in columns:
                    found.append(_Column(columns.index(folded(column)), column, name))
        return found

    def _declarations(self) -> Declarations:
        if self._declared is None:
            path = where(Path(self.place))
            self._declared = read_declarations(path) if path.exists() else Declarations()
        return self._declared

    # -- new numbers ---------------------------------------------------------------------------------

    def why_not(self, one: Kept) -> str:
        """Why a row cannot be adopted under a new number; empty if it can."""
        target = self.targets[one.table]
        if (name := number_column(target)) is None:
            return "its key is not a number that SQLite gives"
        if not one.before_known:
            return "it is not known whether a program has inserted it, or changed a row"
        if not one.is_new:
            return "it is not a new row"
        if target.key is not None:
            declared = self._declarations().table(one.table)
            sources = [column.source for column in target.columns if column.name == name]
            if declared is None or declared.given_id is None or [declared.given_id] != sources:
                return "its key is not a number that SQLite gives"
        if self._sequence(one.table, name) is None:
            return "no sequence in Postgres gives its numbers"
        return ""

    def _sequence(self, table: str, name: str) -> Identifier | None:
        if self._sequences is None:
            by_name = {(target.schema, target.name): target for target in self.targets.values()}
            schemas = sorted({target.schema for target in self.targets.values()})
            self._sequences = {}
            for schema, sequence, *_, columns in self.conn.execute(statement("sequences"), (schemas,)).fetchall():
                for schema_, table_, column, _type in columns:
                    held = by_name.get((schema_, table_))
                    if held is not None and column == number_column(held):
                        self._sequences[held.source] = Identifier(schema, sequence)
        return self._sequences.get(table)

    def next(self, table: str) -> int:
        """A number that no stray has, from the sequence."""
        name = number_column(self.targets[table])
        assert name is not None
        sequence = self._sequence(table, name)
        assert sequence is not None
        query = SQL("SELECT nextval({}::regclass)").format(Literal(sequence.as_string(self.conn)))
        while True:
            [[number]] = self.conn.execute(query).fetchall()
            if (table, number) not in self._taken:
                return int(number)

    def move(self, one: Kept, new: int) -> Moved:
        """Record, in the caller's transaction, that a row is adopted under a new number."""
        [number] = key_of(one.key)
        [[until]] = self.conn.execute(
            "INSERT INTO mirror.stray_numbers (source_id, source_table, number, new_number, until) VALUES"
            " ($1::bigint, $2::text, $3::bigint, $4::bigint, coalesce($5::bigint, nextval('mirror.stray_order')))"
            " RETURNING until",
            (
                str(self.source_id),
                one.table,
                str(number),
                str(new),
                None if one.overwritten is None else str(one.overwritten),
            ),
        ).fetchall()
        return Moved(new, until)

    def settled(self, one: Kept, moved: Moved | None) -> None:
        """Postgres has it, as the program wrote it or under a new number."""
        if (at := self._place_of(one)) is None or one not in self._inserted.get(at, ()):
            return
        self._inserted[at].remove(one)
        if moved is not None:
            self._moved.setdefault(at, []).append(moved)


def _number(value: Value) -> int | None:
    """The number to which a value refers, as SQLite compares it with whole numbers."""
    if isinstance(value, str):
        text = value.strip(" \t\n\v\f\r")
        try:
            value = int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _like(value: Value, number: int) -> Value:
    """A number as the value that referred to another one."""
    if isinstance(value, str):
        return str(number)
    return float(number) if isinstance(value, float) else number
