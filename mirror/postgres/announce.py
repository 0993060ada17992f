"""What is said of a transaction in the change feed: counted while its rows pass, and logged in the same transaction.

The rows of a batch can be read once, by what applies them. So they are counted on their way, and of the first ones the
keys are kept; a batch of any size takes no more memory. A batch that is applied again, because Postgres refused
something, is counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from mirror.core.changes import (
    MOST_KEY_CHARACTERS,
    MOST_KEYS,
    MOST_TABLES,
    VERSION,
    Announcing,
    Change,
    Entry,
    Mark,
    Operation,
    TableChange,
    WriterReport,
    encode,
)
from mirror.core.positions import Lsn, Position
from mirror.core.rows import Batch, RowChange, TableChanges, TableResult
from mirror.core.values import Row
from mirror.postgres.codecs import json_array
from mirror.postgres.migrate import statement
from mirror.postgres.prepared import Queued
from mirror.postgres.target import ROWID, Conn, Target


@dataclass(slots=True)
class _Counted:
    """One table of a batch."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    columns: tuple[str, ...] = ()
    keys: dict[str, list[msgspec.Raw]] = field(default_factory=dict)
    left_out: int = 0
    refused: bool = False


class Recorder:
    """What one batch does, as far as its rows have passed."""

    def __init__(self, batch: Batch, stored: Callable[[str], Target | None]) -> None:
        """``stored``: finds where a source table is stored; None: it is refused."""
        self._batch = batch
        self.position = batch.position
        self._stored = stored
        self._tables: dict[str, _Counted] = {}
        self._tables_left_out = 0
        self._keys, self._characters = MOST_KEYS, MOST_KEY_CHARACTERS
        # All rows of these come, whether they have changed or not.
        self._whole = {made.after.name for made in batch.schema_changes if made.kind == "rebuild" and made.after}

    def tables(self) -> Iterator[TableChanges]:
        """The batch's tables, as they are to be applied."""
        for changes in self._batch.tables:
            if changes.table.name not in self._tables and len(self._tables) >= MOST_TABLES:
                self._tables_left_out += 1
                yield changes
            else:
                counted = self._tables.setdefault(changes.table.name, _Counted())
                target = self._stored(changes.table.name)
                counted.refused = target is None
                yield TableChanges(changes.table, self._counting(counted, changes, target))

    def _counting(self, counted: _Counted, changes: TableChanges, target: Target | None) -> Iterator[RowChange]:
        table = changes.table
        by_rowid = not table.primary_key if target is None else target.key is None
        places = [] if by_rowid else [table.position(name) for name in table.primary_key]
        counted.columns = (ROWID,) if by_rowid else table.primary_key if target is None else target.key or ()
        whole = table.name in self._whole
        for row in changes.rows:
            if whole:
                counted.inserted += 1
                counted.left_out += 1
            else:
                self._count(counted, row, places)
            yield row

    def _count(self, counted: _Counted, change: RowChange, places: Sequence[int]) -> None:
        before = None if change.before is None else _key(change.before, change.rowid, places)
        after = None if change.after is None else _key(change.after, change.rowid, places)
        if before == after and after is not None:
            counted.updated += 1
            self._note(counted, "updated", after)
            return
        if before is not None:
            counted.deleted += 1
            self._note(counted, "deleted", before)
        if after is not None:
            counted.inserted += 1
            self._note(counted, "inserted", after)

    def _note(self, counted: _Counted, operation: Operation, key: Row) -> None:
        if self._keys and self._characters > 0:
            text = json_array(key)
            self._characters -= len(text)
            if self._characters >= 0:
                self._keys -= 1
                counted.keys.setdefault(operation, []).append(msgspec.Raw(text.encode()))
                return
        counted.left_out += 1

    def entry(self, source: str, lineage: str | None, after: Lsn, results: Sequence[TableResult]) -> Entry:
        """The entry, once all rows have passed. ``after``: the position before the batch."""
        position = self.position
        rejected = {result.table: result.rejected for result in results}
        tables = {
            name: TableChange(
                table=name,
                inserted=counted.inserted,
                updated=counted.updated,
                deleted=counted.deleted,
                key=list(counted.columns),
                keys=cast("dict[str, list[list[Any]]]", counted.keys),  # each is encoded already
                keys_left_out=counted.left_out,
                rejected=rejected.get(name, 0),
                refused=counted.refused,
            )
            for name, counted in self._tables.items()
            if counted.inserted or counted.updated or counted.deleted
        }
        for made in self._batch.schema_changes:
            table = made.after or made.before
            assert table is not None
            known = tables.get(table.name, TableChange(table=table.name))
            named = made.before.name if made.before is not None and made.before.name != table.name else ""
            tables[table.name] = msgspec.structs.replace(known, definition=made.kind, before=named)
        writers = [WriterReport(agent=who, program=what, commits=count) for who, what, count in self._batch.writers()]
        return encode(
            Change(
                version=VERSION,
                kind="rows",
                source=source,
                lsn=str(position.lsn),
                after=str(after),
                lineage=lineage,
                committed_at=position.committed_at,
                commits=self._batch.commits,
                writers=writers,
                tables=list(tables.values()),
                tables_left_out=self._tables_left_out,
            )
        )


