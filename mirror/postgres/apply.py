"""One batch into Postgres, in one transaction.

Statements are queued and sent in one pipeline, which for a small batch is one round trip: BEGIN, the
rows, the position, COMMIT (for a single row, all of it is one statement). A table with many changes
is streamed by COPY into a temporary table instead. Nothing of a batch is held in memory beyond one
such queue.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

from mirror.model import Batch, Lsn, Position, RowChange, Table, TableChanges, TableResult
from mirror.postgres.dml import Stage
from mirror.postgres.migrate import statement
from mirror.postgres.rows import Rejected, RowPlan, RowPlanner
from mirror.postgres.target import Conn, Target

#: Up to so many changes of one table, or bytes of them, go as single statements.
SMALL_ROWS = 500
SMALL_BYTES = 4_000_000

#: The queue is sent when it is this long, whatever follows.
_QUEUE_STATEMENTS = 2_000
_QUEUE_BYTES = 8_000_000

_SPOOLED_REJECT_BYTES = 4_000_000


_Queued = tuple[bytes, tuple[Any, ...]]


@lru_cache(maxsize=4096)
def _joined(change: bytes, move: bytes, parameters: int) -> bytes:
    """Join a row statement with ``parameters`` parameters and the move of the position."""
    shifted = re.sub(rb"\$(\d+)", lambda match: b"$%d" % (int(match[1]) + parameters), move)
    return b"WITH change AS (%b) %b" % (change, shifted)


def change_bytes(change: RowChange) -> int:
    """Return about how many bytes a change holds."""
    size = 64
    for row in (change.before, change.after):
        for value in row or ():
            if isinstance(value, (str, bytes)):
                size += len(value)
    return size


class Transaction:
    """The row changes of one Postgres transaction, which begins with the first statement sent."""

    def __init__(
        self, conn: Conn, source_id: int, lsn: Lsn, rejects: dict[str, int], planners: dict[str, RowPlanner]
    ) -> None:
        """``rejects``: by source table, how many entries ``mirror.rejects`` has before. ``planners``: a
        cache that outlives the transaction.
        """
        self._conn = conn
        self._planners = planners
        self._source_id = str(source_id)
        self._lsn = lsn
        self.rejects = rejects
        self._queue: list[_Queued] = [(b"BEGIN", ())]
        self._begun = False
        self._row_statements = 0
        self._queued_bytes = 0
        self._stages = 0
        self.rejects_touched = False

    def queue(self, query: bytes, params: tuple[Any, ...] = ()) -> None:
        """Send a statement with the next pipeline."""
        self._queue.append((query, params))

    def flush(self) -> None:
        """Send what is queued and wait until all of it is done; raises psycopg's errors."""
        queue, self._queue, self._queued_bytes = self._queue, [], 0
        if not queue:
            return
        self._begun = True
        cursor = self._conn.cursor()
        with self._conn.pipeline():
            for query, params in queue:
                cursor.execute(query, params, prepare=True)

    def commit(self) -> None:
        """Send what is left, and COMMIT with it.

        BEGIN, one change of one row, and the position are joined into one statement, which is its own
        transaction: it takes a third less time than the four.
        """
        if not self._begun and self._row_statements == 1 and len(self._queue) == 3:
            (change, values), (move, position) = self._queue[1:]
            self._queue.clear()
            self._conn.execute(_joined(change, move, len(values)), values + position, prepare=True)
            return
        self.queue(b"COMMIT")
        self.flush()

    def _planner(self, table: Table, target: Target) -> RowPlanner:
        planner = self._planners.get(table.name)
        if planner is None or planner.target != target or planner.table != table:
            planner = self._planners[table.name] = RowPlanner(table, target)
        return planner

    def apply_table(self, changes: TableChanges, target: Target) -> TableResult:
        """Apply the changes of one table; raises MisfitError, KeyShapeError, psycopg's errors."""
        planner = self._planner(changes.table, target)
        buffered: list[RowChange] = []
        size = 0
        rows = iter(changes.rows)
        for change in rows:
            buffered.append(change)
            size += change_bytes(change)
            if len(buffered) > SMALL_ROWS or size > SMALL_BYTES:
                return self._stream(planner, target, chain(buffered, rows))
        return self._queue_rows(planner, target, buffered, size)

    def _queue_rows(self, planner: RowPlanner, target: Target, changes: list[RowChange], size: int) -> TableResult:
        """Queue single statements: what goes first, then what comes, so that keys can move around."""
        statements = planner.statements
        count = _Counts()
        plans = []
        tracked = self.rejects.get(target.source, 0) > 0
        for change in changes:
            if tracked:
                for key in planner.reject_keys(change):
                    self._forget(target.source, key)
            plans.append(count.add(planner.plan(change)))
        for plan in plans:
            for gone in plan.deletes:
                self.queue(statements.delete, gone)
                self._row_statements += 1
        for plan in plans:
            if plan.upsert is not None:
                self.queue(statements.upsert, tuple(plan.upsert))
                self._row_statements += 1
            if plan.rejected is not None:
                self._save_reject(target.source, plan.rejected)
        self._queued_bytes += size
        if len(self._queue) > _QUEUE_STATEMENTS or self._queued_bytes > _QUEUE_BYTES:
            self.flush()
        return count.result(target.source)

    def _stream(self, planner: RowPlanner, target: Target, changes: Iterator[RowChange]) -> TableResult:
        """COPY the changes into a temporary table and apply them as a set."""
        self.flush()
        self._stages += 1
        stage = Stage(target, f"mirror_stage_{self._stages}")
        self._conn.execute(stage.create())
        count = _Counts()
        tracked = self.rejects.get(target.source, 0) > 0
        deleting = False
        # Rejects wait for the end of the COPY: on disk, should they be many.
        with tempfile.SpooledTemporaryFile(_SPOOLED_REJECT_BYTES, "w+", encoding="utf-8") as rejected:
            with self._conn.cursor().copy(stage.copy_changes()) as copy:
                for row, plan in _staged_rows(planner, target, changes, tracked, count):
                    if row is not None:
                        deleting = deleting or row[0] == "d"
                        copy.write_row(row)
                    elif plan.rejected is not None:
                        rejected.write(json.dumps(plan.rejected) + "\n")
            if tracked:
                self.rejects_touched = True
                self._conn.execute(stage.forget_rejects(), (self._source_id, target.source))
            if deleting:
                self._conn.execute(stage.analyze())
                self._conn.execute(stage.delete_changed())
            self._conn.execute(stage.upsert_changed())
            rejected.seek(0)
            for line in rejected:
                self._save_reject(target.source, Rejected(*json.loads(line)))
                self._queued_bytes += len(line)
                if len(self._queue) > _QUEUE_STATEMENTS or self._queued_bytes > _QUEUE_BYTES:
                    self.flush()
        return count.result(target.source)

    def _save_reject(self, source: str, rejected: Rejected) -> None:
        self.rejects_touched = True
        self.queue(
            statement("reject_save"),
            (self._source_id, source, *rejected, str(self._lsn.generation), str(self._lsn.frame)),
        )

    def _forget(self, source: str, key: str) -> None:
        self.rejects_touched = True
        self.queue(statement("reject_forget"), (self._source_id, source, key))

    def advance(self, epoch: int, position: Position, commits: int, *, left: int | None) -> None:
        """Queue the move of the position. ``left``: the generation that it leaves, if it does."""
        lsn, salts = position.lsn, position.salts
        self.queue(
            statement("source_advance"),
            (self._source_id, str(epoch), str(lsn.generation), str(lsn.frame), str(salts.salt1),
             str(salts.salt2), repr(position.committed_at), str(commits)),
        )  # fmt: skip
        if left is not None:
            self.queue(statement("gap_heal"), (self._source_id, str(lsn.generation)))


