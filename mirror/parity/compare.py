"""Compare a live SQLite database with its mirror: every row, exact at a position, without blocking writers.

The comparison goes in rounds. A round stops the apply side, opens a read view on the source and reads
which commit it shows, reads rows from it for some milliseconds and closes it; then the apply side applies
up to exactly that commit, a Postgres snapshot is taken there, and the apply side runs on. So both sides
of every slice are at the same commit, and a write during the comparison cannot look like a difference.
The slow part, reading and comparing Postgres' rows, blocks neither the writers nor the apply side.

::

    hold ─▶ view opens at P ─▶ rows ─▶ view ends ─▶ reach(P) ─▶ snapshot at P ─▶ release ─▶ compare

(In a rollback-journal mode: settle at P ─▶ rows ─▶ still at P? ─▶ snapshot at P ─▶ compare.)

A table's definition may change between rounds; the table then starts over. *Not* guaranteed: one position for the
whole report (each slice has its own), and anything about tables that are created during the run.

A *sample* compares some ranges of keys instead of all keys: the first range from the beginning, the others
from after a row taken at random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw
import psycopg

from mirror.core.errors import MirrorError, SourceError, recover
from mirror.core.positions import Lsn
from mirror.core.virtual import VirtualTable, left_out
from mirror.core.words import one_line
from mirror.parity.adopted import canonical_key, decoded, out_of_order, unknown_forms
from mirror.parity.digests import Choice, digest_of
from mirror.parity.gate import Gate
from mirror.parity.plan import Mapping, Plan, computed, key_of, make_plan, obstacle, unreadable
from mirror.parity.report import ParityReport, Status, TableReport, verdict_of
from mirror.parity.server import server_of
from mirror.parity.source import Slice, Source
from mirror.parity.tally import Tally
from mirror.parity.target import FETCH_ROWS, Range, Refusal, Target
from mirror.parity.values import Cells
from mirror.parity.views import open_source

#: How long one read transaction on the source reads rows.
READ_SECONDS = 0.018

#: How often a table starts over because its definition changed.
RESTARTS = 5

#: Ranges of keys of which a sample of a table consists, if it has so many rows.
SAMPLE_RANGES = 20

#: Of a virtual table: whether its data are mirrored, in other tables.
_VIRTUAL = (
    "it is a virtual table, which is not mirrored",
    "it is a virtual table, of which other tables have the data",
)
_UNKNOWN = "neither the source nor the mirror has such a table"

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a table has been read, and how much is left."""

    after: Cells | None = None
    """The last key that was read from the source."""
    lower: Cells | None = None
    """The last key read that Postgres can hold."""
    rows: int | None = None
    """Rows that are left of this range of a sample; None: all rows are compared."""
    ranges: int = 0
    """Ranges of a sample that are left."""


@dataclass(slots=True)
class _Job:
    """The comparison of one table."""

    table: str
    mapping: Mapping | None
    tally: Tally = field(default_factory=Tally)
    place: _Place | None = None
    """None: nothing has been read."""
    whole: str = ""
    """Why the table is read as a whole, although its keys have a common order."""
    note: str = ""
    """What part of the table is not compared."""
    restarts: int = 0
    seconds: float = 0.0
    refusal: Refusal | None = None
    """Why Postgres does not take the table as it is."""
    report: TableReport | None = None

    def finish(self, status: Status | None = None, reason: str = "", next_step: str = "") -> None:
        report = self.tally.report(self.table, status, reason or self.note, self.seconds)
        form = "" if self.mapping is None else self.mapping.form
        report = replace(report, next_step=next_step, form=form)
        if self.refusal is not None and report.status == "different":
            report = replace(
                report,
                status="not mirrored" if self.mapping is None else "different",
                reason=f"Postgres refuses it: {self.refusal.reason}",
                next_step=self.refusal.next_step,
                refused=True,
                own_schema=self.refusal.own_schema,
            )
        self.report = report

    def start_over(self, mapping: Mapping | None) -> None:
        self.mapping = mapping
        self.tally = Tally()
        self.place = None
        self.restarts += 1


@dataclass(slots=True)
class _Reading:
    """What was read of one table in one view."""

    job: _Job
    exists: bool = True
    obstacle: str = ""
    unreadable: str = ""
    next_step: str = ""
    """What helps where it is unreadable."""
    plan: Plan | None = None
    null_keys: list[str] = field(default_factory=list)
    place: _Place = _Place()
    slice: Slice | None = None
    digests: dict[str, bytes] | None = None
    source_rows: int = 0