def _key(row: Row, rowid: int | None, places: Sequence[int]) -> Row:
    return tuple(row[place] for place in places) if places else (rowid,)


class Announcer:
    """Tells of what one sink commits, or nobody of it."""

    def __init__(self, to: Announcing | None, source: str) -> None:
        """``to``: None: there is no feed, and all of this does nothing. ``source``: the absolute path.

        Bytes of it that are no text are written as in the status.
        """
        self._to = to
        self._source = source.encode(errors="surrogateescape").decode(errors="backslashreplace")
        self._source_id = ""
        self._recorder: Recorder | None = None

    def begins(self, conn: Conn, source_id: int, epoch: int, position: Position | None, lineage: str | None) -> None:
        """The source was taken, and Postgres has this position of this lineage. Raises psycopg's errors."""
        if self._to is None:
            return
        self._source_id = str(source_id)
        found = conn.execute(statement("database_name")).fetchone()
        assert found is not None
        mark = None if position is None else Mark(position.lsn, None if lineage is None else str(lineage))
        self._to.begins(source_id, epoch, str(found[0]), mark)

    def watch(self, batch: Batch, stored: Callable[[str], Target | None]) -> Iterable[TableChanges]:
        """The tables of a batch, as they are to be applied: noted for :meth:`rows` while they are."""
        if self._to is None:
            return batch.tables
        self._recorder = Recorder(batch, stored)
        return self._recorder.tables()

    def rows(self, lineage: str | None, before: Position | None, results: Sequence[TableResult]) -> Entry | None:
        """The entry of the batch whose rows have passed; None: there is nothing to tell.

        ``before``: the position that Postgres has.
        """
        recorder, self._recorder = self._recorder, None
        if recorder is None or before is None or recorder.position.lsn <= before.lsn:
            return None
        return recorder.entry(self._source, lineage, before.lsn, results)

    def copy(self, position: Position, lineage: str, before: Position | None) -> Entry | None:
        """The entry of a whole copy; None: Postgres is made equal again to what it has had already.

        That, as a repair, is no change of the source, and has no position of its own.
        """
        if self._to is None or (before is not None and before.lsn == position.lsn):
            return None
        return encode(
            Change(
                version=VERSION,
                kind="copy",
                source=self._source,
                lsn=str(position.lsn),
                after=None if before is None else str(before.lsn),
                lineage=lineage,
                committed_at=position.committed_at,
                reason="Postgres was made equal to a whole copy",
            )
        )

    def logged(self, entry: Entry | None) -> list[Queued]:
        """The statement that logs an entry, if there is one, and a log."""
        if entry is None or self._to is None or not self._to.logged:
            return []
        place = (self._source_id, str(entry.lsn.generation), str(entry.lsn.frame))
        save = statement("change_save"), (*place, entry.text)
        # A new lineage may count from a lower position.
        return [(statement("change_forget"), place), save] if entry.kind == "copy" else [save]

    def committed(self, entry: Entry | None) -> None:
        """It is in Postgres."""
        if entry is not None and self._to is not None:
            self._to.put(entry)
