"""What programs have written to the file after the switch: the rows that the file has otherwise than Postgres.

The file has what one snapshot of Postgres shows, because nobody else writes to it. So where it differs from that very
snapshot, a program has written to it. The rows that it does not take (``mirror.reverse_rejects``) are not meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

from mirror.core.quote import quoted
from mirror.core.sql_values import decoded, with_classes
from mirror.core.values import Row, Value
from mirror.parity.values import Cell, same
from mirror.postgres.codecs import Unfit, decode, json_array, json_object
from mirror.postgres.target import ROWID, Target
from mirror.reverse.rows import Found, TableRows
from mirror.reverse.stored import is_stored_as
from mirror.reverse.writer import SqliteWriter, key_condition

#: Rows in one query, at most.
ROWS = 500
#: Bytes of a row that are kept: all.
_WHOLE = 1 << 62

T = TypeVar("T")


class Stray(NamedTuple):
    """A row that the file has otherwise than Postgres. JSON, in the encoding of ``mirror.rejects``."""

    table: str
    key: str
    before: str | None
    """The row in Postgres; None: there is none, or it is not known."""
    after: str | None
    """The row in the file; None: there is none."""
    before_known: bool = True
    """Whether Postgres had that row, or none, when the program wrote."""


class Differing(NamedTuple):
    """The same, as values."""

    key: Row
    text: list[str] | None
    """The key as in the outbox; None: Postgres cannot have such a key."""
    before: Row | None
    after: Row | None


class FileRows:
    """Reads one table of the file through the connection that writes."""

    def __init__(self, writer: SqliteWriter, target: Target) -> None:
        self.target = target
        self._writer = writer
        self._columns = [column.source for column in target.columns]
        self._computed = set(self._columns) - set(writer.written_columns(target.source))
        self._keys = writer.key_names(target.source)
        self._encoding = writer.encoding
        self._table = quoted(target.source)

    def row(self, key: Row) -> Row | None:
        """The row with a key; raises ``SourceError``."""
        condition, bound = key_condition(self._keys, key)
        names = with_classes([quoted(column) for column in self._columns])
        for raw in self._writer.read(f"SELECT {names} FROM {self._table} WHERE {condition}", bound):
            return decoded(raw, self._encoding)
        return None

    def all(self) -> Iterator[tuple[Row, Row]]:
        """Key and row of each row."""
        width = len(self._keys)
        names = with_classes([quoted(name) for name in (*self._keys, *self._columns)])
        for raw in self._writer.read(f"SELECT {names} FROM {self._table}"):
            values = decoded(raw, self._encoding)
            yield values[:width], values[width:]

    def count(self) -> int:
        """How many rows there are."""
        [[count]] = self._writer.read(f"SELECT count(*) FROM {self._table}")
        return int(count)

    def is_same(self, key: Row, mine: Row | None, theirs: Row | None) -> bool:
        """Whether the file's row is what it becomes when Postgres' row is written to it; it computes some columns."""
        if mine is None or theirs is None:
            return mine is theirs
        different = [
            column.source
            for column, one, other in zip(self.target.columns, mine, theirs, strict=True)
            if column.source not in self._computed
            and not is_stored_as(other, one, partial(self._equals, key, column.source, other), column.codec)
        ]
        return not different

    def _equals(self, key: Row, column: str, theirs: Value) -> bool:
        condition, bound = key_condition(self._keys, key)
        text = f"SELECT {quoted(column)} IS ? COLLATE BINARY FROM {self._table} WHERE {condition}"
        return [tuple(found) for found in self._writer.read(text, [theirs, *bound])] == [(1,)]

    def stray(self, one: Differing, *, before_known: bool = True) -> Stray:
        """A difference, to be kept."""
        before, after = (
            None if row is None else json_object(self._columns, row, _WHOLE) for row in (one.before, one.after)
        )
        return Stray(self.target.source, json_array(one.key), before, after, before_known)


def differing(file: FileRows, rows: TableRows, meanwhile: Callable[[], None] = lambda: None) -> Iterator[Differing]:
    """The rows that the file has otherwise than the snapshot of ``rows``: in no order, each once.

    ``meanwhile``: called every few hundred rows.
    """
    there = 0
    for at, one in enumerate(rows.all()):
        if at % ROWS == 0:
            meanwhile()
        found = file.row(one.key)
        there += found is not None
        if not file.is_same(one.key, found, one.row):
            yield Differing(one.key, one.text, one.row, found)
    if file.count() == there:
        return
    for part in parts(file.all()):
        meanwhile()
        texts = [key_text(rows, key) for key, _ in part]
        asked = [text for text in texts if text is not None]
        known = {tuple(one.text) for one in rows.by_keys(asked) if one.row is not None} if asked else set()
        for (key, row), text in zip(part, texts, strict=True):
            if text is None or tuple(text) not in known:
                yield Differing(key, text, None, row)


def key_text(rows: TableRows, key: Row) -> list[str] | None:
    """A key of SQLite's values as in the outbox; None: Postgres cannot have such a key."""
    try:
        return None if any(value is None for value in key) else rows.key_text(key)
    except Unfit:
        return None


def number_column(target: Target) -> str | None:
    """The column of Postgres that is the whole key, and has whole numbers, as SQLite gives them; None: none is."""
    if target.key is None:
        return ROWID
    if len(target.key) != 1:
        return None
    [column] = [column for column in target.columns if column.name == target.key[0]]
    return column.name if (column.pg_type, column.codec) == ("bigint", "") else None


def key_of(text: str) -> Row:
    """A key of SQLite's values, of its JSON."""
    return tuple(decode("jsonb", value) for value in json.loads(text))


def row_of(text: str, columns: Sequence[str]) -> Row:
    """A row of SQLite's values, of its JSON."""
    values: dict[str, Any] = json.loads(text)
    return tuple(decode("jsonb", values[name]) for name in columns)


def are_equal(left: Row | None, right: Row | None) -> bool:
    """Whether two rows are equal to the bit, or there is neither."""
    if left is None or right is None:
        return left is right
    return all(same(cast("Cell", mine), cast("Cell", theirs)) for mine, theirs in zip(left, right, strict=True))


def parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Some hundred items at a time."""
    left = iter(items)
    while part := list(islice(left, ROWS)):
        yield part


class Overwritten(NamedTuple):
    """What a batch is about to write over."""

    strays: list[Stray]
    equal: list[str]
    """Keys of rows that a program has written as Postgres has them now."""


def overwritten(
    file: FileRows,
    found: Sequence[Found],
    before: dict[tuple[str, ...], Row | None] | None,
    new: Collection[tuple[str, ...]] = (),
) -> Overwritten:
    """What programs have written to rows that Postgres has written, too. ``found``: the rows as Postgres has them now.

    ``before``: as the file should have them yet, by key; None: not known, so any other row than ``found`` counts.
    ``new``: keys of which it is known that Postgres had no row.
    """
    result = Overwritten([], [])
    for one in found:
        mine = file.row(one.key)
        earlier = None if before is None else before.get(tuple(one.text))
        if before is not None and file.is_same(one.key, mine, earlier):
            continue
        if before is None and mine is None:
            continue  # a new row of Postgres; or one that a program deleted, of which there is nothing to keep
        if file.is_same(one.key, mine, one.row):
            result.equal.append(json_array(one.key))
        else:
            known = before is not None or tuple(one.text) in new
            result.strays.append(file.stray(Differing(one.key, one.text, earlier, mine), before_known=known))
    return result
