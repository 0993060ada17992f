"""One batch into Postgres, in one transaction.

Statements are queued and sent in one pipeline, which for a small batch is one round trip: BEGIN, the
rows, the position, COMMIT (for a single row, all of it is one statement). A table with many changes
is streamed by COPY into a temporary table instead. Of a batch, at most one such queue is in memory.
"""

from __future__ import annotations

import pickle
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from types import TracebackType
from typing import Generic, Self, TypeVar

from mirror.core.errors import RefusedError
from mirror.core.positions import Lsn, Position
from mirror.core.rows import RowChange, TableChanges, TableResult
from mirror.core.tables import Table
from mirror.core.values import BadText
from mirror.postgres import large
from mirror.postgres.ddl import table_sql
from mirror.postgres.distributed import stage_for
from mirror.postgres.dml import Stage, is_wide, on_conflict
from mirror.postgres.history import note_not_json
from mirror.postgres.migrate import statement
from mirror.postgres.prepared import PreparedStatements, Queued
from mirror.postgres.rows import Rejected, RowPlan, RowPlanner
from mirror.postgres.target import Conn, Target

#: Up to so many changes of one table, or bytes of them, go as single statements.
SMALL_ROWS = 500
SMALL_BYTES = large.LARGE_BYTES

#: The queue is sent when it is this long, whatever follows.
_QUEUE_STATEMENTS = 2_000
_QUEUE_BYTES = 8_000_000

_SPILLED_BYTES = 4_000_000

T = TypeVar("T")


@lru_cache(maxsize=4096)
def _joined(*statements: tuple[bytes, int]) -> bytes:
    """Join statements, each with its number of parameters, before the move of the position, which is the last one."""
    begins = accumulate((parameters for _, parameters in statements), initial=0)
    *changes, move = (_shifted(text, before) for (text, _), before in zip(statements, begins, strict=False))
    return b"WITH %b %b" % (b", ".join(b"change%d AS (%b)" % each for each in enumerate(changes)), move)


def _shifted(text: bytes, before: int) -> bytes:
    """A statement whose parameters come after so many others."""
    return re.sub(rb"\$(\d+)", lambda match: b"$%d" % (int(match[1]) + before), text)


def change_bytes(change: RowChange) -> int:
    """Return about how many bytes a change takes."""
    size = 64
    for row in (change.before, change.after):
        for value in row or ():
            if isinstance(value, (str, bytes)):
                size += len(value)
            elif isinstance(value, BadText):
                size += len(value.raw)
    return size


