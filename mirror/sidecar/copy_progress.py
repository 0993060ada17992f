"""How far the copy of a source is, and what a mirror reads at its start: for the status, and for people who watch.

A copy has two parts: the file's bytes, and the rows of its tables. What it takes in all is estimated from what can be
known without reading the tables: :attr:`CopyProgress.fraction` is for a bar, and for nothing that decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import NamedTuple

from mirror.capture.spool import SEGMENT_BYTES, SpoolPlace
from mirror.core.status import ProgressReport
from mirror.sidecar.status import SourceStatus

#: The file's part of a whole copy, which takes some time a byte; the rows take ten times more.
_FILE_PART = 0.1
#: What :class:`~mirror.core.status.ProgressReport` says is read.
THE_FILE, MEANWHILE, COMPARED = "the file", "what happened meanwhile", "the file, compared with its copy"


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

    def begins(self, tables: Mapping[str, int | None]) -> None:
        """A load of these tables begins, each with about so many rows; None: not known."""
        known = [float(max(rows, 1)) for rows in tables.values() if rows is not None]
        usual = sum(known) / len(known) if known else 1.0
        weights = [usual if rows is None else float(max(rows, 1)) for rows in tables.values()]
        before = accumulate([0.0, *weights])
        whole = sum(weights) or 1.0
        self._parts = {name: (at / whole, own / whole) for name, own, at in zip(tables, weights, before, strict=False)}
        self._numbers = {name: number for number, name in enumerate(tables, 1)}
        self.loaded, self.tables, self.fraction, self.saving = [], len(tables), _FILE_PART, False
        self._table = self._sent = None
        self.loads_begun += 1

    def loads(self, table: str, done: int, total: int | None) -> None:
        """So many rows of a table are sent. All are when ``done`` is ``total``, and a later report is of its next try.

        The first report of a table is its beginning, and ends the table before it.
        """
        self._check()
        if table != self._table:
            self._end_table()
            self._table, self._began = table, self._clock()
        self._sent = done if done == total else None
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

    def _end_table(self) -> None:
        if self._table is not None and self._sent is not None:  # else it is refused
            self.loaded.append(Loaded(self._table, self._sent, self._clock() - self._began))
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