class _Counts:
    """Counts the rows of one table."""

    def __init__(self) -> None:
        self.upserted = self.deleted = self.rejected = 0

    def add(self, plan: RowPlan) -> RowPlan:
        self.upserted += plan.upsert is not None
        self.deleted += plan.gone
        self.rejected += plan.rejected is not None
        return plan

    def result(self, table: str) -> TableResult:
        return TableResult(table, self.upserted, self.deleted, self.rejected)


def _staged_rows(
    planner: RowPlanner,
    target: Target,
    changes: Iterator[RowChange],
    tracked: bool,
    count: _Counts,
) -> Iterator[tuple[tuple[str | None, ...] | None, RowPlan]]:
    """Yield the rows to stage with their plan; for a rejected row None with its plan comes last."""
    stored = [name for name, _ in target.stored]
    width = len(stored)
    key_at = [stored.index(name) for name in target.key_columns]
    for change in changes:
        plan = count.add(planner.plan(change))
        if tracked:
            for reject_key in planner.reject_keys(change):
                yield ("r", reject_key, *(None,) * width), plan
        for key in plan.deletes:
            values: list[str | None] = [None] * width
            for index, value in zip(key_at, key, strict=True):
                values[index] = value
            yield ("d", None, *values), plan
        if plan.upsert is not None:
            yield ("u", None, *plan.upsert), plan
        if plan.rejected is not None:
            yield None, plan


def apply_rows(transaction: Transaction, batch: Batch, target_of: Callable[[str], Target]) -> list[TableResult]:
    """Apply all row changes of a batch; ``target_of`` finds where a source table is held."""
    return [transaction.apply_table(changes, target_of(changes.table.name)) for changes in batch.tables]
