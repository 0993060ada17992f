"""One batch of the way back, as it is written to the file: in which order, and what becomes of rows that do not fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from loguru import logger

from mirror.core.errors import SourceError
from mirror.postgres.codecs import Unfit
from mirror.reverse.rows import Found, TableRows
from mirror.reverse.watch import Guard
from mirror.reverse.writer import NotTakenError, SqliteWriter


@dataclass(slots=True)
class Applied:
    """One batch."""

    rows: int = 0
    rejects: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    """By source table and key, as in the outbox."""
    taken: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)
    """Keys that were rejected before, and are not now."""


class Batch:
    """One batch, which is being written."""

    def __init__(self, writer: SqliteWriter, rows: dict[str, TableRows]) -> None:
        self.applied = Applied()
        self._writer = writer
        self._rows = rows
        self._late: list[tuple[str, Found, str]] = []
        """Rows that did not fit when their turn came, and why: with those after them they may."""

    def delete(self, table: str, found: Iterable[Found]) -> None:
        """Delete rows, those that are there."""
        for one in found:
            self._one(table, one)

    def put(self, table: str, found: Iterable[Found]) -> None:
        """Make rows what they are in Postgres."""
        for one in found:
            self._one(table, one)

    def replace(self, table: str) -> None:
        """Delete the rows that Postgres does not have."""
        try:
            self._writer.keep_only(table, (one.key for one in self._rows[table].all()))
        except NotTakenError as error:
            raise SourceError("carry writes back", table, f"the file does not let rows go: {error}") from error

    def undo(self, guard: Guard) -> None:
        """Write Postgres' rows over what was thrown away."""
        for table, key, found in guard.discarded():
            self._one(table, found or Found(key, None, []))

    def again(self, table: str, keys: list[list[str]]) -> None:
        """Try rows again that were rejected before."""
        if table not in self._rows:
            return
        for one in self._rows[table].by_keys(keys):
            before = len(self._late)
            self._one(table, one)
            if len(self._late) == before:
                self.applied.taken.add((table, tuple(one.text)))

    def _one(self, table: str, one: Found) -> None:
        try:
            if one.row is None:
                self._writer.delete(table, one.key)
            else:
                self._writer.put(table, one.key, one.row)
            self.applied.rows += 1
        except NotTakenError as error:
            self._late.append((table, one, str(error)))

    def finish(self) -> None:
        """Write the rows that did not fit before, and undo what triggers have done to rows of the mirror's tables."""
        self._retry()
        if self._late:
            # Each may be in another's way, as in an exchange of two unique values: all go, then all come.
            waiting = self._late
            for table, one, _ in waiting:
                self._try_delete(table, one)
            self._late = []
            for table, one, _ in waiting:
                self._one(table, one)
            self._retry()
        self.applied.rejects = {(table, tuple(one.text)): why for table, one, why in self._late}
        self.applied.taken -= set(self.applied.rejects)
        self._restore()

    def _try_delete(self, table: str, one: Found) -> None:
        try:
            self._writer.delete(table, one.key)
        except NotTakenError as error:
            logger.debug("{}: a row stays for now: {}", table, error)

    def _retry(self) -> None:
        """Try late rows as long as that helps."""
        while self._late:
            waiting, self._late = self._late, []
            for table, one, _ in waiting:
                self._one(table, one)
            if len(self._late) == len(waiting):
                return

    def _restore(self) -> None:
        """Write the rows that triggers have changed as Postgres has them, without triggers."""
        touched: dict[str, list[list[str]]] = {}
        for table, key in self._writer.touched():
            try:
                touched.setdefault(table, []).append(self._rows[table].key_text(key))
            except Unfit:  # Postgres cannot have such a row
                self._writer.triggers(fire=False)
                self._writer.delete(table, key)
        if not touched:
            return
        self._writer.triggers(fire=False)
        for table, keys in touched.items():
            for one in self._rows[table].by_keys(keys):
                if (table, tuple(one.text)) in self.applied.rejects:
                    continue
                try:
                    if one.row is None:
                        self._writer.delete(table, one.key)
                    else:
                        self._writer.put(table, one.key, one.row)
                except NotTakenError as error:
                    self.applied.rejects[table, tuple(one.text)] = str(error)
