"""Files in rollback-journal mode: applying what hooks tell, in place of comparing all pages after each change.

Such a file has no log. But each commit raises the change counter in its header by one, and a hook names its commit by
the counter before it. So the commits that hooks have told of are all there were as long as their counters follow each
other up to the one in the file. Then their rows go to Postgres as they are; where one is missing (a program without a
hook, a change of the schema, a transaction whose rows are not all known) the pages are compared as always.

Whether a commit has changed the schema is told by the next one, or by the file when it stands still with that counter,
as capture announces; only then it is applied. The position of a commit that came this way is the generation's, with the
number of such commits in place of a frame.

The replica's pages stay what they were meanwhile. So it is noted which rows have changed since: when pages are compared
again, what differs from the old pages is corrected by that, and Postgres still goes from one committed state to the
next. That is done, too, when the file has been left alone for a while: then every row that hooks have told of must be
among those that differ, and no other; what is not is a discrepancy, and mended. After a kill the rows are not known any
more, and the source is copied anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, auto

from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import Batch, RowChange, TableChanges
from mirror.core.tables import Table
from mirror.core.values import Row
from mirror.postgres.ledger import Discrepancy
from mirror.postgres.sink import Sink
from mirror.replica.batches import GapFound
from mirror.replica.replica import Replica
from mirror.sidecar.deliver import apply_with_answers
from mirror.sidecar.hooktalk.crosscheck import Json, Net, differences, is_comparable, key_of, net
from mirror.sidecar.hooktalk.provenance import WriteLog
from mirror.sidecar.hooktalk.receive import MOST_COMMITS, HookedCommit, HookReceiver, InFile
from mirror.sqlite.format.header import DatabaseHeader, schema_cookie

#: What was announced and is not explained by then is found by comparing pages.
PATIENCE_SECONDS = 0.2
#: Pages are compared when nothing has been written for so long.
IDLE_SECONDS = 2.0
#: Rows that may have changed since the last comparison.
MOST_TOUCHED = 200_000
#: Discrepancies that are written down of one comparison.
MOST_FOUND = 100
#: The counter is of 32 bits.
_COUNTERS = 1 << 32


class Step(Enum):
    """What became of a look at what hooks have told."""

    NOTHING = auto()
    """Nothing: what was announced has to be found by comparing pages."""
    DONE = auto()
    """The replica's position has moved, and Postgres' with it."""
    WAIT = auto()
    """More should come in a moment."""


class Replay:
    """The commits that hooks have told of a file without a WAL. Used by its pipeline's thread."""

    def __init__(self, hooked: HookReceiver, log: WriteLog, json: Json) -> None:
        self._hooked = hooked
        self._log = log
        self._json = json
        self._told: dict[int, HookedCommit] = {}
        self._counter: int | None = None
        """The change counter of what Postgres has; None: unknown, before pages are compared."""
        self.cookie = 0
        """The schema cookie of what Postgres has."""
        self._inode = self._unnamed = 0
        self._touched: Net = {}
        self._checkable = True
        """Whether hooks have told of all commits since the last comparison."""
        self._waiting_since: float | None = None
        self._last = 0.0
        """When something was applied."""
        self._used: set[object] = set()
        self._wal: Net = {}
        self._tables: Mapping[str, Table] = {}
        self._found: list[Discrepancy] = []
        self.commits = 0
        """Applied since the mirror started."""

    @property
    def ahead(self) -> bool:
        """Whether Postgres has rows that the replica's pages do not have yet."""
        return bool(self._touched)

    def is_idle(self) -> bool:
        """Whether pages should be compared, because nothing was written for a while."""
        return self.ahead and not self._told and time.monotonic() - self._last > IDLE_SECONDS

    def is_due(self) -> bool:
        """Whether pages should be compared at the next opportunity: for that, or because many rows have changed."""
        return self.is_idle() or len(self._touched) > MOST_TOUCHED

    def compared(self, page1: bytes, inode: int) -> None:
        """The replica is what the file with this inode says now, and Postgres with it."""
        header = DatabaseHeader.parse(page1)
        self._inode, self._unnamed = inode, self._hooked.unnamed
        self._counter, self.cookie = header.change_counter, header.schema_cookie
        self._touched.clear()
        self._checkable, self._waiting_since = True, None
        for counter in [counter for counter in self._told if _behind(counter, header.change_counter)]:
            del self._told[counter]

    def take(self) -> None:
        """Take what hooks have told."""
        for commit in self._hooked.take_of_files():
            assert isinstance(commit.behind, InFile)
            if commit.behind.inode != self._inode:
                continue  # of a file that was here before, or one that was not compared yet
            known = self._told.get(commit.behind.counter)
            if known is None or known.told_at < commit.told_at:
                self._told[commit.behind.counter] = commit
        if len(self._told) > MOST_COMMITS:  # of which none follows what Postgres has
            self._told.clear()

    def step(self, replica: Replica, sink: Sink, found: GapFound | None, header: Callable[[], bytes]) -> Step:
        """Apply what can be applied.

        After :meth:`take`. ``found``: the file stood still in this generation. ``header``: reads the file's. Raises
        ``SinkError``.
        """
        if self._counter is None or len(self._touched) > 2 * MOST_TOUCHED:
            return Step.NOTHING
        if found is not None and (found.inode != self._inode or self._hooked.unnamed != self._unnamed):
            # Another file, whose counter may be the same; or a commit that has not raised it.
            return self._give_up()
        until = None if found is None else found.counter
        commits = self._chain(until)
        rows = net(commits, replica.schema.tables, whole=True) if commits else {}
        if rows is None:
            return Step.NOTHING if found is None else self._give_up()
        reached = (self._counter + len(commits)) % _COUNTERS
        explained = until is not None and not _behind(reached, until)
        if explained and schema_cookie(header()) != self.cookie.to_bytes(4, "big"):
            return self._give_up()
        if not commits and not explained:
            return self._wait(found)
        if explained:
            replica.forget_comparisons()
        position = self._position(replica, found if explained else None, len(commits))
        if not _deliver(sink, replica, position, len(commits), rows):
            return Step.NOTHING if found is None else self._give_up()
        for number, commit in enumerate(commits):
            self._log.note(commit, Lsn(replica.head.lsn.generation, replica.head.lsn.frame + number))
        self._applied(commits, rows, reached)
        replica.leap(position, found.head.place if found is not None and explained else None)
        return Step.DONE

    def _chain(self, until: int | None) -> list[HookedCommit]:
        """The commits behind what Postgres has, one behind the other, that have not changed the schema."""
        assert self._counter is not None
        found: list[HookedCommit] = []
        counter = self._counter
        while (commit := self._told.get(counter)) is not None and commit.rows is not None:
            after = (counter + 1) % _COUNTERS
            following = self._told.get(after)
            if following is not None:
                assert isinstance(following.behind, InFile)
                if following.behind.cookie != self.cookie:
                    break  # it has changed the schema
            elif until != after:
                break  # whether it has, nobody tells yet, or a program without a hook has written behind it
            found.append(commit)
            counter = after
        return found

    def _wait(self, found: GapFound | None) -> Step:
        """What was announced is not explained yet."""
        if found is None:
            return Step.NOTHING
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if self._hooked.writers and now - self._waiting_since < PATIENCE_SECONDS:
            return Step.WAIT
        return self._give_up()

    def _give_up(self) -> Step:
        self._checkable, self._waiting_since = False, None
        return Step.NOTHING

    def _position(self, replica: Replica, found: GapFound | None, commits: int) -> Position:
        if found is not None:
            return Position(found.head.lsn, found.head.salts, found.head.committed_at)
        lsn = replica.head.lsn
        return Position(Lsn(lsn.generation, lsn.frame + commits), Salts(0, 0), time.time())

    def _applied(self, commits: list[HookedCommit], rows: Net, reached: int) -> None:
        for commit in commits:
            assert isinstance(commit.behind, InFile)
            del self._told[commit.behind.counter]
        for key, (before, after) in rows.items():
            known = self._touched.get(key)
            self._touched[key] = (before if known is None else known[0], after)
        self._counter, self._waiting_since = reached, None
        self.commits += len(commits)
        if commits:
            self._last = time.monotonic()

    # -- when pages are compared -------------------------------------------------------------------

    def on_rows(self, tables: Iterable[TableChanges], known: Mapping[str, Table]) -> Iterable[TableChanges]:
        """What the pages tell, as the way from what Postgres has, which is ahead of the replica's pages.

        ``known``: all tables as of those pages.
        """
        self._used, self._wal, self._tables = set(), {}, known
        return self._corrected(tables) if self._touched else tables

    def _corrected(self, tables: Iterable[TableChanges]) -> Iterator[TableChanges]:
        seen: set[str] = set()
        for changes in tables:
            seen.add(changes.table.name)
            yield TableChanges(changes.table, self._rows(changes))
        for name in {name for name, _ in self._touched} - seen:
            table = self._tables[name]
            yield TableChanges(table, self._left(table))

    def _rows(self, changes: TableChanges) -> Iterator[RowChange]:
        table = changes.table
        for row in changes.rows:
            values = row.after if row.before is None else row.before
            assert values is not None
            key = table.name, key_of(table, row.rowid, values)
            if is_comparable(table):
                self._wal[key] = row.before, row.after
                if len(self._wal) > 2 * MOST_TOUCHED:
                    self._checkable = False
                    self._wal.clear()
            if key not in self._touched:
                yield row
                continue
            self._used.add(key)
            yield from _change(row.rowid, self._touched[key][1], row.after)
        yield from self._left(table)

    def _left(self, table: Table) -> Iterator[RowChange]:
        """Rows that hooks have told of and that are on the pages what they were: so they must be in Postgres."""
        for key, (first, last) in self._touched.items():
            if key[0] == table.name and key not in self._used:
                rowid = None if table.without_rowid else key[1][0]
                assert rowid is None or isinstance(rowid, int)
                yield from _change(rowid, last, first)

    def check(self, lsn: Lsn) -> None:
        """Pages were compared: what they tell must be what hooks have told, if those have told of every commit."""
        if not self._checkable or self._told:
            return  # some commits were not told of, or were told of and are on these pages already
        for (table, key), kind, wal, hook in list(differences(self._wal, self._touched))[:MOST_FOUND]:
            told = [None if row is None else self._json(row) for row in (wal, hook)]
            writers = ", ".join(str(writer) for writer in self._hooked.writers) or "a program that has ended"
            self._found.append(
                Discrepancy(lsn.generation, lsn.frame, table, self._json(key), kind, told[0], told[1], writers)
            )

    def take_found(self) -> list[Discrepancy]:
        """The discrepancies found since the last call."""
        found, self._found = self._found, []
        return found


