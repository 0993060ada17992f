"""Two independent captures of the same commits must agree: the rows that hooks tell of, and those decoded from the WAL.

What the decoder gives is the net effect of some commits, from one position to another. It is compared with the net
effect of what hooks have told of the commits in between, if they have told of each of them; if a program without a hook
has written as well, or one has told of a commit without its rows, nothing can be said, and the commits count as
unchecked. (So do those that change the schema.) Where hooks know only keys, keys are compared.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mirror.core.positions import Lsn as Position
from mirror.core.positions import Salts
from mirror.core.rows import RowChange, TableChanges
from mirror.core.tables import Table
from mirror.core.values import Row, Value
from mirror.hook.wire import HookedRow, decode_row
from mirror.postgres.ledger import Discrepancy
from mirror.sidecar.hooktalk.provenance import WriteLog
from mirror.sidecar.hooktalk.receive import HookedCommit, HookReceiver, InWal

#: A row, by the name of its table and its key.
Key = tuple[str, tuple[Value, ...]]
Kind = Literal["only the WAL", "only the hook", "different"]
#: What is to be told of a row: JSON of its key and of the row.
Json = Callable[[tuple[Value, ...]], str]

#: Rows of one batch that are kept for the check, batches, and seconds for which both are.
MOST_ROWS, MOST_WINDOWS, KEPT_SECONDS = 5_000, 128, 3.0
#: Seconds between two looks at batches of which nothing more was told.
_AGAIN_SECONDS = 0.1
#: Commits of one generation that are kept until the WAL tells of them, and bytes of their rows.
MOST_TOLD, MOST_TOLD_BYTES = 50_000, 256 << 20
#: Nothing was decoded for so long.
QUIET_SECONDS = 0.5
#: What was told of commits that are never seen is kept for so many seconds.
FORGOTTEN_SECONDS = 60.0
#: Discrepancies that are written down of one batch.
MOST_FOUND = 100


@dataclass(slots=True)
class Window:
    """What the WAL tells of the commits between two positions."""

    begin: Position
    begin_salts: Salts
    commits: int
    tables: Mapping[str, Table]
    end: Position = field(default_factory=lambda: Position(0, 0))
    end_salts: Salts = field(default_factory=lambda: Salts(0, 0))
    changes: dict[Key, tuple[Row | None, Row | None]] | None = field(default_factory=dict)
    """Each row before and after; None: too many."""
    closed_at: float = 0.0

    def position(self, behind: InWal) -> Position:
        """The position that ``behind`` names."""
        generation = (self.begin if behind.salts == self.begin_salts else self.end).generation
        return Position(generation, behind.frame)


class _Told:
    """What hooks have told of the commits of one generation, by the frame of the commit before."""

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._commits: dict[int, HookedCommit] = {}
        self._bytes = 0
        self.last = 0.0
        """When something was added."""

    def add(self, frame: int, commit: HookedCommit) -> None:
        """Add one; of two behind the same commit the later counts: the earlier one has failed, or wrote nothing."""
        known = self._commits.get(frame)
        if known is None:
            insort(self._frames, frame)
        if known is None or known.told_at < commit.told_at:
            self._bytes += commit.size - (0 if known is None else known.size)
            self._commits[frame] = commit
        self.last = time.monotonic()
        while len(self._frames) > MOST_TOLD or (self._bytes > MOST_TOLD_BYTES and len(self._frames) > 1):
            self._bytes -= self._commits.pop(self._frames.pop(0)).size

    def between(self, first: int, last: int | None) -> list[HookedCommit]:
        """Those behind frames from ``first`` up to, and without, ``last``."""
        end = len(self._frames) if last is None else bisect_left(self._frames, last)
        return [self._commits[frame] for frame in self._frames[bisect_left(self._frames, first) : end]]

    def forget(self, last: int) -> None:
        """Forget those behind frames before ``last``."""
        end = bisect_left(self._frames, last)
        for frame in self._frames[:end]:
            self._bytes -= self._commits.pop(frame).size
        del self._frames[:end]


class CrossCheck:
    """The check of one source. Used by its pipeline's thread."""

    def __init__(self, hooked: HookReceiver, log: WriteLog, json: Json) -> None:
        """``json``: how values are told of."""
        self._hooked = hooked
        self._log = log
        self._json = json
        self._open: Window | None = None
        self._windows: deque[Window] = deque()
        self._told: dict[Salts, _Told] = {}
        self._found: list[Discrepancy] = []
        self._look_again = self._begun = 0.0
        self.checked = 0
        """Commits of which both captures told the same, or a discrepancy was found."""
        self.unchecked = 0

    def begin(self, begin: Position, salts: Salts, commits: int, tables: Mapping[str, Table]) -> None:
        """Some commits behind a position are decoded now."""
        now = time.monotonic()
        quiet, self._begun = now - self._begun > QUIET_SECONDS, now
        self._open = None
        # After a quiet while the file may be faster than the hook.
        if commits and (self._hooked.talking or (quiet and self._hooked.writers)):
            self._open = Window(begin, salts, commits, tables)
        elif self._hooked.writers:
            self.unchecked += commits

    def on_rows(self, tables: Iterable[TableChanges]) -> Iterable[TableChanges]:
        """What was decoded, which may be decoded once more if Postgres does not take it."""
        window = self._open
        if window is None:
            return tables
        window.changes = {}
        return (TableChanges(each.table, self._noted(window, each)) for each in tables)

    def _noted(self, window: Window, changes: TableChanges) -> Iterator[RowChange]:
        table, comparable = changes.table, is_comparable(changes.table)
        for row in changes.rows:
            if window.changes is not None:
                if len(window.changes) >= MOST_ROWS:
                    window.changes = None
                elif comparable:
                    _note(window.changes, table, row)
            yield row

    def end(self, end: Position, salts: Salts, *, same_schema: bool) -> None:
        """They are applied."""
        window, self._open = self._open, None
        if window is None:
            return
        if not same_schema:
            self.unchecked += window.commits
            return
        window.end, window.end_salts, window.closed_at = end, salts, time.monotonic()
        self._windows.append(window)
        if len(self._windows) > MOST_WINDOWS:
            self.unchecked += self._windows.popleft().commits

    def look(self) -> None:
        """Check what can be checked by now."""
        now = time.monotonic()
        taken = self._hooked.take()
        if not self._windows and not taken:
            return
        if not taken and now < self._look_again:
            return
        self._look_again = now + _AGAIN_SECONDS
        for commit in taken:
            if isinstance(commit.behind, InWal):
                self._told.setdefault(commit.behind.salts, _Told()).add(commit.behind.frame, commit)
        if not self._windows:
            return
        last = self._windows[-1]
        self._windows = deque(window for window in self._windows if not self._is_settled(window, now))
        self._forget(self._windows[0] if self._windows else None, last, now)

    def _is_settled(self, window: Window, now: float) -> bool:
        told = self._told_of(window)
        if len(told) < window.commits and now - window.closed_at < KEPT_SECONDS:
            return False
        if len(told) == window.commits:
            self._compare(window, told)
        else:
            self.unchecked += window.commits
        for commit in told:
            assert isinstance(commit.behind, InWal)
            self._log.note(commit, window.position(commit.behind))
        return True

    def _told_of(self, window: Window) -> list[HookedCommit]:
        """What hooks have told of the commits in a window, in order."""
        found: list[HookedCommit] = []
        same = window.begin_salts == window.end_salts
        if (told := self._told.get(window.begin_salts)) is not None:
            found += told.between(window.begin.frame, window.end.frame if same else None)
        if not same and (told := self._told.get(window.end_salts)) is not None:
            found += told.between(0, window.end.frame)
        return found

    def _forget(self, waiting: Window | None, last: Window, now: float) -> None:
        """Forget what was told of commits in front of the first window that waits, or of the last one's end."""
        salts, frame = (
            (last.end_salts, last.end.frame) if waiting is None else (waiting.begin_salts, waiting.begin.frame)
        )
        if (told := self._told.get(salts)) is not None:
            told.forget(frame)
        for salts in [salts for salts, told in self._told.items() if now - told.last > FORGOTTEN_SECONDS]:
            del self._told[salts]

    def _compare(self, window: Window, told: list[HookedCommit]) -> None:
        found: list[Found] | None = None
        if window.changes is not None:
            if (hooked := net(told, window.tables)) is not None:
                found = list(differences(window.changes, hooked))
            elif (keys := last_ops(told, window.tables)) is not None:
                found = list(key_differences(window.changes, keys, window.tables))
        if found is None:
            self.unchecked += window.commits
            return
        self.checked += window.commits
        writers = ", ".join(dict.fromkeys(str(commit.writer) for commit in told))
        for (table, key), kind, wal, hook in found[:MOST_FOUND]:
            self._found.append(
                Discrepancy(
                    window.end.generation,
                    window.end.frame,
                    table,
                    self._json(key),
                    kind,
                    None if wal is None else self._json(wal),
                    None if hook is None else self._json(hook),
                    writers,
                )
            )

    @property
    def waiting(self) -> int:
        """Batches that were applied and wait for what hooks tell of them."""
        return len(self._windows)

    def take_found(self) -> list[Discrepancy]:
        """The discrepancies found since the last call."""
        found, self._found = self._found, []
        return found


