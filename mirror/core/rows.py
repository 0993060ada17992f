"""What changed between two positions: rows, table definitions, and batches of both.

Decoding makes a :class:`Batch`; the apply side writes it to Postgres and returns a :class:`TableResult` for each table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mirror.core.positions import Position
from mirror.core.tables import Table
from mirror.core.values import Row


class RowChange(NamedTuple):
    """What a batch did to one row: inserted (no ``before``), deleted (no ``after``) or updated (both)."""

    rowid: int | None
    """None for WITHOUT ROWID tables."""
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What a batch did to one table's definition.

    ``create``: only ``after``. ``drop``: only ``before``. ``rename``: the name alone differs.
    ``columns``: (the name may differ, and) columns were renamed, dropped, or added at the end, see ``carried``; rows
    that the batch did not touch show the new columns' defaults, and the befores of the others have the columns of
    ``after``.
    ``rebuild``: anything else; the batch's :class:`TableChanges` of this table then have *all* rows of
    ``after`` as inserts.
    """

    kind: Literal["create", "drop", "rename", "columns", "rebuild"]
    before: Table | None
    after: Table | None
    carried: tuple[int | None, ...] = ()
    """``columns``: for each column of ``after`` its index in ``before``, None for a new one."""
    withheld: tuple[str, ...] = ()
    """Columns of ``before`` of which Postgres may not keep the values: a rule leaves them out under the name that they
    have now."""
    successor: str | None = None
    """``drop``: the table that has its root page, so its rows: it was renamed, to a name that another table had, or all
    rows of the new one come with the batch."""

    @property
    def only_adds(self) -> bool:
        """Whether it only adds columns at the end."""
        if self.kind != "columns" or self.before is None or self.after is None:
            return False
        kept = len(self.before.columns)
        same = [old.name for old in self.before.columns] == [new.name for new in self.after.columns[:kept]]
        return same and self.before.name == self.after.name and tuple(self.carried[:kept]) == tuple(range(kept))


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The row changes of one table in one batch.

    Because both sides of the comparison are states that SQLite committed, each key is at most
    once among the befores and at most once among the afters. ``rows`` can be read once.
    """

    table: Table
    rows: Iterator[RowChange]


class Written(NamedTuple):
    """Commits of a batch that a program with a hook has told of."""

    agent: str | None
    program: str
    commits: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One or more whole source commits, to be applied in one Postgres transaction."""

    position: Position
    commits: int
    schema_changes: tuple[SchemaChange, ...]
    tables: Iterable[TableChanges]
    writers: Callable[[], tuple[Written, ...]] = tuple
    """Who wrote it, as far as hooks have told when it is called, which is after the tables were read."""


@dataclass(frozen=True, slots=True)
class TableResult:
    """How many rows of one table a transaction wrote, removed and rejected."""

    table: str
    upserted: int
    deleted: int
    rejected: int
    inserted: int = 0
    """Of those written, the rows that are new."""
    rejected_new: int = 0
    """Of those rejected, the rows that are new in the source: Postgres never had them."""