def compare(
    source: Path,
    conn: psycopg.Connection[Any],
    schema: str,
    gate: Gate,
    *,
    tables: Collection[str] | None = None,
    sample: int | None = None,
    progress: Progress | None = None,
    derived: Collection[str] = (),
) -> ParityReport:
    """Compare all mirrored tables of ``source`` (or just ``tables``) with Postgres.

    ``sample``: about how many rows to compare of a table that has more. ``derived``: virtual tables that are no loss.
    ``conn`` must be idle. ``progress`` is called with a table and the number of its rows compared so
    far. Does not raise if source, Postgres or gate fail: the report then says "not checked".
    """
    started = time.perf_counter()
    run = _Run(Path(source).resolve(), conn, schema, gate, tables, sample, progress)
    reason, server = "", None
    try:
        server = server_of(conn, schema)
        run.run()
    except (MirrorError, psycopg.Error, apsw.Error, OSError) as error:
        reason = _in_one_line(error)
    reports = tuple(sorted(run.reports(reason), key=lambda report: report.table))
    return ParityReport(
        source=str(source),
        tables=reports,
        verdict="not checked" if reason else verdict_of(reports),
        reason=reason,
        seconds=time.perf_counter() - started,
        rows=sum(report.source_rows or 0 for report in reports),
        server=server,
        longest_read=run.longest_view,
        sample=sample,
        left_out=(*run.excluded, *left_out(run.virtual, derived)),
    )


