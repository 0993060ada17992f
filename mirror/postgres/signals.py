"""Requests of this package to the caller that sends rows: to send them again, in another way.

These are not errors for people: each has one answer, which :func:`mirror.sidecar.deliver.apply_with_answers` (a batch)
or :class:`~mirror.postgres.load.Loader` (a whole table) gives. Nothing has been applied when one is raised.
"""

from __future__ import annotations

from typing import NamedTuple

from mirror.core.tables import ANY_VALUE, ColumnType


class Seen(NamedTuple):
    """A value that did not fit its column."""

    kind: str = ""
    """What it is, without its contents; empty: it was not seen itself."""
    value: str = ""
    """For people, maybe shortened."""
    key: str = ""
    """Of its row, as ``mirror.rejects`` has keys."""


class Signal(Exception):  # noqa: N818 - not an error, but a request with one answer
    """Base of the signals. ``table``: name of the source table; ``wish``: what has to be done, for the log."""

    def __init__(self, table: str, wish: str) -> None:
        super().__init__(table, wish)
        self.table = table
        self.wish = wish


class ColumnMisfit(Signal):
    """A value does not fit the Postgres type of its column: the column must become ``becomes``."""

    def __init__(
        self, table: str, column: str, detail: str, becomes: ColumnType = ANY_VALUE, seen: Seen | None = None
    ) -> None:
        super().__init__(table, f"the column {column} must become {' '.join(filter(None, becomes))}: {detail}")
        self.column = column
        self.becomes = becomes
        self.seen = seen or Seen()


class NullInKey(Signal):
    """A declared key holds NULL: the table must be keyed on ``_rowid``, and all its rows sent."""

    def __init__(self, table: str) -> None:
        super().__init__(table, "the table must be keyed on its rowid: NULL in the primary key")


class RowsNeeded(Signal):
    """A table that other agents share cannot follow a change of its definition: all its rows must be sent."""

    def __init__(self, table: str) -> None:
        super().__init__(table, "all rows must be sent: the table is shared with other agents")