class Transaction:
    """The row changes of one Postgres transaction, which begins with the first statement sent."""

    def __init__(
        self,
        conn: Conn,
        statements: PreparedStatements,
        source_id: int,
        lsn: Lsn,
        rejects: dict[str, int],
        planners: dict[str, RowPlanner],
        refuse: Callable[[str, RefusedError], None],
    ) -> None:
        """``statements``: those of ``conn``. ``rejects``: by source table, how many entries ``mirror.rejects`` has
        before. ``planners``: a cache that outlives the transaction. ``refuse``: called with each table that is left
        out, if that is allowed.
        """
        self.refuse = refuse
        self.conn = conn
        self._statements = statements
        self._planners = planners
        self._source_id = str(source_id)
        self._lsn = lsn
        self.rejects = rejects
        self._queue: list[Queued] = [(b"BEGIN", ())]
        self._begun = False
        self._row_statements = self._logged = 0
        self._queued_bytes = 0
        self._stages = 0
        self.rejects_touched = False

    def queue(self, query: bytes, params: tuple[large.Sent, ...] = ()) -> None:
        """Send a statement with the next pipeline."""
        self._queue.append((query, params))

    def log(self, statements: Sequence[Queued]) -> None:
        """As :meth:`queue`, of the entry in the log of changes, if there is one."""
        self._queue += statements
        self._logged += len(statements)

    def flush(self) -> None:
        """Send what is queued and wait until all of it is done; raises psycopg's errors."""
        queue, self._queue, self._queued_bytes = self._queue, [], 0
        if not queue:
            return
        self._begun = True
        self._statements.run(queue)

    def commit(self) -> None:
        """Send what is left, and COMMIT with it.

        BEGIN, one change of one row, its entry in the log (if there is one), and the position are joined into one
        statement, which is its own transaction: it takes a third less time than the four.
        """
        if not self._begun and self._row_statements == 1 and len(self._queue) == 3 + self._logged:
            joined = self._queue[1:]
            self._queue.clear()
            text = _joined(*((query, len(params)) for query, params in joined))
            self._statements.run([(text, tuple(chain.from_iterable(params for _, params in joined)))])
            return
        self.queue(b"COMMIT")
        self.flush()

    def _planner(self, table: Table, target: Target) -> RowPlanner:
        planner = self._planners.get(table.name)
        if planner is None or planner.target != target or planner.table != table:
            planner = self._planners[table.name] = RowPlanner(table, target)
        return planner

    def apply_table(self, changes: TableChanges, target: Target) -> TableResult:
        """Apply the changes of one table; raises ColumnMisfit, NullInKey, psycopg's errors."""
        planner = self._planner(changes.table, target)
        buffered: deque[RowChange] = deque()
        size = 0
        rows = iter(changes.rows)
        for change in rows:
            buffered.append(change)
            size += change_bytes(change)
            if len(buffered) > SMALL_ROWS or size > SMALL_BYTES:
                del change
                apply = self._one_by_one if self.goes_by_itself(target) else self._stream
                return apply(planner, target, chain(_drained(buffered), rows))
        return self._queue_rows(planner, target, list(buffered), size)

    def goes_by_itself(self, target: Target) -> bool:
        """Whether each of many rows is written by a statement of its own, and not by way of a stage."""
        return is_wide(target)

    def _queue_rows(self, planner: RowPlanner, target: Target, changes: list[RowChange], size: int) -> TableResult:
        """Queue single statements: all deletes, then all upserts, so that a key can go from one row to another."""
        count = Counts()
        plans = []
        tracked = self.rejects.get(target.source, 0) > 0
        for change in changes:
            if tracked:
                for key in planner.reject_keys(change):
                    self._forget(target.source, key)
            plans.append(count.add(change, planner.plan(change)))
        for plan in plans:
            self._queue_deletes(planner, plan)
            if plan.rejected is not None:
                self.save_reject(target.source, plan.rejected)
        self.queue_upserts(planner, list(zip(changes, plans, strict=True)), count)
        self._sent_soon(size)
        return count.result(target.source)

    def _queue_deletes(self, planner: RowPlanner, plan: RowPlan) -> None:
        for gone in plan.deletes:
            self.queue(planner.statements.delete, gone)
            self._row_statements += 1

    def _sent_soon(self, size: int) -> None:
        """Count bytes that are queued; what is much is sent."""
        self._queued_bytes += size
        if len(self._queue) > _QUEUE_STATEMENTS or self._queued_bytes > _QUEUE_BYTES:
            self.flush()

    def _one_by_one(self, planner: RowPlanner, target: Target, changes: Iterator[RowChange]) -> TableResult:
        """As :meth:`_queue_rows`, for any number of rows, of a table that no stage has room for."""
        count = Counts()
        tracked = self.rejects.get(target.source, 0) > 0
        with Spilled[tuple[RowChange, RowPlan]]() as left, Spilled[Rejected]() as rejected:
            for change, plan in _planned(planner, changes, count):
                for key in planner.reject_keys(change) if tracked else ():
                    self._forget(target.source, key)
                self._queue_deletes(planner, plan)
                self._sent_soon(0)
                if plan.rejected is not None:
                    rejected.add(plan.rejected)
                elif plan.upsert is not None:
                    left.add((change, plan))
            for reject in rejected:
                self.save_reject(target.source, reject)
                self._sent_soon(len(reject.row_data))
            for change, plan in left:
                if plan.large:
                    self.flush()
                    self.send_large(target, plan)
                else:
                    self.queue_upserts(planner, [(change, plan)], count)
                    self._sent_soon(change_bytes(change))
        return count.result(target.source)

    def queue_upserts(self, planner: RowPlanner, planned: list[tuple[RowChange, RowPlan]], count: Counts) -> None:
        """Queue the upserts of the planned rows."""
        for _, plan in planned:
            if plan.upsert is not None:
                self.queue(planner.statements.upsert, tuple(plan.upsert))
                self._row_statements += 1

    def _stream(self, planner: RowPlanner, target: Target, changes: Iterator[RowChange]) -> TableResult:
        """COPY the changes into a temporary table and apply them as a set."""
        self.flush()
        self._stages += 1
        stage = stage_for(self.conn, target, f"mirror_stage_{self._stages}")
        self.conn.execute(stage.create())
        count = Counts()
        tracked = self.rejects.get(target.source, 0) > 0
        # Rejects wait for the end of the COPY: on disk if they are many.
        with Spilled[Rejected]() as rejected:
            deleting = self.copy_changes(stage, planner, _planned(planner, changes, count), tracked, count, rejected)
            if tracked:
                self.rejects_touched = True
                self.conn.execute(stage.forget_rejects(), (self._source_id, target.source))
            if deleting:
                self.conn.execute(stage.analyze())
                self.conn.execute(stage.delete_changed())
            self.conn.execute(stage.upsert_changed())
            for reject in rejected:
                self.save_reject(target.source, reject)
                self._sent_soon(len(reject.row_data))
        return count.result(target.source)

    def copy_changes(
        self,
        stage: Stage,
        planner: RowPlanner,
        planned: Iterator[tuple[RowChange, RowPlan]],
        tracked: bool,
        count: Counts,
        rejected: Spilled[Rejected],
    ) -> bool:
        """Fill the stage; return whether there is anything to delete."""
        deleting = False
        more = True
        while more:
            more = False
            with self.conn.cursor().copy(stage.copy_changes()) as copy:
                for change, plan in planned:
                    for row in staged_rows(planner, change, plan, tracked):
                        deleting = deleting or row[0] == "d"
                        copy.write_row(row)
                    if plan.rejected is not None:
                        rejected.add(plan.rejected)
                    if plan.large:
                        more = True
                        break
            if more:
                self.send_large(planner.target, plan)
                del change, plan, row  # so that the next one is not read beside them
        return deleting

    def send_large(self, target: Target, plan: RowPlan) -> None:
        """Upsert a large row, of which the key is staged: see :mod:`mirror.postgres.large`."""
        assert plan.upsert is not None
        names, pg_types = zip(*target.stored, strict=True)
        large.send(self.conn, table_sql(target), names, pg_types, plan.upsert, on_conflict(target))

    def save_reject(self, source: str, rejected: Rejected) -> None:
        """Queue a row for ``mirror.rejects``."""
        self.rejects_touched = True
        self.queue(
            statement("reject_save"),
            (self._source_id, source, *rejected, str(self._lsn.generation), str(self._lsn.frame)),
        )

    def _forget(self, source: str, key: str) -> None:
        self.rejects_touched = True
        self.queue(statement("reject_forget"), (self._source_id, source, key))


