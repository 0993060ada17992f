"""Looks for what programs have written to the file after the switch, and keeps it (``mirror.strays``).

Two looks. Before a batch writes over a row, the row is compared with what Postgres had when the file was last equal to
it: what is otherwise was written by a program, and Postgres wins. And when another connection has committed to the
file, all its rows are compared with that snapshot; not more often than leaves most of the time to the batches.

Just opened, there is no such snapshot. Rows that Postgres has written since the file was last equal to it cannot be
judged then: if other rows show that a program has written, these are kept as well, where they differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import LiteralString, NamedTuple

from psycopg.sql import SQL, Literal

from mirror.core.values import Row
from mirror.postgres.codecs import json_array
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target
from mirror.reverse.kept import Discarded, KeptStrays
from mirror.reverse.openers import openers
from mirror.reverse.rows import Found, Since
from mirror.reverse.side import Side
from mirror.reverse.strays import FileRows, Stray, differing, key_of, key_text, overwritten, parts
from mirror.reverse.writer import SqliteWriter

#: For so many times as long as a comparison of all rows took, no other begins.
REST = 10.0
#: Seconds between two looks at which processes have the file open.
ASK_SECONDS = 1.0

#: Keys as in the outbox, of their JSON.
_AMONG: LiteralString = "(SELECT ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements({}::jsonb) k)"


class Pending(NamedTuple):
    """What a snapshot has that the file does not."""

    snapshot: str
    tables: dict[str, bool]
    """Those that have events: whether all rows are meant."""
    in_file: bool
    """Whether the file has strays that are known."""
    discarded: bool
    """Whether some are to be undone."""


class StrayWatch:
    """The looks of one follower. Raises psycopg's errors and ``SourceError``."""

    def __init__(
        self,
        writer: SqliteWriter,
        database: Path,
        source_id: int,
        connecting: Callable[[], Session],
        meanwhile: Callable[[], None],
    ) -> None:
        """``connecting``: makes a connection to Postgres. ``meanwhile``: called again and again while it compares."""
        self.kept = KeptStrays(source_id, connecting)
        self.suspects: dict[str, None] = {}
        """Processes that had the file open since a program wrote to it, in the order in which they were seen."""
        self._writer = writer
        self._database = database
        self._source_id = source_id
        self._meanwhile = meanwhile
        self._files: dict[str, FileRows] = {}
        self._due = self._asked = 0.0

    def describe(self, targets: Mapping[str, Target]) -> None:
        """The tables of the file may be others."""
        self._files = {name: FileRows(self._writer, target) for name, target in targets.items()}

    def ask(self) -> None:
        """Look who has the file open, if a program has written to it."""
        if self._writer.foreign and time.monotonic() - self._asked > ASK_SECONDS:
            self.suspects |= dict.fromkeys(openers(self._database))
            self._asked = time.monotonic()

    def look(self, side: Side) -> bool:
        """Compare all rows, if a program may have written and it is time; ``side``: shows what the file should have.

        Returns whether it was done.
        """
        if not self._writer.foreign or time.monotonic() < self._due:
            return False
        begun = time.monotonic()
        try:
            with self._writer.reading():
                self._writer.foreign = False
                since = self.kept.now()
                self._find(side, since, self.kept.rejected)
                self.kept.compared(since)
        except BaseException:
            self._writer.foreign = True
            raise
        self.suspects = {}
        self._due = time.monotonic() + REST * (time.monotonic() - begun)
        return True

    def _find(self, side: Side, since: str, skipped: Callable[[str, list[list[str]]], set[tuple[str, ...]]]) -> int:
        """Keep all rows that the file has otherwise than a snapshot; returns how many."""
        count = 0
        for name, file in self._files.items():
            for part in parts(differing(file, side.rows[name], self._meanwhile)):
                skip = skipped(name, [one.text for one in part if one.text is not None])
                strays = [file.stray(one) for one in part if one.text is None or tuple(one.text) not in skip]
                if strays:
                    self.kept.found(strays, since, list(self.suspects))
                    count += len(strays)
        return count

    def guard(self, before: Side, now: Side, since: Since, pending: Pending) -> Guard | None:
        """What looks at the rows that a batch writes over; None: there is nothing to look for.

        The file's write lock is held. ``before``: shows what the file should have, if it is open; ``now``: what the
        batch brings.
        """
        if not (self._writer.foreign or pending.in_file or pending.discarded):
            return None
        if before.is_open:
            if self._writer.foreign and self._writer.disturbs(pending.tables):
                self._find(before, self.kept.now(), self.kept.rejected)
            return Guard(self, self._files, before, now)
        found = self._find(
            now,
            self.kept.now(),
            lambda table, keys: self.kept.rejected(table, keys) | self._pending(now, since, pending, table, keys),
        )
        return Guard(self, self._files, None, now) if found or pending.in_file or pending.discarded else None

    def _pending(
        self, now: Side, since: Since, pending: Pending, table: str, keys: list[list[str]]
    ) -> set[tuple[str, ...]]:
        """Those keys that have events."""
        if pending.tables.get(table):
            return set(map(tuple, keys))
        query = SQL("SELECT DISTINCT o.key FROM mirror.outbox o WHERE {} AND o.source_table = {} AND o.key IN ").format(
            since.condition(), Literal(table)
        ) + SQL(_AMONG).format(Literal(json.dumps(keys)))
        return {tuple(key) for (key,) in now.conn.execute(query)}


