"""Repair: makes a table equal to the source again with the smallest change, a range of keys at a time.

All rows of the source are staged once and compared in Postgres. The rows that differ are put in a temporary table, in
key order, and written in ranges: each range is a transaction of its own, with each changed row in ``mirror.repairs``.
So a repair of many rows holds no lock for long, and the ranges done before an interruption stay repaired.
"""

from __future__ import annotations

from collections import Counter

from psycopg.sql import SQL, Identifier

from mirror.core.errors import OthersWroteError, RefusedError, RepairError
from mirror.core.faults import Faults
from mirror.core.tables import Table
from mirror.core.words import counted
from mirror.postgres.adopted.tables import has_rows_without_key
from mirror.postgres.distributed import look, stage_for
from mirror.postgres.dml import is_wide
from mirror.postgres.load import Loader
from mirror.postgres.others import Others
from mirror.postgres.prepared import Queued
from mirror.postgres.refusals import attempt
from mirror.postgres.schema import SchemaEditor
from mirror.postgres.signals import Signal
from mirror.postgres.target import Conn, Target, is_intact

#: Rows that differ, in one transaction.
RANGE_ROWS = 1000

_DIFFERENT = "mirror_different"
_REPAIR = "a repair"


def repair_by_ranges(
    conn: Conn,
    others: Others,
    editor: SchemaEditor,
    loader: Loader,
    table: Table,
    fence: Queued,
    faults: Faults,
) -> bool:
    """Make a table equal to all rows that ``loader`` has of it; False: it has to be loaded as a whole.

    False where its definition is not the mapped one, where rows have no key, where it has too many columns for that,
    and where Postgres does not take a row that differs. ``fence``: a statement that fails unless this mirror still
    holds the source; it ends each transaction. ``others``: keeps what others had written. Raises psycopg's errors and
    :class:`~mirror.core.errors.SinkError`, among them :class:`~mirror.core.errors.RepairError` where a trigger, a rule
    or a policy changes what is written; the caller rolls back what was not committed.
    """
    held = editor.targets.get(table.name)
    if held is None or table.name in editor.refusals or is_wide(held) or not is_intact(conn, held):
        return False
    if held.adopted and has_rows_without_key(conn, held):
        return False
    different = Identifier("pg_temp", _DIFFERENT)
    replaced: Counter[str] = Counter()
    try:
        if editor.mapped(table, held.overrides, held.key is None and bool(table.primary_key)) != held:
            return False
        conn.execute("BEGIN")
        conn.execute(SQL("DROP TABLE IF EXISTS {}").format(different))
        stage = stage_for(conn, held, "mirror_repair", whole=True)
        with attempt(conn, "stage a table", table.name):
            loader.stage(table, stage)
        look(conn, stage)
        conn.execute(stage.create_different(_DIFFERENT, RANGE_ROWS))
        conn.execute(SQL("CREATE INDEX ON {} (range)").format(different))
        counted = conn.execute(SQL("SELECT coalesce(max(range) + 1, 0) FROM {}").format(different)).fetchone()
        conn.execute(*fence)
        conn.execute("COMMIT")
        for number in range(counted[0] if counted is not None else 0):
            conn.execute("BEGIN")
            with attempt(conn, "repair rows", table.name):
                part = stage_for(conn, held, "mirror_repair_range")
                conn.execute(part.create())
                conn.execute(part.fill_from(_DIFFERENT), (str(number),))
                theirs = others.take(_REPAIR, editor.targets, [table.name], part)
                look(conn, part)
                for statement in part.log_repairs(whole=False):
                    conn.execute(statement, (str(others.source_id),))
                conn.execute(part.delete_changed())
                conn.execute(part.upsert_changed())
                look(conn, part)
                left = conn.execute(part.count_different()).fetchone()
                if left is not None and left[0]:
                    why = "the rows are not as they were written: a trigger, a rule or a policy changes them"
                    raise RepairError("repair rows", table.name, why, next_step=f"look at \\d {held.name} in psql")
            conn.execute(*fence)
            others.settle(theirs, editor.targets)
            conn.execute("COMMIT")
            replaced += theirs.replaced
            faults("repair:range")
        # Of what is left of their rows none differs now; but they had emptied the table, perhaps.
        theirs = others.begin(_REPAIR, editor.targets, [table.name])
        others.settle(theirs, editor.targets)
        conn.execute("COMMIT")
        others.say(_REPAIR, replaced + theirs.replaced)
    except OthersWroteError:
        raise
    except (Signal, RefusedError):
        conn.rollback()
        others.say(_REPAIR, replaced)
        return False
    conn.execute(SQL("DROP TABLE {}").format(different))
    return True


def outcome(noted: int, target: Target, *, whole: bool) -> str:
    """What a repair did, in words. ``noted``: rows that it has recorded; ``whole``: it loaded the table as a whole."""
    if noted:
        return f"{counted(noted, 'row')}, each in mirror.repairs"
    kept = not whole or is_wide(target)
    return "nothing differed" if kept else "created again; the old table is kept under another name"
