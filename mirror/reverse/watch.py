"""Looks for what programs have written to the file after the switch, and keeps it (``mirror.strays``).

Two looks. Before a batch writes over a row, the row is compared with what Postgres had when the file was last equal to
it: what is otherwise was written by a program, and Postgres wins. And when another connection has committed to the
file, all its rows are compared with that snapshot; not more often than leaves most of the time to the batches.

Just opened, there is no such snapshot. Rows that Postgres has written since the file was last equal to it cannot be
judged then: if other rows show that a program has written, these are kept as well, where they differ. The same holds
for a table that is truncated in Postgres, which empties it in earlier snapshots, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import LiteralString, NamedTuple

from psycopg.sql import SQL, Literal

from mirror.core.agreement import Agreement
from mirror.core.values import Row
from mirror.postgres.codecs import json_array
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target
from mirror.reverse import agreement
from mirror.reverse.kept import Discarded, KeptStrays
from mirror.reverse.openers import openers
from mirror.reverse.proof import compare_written
from mirror.reverse.rows import Found, Since
from mirror.reverse.side import Side
from mirror.reverse.strays import FileRows, Stray, differing, key_of, key_text, number_column, overwritten, parts
from mirror.reverse.writer import SqliteWriter

#: For so many times as long as a comparison of all rows took, no other begins.
REST = 10.0
#: Seconds between two looks at which processes have the file open, after one write to it.
ASK_SECONDS = 1.0
#: Nothing is carried during a look. So each is followed by so many times as long without one: a twentieth of the time
#: goes to looks. Time without a look before it counts, too, up to so many seconds: then the next one need not wait.
ASK_COSTS, CREDIT_SECONDS = 20.0, 120.0

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
        """Processes that had the file open since a program wrote to it, in the order in which they were seen.

        After that, those of the last look, until the next one.
        """
        self._writer = writer
        self._database = database
        self._source_id = source_id
        self._meanwhile = meanwhile
        self._files: dict[str, FileRows] = {}
        self._left: set[str] = set()
        self._looked = -1
        self._due = self._next_ask = self._paid_until = 0.0
        self._over = True
        self.touched = False
        """Whether the file was written before it was opened, and since the last batch."""

    def describe(self, targets: Mapping[str, Target]) -> None:
        """The tables of the file may be others."""
        self._files = {name: FileRows(self._writer, target) for name, target in targets.items()}
        self._looked = -1  # so each of them is in doubt, if any is

    def ask(self) -> None:
        """Look who has the file open, if a program has written to it: at once, and now and then until all is known."""
        if not self._writer.foreign:
            self._over = True
            return
        begun = time.monotonic()
        if begun < self._paid_until or (begun < self._next_ask and not self._over):
            return
        found = dict.fromkeys(openers(self._database))
        self.suspects = found if self._over else self.suspects | found
        self._over = False
        ended = time.monotonic()
        self._next_ask = ended + ASK_SECONDS
        self._paid_until = max(self._paid_until, begun - CREDIT_SECONDS) + ASK_COSTS * (ended - begun)

    def who(self) -> list[str]:
        """Whom to name beside strays that are kept now."""
        self.ask()
        return list(self.suspects)

    def is_unsure(self, table: str) -> bool:
        """Whether a program may have written to a table what is not known yet."""
        self._notice()
        return self._writer.foreign and table in self._left

    def _notice(self) -> None:
        """After a program has written to the file, each table is in doubt."""
        if self._writer.foreign and self._looked != self._writer.changes:
            self._looked, self._left = self._writer.changes, set(self._files)

    def settled(self, tables: Collection[str]) -> None:
        """All rows of these were written anew, and what a program may have written there is kept."""
        self._left -= set(tables)
        if not self._left and self._looked == self._writer.changes:
            self._writer.foreign = False

    def look(self, side: Side, snapshot: str) -> bool:
        """Compare all rows of the tables to which a program may have written, if it is time.

        ``side``: shows what the file should have, in this snapshot. Returns whether it was done.
        """
        if not self._writer.foreign or time.monotonic() < self._due:
            return False
        begun = time.monotonic()
        with self._writer.reading():
            self._notice()
            wanted = set(self._left)
            side.lock(wanted)  # if it can be: what is truncated all the same is left
            since = self.kept.now()
            _, left = self._find(side, since, self.kept.rejected, snapshot, wanted)
            self.kept.compared(since, wanted - left)
            self._left = left  # which a program truncates again and again, it may be; the others are not in doubt
            self._writer.foreign = bool(left)
        self._over = self._over or not left
        self._due = time.monotonic() + REST * (time.monotonic() - begun)
        return True

    def agree(self, side: Side, snapshot: str, since: str) -> Agreement | None:
        """Compare all rows now: see :func:`mirror.reverse.agreement.compare`."""
        return agreement.compare(
            self._files, side, snapshot, self.kept, self._writer, since, self.who, self.is_unsure, self._meanwhile
        )

    def agree_on_written(self, side: Side, snapshot: str, since: Since) -> Agreement:
        """Compare what was written since a snapshot; the tables are locked, so that none is truncated meanwhile."""
        targets = {name: rows.target for name, rows in side.rows.items()}
        with self._writer.reading():
            count, found = compare_written(self._writer.connection, side.conn, targets, since, self._meanwhile)
        return Agreement(rows=count, snapshot=snapshot, not_carried=len(found), named=found)

    def _find(
        self,
        side: Side,
        since: str,
        skipped: Callable[[str, list[list[str]]], set[tuple[str, ...]]],
        snapshot: str | None = None,
        tables: Collection[str] | None = None,
    ) -> tuple[int, set[str]]:
        """Keep all rows that the file has otherwise than a snapshot; returns how many, and what cannot be told of.

        ``snapshot``: that of ``side``, if tables may have been truncated since. ``tables``: None: all.
        """
        count, left = 0, set()
        for name, file in self._files.items():
            if tables is not None and name not in tables:
                continue
            for part in parts(differing(file, side.rows[name], self._meanwhile)):
                # The table was read: if it was not truncated before, it is not from now on.
                if snapshot is not None and self.kept.truncated(snapshot, name):
                    left.add(name)
                    break
                skip = skipped(name, [one.text for one in part if one.text is not None])
                strays = [file.stray(one) for one in part if one.text is None or tuple(one.text) not in skip]
                if strays:
                    self.kept.found(strays, since, self.who())
                    count += len(strays)
        return count, left

    def is_wanted(self, pending: Pending) -> bool:
        """Whether rows are to be looked at before a batch writes over them. The file's write lock is held."""
        return self._writer.foreign or pending.in_file or pending.discarded

    def guard(self, before: Side, now: Side, since: Since, pending: Pending) -> Guard | None:
        """What looks at the rows that a batch writes over; None: there is nothing to look for.

        The file's write lock is held. ``before``: shows what the file should have, if it is open; ``now``: what the
        batch brings.
        """
        if not self.is_wanted(pending):
            return None
        if before.is_open:
            if self._writer.foreign and self._writer.disturbs(pending.tables):
                self._find(before, self.kept.now(), self.kept.rejected, since.snapshot)
            return Guard(self, self._files, before, now, since, pending, unsure=self.is_unsure)
        found, _ = self._find(
            now,
            self.kept.now(),
            lambda table, keys: self.kept.rejected(table, keys) | self._pending(now, since, pending, table, keys),
            pending.snapshot,
        )
        doubt = bool(found or pending.in_file or self.touched)
        if not doubt and not pending.discarded:
            return None
        return Guard(self, self._files, None, now, since, pending, unsure=lambda _: doubt)

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

    def __init__(
        self,
        watch: StrayWatch,
        files: Mapping[str, FileRows],
        before: Side | None,
        now: Side,
        since: Since,
        pending: Pending,
        *,
        unsure: Callable[[str], bool],
    ) -> None:
        """``unsure``: whether a program may have written to a table what is not known yet."""
        self._unsure = unsure
        self._watch, self._files, self._before, self._now = watch, files, before, now
        self._since, self._truncated = since, {name for name, whole in pending.tables.items() if whole}
        self._replaced: set[str] = set()
        self._number: int | None = None
        self._undone: list[Discarded] = []

    def checked(self, table: str, found: Iterable[Found]) -> Iterator[Found]:
        """The same rows, each looked at before."""
        for part in parts(found):
            self._look(table, part)
            yield from part

    def _look(self, table: str, part: Sequence[Found]) -> None:
        kept, before = self._watch.kept, None
        new: set[tuple[str, ...]] = set()
        if table in self._truncated:
            pass  # which empties it in earlier snapshots, too
        elif self._before is not None:
            keys = [one.text for one in part]
            before = {tuple(one.text): one.row for one in self._before.rows[table].by_keys(keys)}
        else:
            new = self._new(table, part)
        result = overwritten(self._files[table], part, before, new)
        if result.equal:
            kept.forget(table, result.equal)
        strays = result.strays
        if strays and self._unsure(table):
            rejected = kept.rejected(table, [one.text for one in part])
            refused = {json_array(one.key) for one in part if tuple(one.text) in rejected}
            self._keep([stray for stray in strays if stray.key not in refused])
        elif strays:
            known = kept.known(table, [stray.key for stray in strays])
            self._keep([stray for stray in strays if stray.key in known])

    def _new(self, table: str, part: Sequence[Found]) -> set[tuple[str, ...]]:
        """Keys of which Postgres had no row at the beginning of the batch: only then are there as many as have come.

        Only whole numbers: other keys may be equal in two forms.
        """
        if number_column(self._files[table].target) is None:
            return set()
        query = SQL(
            "SELECT o.key, sum(o.change) FROM mirror.outbox o WHERE {} AND o.source_table = {} AND o.key IN "
        ).format(self._since.condition(), Literal(table)) + SQL(_AMONG + " GROUP BY o.key").format(
            Literal(json.dumps([one.text for one in part]))
        )
        come = {tuple(key): int(change) for key, change in self._now.conn.execute(query)}
        return {key for one in part if come.get(key := tuple(one.text)) == int(one.row is not None)}

    def _keep(self, strays: Sequence[Stray]) -> None:
        if strays:
            if self._number is None:
                self._number = self._watch.kept.next()
            self._watch.kept.overwrite(strays, self._watch.who(), self._number)

    def whole(self, table: str) -> None:
        """Look at all rows of a table that was truncated: what it had before is known nowhere."""
        self._replaced.add(table)
        if not self._unsure(table):
            self._watch.kept.all_written_over(table)
            return
        file = self._files[table]
        for part in parts(differing(file, self._now.rows[table])):
            there = [one._replace(before=None) for one in part if one.after is not None]
            self._keep([file.stray(one, before_known=False) for one in there])
            # A row that the file has not is a new one of Postgres, or one that a program is known to have deleted.
            if gone := [json_array(one.key) for one in part if one.after is None]:
                self._watch.kept.written_over(table, gone)

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
        self._watch.touched = False
        self._watch.settled(self._replaced)
        if self._undone:
            self._watch.kept.undone(self._undone)
