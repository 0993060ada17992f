"""A batch that Postgres has refused, applied again: table by table and, where needed, row by row.

It takes savepoints, so it is done only after :class:`~mirror.postgres.apply.Transaction` has failed. A row that is
refused becomes a reject; a table that is refused is left as it is, and its refusal is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mirror.core.errors import RefusedError
from mirror.core.rows import RowChange, TableChanges, TableResult
from mirror.postgres.apply import SMALL_BYTES, SMALL_ROWS, Counts, Spilled, Transaction, change_bytes, staged_rows
from mirror.postgres.dml import Stage
from mirror.postgres.refusals import attempt, in_parts
from mirror.postgres.rows import Rejected, RowPlan, RowPlanner
from mirror.postgres.target import Target, require_intact

Planned = tuple[RowChange, RowPlan]


class CarefulTransaction(Transaction):
    """A :class:`~mirror.postgres.apply.Transaction` that keeps what Postgres refuses aside, and applies the rest."""

    def apply_table(self, changes: TableChanges, target: Target) -> TableResult:
        """Apply the changes of one table, or refuse the table; raises ColumnMisfit, NullInKey."""
        self.flush()
        rows = iter(changes.rows)
        try:
            with attempt(self.conn, "apply to a table", target.source):
                require_intact(self.conn, target)
                result = super().apply_table(TableChanges(changes.table, rows), target)
                self.flush()
                return result
        except RefusedError as error:
            for _ in rows:
                pass  # the batch's page map needs them read
            self.refuse(target.source, error)
            return TableResult(target.source, 0, 0, 0)

    def queue_upserts(self, planner: RowPlanner, planned: list[Planned], count: Counts) -> None:
        """Write the upserts of the planned rows; those that are refused become rejects."""
        self.flush()

        def write(part: list[Planned]) -> None:
            super(CarefulTransaction, self).queue_upserts(planner, part, count)
            self.flush()

        def refuse(item: Planned, error: RefusedError) -> None:
            change, refused = item[0], item[1].upsert
            assert refused is not None
            plan = count.refused(change, planner.refused(change, error.detail))
            assert plan.rejected is not None
            # Only the new key: another row of the batch may have the old one by now.
            self.queue(planner.statements.delete, tuple(refused[at] for at in planner.key_places))
            self.save_reject(planner.target.source, plan.rejected)
            self.flush()

        in_parts(self.conn, planner.target.source, planned, write, refuse, adopted=planner.target.adopted)

    def goes_by_itself(self, target: Target) -> bool:
        """Also rows of the application's tables: a constraint that one breaks is broken where it is written."""
        return target.adopted or super().goes_by_itself(target)

    def copy_changes(
        self,
        stage: Stage,
        planner: RowPlanner,
        planned: Iterator[Planned],
        tracked: bool,
        count: Counts,
        rejected: Spilled[Rejected],
    ) -> bool:
        """Fill the stage in parts; rows that are refused become rejects."""
        deleting = False

        def write(part: list[Planned]) -> None:
            nonlocal deleting
            with self.conn.cursor().copy(stage.copy_changes()) as copy:
                for change, plan in part:
                    for row in staged_rows(planner, change, plan, tracked):
                        deleting = deleting or row[0] == "d"
                        copy.write_row(row)
            for _, plan in part:
                if plan.large:
                    self.send_large(planner.target, plan)

        def refuse(item: Planned, error: RefusedError) -> None:
            plan = count.refused(item[0], planner.refused(item[0], error.detail))
            write([(item[0], plan)])
            assert plan.rejected is not None
            rejected.add(plan.rejected)

        for part in parts(planned):
            for _, plan in part:
                if plan.rejected is not None:
                    rejected.add(plan.rejected)
            in_parts(self.conn, planner.target.source, part, write, refuse)
        return deleting


def parts(planned: Iterator[Planned]) -> Iterator[list[Planned]]:
    """Cut into lists of at most :data:`SMALL_ROWS` rows and about :data:`SMALL_BYTES` bytes, to be tried together.

    A list is emptied when the next one is asked for, so that large rows are not in memory together.
    """
    while part := list(islice(planned, 1)):
        size = change_bytes(part[0][0])
        while len(part) < SMALL_ROWS and size < SMALL_BYTES and (more := next(planned, None)) is not None:
            part.append(more)
            size += change_bytes(more[0])
            del more
        yield part
        part.clear()