class Guard:
    """Looks at rows before a batch writes over them."""

    def __init__(self, watch: StrayWatch, files: Mapping[str, FileRows], before: Side | None, now: Side) -> None:
        self._watch, self._files, self._before, self._now = watch, files, before, now
        self._undone: list[Discarded] = []

    def checked(self, table: str, found: Iterable[Found]) -> Iterator[Found]:
        """The same rows, each looked at before."""
        for part in parts(found):
            self._look(table, part)
            yield from part

    def _look(self, table: str, part: Sequence[Found]) -> None:
        kept, before = self._watch.kept, None
        if self._before is not None:
            keys = [one.text for one in part]
            before = {tuple(one.text): one.row for one in self._before.rows[table].by_keys(keys)}
        result = overwritten(self._files[table], part, before)
        if result.equal:
            kept.forget(table, result.equal)
        if result.strays:
            rejected = kept.rejected(table, [one.text for one in part])
            known = {json_array(one.key) for one in part if tuple(one.text) in rejected}
            self._keep([stray for stray in result.strays if stray.key not in known])

    def _keep(self, strays: Sequence[Stray]) -> None:
        if strays:
            self._watch.kept.overwrite(strays, list(self._watch.suspects))

    def whole(self, table: str) -> None:
        """Look at all rows of a table."""
        file = self._files[table]
        for part in parts(differing(file, (self._before or self._now).rows[table])):
            self._keep([file.stray(one) for one in part if one.text is None])
            if keys := [one.text for one in part if one.text is not None]:
                self._look(table, list(self._now.rows[table].by_keys(keys)))

    def touched(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Rows that triggers have written to get what Postgres has."""
        keys: dict[str, list[str]] = {}
        for table, key in rows:
            keys.setdefault(table, []).append(json_array(key))
        for table, texts in keys.items():
            self._watch.kept.written_over(table, texts)

    def discarded(self) -> Iterator[tuple[str, Row, Found | None]]:
        """The rows that are to be undone: table, key, and what Postgres has; None: it cannot have such a row."""
        self._undone = [one for one in self._watch.kept.discarded() if one.table in self._files]
        for one in self._undone:
            rows, key = self._now.rows[one.table], key_of(one.key)
            text = key_text(rows, key)
            if text is None:
                yield one.table, key, None
                continue
            for found in self.checked(one.table, list(rows.by_keys([text]))):
                yield one.table, key, found

    def done(self) -> None:
        """The batch is committed."""
        if self._undone:
            self._watch.kept.undone(self._undone)