class _Run:
    """One comparison; :meth:`reports` is valid after :meth:`run`, also if that raised."""

    def __init__(
        self,
        path: Path,
        conn: psycopg.Connection[Any],
        schema: str,
        gate: Gate,
        tables: Collection[str] | None,
        sample: int | None,
        progress: Progress | None,
    ) -> None:
        self._path = path
        self._schema = schema
        self._gate = gate
        self._wanted = None if tables is None else set(tables)
        self._sample = sample
        self._progress = progress
        self._target = Target(conn)
        self._choice = Choice()
        self._jobs: list[_Job] = []
        self.longest_view = 0.0
        self.virtual: tuple[VirtualTable, ...] = ()
        self.excluded: tuple[str, ...] = ()
        """The source's virtual tables."""

    def run(self) -> None:
        """Compare; raises the error that ends the run early."""
        source = open_source(self._path)
        try:
            with self._target.connected(self._path, self._schema):
                self._list_tables(source)
                while pending := [job for job in self._jobs if job.report is None]:
                    self._round(source, pending)
        finally:
            self.longest_view = source.longest_view
            source.close()

    def reports(self, reason: str) -> list[TableReport]:
        """The tables' reports; those that are not finished are not checked, for this reason."""
        for job in self._jobs:
            if job.report is None:
                job.finish("not checked", reason)
        return [job.report for job in self._jobs if job.report is not None]

    def _list_tables(self, source: Source) -> None:
        present: set[str] = set()
        vectors: dict[str, set[str]] = {}

        def read() -> None:
            nonlocal present, vectors
            present, vectors = source.ordinary_tables(), source.kept_by_vectors()
            self.virtual = source.virtual_tables()

        source.at_commit(self._gate, self._target.begin, read)
        try:
            mappings, rules = self._target.mappings(), self._target.adoption()
        finally:
            self._target.end()
        self.excluded = tuple(sorted(name for name in present - mappings.keys() if rules.excludes(name)))
        present -= set(self.excluded)
        carried = {mapping.virtual for mapping in mappings.values()}
        self.virtual = tuple(replace(each, obstacle=None) if each.name in carried else each for each in self.virtual)
        names = present | mappings.keys() | {name for owner in vectors.keys() & carried for name in vectors[owner]}
        if self._wanted is not None:
            for table in self._wanted - names:
                job = _Job(table, None)
                known = {each.name: each for each in self.virtual}
                why = _VIRTUAL[known[table].obstacle is None] if table in known else _UNKNOWN
                job.finish("not checked", why)
                self._jobs.append(job)
            names &= self._wanted
        self._jobs += [_Job(table, mappings.get(table)) for table in sorted(names)]

    def _round(self, source: Source, pending: list[_Job]) -> None:
        """Read as many slices at one position as :data:`READ_SECONDS` allows, and compare them there."""
        readings: list[_Reading] = []

        def read() -> None:
            readings.clear()
            deadline = time.perf_counter() + READ_SECONDS
            for job in pending:
                readings.append(self._read(source, job, deadline))
                if time.perf_counter() >= deadline:
                    break

        lsn = source.at_commit(self._gate, self._target.begin, read)
        try:
            mappings, refusals = self._target.mappings(), self._target.refusals()
            for reading in readings:
                started = time.perf_counter()
                reading.job.refusal = refusals.get(reading.job.table)
                self._settle(reading, mappings.get(reading.job.table), lsn)
                reading.job.seconds += time.perf_counter() - started
                if self._progress is not None:
                    self._progress(reading.job.table, reading.job.tally.source_rows)
        finally:
            self._target.end()

    def _read(self, source: Source, job: _Job, deadline: float) -> _Reading:
        """Read a table's definition and its next rows; an error is kept, because a changed mapping may explain it."""
        reading = _Reading(job)
        started = time.perf_counter()
        try:
            self._read_rows(source, reading, deadline)
        except apsw.CorruptError as error:
            reading.unreadable = f"it is damaged in SQLite: {error}"
            reading.next_step = recover(self._path)
        except (SourceError, apsw.Error) as error:
            reading.unreadable = _in_one_line(error)
        job.seconds += time.perf_counter() - started
        return reading

    def _read_rows(self, source: Source, reading: _Reading, deadline: float) -> None:
        job = reading.job
        shape = source.shape(job.table)
        reading.exists = shape is not None
        if shape is None or job.mapping is None:
            return
        reading.obstacle = obstacle(job.mapping, shape)
        reading.unreadable = unreadable(job.mapping, shape) or unknown_forms(job.mapping.columns)
        if reading.obstacle or reading.unreadable:
            return
        bytewise_text = source.encoding == "UTF-8" and self._target.utf8
        plan = make_plan(job.mapping, shape, bytewise_text=bytewise_text)
        if job.tally.source_rows > source.most_rows():
            raise apsw.CorruptError("its b-tree leads back")
        if job.whole:
            plan = plan.without_order(job.whole)
        reading.plan = plan
        reading.null_keys = source.null_keys(plan) if job.place is None else []
        notes = []
        if plan.order:
            place = reading.place = self._place(source, job.place, plan)
            reading.slice = source.read(plan, place.after, deadline, place.rows)
            notes = ["only a sample of its rows was compared"] if place.rows is not None else []
        elif plan.adopted:
            reading.slice = source.read_together(plan)
        else:
            reading.digests, reading.source_rows = source.read_whole(plan)
        omitted = job.mapping.omitted
        if left := [name for name in shape.left_out if name not in omitted]:
            notes.append(f"not compared, because only the program can compute it: {', '.join(left)}")
        if by_postgres := computed(job.mapping, shape):
            notes.append(f"not compared, because Postgres computes it: {', '.join(by_postgres)}")
        if omitted:
            by = "when it was adopted" if job.mapping.adopted else "by a rule in mirror.json"
            notes.append(f"left out {by}: {', '.join(omitted)}")
        job.note = "; ".join(notes)

    def _place(self, source: Source, place: _Place | None, plan: Plan) -> _Place:
        """Where to read next; no rows are left where a sample is complete."""
        sample = self._sample
        if place is None:
            if sample is None or plan.shape.rowid is None or not source.has_more_rows(plan, sample):
                return _Place()
            ranges = min(SAMPLE_RANGES, sample)
            return _Place(rows=-(-sample // ranges), ranges=ranges - 1)
        if sample is None or place.rows != 0:
            return place
        for ranges in reversed(range(place.ranges)):
            key = source.random_key(plan)
            if key is None:
                continue
            held = canonical_key(plan, key)
            if plan.fits(held):  # else Postgres cannot read from after it
                return _Place(key, held, -(-sample // min(SAMPLE_RANGES, sample)), ranges)
        return place

    def _settle(self, reading: _Reading, mapping: Mapping | None, lsn: Lsn) -> None:
        """Compare what was read with Postgres at the same position."""
        job = reading.job
        if mapping != job.mapping:
            job.start_over(mapping)
            if job.restarts > RESTARTS:
                job.finish("not checked", "schema kept changing")
        elif mapping is None:
            if reading.exists:
                job.finish("different", "it is not in Postgres")
            else:
                job.finish("equal", "dropped on both sides during the comparison")
        elif not reading.exists:
            job.finish("different", "only in Postgres: the source has no table of this name")
        elif reading.obstacle:
            job.finish("different", reading.obstacle)
        elif reading.unreadable:
            job.finish("not checked", reading.unreadable, reading.next_step)
        else:
            self._settle_rows(reading, lsn)

    def _settle_rows(self, reading: _Reading, lsn: Lsn) -> None:
        job = reading.job
        try:
            with self._target.attempt():
                assert reading.plan is not None
                if altered := self._target.altered(reading.plan):
                    job.finish("different", altered)
                    return
                job.tally.add_rejects(reading.null_keys, self._rejected(job))
                if job.place is None:
                    job.tally.add_extra(self._target.null_keys(reading.plan))
                if not reading.plan.order:
                    self._compare_whole(reading)
                    job.tally.at(lsn)
                    self._finish(job, reading.plan)
                else:
                    assert reading.slice is not None
                    self._compare_slice(reading, reading.slice, lsn)
        except psycopg.Error as error:
            if self._target.gone:
                raise
            if isinstance(error, psycopg.DataError):  # no value that the mirror has written fails
                why = "a value in Postgres cannot be read as the mirror wrote it"
                job.finish("different", f"{why}: {_in_one_line(error)}")
            else:
                job.finish("not checked", _in_one_line(error))

    def _compare_whole(self, reading: _Reading) -> None:
        job, plan = reading.job, reading.plan
        assert plan is not None
        theirs = self._target.rows(plan, Range(None, None))
        if reading.slice is not None:
            found = decoded(plan.row_columns, reading.slice.rows)
            job.tally.losses += found.losses
            job.tally.add_together(plan, found.rows, theirs, self._rejected(job), reading.slice.rows)
            return
        assert reading.digests is not None
        job.tally.add_whole(plan, reading.digests, reading.source_rows, theirs, self._rejected(job))

    def _compare_slice(self, reading: _Reading, slice_: Slice, lsn: Lsn) -> None:
        job, plan, place = reading.job, reading.plan, reading.place
        assert plan is not None
        if place.rows == 0:  # the sample is complete
            self._finish(job, plan)
            return
        large, rows = slice_.large, slice_.rows
        if plan.adopted:
            found = decoded(plan.row_columns, rows)
            if out_of_order(plan, rows, found.rows):
                job.whole = "a key has another order in Postgres"
                job.start_over(job.mapping)
                return
            rows = found.rows
            job.tally.losses += found.losses
        upper = None if slice_.exhausted else _last_that_fits(plan, rows) or place.lower
        if slice_.exhausted or upper != place.lower:
            self._compare_range(job, plan, rows, Range(place.lower, upper), slice_.rows, large=large)
        else:  # no key of the slice can be in Postgres
            job.tally.add_slice(plan, rows, (), self._rejected(job), slice_.rows)
        job.tally.at(lsn)
        if slice_.exhausted:
            job.place = replace(place, rows=0)
            if not place.ranges:
                self._finish(job, plan)
            return
        after = key_of(slice_.rows[-1], plan.key_positions)
        left = None if place.rows is None else place.rows - len(slice_.rows)
        job.place = _Place(after, upper, left, place.ranges)
        if None in after:
            # No comparison with NULL is true, so no range can start after this key.
            job.whole = "the key holds NULL"
            job.start_over(job.mapping)

    def _finish(self, job: _Job, plan: Plan) -> None:
        job.finish()
        if plan.adopted and job.report is not None:
            job.report = replace(job.report, columns=job.tally.columns(plan))

    def _compare_range(
        self, job: _Job, plan: Plan, rows: list[Cells], wanted: Range, read: list[Cells], *, large: bool
    ) -> None:
        started = time.perf_counter()
        by_digest = not plan.adopted and (large or self._choice.by_digest())
        mine = digest_of(plan.row_columns, rows) if by_digest else None
        if mine is not None and mine == self._target.digest(plan, wanted):
            job.tally.add_equal(rows)
        else:
            theirs = self._target.rows(plan, wanted, 1 if large else FETCH_ROWS)
            job.tally.add_slice(plan, rows, theirs, self._rejected(job), read)
        if not large and not plan.adopted:
            self._choice.took(len(rows), time.perf_counter() - started, by_digest=by_digest)

    def _rejected(self, job: _Job) -> Callable[[Collection[str]], set[str]]:
        return lambda keys: self._target.rejected(job.table, keys)


def _last_that_fits(plan: Plan, rows: list[Cells]) -> Cells | None:
    positions = plan.key_positions
    keys = (key_of(row, positions) for row in reversed(rows))
    return next((key for key in keys if plan.fits(key)), None)


def _in_one_line(error: Exception) -> str:
    """An error in one line."""
    text = one_line(str(error))
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return f"Postgres: {text} ({error.sqlstate})"
    return text if isinstance(error, MirrorError) else f"{type(error).__name__}: {text}"
