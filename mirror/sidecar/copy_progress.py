"""How far the copy of a source is, and what a mirror reads at its start: for the status, and for people who watch.

A copy has two parts: the file's bytes, and the rows of its tables. What it takes in all is estimated from what can be
known without reading the tables: :attr:`CopyProgress.fraction` and :attr:`CopyProgress.left` are for people, and for
nothing that decides anything. The same number of rows may take two hundred times longer in one table than in another
(JSON, beside numbers), so the time that is left is told only where what was seen of this copy bounds it well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from itertools import accumulate
from typing import NamedTuple

from mirror.capture.spool import SEGMENT_BYTES, SpoolPlace
from mirror.core.status import ProgressReport
from mirror.sidecar.status import SourceStatus

#: The file's part of a whole copy, which takes some time a byte; the rows take ten times more.
_FILE_PART = 0.1
#: What :class:`~mirror.core.status.ProgressReport` says is read.
THE_FILE, MEANWHILE, COMPARED = "the file", "what happened meanwhile", "the file, compared with its copy"
#: Seconds over which the pace of the table in work is measured; at least so many; and between two points of it.
_RECENT, _LEAST_RECENT, _POINT = 10.0, 1.0, 0.5
#: The time that is left is told where the most that it may be is so many times the least.
_SPREAD = 4.0
#: Rows of a table that take no time to speak of, whatever is in them.
_FEW = 1000


class Loaded(NamedTuple):
    """A table that a load has sent, and prepared for queries."""

    table: str
    rows: int
    seconds: float


class CopyProgress:
    """Fills :attr:`SourceStatus.progress`, and remembers which tables a load has behind it.

    Thread: that of the source's loop; others read. All methods that report raise what ``check`` raises.
    """

    def __init__(
        self, status: SourceStatus, check: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``check``: called with each report. ``clock``: seconds."""
        self._status, self._check, self._clock = status, check, clock
        self.loads_begun = 0
        """How many loads have begun: :attr:`loaded` begins anew with each."""
        self.loaded: list[Loaded] = []
        self.tables = 0
        """How many tables the load has."""
        self.fraction = 0.0
        """How much of the copy is done, from 0 to 1."""
        self.saving = False
        """Whether all rows are sent, and the copy in the state directory is being saved."""
        self._parts: dict[str, tuple[float, float]] = {}
        """By table: the tables before it as a part of all, and its own part."""
        self._numbers: dict[str, int] = {}
        self._table: str | None = None
        self._sent: int | None = None
        self._began = 0.0
        self._rows: dict[str, int | None] = {}
        self._documents: frozenset[str] = frozenset()
        self._paces: dict[bool, list[float]] = {}
        """Seconds a row of each table that is finished: of those with documents, and of the others."""
        self._rest: int | None = None
        """Rows of the table in work that are not sent yet."""
        self._points: tuple[tuple[float, int], ...] = ()
        """When so many rows of the table in work were sent: of the last seconds."""
        self._read_from: SpoolPlace | None = None

    def copies(self, done: int, total: int) -> None:
        """So many bytes of the file are copied."""
        self._bytes(THE_FILE, done, total)
        self.fraction = _FILE_PART * done / max(total, 1)

    def compares(self, done: int, total: int) -> None:
        """So many bytes of the file are compared with the copy."""
        self._bytes(COMPARED, done, total)

    def reads(self, place: SpoolPlace, until: SpoolPlace | None) -> None:
        """What was spooled while the mirror was behind is read up to a place; said until it has caught up once."""
        if self._status.caught_up_at is not None or until is None:
            return
        if self._read_from is None:
            self._read_from = place
        self._bytes(MEANWHILE, _between(self._read_from, place), _between(self._read_from, until))

    def _bytes(self, what: str, done: int, total: int) -> None:
        self._check()
        self._status.progress = ProgressReport(what=what, done=done, total=max(done, total), unit="bytes")

    def begins(self, tables: Mapping[str, int | None], documents: Collection[str] = ()) -> None:
        """A load of these tables begins, each with about so many rows; None: not known.

        ``documents``: those of them that have values which are converted one by one.
        """
        known = [float(max(rows, 1)) for rows in tables.values() if rows is not None]
        usual = sum(known) / len(known) if known else 1.0
        weights = [usual if rows is None else float(max(rows, 1)) for rows in tables.values()]
        before = accumulate([0.0, *weights])
        whole = sum(weights) or 1.0
        self._parts = {name: (at / whole, own / whole) for name, own, at in zip(tables, weights, before, strict=False)}
        self._numbers = {name: number for number, name in enumerate(tables, 1)}
        self.loaded, self.tables, self.fraction, self.saving = [], len(tables), _FILE_PART, False
        self._table = self._sent = None
        self._rows, self._documents, self._paces = dict(tables), frozenset(documents), {True: [], False: []}
        self._points, self._rest = (), None
        self.loads_begun += 1

    def loads(self, table: str, done: int, total: int | None) -> None:
        """So many rows of a table are sent. All are when ``done`` is ``total``, and a later report is of its next try.

        The first report of a table is its beginning, and ends the table before it.
        """
        self._check()
        if table != self._table:
            self._end_table()
            self._table, self._began = table, self._clock()
            self._points = ()
        self._sent = done if done == total else None
        self._measure(done, total)
        before, own = self._parts.get(table, (0.0, 0.0))
        part = min(done / total, 1.0) if total else float(done == total)
        self.fraction = _FILE_PART + (1 - _FILE_PART) * (before + part * own)
        self._status.progress = ProgressReport(
            what=table,
            done=done,
            total=None if total is None else max(done, total),
            table=self._numbers.get(table),
            tables=self.tables,
        )

    def _measure(self, done: int, total: int | None) -> None:
        """Note how fast the table in work goes, and how many of its rows are to come."""
        now = self._clock()
        points = self._points
        if done < (points[-1][1] if points else 0):  # it is sent again, in another way
            points = ()
        if done:  # the last point is always the newest report
            older = points[:-1] if len(points) > 1 and now - points[-2][0] < _POINT else points
            recent = tuple(point for point in older if point[0] >= now - _RECENT)
            points = (*(recent or older[-1:]), (now, done))
        self._points = points
        self._rest = None if total is None else max(0, total - done)

    @property
    def left(self) -> float | None:
        """Seconds that the load is about to take, from now; None: that cannot be told within a factor of two or so.

        The table in work goes on as in the last seconds. Those that have not begun take at least as long a row as the
        fastest of their kind in this load, and at most as long as the slowest. Thread: any.
        """
        points, rest, table = self._points, self._rest, self._table
        if self.saving or table is None or rest is None:
            return None
        number = self._numbers.get(table, 0)
        later = {
            name: rows
            for name, rows in self._rows.items()
            if self._numbers.get(name, 0) > number and (rows is None or rows > _FEW)
        }
        if not rest and not later:
            return None
        paces = {kind: list(found) for kind, found in self._paces.items()}
        least = most = 0.0
        if rest:
            spent = self._clock() - points[0][0] if points else 0.0
            if spent < _LEAST_RECENT or points[-1][1] <= points[0][1]:
                return None
            pace = spent / (points[-1][1] - points[0][1])
            paces[table in self._documents].append(pace)
            least = most = rest * pace
        for name, rows in later.items():
            known = paces[name in self._documents]
            if rows is None or not known:
                return None
            least, most = least + rows * min(known), most + rows * max(known)
        return math.sqrt(least * most) if most <= _SPREAD * least else None

    def _end_table(self) -> None:
        if self._table is not None and self._sent is not None:  # else it is refused
            self.loaded.append(Loaded(self._table, self._sent, self._clock() - self._began))
            if self._sent and self.loaded[-1].seconds >= _POINT:  # else it says nothing of the pace
                self._paces[self._table in self._documents].append(self.loaded[-1].seconds / self._sent)
        self._table = self._sent = None

    def saves(self) -> None:
        """All rows are sent."""
        self._end_table()
        self.saving, self.fraction = True, 1.0

    def ends(self) -> None:
        """Nothing is copied or read any more."""
        self._status.progress = self._read_from = None
        self.saving = False

    def close(self) -> None:
        """As :meth:`ends`, with the source."""
        self.ends()


def _between(first: SpoolPlace, last: SpoolPlace) -> int:
    """About how many bytes of the spool are between two places."""
    return max(0, (last.segment - first.segment) * SEGMENT_BYTES + last.offset - first.offset)
