"""Files in rollback-journal mode: applying what hooks send, instead of comparing all pages after each change.

Such a file has no log. But each commit raises the change counter in its header by one, and a hook names its commit by
the counter before it. So hooks have sent every commit as long as the counters are consecutive, up to the one in the
file. Then their rows go to Postgres as they are; where a commit is missing (a program without a hook, a change of the
schema, a transaction of which not all rows are known) the pages are compared as always.

Whether a commit has changed the schema is known from the next one, or from the file once it is unchanged at that
counter, as capture reports; only then the commit is applied. The position of such a commit has the generation's number,
and in place of a frame the number of such commits.

The replica's pages do not change during this. So the rows that have changed since are kept: when pages are compared
again, the differences from the old pages are corrected by these rows, and Postgres still goes from one committed state
to the next. Pages are also compared when the file has not been written for a while: then exactly the rows that hooks
have sent must differ; any other difference is a discrepancy, which is recorded and repaired. After a kill the kept rows
are lost, and the source is copied again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, auto
from functools import partial

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
from mirror.sidecar.hooktalk.provenance import WriteLog, writers_of
from mirror.sidecar.hooktalk.receive import MOST_COMMITS, HookedCommit, HookReceiver, InFile
from mirror.sqlite.format.header import DatabaseHeader, change_counter, schema_cookie

#: Seconds after which a change that capture reported and hooks have not explained is found by comparing pages.
PATIENCE_SECONDS = 0.2
#: Seconds without a write after which pages are compared.
IDLE_SECONDS = 2.0
#: Rows that may change between two comparisons.
MOST_TOUCHED = 200_000
#: Discrepancies of one comparison that are recorded.
MOST_FOUND = 100
#: The change counter has 32 bits.
_COUNTERS = 1 << 32


class Step(Enum):
    """The outcome of :meth:`Replay.step`."""

    NOTHING = auto()
    """Nothing was applied: a change that capture reported has to be found by comparing pages."""
    DONE = auto()
    """The replica's position has moved, and Postgres' with it."""
    WAIT = auto()
    """More should come in a moment."""


class Replay:
    """The commits that hooks have sent of a file without a WAL.

    Thread: its pipeline's alone.
    """

    def __init__(self, hooked: HookReceiver, log: WriteLog, json: Json) -> None:
        self._hooked = hooked
        self._log = log
        self._json = json
        self._pending: dict[int, HookedCommit] = {}
        self._counter: int | None = None
        """The change counter of what Postgres has; None: unknown, before pages are compared."""
        self._reported: int | None = None
        """The counter that the file had when capture last reported a change, or when its pages were compared."""
        self.cookie = 0
        """The schema cookie of what Postgres has."""
        self._inode = self._unnamed = 0
        self._opened_at = 0
        """When the file was opened: the hooks' clock, see :mod:`mirror.hook.wire`."""
        self._touched: Net = {}
        self._checkable = True
        """Whether hooks have sent all commits since the last comparison."""
        self._waiting_since: float | None = None
        self._last = 0.0
        """When something was last applied, by the monotonic clock."""
        self._used: set[object] = set()
        self._wal: Net = {}
        self._tables: Mapping[str, Table] = {}
        self._found: list[Discrepancy] = []
        self.commits = 0
        """Number of commits applied since the mirror started."""

    @property
    def ahead(self) -> bool:
        """Whether Postgres has rows that the replica's pages do not have yet."""
        return bool(self._touched)

    def is_idle(self) -> bool:
        """Whether pages should be compared because nothing was written for :data:`IDLE_SECONDS`."""
        return self.ahead and not self._pending and time.monotonic() - self._last > IDLE_SECONDS

    def is_lively(self) -> bool:
        """Whether something was applied within the last :data:`IDLE_SECONDS`."""
        return bool(self.commits) and time.monotonic() - self._last <= IDLE_SECONDS

    def is_due(self) -> bool:
        """Whether pages should be compared at the next opportunity: :meth:`is_idle`, or many rows have changed."""
        return self.is_idle() or len(self._touched) > MOST_TOUCHED

    def compared(self, page1: bytes, inode: int) -> None:
        """Replica and Postgres are now equal to the file with this inode. ``page1``: its first page."""
        header = DatabaseHeader.parse(page1)
        self._inode, self._unnamed = inode, self._hooked.unnamed
        self._counter, self.cookie = header.change_counter, header.schema_cookie
        self._reported = self._counter
        self._touched.clear()
        self._checkable, self._waiting_since = True, None
        for counter in [counter for counter in self._pending if _is_before(counter, header.change_counter)]:
            del self._pending[counter]

    def reopened(self) -> None:
        """The file at the source's path was opened again, and may be another one.

        Its inode number may be that of the file before, which was closed and deleted; then neither that number nor a
        change counter says what Postgres has of this file, and what hooks sent before now is of another. So the pages
        are compared next.
        """
        self._counter = None
        self._pending.clear()
        self._opened_at = time.monotonic_ns()
        self._checkable, self._waiting_since = False, None

    def take(self) -> None:
        """Take what hooks have sent."""
        for commit in self._hooked.take_of_files():
            assert isinstance(commit.previous, InFile)
            if commit.previous.inode != self._inode or commit.sent_at < self._opened_at:
                continue  # of a file that was here before, or of one that has not been compared yet
            if self._counter is not None and _is_before(commit.previous.counter, self._counter):
                continue  # it was found on pages before it came
            known = self._pending.get(commit.previous.counter)
            if known is None or known.sent_at < commit.sent_at:
                self._pending[commit.previous.counter] = commit
        if len(self._pending) > MOST_COMMITS:  # none of them follows the state that Postgres has
            self._pending.clear()

    def step(self, replica: Replica, sink: Sink, found: GapFound | None, header: Callable[[], bytes]) -> Step:
        """Apply what can be applied. To be called after :meth:`take`.

        ``found``: capture's report that the file was unchanged for a moment, which began this generation. ``header``:
        reads the file's header. Raises ``SinkError``.
        """
        if self._counter is None or len(self._touched) > 2 * MOST_TOUCHED:
            return Step.NOTHING
        if found is not None and (found.inode != self._inode or self._hooked.unnamed != self._unnamed):
            # Another file, which may have the same counter; or a commit that has not raised the counter.
            return self._give_up()
        until = None if found is None else found.counter
        if until is not None and until == self._counter == self._reported:
            return self._give_up()  # it has changed, and its counter has not: a commit under a lock that is kept
        if (
            until is not None
            and _is_before(until, self._counter)
            and _is_before(change_counter(header()), self._counter)
        ):
            return self._give_up()  # another content was put into the file; else the report is late
        commits = self._chain(until)
        rows = net(commits, replica.schema.tables, whole=True) if commits else {}
        if rows is None:
            return Step.NOTHING if found is None else self._give_up()
        reached = (self._counter + len(commits)) % _COUNTERS
        explained = until is not None and not _is_before(reached, until)
        if explained and schema_cookie(header()) != self.cookie.to_bytes(4, "big"):
            return self._give_up()
        if not commits and not explained:
            return self._wait(found)
        if explained:
            replica.forget_comparisons()
        position = self._position(replica, found if explained else None, len(commits))
        if not _deliver(sink, replica, position, commits, rows):
            return Step.NOTHING if found is None else self._give_up()
        for number, commit in enumerate(commits):
            self._log.note(commit, Lsn(replica.head.lsn.generation, replica.head.lsn.frame + number))
        self._applied(commits, rows, reached)
        if explained:
            self._reported = until  # only now: if Postgres fails, the same report comes again
        replica.leap(position, found.head.place if found is not None and explained else None)
        return Step.DONE

    def _chain(self, until: int | None) -> list[HookedCommit]:
        """The consecutive commits after the state that Postgres has, up to one that may have changed the schema."""
        assert self._counter is not None
        found: list[HookedCommit] = []
        counter = self._counter
        while (commit := self._pending.get(counter)) is not None and commit.rows is not None:
            after = (counter + 1) % _COUNTERS
            following = self._pending.get(after)
            if following is not None:
                assert isinstance(following.previous, InFile)
                if following.previous.cookie != self.cookie:
                    break  # it has changed the schema
            elif until != after:
                break  # it is not known yet whether it has, or a program without a hook has written after it
            found.append(commit)
            counter = after
        return found

    def _wait(self, found: GapFound | None) -> Step:
        """The change that capture reported is not explained yet."""
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
            assert isinstance(commit.previous, InFile)
            del self._pending[commit.previous.counter]
        for key, (before, after) in rows.items():
            known = self._touched.get(key)
            self._touched[key] = (before if known is None else known[0], after)
        self._counter, self._waiting_since = reached, None
        self.commits += len(commits)
        if commits:
            self._last = time.monotonic()

    # -- when pages are compared -------------------------------------------------------------------

    def on_rows(self, tables: Iterable[TableChanges], known: Mapping[str, Table]) -> Iterable[TableChanges]:
        """The rows that the pages gave, as changes of the state that Postgres has.

        That state is ahead of the replica's pages. ``known``: all tables as of those pages.
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
            yield TableChanges(table, self._unchanged(table))

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
        yield from self._unchanged(table)

    def _unchanged(self, table: Table) -> Iterator[RowChange]:
        """Rows that hooks have sent but that have not changed on the pages: in Postgres they must go back."""
        for key, (first, last) in self._touched.items():
            if key[0] == table.name and key not in self._used:
                rowid = None if table.without_rowid else key[1][0]
                assert rowid is None or isinstance(rowid, int)
                yield from _change(rowid, last, first)

    def check(self, lsn: Lsn) -> None:
        """Pages were compared: their changes must be those that hooks have sent, if hooks have sent every commit."""
        if not self._checkable or self._pending:
            return  # some commits were not sent, or were sent and are on these pages already
        for (table, key), kind, wal, hook in list(differences(self._wal, self._touched))[:MOST_FOUND]:
            rows = [None if row is None else self._json(row) for row in (wal, hook)]
            writers = ", ".join(str(writer) for writer in self._hooked.writers) or "a program that has ended"
            self._found.append(
                Discrepancy(lsn.generation, lsn.frame, table, self._json(key), kind, rows[0], rows[1], writers)
            )

    def take_found(self) -> list[Discrepancy]:
        """The discrepancies found since the last call."""
        found, self._found = self._found, []
        return found


def _change(rowid: int | None, before: Row | None, after: Row | None) -> Iterator[RowChange]:
    if before is not None or after is not None:
        yield RowChange(rowid, before, after)


def _is_before(one: int, other: int) -> bool:
    """Whether a change counter comes before another; after 2**32 - 1 comes 0."""
    return 0 < (other - one) % _COUNTERS < _COUNTERS // 2


def _deliver(sink: Sink, replica: Replica, position: Position, commits: list[HookedCommit], rows: Net) -> bool:
    """Apply rows that hooks have sent; False if Postgres needs more rows than are known."""

    def make_batch(whole: frozenset[str]) -> Batch | None:
        if whole:
            return None
        return Batch(position, len(commits), (), _tables(replica, rows), partial(writers_of, commits))

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