def keep_not_json(
    transaction: Transaction, source_id: int, planners: Iterable[RowPlanner], targets: dict[str, Target]
) -> bool:
    """Save which columns of documents have the first values that are none; returns whether there are any.

    The planners forget what they have seen: if the transaction fails, its rows are planned again.
    """
    kept = False
    for planner in planners:
        found, planner.not_json = planner.not_json, set()
        target = targets.get(planner.table.name) if found else None
        if target is not None and any(each.source in found and not each.not_json for each in target.columns):
            transaction.flush()
            note_not_json(transaction.conn, source_id, targets, target.source, found)
            kept = True
    return kept


def advance(source_id: int, epoch: int, position: Position, commits: int) -> Queued:
    """The statement that moves the position of a source; it fails (MR001) if ``epoch`` is not the source's any more."""
    lsn, salts = position.lsn, position.salts
    values = (source_id, epoch, lsn.generation, lsn.frame, salts.salt1, salts.salt2)
    return statement("source_advance"), (*map(str, values), repr(position.committed_at), str(commits))


def set_loaded(source_id: int, epoch: int, position: Position, lineage: str) -> Queued:
    """The statement that sets the position of a whole copy; it returns no row if ``epoch`` is not the source's any
    more.
    """
    lsn, salts = position.lsn, position.salts
    values = (source_id, epoch, lsn.generation, lsn.frame, salts.salt1, salts.salt2)
    return statement("source_loaded"), (*map(str, values), repr(position.committed_at), lineage)


