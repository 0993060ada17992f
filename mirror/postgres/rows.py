"""Row changes to Postgres' parameters: which keys to delete, what to upsert, what to reject."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mirror.core.errors import RefusedError
from mirror.core.literals import shortened
from mirror.core.rows import RowChange
from mirror.core.tables import ANY_TEXT, Table
from mirror.core.values import Row, Value
from mirror.postgres.codecs import (
    MAX_ROW_BYTES,
    OVERSIZED,
    Encoder,
    Misfit,
    Reject,
    Unfit,
    UnfitText,
    check_key,
    json_array,
    json_object,
    key_encoder,
    kind_of,
    size_of,
)
from mirror.postgres.dml import row_statements
from mirror.postgres.history import DOCUMENT
from mirror.postgres.large import LARGE_BYTES, Sent
from mirror.postgres.originals import ITSELF, shown_bytes
from mirror.postgres.signals import ColumnMisfit, NullInKey, Seen
from mirror.postgres.target import Target, TargetColumn
from mirror.postgres.typed import LOSSY, encoder, original_member

Encoded = Sequence["str | None"]
#: Of a value that did not fit its column, so many characters or bytes are shown; and its key, if it is no longer.
_SHOWN, _SHOWN_KEY = 40, 200


class Rejected(NamedTuple):
    """A row that Postgres cannot hold: columns of ``mirror.rejects``."""

    key: str
    reason: str
    row_data: str


class RowPlan(NamedTuple):
    """What has to be done for one change."""

    deletes: tuple[tuple[str | None, ...], ...]
    """Encoded keys of the rows to delete."""
    upsert: list[Sent] | None
    """Encoded stored columns of the row to insert or update."""
    rejected: Rejected | None
    gone: bool
    """Whether the source does not have the row any more."""
    large: bool = False
    """Whether the row to insert or update is to be sent by itself: see :mod:`mirror.postgres.large`."""


class RowPlanner:
    """Plans the changes of one table for one target."""

    def __init__(self, table: Table, target: Target) -> None:
        """``table``: the source's definition. ``target``: where its rows are stored.

        Raises :class:`SinkError` if the columns do not agree.
        """
        target.require_columns(table)
        self.table = table
        self.target = target
        self.statements = row_statements(target)
        self._source = table.name
        self._names = tuple(column.name for column in table.columns)
        stored = [name for name, _ in target.stored]
        self.width = len(stored)
        self.key_places = [stored.index(name) for name in target.key_columns]
        """Indexes of the key columns in the stored ones."""
        self._by_rowid = target.key is None
        self._adopted = target.adopted
        self._undecided = ", ".join(target.undecided)
        self._unique_at = [at for at, column in enumerate(target.columns) if column.unique]
        self._agent: tuple[str | None, ...] = () if target.agent is None else (target.agent,)
        self._encoders: list[Callable[[Value], Any]] = [
            key_encoder(column.pg_type)
            if column.name in (target.key or ()) and not column.codec
            else _in_full(encoder(column.pg_type, column.codec), column, of_key=column.name in (target.key or ()))
            for column in target.columns
        ]
        self._lossy = [
            (at, column, json.dumps(column.source)) for at, column in enumerate(target.columns) if column.codec in LOSSY
        ]
        held = [column.name for column in target.columns]
        self._vectors = [(at, column.name) for at, column in enumerate(target.columns) if column.codec == "vector"]
        self.dimensions: set[tuple[str, int]] = set()
        """Column of vectors, and a dimension that it has."""
        self.not_json: set[str] = set()
        """Source columns of documents in which values were seen that are none."""
        self._any_text = [target.may_be_any_text(column) for column in target.columns]
        self._keys_alone = {c.source for c in target.columns if target.agent is None and c.name in (target.key or ())}
        self._key_at = [held.index(name) for name in target.key or ()]
        self._key_types = ["text" for _ in self._agent] + [target.columns[index].pg_type for index in self._key_at]
        # Only these types can be too long, so only they are measured row by row.
        self._measured = any(pg_type in ("text", "bytea", "jsonb") for pg_type in self._key_types)

    def plan(self, change: RowChange) -> RowPlan:
        """Take a change; return what has to be done for it.

        Raises :class:`ColumnMisfit` if a column must have another type first, :class:`NullInKey` if the
        table must be keyed on its rowid first, :class:`RefusedError` if it is not decided how its key is written.
        """
        self._require_decided()
        old_key = None if change.before is None else self._held_key(change.before, change.rowid)
        if change.after is None:
            return RowPlan(() if old_key is None else (old_key,), None, None, True)
        try:
            values, key = self._encode(change.after, change.rowid)
            large = sum(map(len, filter(None, values))) > LARGE_BYTES
            if large:
                self._check_size(values)
        except Reject as reject:
            return self.refused(change, f"{reject.column}: {reject.reason}" if reject.column else reject.reason)
        stays = old_key == key and not self._exchanges(change.before, change.after)
        return RowPlan(() if old_key is None or stays else (old_key,), values, None, False, large)

    def _exchanges(self, before: Row | None, after: Row) -> bool:
        """Whether a row changes in a unique key, of which another row may get the old value, or had the new one."""
        return before is not None and any(before[at] != after[at] for at in self._unique_at)

    def fitting(self, row: Sequence[Value], rowid: int | None) -> list[Any] | None:
        """The encoded stored columns of a row; None: :meth:`plan` says why it does not fit.

        For a table without an agent, and without columns that keep originals. Raises :class:`RefusedError` as
        :meth:`plan`.
        """
        self._require_decided()
        try:
            values = [encode(value) for encode, value in zip(self._encoders, row, strict=True)]
        except Unfit:
            return None
        if self._by_rowid:
            values.insert(0, str(rowid))
        elif any(row[at] is None or values[at] is None for at in self._key_at):
            return None
        return values

    def _require_decided(self) -> None:
        if self._undecided:
            raise RefusedError(
                "use an application's table",
                self._source,
                f"how its key is written ({self._undecided}) is not decided yet: two rows could become one",
                next_step="nothing: its rows decide it; where they cannot, `mirror adopt` again with --exclude",
            )

    def refused(self, change: RowChange, reason: str) -> RowPlan:
        """Take a change with a new row that Postgres cannot hold; return what has to be done: delete, and reject."""
        assert change.after is not None
        rows = (row for row in (change.before, change.after) if row is not None)
        keys = (self._held_key(row, change.rowid) for row in rows)
        deletes = tuple(dict.fromkeys(key for key in keys if key is not None))
        row_data = json_object(self._names, change.after)
        return RowPlan(deletes, None, Rejected(self._json_key(change.after, change.rowid), reason, row_data), False)

    def reject_keys(self, change: RowChange) -> list[str]:
        """Return the keys, as ``mirror.rejects`` has them, under which the change's row may be there."""
        rows = (row for row in (change.before, change.after) if row is not None)
        return list(dict.fromkeys(self._json_key(row, change.rowid) for row in rows))

    def _check_size(self, values: list[Sent]) -> None:
        """Raise Reject for a row that is larger than Postgres holds."""
        sizes = (
            (len(value) - 2) // 2 if pg_type == "bytea" and isinstance(value, str) else size_of(value)
            for value, (_, pg_type) in zip(values, self.target.stored, strict=True)
        )
        if sum(sizes) > MAX_ROW_BYTES:
            raise Reject(OVERSIZED)

    def _encode(self, row: Row, rowid: int | None) -> tuple[list[Sent], tuple[str | None, ...]]:
        """Encode a row's stored columns and its key; raises Reject, ColumnMisfit and NullInKey."""
        if self._by_rowid:
            key = (*self._agent, str(rowid))
            return [*key, *self._columns(row, rowid)], key
        if self._has_null_key(row):
            if self._agent or self._adopted:
                raise Reject("NULL in the primary key")
            raise NullInKey(self._source)
        values = self._columns(row, rowid)
        key = (*self._agent, *(values[index] for index in self._key_at))
        if self._measured:
            check_key(self._key_types, key)
        return [*self._agent, *values], key

    def _has_null_key(self, row: Row) -> bool:
        return any(row[index] is None for index in self._key_at)

    def _columns(self, row: Row, rowid: int | None) -> list[Any]:
        try:
            values: list[Any] = [encode(value) for encode, value in zip(self._encoders, row, strict=True)]
        except Unfit:
            self._blame(row, rowid)
            raise
        for at, name in self._vectors:
            if isinstance(vector := row[at], bytes):
                self.dimensions.add((name, len(vector) // 4))
        if self._lossy:
            kept = []
            for at, column, source in self._lossy:
                if (member := original_member(column.codec, row[at], values[at])) is not None:
                    kept.append(f"{source}:{member}")
                    if member is ITSELF and column.codec == DOCUMENT:
                        self.not_json.add(column.source)
            values.append(f"{{{','.join(kept)}}}" if kept else None)
        return values

    def _blame(self, row: Row, rowid: int | None) -> None:
        """Find the value that does not fit and raise for it. What another type would hold comes before a reject."""
        answer: ColumnMisfit | None = None
        reject: Reject | None = None
        for name, encode, value, any_text in zip(self._names, self._encoders, row, self._any_text, strict=True):
            try:
                encode(value)
            except Misfit as misfit:
                seen = self._seen(value, row, rowid)
                raise ColumnMisfit(self._source, name, misfit.reason, seen=seen) from misfit
            except Reject as found:
                if any_text and isinstance(found, UnfitText):
                    answer = ColumnMisfit(self._source, name, found.reason, ANY_TEXT)
                elif name in self._keys_alone and isinstance(found, UnfitText) and isinstance(value, str):
                    answer = ColumnMisfit(self._source, name, found.reason, seen=self._seen(value, row, rowid))
                reject = reject or Reject(found.reason, name)
        if answer is not None:
            raise answer
        if reject is not None:
            raise reject

    def _seen(self, value: Value, row: Row, rowid: int | None) -> Seen:
        key = self._json_key(row, rowid)
        return Seen(kind_of(value), shortened(value, _SHOWN), key if len(key) <= _SHOWN_KEY else "")

    def _held_key(self, row: Row, rowid: int | None) -> tuple[str | None, ...] | None:
        """Encode the key under which Postgres may have a row; None if no row can have it."""
        if self._by_rowid:
            return (*self._agent, str(rowid))
        if self._has_null_key(row):
            return None
        try:
            key = (*self._agent, *(self._encoders[index](row[index]) for index in self._key_at))
            check_key(self._key_types, key)
        except Unfit:
            return None
        return key

    def _json_key(self, row: Row, rowid: int | None) -> str:
        if (self._agent or self._adopted) and self._has_null_key(row):
            return f'{{"rowid":{rowid}}}'
        values: list[Value] = [rowid] if self._by_rowid else [row[index] for index in self._key_at]
        return json_array(values)


def _in_full(encode: Encoder, column: TargetColumn, *, of_key: bool) -> Callable[[Value], Sent]:
    """An encoder that gives a large bytea as its bytes, where the text form would have twice as many."""
    if column.pg_type != "bytea" or of_key:
        return encode

    def encode_bytea(value: Value) -> Sent:
        if isinstance(value, bytes) or (column.codec == "bytes" and isinstance(value, str)):
            return shown_bytes(value) if LARGE_BYTES < size_of(value) <= MAX_ROW_BYTES else encode(value)
        return encode(value)

    return encode_bytea