Net = dict[Key, tuple[Row | None, Row | None]]
#: A row of which two captures tell different things, with what each tells of it afterwards.
Found = tuple[Key, Kind, Row | None, Row | None]


def _rows(commits: Iterable[HookedCommit]) -> Iterator[HookedRow]:
    """The rows that hooks have sent, in order."""
    for commit in commits:
        yield from map(decode_row, commit.rows or ())


def net(commits: Collection[HookedCommit], tables: Mapping[str, Table], *, whole: bool = False) -> Net | None:
    """The net effect of what hooks have told: each row before and after; None if that cannot be said.

    ``whole``: of all tables; otherwise rows of tables that cannot be compared are left out.
    """
    found: Net = {}
    if any(commit.rows is None for commit in commits):
        return None
    for row in _rows(commits):
        if row.new_rowid is None:
            return None  # only keys
        table = tables.get(row.table)
        if table is None:
            continue  # SQLite's own, or a virtual table's
        if not is_comparable(table):
            if whole:
                return None
            continue
        if any(values is not None and len(values) != len(table.columns) for values in (row.before, row.after)):
            return None
        if row.before is not None:
            _merge(found, table, RowChange(row.rowid, _stored(table, row.before), None))
        if row.after is not None:
            _merge(found, table, RowChange(row.new_rowid, None, _stored(table, row.after)))
    return found