class Counts:
    """What was done to the rows of one table."""

    def __init__(self) -> None:
        self.upserted = self.deleted = self.rejected = self.inserted = self.rejected_new = 0

    def add(self, change: RowChange, plan: RowPlan) -> RowPlan:
        """Count what the plan of a change needs; returns the plan."""
        self.inserted += change.before is None and plan.upsert is not None
        self.upserted += plan.upsert is not None
        self.deleted += plan.gone
        self.rejected += plan.rejected is not None
        self.rejected_new += plan.rejected is not None and change.before is None
        return plan

    def refused(self, change: RowChange, plan: RowPlan) -> RowPlan:
        """Count a row that was counted as an upsert as a reject instead."""
        self.upserted -= 1
        self.rejected += 1
        self.rejected_new += change.before is None
        return plan

    def result(self, table: str) -> TableResult:
        """The counts as the caller gets them."""
        return TableResult(table, self.upserted, self.deleted, self.rejected, self.inserted, self.rejected_new)


class Spilled(Generic[T]):
    """Items that wait, in memory or, if they are many, on disk. All are added before they are read, once."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_SPILLED_BYTES)  # noqa: SIM115 - closed by __exit__

    def add(self, item: T) -> None:
        """Add one."""
        pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)

    def __iter__(self) -> Iterator[T]:
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            yield pickle.load(self._file)  # noqa: S301 - written by this process, to a file without a name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _planned(planner: RowPlanner, changes: Iterator[RowChange], count: Counts) -> Iterator[tuple[RowChange, RowPlan]]:
    def plan(change: RowChange) -> tuple[RowChange, RowPlan]:
        return change, count.add(change, planner.plan(change))

    return map(plan, changes)  # not a generator, which would hold a change while the next one is read


def _drained(changes: deque[RowChange]) -> Iterator[RowChange]:
    while changes:
        yield changes.popleft()


def staged_rows(
    planner: RowPlanner, change: RowChange, plan: RowPlan, tracked: bool
) -> Iterator[tuple[large.Sent, ...]]:
    """The rows of a stage for what a change needs; its reject is not among them."""
    width = planner.width
    if tracked:
        for reject_key in planner.reject_keys(change):
            yield ("r", reject_key, *(None,) * width)
    for key in plan.deletes:
        yield ("d", None, *_key_row(planner, key))
    if plan.upsert is not None and plan.large:
        yield ("b", None, *_key_row(planner, [plan.upsert[at] for at in planner.key_places]))
    elif plan.upsert is not None:
        yield ("u", None, *plan.upsert)


def _key_row(planner: RowPlanner, key: Sequence[large.Sent]) -> list[large.Sent]:
    """The stored columns with those of the key alone."""
    values: list[large.Sent] = [None] * planner.width
    for index, value in zip(planner.key_places, key, strict=True):
        values[index] = value
    return values


def apply_rows(
    transaction: Transaction, tables: Iterable[TableChanges], target_of: Callable[[str], Target | None]
) -> list[TableResult]:
    """Apply all row changes of a batch; ``target_of`` finds where a source table is stored.

    It returns None for a table that is refused: its rows are skipped, but read, because the batch's
    page map needs that.
    """
    results = []
    for changes in tables:
        target = target_of(changes.table.name)
        if target is not None:
            results.append(transaction.apply_table(changes, target))
            continue
        for _ in changes.rows:
            pass
    return results
