"""Two independent captures of the same commits must agree: the rows that hooks send, and those decoded from the WAL.

The decoder gives the net effect of some commits, from one position to another. It is compared with the net effect of
the same commits as hooks sent them, if they sent every one. If a program without a hook has written as well, or a hook
sent a commit without its rows, there is nothing to compare with, and the commits count as unchecked. (So do those that
change the schema.) Where hooks know only keys, keys are compared.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mirror.core.positions import Lsn, Salts
from mirror.core.rows import RowChange, TableChanges
from mirror.core.tables import Table
from mirror.core.values import Row, Value, identical
from mirror.hook.wire import HookedRow, decode_row
from mirror.postgres.ledger import Discrepancy
from mirror.sidecar.hooktalk.provenance import WriteLog
from mirror.sidecar.hooktalk.receive import HookedCommit, HookReceiver, InWal

#: A row, by the name of its table and its key.
Key = tuple[str, tuple[Value, ...]]
Kind = Literal["only the WAL", "only the hook", "different"]
#: Encodes the values of a key or of a row as JSON, for the record of a discrepancy.
Json = Callable[[tuple[Value, ...]], str]

#: Limits of what waits for the check: rows of one batch, batches, and seconds.
MOST_ROWS, MOST_WINDOWS, KEPT_SECONDS = 5_000, 128, 3.0
#: Batches that wait while hooks are connected and silent.
SILENT_WINDOWS = 8
#: Seconds between two checks of waiting batches while hooks send nothing more.
_RETRY_SECONDS = 0.1
#: Commits sent for one generation that are kept until they are decoded from the WAL, and bytes of their rows.
MOST_SENT, MOST_SENT_BYTES = 50_000, 256 << 20
#: Seconds without a decoded commit after which the source counts as quiet.
QUIET_SECONDS = 0.5
#: Seconds for which commits are kept that hooks sent and the WAL never shows.
FORGOTTEN_SECONDS = 60.0
#: Discrepancies of one batch that are recorded.
MOST_FOUND = 100


@dataclass(slots=True)
class Window:
    """The commits between two positions, as decoded from the WAL."""

    begin: Lsn
    begin_salts: Salts
    commits: int
    tables: Mapping[str, Table]
    end: Lsn = field(default_factory=lambda: Lsn(0, 0))
    end_salts: Salts = field(default_factory=lambda: Salts(0, 0))
    changes: dict[Key, tuple[Row | None, Row | None]] | None = field(default_factory=dict)
    """Each row before and after; None: more than :data:`MOST_ROWS`."""
    closed_at: float = 0.0

    def position(self, place: InWal) -> Lsn:
        """The position that a place in the WAL names."""
        generation = (self.begin if place.salts == self.begin_salts else self.end).generation
        return Lsn(generation, place.frame)


class _Sent:
    """The commits of one generation that hooks have sent, by the frame of the commit before."""

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._commits: dict[int, HookedCommit] = {}
        self._bytes = 0
        self.last = 0.0
        """When something was added."""

    def add(self, frame: int, commit: HookedCommit) -> None:
        """Add one; of two after the same commit the later one counts: the earlier one failed, or wrote nothing."""
        known = self._commits.get(frame)
        if known is None:
            insort(self._frames, frame)
        if known is None or known.sent_at < commit.sent_at:
            self._bytes += commit.size - (0 if known is None else known.size)
            self._commits[frame] = commit
        self.last = time.monotonic()
        while len(self._frames) > MOST_SENT or (self._bytes > MOST_SENT_BYTES and len(self._frames) > 1):
            self._bytes -= self._commits.pop(self._frames.pop(0)).size

    def between(self, first: int, last: int | None) -> list[HookedCommit]:
        """Those after frames from ``first`` up to, and without, ``last``; in order."""
        end = len(self._frames) if last is None else bisect_left(self._frames, last)
        return [self._commits[frame] for frame in self._frames[bisect_left(self._frames, first) : end]]

    def forget(self, last: int) -> None:
        """Forget those after frames before ``last``."""
        end = bisect_left(self._frames, last)
        for frame in self._frames[:end]:
            self._bytes -= self._commits.pop(frame).size
        del self._frames[:end]


class CrossCheck:
    """The check of one source.

    Thread: its pipeline's alone.
    """

    def __init__(self, hooked: HookReceiver, log: WriteLog, json: Json) -> None:
        """``json``: encodes values for the record of a discrepancy."""
        self._hooked = hooked
        self._log = log
        self._json = json
        self._open: Window | None = None
        self._windows: deque[Window] = deque()
        self._sent: dict[Salts, _Sent] = {}
        self._found: list[Discrepancy] = []
        self._next_check = self._begun = 0.0
        self.checked = 0
        """Number of commits that both captures gave: they agreed, or a discrepancy was recorded."""
        self.unchecked = 0

    def begin(self, begin: Lsn, salts: Salts, commits: int, tables: Mapping[str, Table]) -> None:
        """The ``commits`` after a position are about to be decoded."""
        now = time.monotonic()
        quiet, self._begun = now - self._begun > QUIET_SECONDS, now
        self._open = None
        # The file may be faster than a hook that has been silent: what comes after a quiet time waits for it, and where
        # programs without a hook write all the time, some batches.
        waits = quiet or len(self._windows) < SILENT_WINDOWS
        if commits and (self._hooked.talking or (waits and self._hooked.writers)):
            self._open = Window(begin, salts, commits, tables)
        elif self._hooked.writers:
            self.unchecked += commits

    def on_rows(self, tables: Iterable[TableChanges]) -> Iterable[TableChanges]:
        """Pass on the decoded rows, and note them; it is called again if Postgres refuses them."""
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

    def end(self, end: Lsn, salts: Salts, *, same_schema: bool) -> None:
        """The commits have been applied. ``same_schema``: none of them changed the schema."""
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

    def check(self) -> None:
        """Check the batches that can be checked by now."""
        now = time.monotonic()
        taken = self._hooked.take()
        if not self._windows and not taken:
            return
        if not taken and now < self._next_check:
            return
        self._next_check = now + _RETRY_SECONDS
        self._keep(taken)
        if not self._windows:
            return
        last = self._windows[-1]
        self._windows = deque(window for window in self._windows if not self._is_done(window, now))
        self._forget(self._windows[0] if self._windows else None, last, now)

    def _keep(self, taken: Iterable[HookedCommit]) -> None:
        for commit in taken:
            if isinstance(commit.previous, InWal):
                self._sent.setdefault(commit.previous.salts, _Sent()).add(commit.previous.frame, commit)

    def told(self, end: Lsn, salts: Salts) -> list[HookedCommit]:
        """Those of the commits that are being decoded, up to ``end``, which hooks have sent by now."""
        window = self._open
        if window is None:
            return []
        if taken := self._hooked.take():
            self._keep(taken)
            self._next_check = 0.0
        window.end, window.end_salts = end, salts
        return self._sent_in(window)

    def _is_done(self, window: Window, now: float) -> bool:
        """Check a batch if hooks have sent all of it, or it has waited long enough; False: it waits."""
        sent = self._sent_in(window)
        if len(sent) < window.commits and now - window.closed_at < KEPT_SECONDS:
            return False
        if len(sent) == window.commits:
            self._compare(window, sent)
        else:
            self.unchecked += window.commits
        for commit in sent:
            assert isinstance(commit.previous, InWal)
            self._log.note(commit, window.position(commit.previous))
        return True

    def _sent_in(self, window: Window) -> list[HookedCommit]:
        """The commits in a window that hooks have sent, in order."""
        found: list[HookedCommit] = []
        same = window.begin_salts == window.end_salts
        if (sent := self._sent.get(window.begin_salts)) is not None:
            found += sent.between(window.begin.frame, window.end.frame if same else None)
        if not same and (sent := self._sent.get(window.end_salts)) is not None:
            found += sent.between(0, window.end.frame)
        return found

    def _forget(self, waiting: Window | None, last: Window, now: float) -> None:
        """Forget commits before the first window that waits, or before the end of the last one if none waits."""
        salts, frame = (
            (last.end_salts, last.end.frame) if waiting is None else (waiting.begin_salts, waiting.begin.frame)
        )
        if (sent := self._sent.get(salts)) is not None:
            sent.forget(frame)
        for salts in [salts for salts, sent in self._sent.items() if now - sent.last > FORGOTTEN_SECONDS]:
            del self._sent[salts]

    def _compare(self, window: Window, sent: list[HookedCommit]) -> None:
        found: list[Found] | None = None
        if window.changes is not None:
            if (hooked := net(sent, window.tables)) is not None:
                found = list(differences(window.changes, hooked))
            elif (keys := last_ops(sent, window.tables)) is not None:
                found = list(key_differences(window.changes, keys, window.tables))
        if found is None:
            self.unchecked += window.commits
            return
        self.checked += window.commits
        writers = ", ".join(dict.fromkeys(str(commit.writer) for commit in sent))
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
        """Number of applied batches for which hooks may still send commits."""
        return len(self._windows)

    def take_found(self) -> list[Discrepancy]:
        """The discrepancies found since the last call."""
        found, self._found = self._found, []
        return found


Net = dict[Key, tuple[Row | None, Row | None]]
#: A row on which two captures disagree: its key, how, and the row afterwards by the WAL and by the hook.
Found = tuple[Key, Kind, Row | None, Row | None]


def _rows(commits: Iterable[HookedCommit]) -> Iterator[HookedRow]:
    """The rows that hooks have sent, in order."""
    for commit in commits:
        yield from map(decode_row, commit.rows or ())


def net(commits: Collection[HookedCommit], tables: Mapping[str, Table], *, whole: bool = False) -> Net | None:
    """The net effect of commits that hooks have sent: each row before and after; None if it cannot be known.

    ``whole``: it must be of all tables; otherwise rows of tables that cannot be compared are left out.
    """
    found: Net = {}
    if any(commit.rows is None for commit in commits):
        return None
    for row in _rows(commits):
        if row.new_rowid is None:
            return None  # only keys
        table = tables.get(row.table)
        if table is None:
            if whole and row.table in (each.declared.name for each in tables.values()):
                return None  # the data of a virtual table, which has another name
            continue  # SQLite's own, or a virtual table's
        if not is_comparable(table):
            if whole:
                return None
            continue
        if any(values is not None and len(values) != len(table.declared.columns) for values in (row.before, row.after)):
            return None
        if row.before is not None:
            _merge(found, table, RowChange(row.rowid, _stored(table, row.before), None))
        if row.after is not None:
            _merge(found, table, RowChange(row.new_rowid, None, _stored(table, row.after)))
    return found


def is_comparable(table: Table) -> bool:
    """Whether the hook's rows of a table can be compared with the decoder's by plain equality."""
    plain = all(collation.upper() == "BINARY" for collation in table.collations)
    return plain and not table.definition and not table.declared.left_out and table.virtual is None


def differences(wal: Net, hook: Net) -> Iterator[Found]:
    """The rows on which two captures disagree."""
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
    """For each row that hooks have sent, of tables with a rowid: whether it exists after the commits; None if unknown.

    It is known without the rows' values, too, except for rows that ``REPLACE`` has deleted (:mod:`mirror.hook.keys`).
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


def key_differences(wal: Net, sent: Mapping[Key, bool], tables: Mapping[str, Table]) -> Iterator[Found]:
    """As :func:`differences`, where hooks sent only keys: new rows that no hook sent, and deleted rows that exist.

    An updated row that no hook sent is no difference: it can be a blob that was written in place.
    """
    for key, (before, after) in wal.items():
        if after is None or tables[key[0]].without_rowid:
            continue
        if key not in sent and before is None:
            yield key, "only the WAL", after, None
        elif not sent.get(key, True):
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
    """The key of a row in SQLite: the rowid, or the primary key in a WITHOUT ROWID table."""
    if table.without_rowid:
        return tuple(row[table.position(name)] for name in table.primary_key)
    return (rowid,)


def _stored(table: Table, values: tuple[Value, ...]) -> Row:
    """A row as the decoder gives it: a REAL column's whole numbers come as integers from the hook."""
    if table.whole is not None:
        values = tuple(values[at] for at in table.places)
    return tuple(
        float(value) if type(value) is int and column.affinity == "REAL" else value
        for column, value in zip(table.columns, values, strict=True)
    )


def _same(one: Row | None, other: Row | None) -> bool:
    if one is None or other is None:
        return one is other
    return identical(one, other)
