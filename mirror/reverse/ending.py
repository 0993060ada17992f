"""The end of a way back: what is asked before, and what ends it.

``mirror cutover finalize`` ends it, and so does the mirror itself when the reverse window has elapsed: by the same
steps, in the same words. Nobody who writes in Postgres is held up meanwhile, but for a moment at the end.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from mirror.core.agreement import Agreement
from mirror.core.errors import SinkError
from mirror.core.words import counted
from mirror.postgres import phase, watch
from mirror.postgres.adopted import tables
from mirror.postgres.table_locks import TableLocks
from mirror.postgres.target import Conn, Target
from mirror.reverse import capture

#: The words of the steps.
CHECK = "check the way back"
DRAIN = "drain the way back"
COMPARE = "compare what the file has with Postgres, while programs write"
END = "end the way back"
TIDY = "remove the triggers of the way back"

#: What `finalize --acknowledge` calls the comparison.
ACKNOWLEDGED = "way back"


class WayBack(NamedTuple):
    """How a way back stands."""

    lost: str | None
    """Why it cannot go on; None: it can."""
    rejects: int
    """Rows of Postgres that the file does not take."""
    strays: int
    """Rows that programs have written to the file, and not to Postgres."""
    now: str
    """When that was so, by Postgres' clock."""

    def said(self) -> str:
        """In words; empty if there is nothing to say."""
        parts = [
            f"the way back is lost: {self.lost}" if self.lost is not None else "",
            f"in the file alone: {counted(self.strays, 'row')} (`mirror cutover strays` shows them)"
            if self.strays
            else "",
            f"in Postgres alone: {counted(self.rejects, 'row')} that the file does not take (`mirror rejects list`)"
            if self.rejects
            else "",
        ]
        return "; ".join(filter(None, parts))


def state(conn: Conn, source_id: int) -> WayBack:
    """How the way back of a source stands. Raises psycopg's errors."""
    row = conn.execute(
        "SELECT CASE WHEN r.source_id IS NULL THEN 'it was never begun' ELSE r.lost END,"
        " (SELECT count(*) FROM mirror.reverse_rejects j WHERE j.source_id = s.source_id),"
        " (SELECT count(*) FROM mirror.strays t WHERE t.source_id = s.source_id), clock_timestamp()::text"
        " FROM (SELECT $1::bigint AS source_id) s LEFT JOIN mirror.reverse r USING (source_id)",
        (str(source_id),),
    ).fetchone()
    assert row is not None
    return WayBack(*row)


def snapshot(conn: Conn) -> str:
    """What is visible in Postgres now. Raises psycopg's errors."""
    [[now]] = conn.execute("SELECT pg_current_snapshot()::text").fetchall()
    return str(now)


def has(conn: Conn, source_id: int, seen: str) -> bool:
    """Whether the file has all that was visible in a snapshot. Raises psycopg's errors."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM mirror.outbox o JOIN mirror.reverse r USING (source_id)"
        " WHERE o.source_id = $1::bigint AND NOT pg_visible_in_snapshot(o.xid, r.snapshot)"
        " AND pg_visible_in_snapshot(o.xid, $2::pg_snapshot))",
        (str(source_id), seen),
    ).fetchone()
    return row == (False,)


def left(conn: Conn, source_id: int, seen: str) -> int:
    """How many rows that were visible in a snapshot the file does not have yet. Raises psycopg's errors."""
    row = conn.execute(
        "SELECT count(*) FROM mirror.outbox o JOIN mirror.reverse r USING (source_id)"
        " WHERE o.source_id = $1::bigint AND NOT pg_visible_in_snapshot(o.xid, r.snapshot)"
        " AND pg_visible_in_snapshot(o.xid, $2::pg_snapshot)",
        (str(source_id), seen),
    ).fetchone()
    return 0 if row is None else int(row[0])


def judged(found: Agreement, place: str) -> str:
    """What to say of a comparison. Raises ``SinkError`` if the file differs in what nobody knew."""
    if differ := found.unknown + found.not_carried:
        rows = f"{counted(differ, 'row')} of the file not as in Postgres ({', '.join(found.named)})"
        if found.not_carried:
            raise SinkError(
                "compare with the file",
                place,
                f"{rows}, and for {found.not_carried:,} of them no program has written to the file: the way back did"
                " not carry them",
                next_step="start `mirror up` again, which keeps them: `mirror cutover strays`; or `mirror cutover"
                f" finalize --acknowledge '{ACKNOWLEDGED}'`",
            )
        raise SinkError(
            "compare with the file",
            place,
            f"{rows}: programs have written them to the file, which was not known before",
            next_step="`mirror cutover strays` shows them, and how to adopt them or throw them away; or `mirror cutover"
            " finalize` again, which leaves them in the file alone",
        )
    known = found.strays + found.rejects
    said = f"{counted(found.rows, 'row')} of the file compared"
    return said + (f", {known:,} differ as is known" if known else "")


def end(conn: Conn, source_id: int, epoch: int, locks: TableLocks, why: str = "") -> None:
    """End a way back, in the caller's transaction: what is written from now on is not captured.

    It waits for transactions that write to the tables, for a moment: then it fails, retryable. ``why``: if nobody has
    called for it. Raises psycopg's errors, ``SinkError``, and ``FencedError`` if a command has begun to move it.
    """
    locks.take(conn, _captured(conn, source_id), "SHARE ROW EXCLUSIVE")
    phase.change(conn, source_id, epoch, "finalized_at = now(), moving_to = NULL")
    conn.execute("UPDATE mirror.phase SET finalized_why = $2::text WHERE source_id = $1::bigint", (str(source_id), why))
    # Not removed: that would wait for programs that read, and have all others wait.
    capture.switch_off(conn, source_id)
    conn.execute("DELETE FROM mirror.outbox WHERE source_id = $1::bigint", (str(source_id),))


def tidy(conn: Conn, source_id: int, targets: Collection[Target], locks: TableLocks) -> None:
    """Remove what is left of a way back that has ended, in the caller's transaction. Nothing of the mirror's is left in
    an application's own tables.

    It waits for whoever uses the tables, for a moment: then it fails, retryable. Raises psycopg's errors and
    ``SinkError``.
    """
    locks.take(conn, _captured(conn, source_id), "ACCESS EXCLUSIVE")
    capture.remove(conn, source_id)
    watch.remove(conn, targets)
    for target in targets:
        if target.adopted:
            tables.release(conn, target)


def _captured(conn: Conn, source_id: int) -> list[tuple[str, str]]:
    return [(schema, table) for schema, table, _ in capture.triggers(conn, source_id)]