def _change(rowid: int | None, before: Row | None, after: Row | None) -> Iterator[RowChange]:
    if before is not None or after is not None:
        yield RowChange(rowid, before, after)


def _behind(one: int, other: int) -> bool:
    """Whether a counter comes before another; they begin anew at 2**32."""
    return 0 < (other - one) % _COUNTERS < _COUNTERS // 2


def _deliver(sink: Sink, replica: Replica, position: Position, commits: int, rows: Net) -> bool:
    """Apply rows that hooks have told of; False if Postgres wants more than is known of them."""

    def make_batch(whole: frozenset[str]) -> Batch | None:
        return None if whole else Batch(position, commits, (), _tables(replica, rows))

    return apply_with_answers(sink, make_batch) is not None


def _tables(replica: Replica, rows: Net) -> Iterator[TableChanges]:
    by_table: dict[str, list[RowChange]] = {}
    for (name, key), (before, after) in rows.items():
        if before is None and after is None:
            continue
        table = replica.schema.tables[name]
        rowid = None if table.without_rowid else key[0]
        assert rowid is None or isinstance(rowid, int)
        by_table.setdefault(name, []).append(RowChange(rowid, before, after))
    for name, changes in by_table.items():
        yield TableChanges(replica.schema.tables[name], iter(changes))