def is_comparable(table: Table) -> bool:
    """Whether the hook's rows of a table can be told from the decoder's by plain equality."""
    plain = all(collation.upper() == "BINARY" for collation in table.collations)
    return plain and not table.definition and not table.left_out


def differences(wal: Net, hook: Net) -> Iterator[Found]:
    """The rows of which two captures tell different things."""
    for key, (before, after) in wal.items():
        theirs = hook.get(key)
        if theirs is None:
            if not _same(before, after):
                yield key, "only the WAL", after, None
        elif not _same(after, theirs[1]):
            yield key, "different", after, theirs[1]
    for key, (before, after) in hook.items():
        if key not in wal and not _same(before, after):
            yield key, "only the hook", None, after


def last_ops(commits: Collection[HookedCommit], tables: Mapping[str, Table]) -> dict[Key, bool] | None:
    """Whether each row that hooks have told of was there at last, of tables with a rowid; None if that cannot be said.

    This is known without the rows' values, too, but for rows that ``REPLACE`` has deleted (:mod:`mirror.hook.keys`).
    """
    found: dict[Key, bool] = {}
    if any(commit.rows is None for commit in commits):
        return None
    for row in _rows(commits):
        table = tables.get(row.table)
        if table is None or table.without_rowid or not is_comparable(table):
            continue
        found[row.table, (row.rowid,)] = row.op != "DELETE"
        if row.op == "UPDATE" and row.new_rowid not in (None, row.rowid):
            found[row.table, (row.rowid,)], found[row.table, (row.new_rowid,)] = False, True
    return found


def key_differences(wal: Net, told: Mapping[Key, bool], tables: Mapping[str, Table]) -> Iterator[Found]:
    """As :func:`differences`, where only keys are told: rows that nobody told of, and deleted rows that are there.

    Of an updated row nobody may have told: it was a blob written in place.
    """
    for key, (before, after) in wal.items():
        if after is None or tables[key[0]].without_rowid:
            continue
        if key not in told and before is None:
            yield key, "only the WAL", after, None
        elif not told.get(key, True):
            yield key, "different", after, None


def _note(into: Net, table: Table, row: RowChange) -> None:
    """Add a change of a row that is a net effect: a key may come as a delete and, later or earlier, an insert."""
    if row.before is not None:
        key = table.name, key_of(table, row.rowid, row.before)
        into[key] = row.before, into.get(key, (None, None))[1]
    if row.after is not None:
        key = table.name, key_of(table, row.rowid, row.after)
        into[key] = into.get(key, (None, None))[0], row.after


def _merge(into: Net, table: Table, row: RowChange) -> None:
    """Add a change of a row to the net effect of earlier ones."""
    for before, after in ((row.before, None), (None, row.after)):
        values = before if after is None else after
        if values is None:
            continue
        key = table.name, key_of(table, row.rowid, values)
        known = into.get(key)
        into[key] = (before, after) if known is None else (known[0], after)


def key_of(table: Table, rowid: int | None, row: Row) -> tuple[Value, ...]:
    """What tells a row from the others of its table in SQLite."""
    if table.without_rowid:
        return tuple(row[table.position(name)] for name in table.primary_key)
    return (rowid,)


def _stored(table: Table, values: tuple[Value, ...]) -> Row:
    """A row as the decoder gives it: a REAL column's whole numbers come as integers from the hook."""
    return tuple(
        float(value) if type(value) is int and column.affinity == "REAL" else value
        for column, value in zip(table.columns, values, strict=True)
    )


def _same(one: Row | None, other: Row | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other and all(map(_identical, one, other))


def _identical(one: Value, other: Value) -> bool:
    """Whether two equal values are the same to the bit, and by type: 1 is not 1.0, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.copysign(1.0, one) == math.copysign(1.0, other)
    return True
