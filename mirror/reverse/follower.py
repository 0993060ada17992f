"""The reverse mirror of one source: the batches, one after the other.

A batch is what one snapshot of Postgres sees of the outbox and the one before did not. Rows are read in that snapshot,
written to the file in one transaction, and then the snapshot is saved as what the file has. Whatever is interrupted in
between is done again with a newer snapshot; as rows are written by key as they then are, that changes nothing else.

The snapshot before stays open until the next one is what the file has: so it is known what the file should have, and
what others have written to it (:mod:`mirror.reverse.watch`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from mirror.core.adopted import is_adopted
from mirror.core.agreement import Agreement
from mirror.core.errors import FencedError, RefusedError, SinkError, SourceError, WayBackLostError
from mirror.core.faults import Faults, no_fault
from mirror.core.locks import SOURCE_IN_REVERSE
from mirror.postgres import moving, phase
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.sessions import Session, connect
from mirror.postgres.target import TargetColumn, is_intact, load_targets
from mirror.reverse import capture
from mirror.reverse.adopted import Alike, alike
from mirror.reverse.batch import Applied, Batch
from mirror.reverse.kept import TruncatedError
from mirror.reverse.lock import Lock
from mirror.reverse.marks import mark
from mirror.reverse.rows import Since
from mirror.reverse.side import Side, lock
from mirror.reverse.watch import Pending, StrayWatch
from mirror.reverse.writer import SqliteWriter

#: Seconds between two checks of whether all that is written is still captured, and two removals of what is done.
CHECK_SECONDS = 1.0
#: Seconds between two looks at the phase: programs that were moved back wait for the mirror to follow the file again.
ASK_SECONDS = 0.1
#: Seconds between two tries of rejected rows, while nothing else is carried; and so many at most, with each batch too.
RETRY_SECONDS, RETRIED_REJECTS = 5.0, 500

_STRAYS = "EXISTS (SELECT FROM mirror.strays s WHERE s.source_id = {} AND s.state = {})"


def start(conn: Session, source_id: int) -> None:
    """Record that the file has all that is visible now, in the caller's transaction; an earlier way back is over.

    The triggers are switched on by then.
    """
    for table in ("reverse_rejects", "stray_numbers"):
        conn.execute(f"DELETE FROM mirror.{table} WHERE source_id = $1::bigint", (str(source_id),))
    conn.execute(
        "INSERT INTO mirror.reverse (source_id, snapshot, captured)"
        " VALUES ($1::bigint, pg_current_snapshot(), $2::text)"
        " ON CONFLICT (source_id) DO UPDATE SET snapshot = EXCLUDED.snapshot, captured = EXCLUDED.captured,"
        " started_at = now(), applied_at = NULL, batches = 0, rows = 0, lost = NULL",
        (str(source_id), capture.version(conn, source_id)),
    )


def _alike(column: TargetColumn) -> Alike | None:
    return alike(column.codec) if is_adopted(column.codec) else None


class ReverseFollower:
    """Carries what programs write in Postgres into one file. Thread: one at a time."""

    def __init__(
        self,
        connecting: Callable[[], Session],
        database: Path,
        schema: str,
        faults: Faults = no_fault,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """``connecting``: makes a connection to Postgres. Raises as :meth:`open` does."""
        self._database = database
        self._faults = faults
        self._conn = conn = connecting()
        self._other: Session | None = None
        self.rejects = self.strays = 0
        """Rows that the file does not take; and rows in ``mirror.strays``."""
        try:
            with translated("begin the way back", str(database)):
                conn.execute(statement("session_search_path"))  # the extension's schema, for names of types
                row = conn.execute(statement("reverse_read"), (str(database), schema)).fetchone()
                if row is None or row[2] is None:
                    step = "`mirror cutover status` says in which phase the source is"
                    raise SinkError("begin the way back", str(database), "it was never begun", next_step=step)
                self.source_id, agent, self._snapshot, lost, self._captured, self.rejects, file = row
                self.phase = phase.require_open(phase.read(conn, self.source_id), str(database))
                """As it was read last."""
                self._lock = Lock(database, self.phase)
                self._targets = load_targets(conn, self.source_id, agent)
                self._take()
            if lost is not None:
                raise self._lost(lost)
            self._other = connecting()
            with translated("begin the way back", str(database)):
                self._other.execute(statement("session_search_path"))
                self._before, self._next = Side(self._other, self._targets), Side(conn, self._targets)
            try:
                touched = file is not None and file != mark(database)  # before it is opened
            except OSError as error:
                raise SourceError(
                    "carry writes back", str(database), error.strerror or str(error), retryable=True
                ) from error
            self._writer = SqliteWriter(database, hold=self._lock.is_kept())
            self._meanwhile = meanwhile
            self._watch = StrayWatch(self._writer, database, self.source_id, connecting, self._look_after)
            self._watch.touched = touched
        except BaseException:
            self._close_connections()
            raise
        try:
            self._describe()
        except BaseException:
            self.close()
            raise
        self._checked_at = self._asked_at = 0.0
        self._retried_at = float("-inf")
        self._locked_out = False

    @classmethod
    def open(
        cls,
        dsn: str,
        database: Path,
        schema: str,
        faults: Faults = no_fault,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> ReverseFollower:
        """For the source at a path that is mirrored into a schema. ``meanwhile``: called while all rows are compared.

        Raises :class:`SinkError`, ``FencedError`` if another process carries its writes back, :class:`SourceError`, and
        :class:`WayBackLostError`.
        """
        return cls(lambda: connect(dsn, name="mirror reverse", raw=True), database, schema, faults, meanwhile)

    def _take(self) -> None:
        """Take the right to write the file; the session has it until it ends."""
        keys = (str(SOURCE_IN_REVERSE), str(self.source_id))
        if self._conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", keys).fetchone() != (True,):
            step = "stop the other mirror; if its machine is gone, Postgres notices within a minute"
            raise FencedError(
                "carry writes back", str(self._database), "another mirror does", next_step=step, retryable=True
            )

    @property
    def can_wait(self) -> bool:
        """Whether the last error was only that a program has a lock: this goes on, and knows what it knew."""
        return (self._writer.busy or self._locked_out) and self._before.is_open

    @property
    def suspects(self) -> list[str]:
        """The processes that had the file open since a program last wrote to it, as far as was looked."""
        return list(self._watch.suspects)

    def is_wanted(self, *, at_once: bool) -> bool:
        """Whether the source is still sealed, as of now or a moment ago. Raises ``SealedError`` if it was finalized."""
        if at_once or time.monotonic() - self._asked_at > ASK_SECONDS:
            self._asked_at = time.monotonic()
            with translated("read the phase", str(self._database)):
                now = phase.read(self._next.conn, self.source_id)
                self.phase = phase.require_open(now, str(self._database))
                self._lock.note(self.phase)
        return self.phase.sealed_at is not None

    def ask_again(self) -> None:
        """Have :meth:`is_wanted` read the phase: it has changed."""
        self._asked_at = 0.0

    def close(self) -> None:
        """Close all connections."""
        self._writer.close()
        self._watch.kept.close()
        self._close_connections()

    def _close_connections(self) -> None:
        self._conn.close()
        if self._other is not None:
            self._other.close()

    def _lost(self, why: str) -> WayBackLostError:
        return WayBackLostError(
            "carry writes back",
            str(self._database),
            f"the way back is lost: {why}",
            next_step="`mirror cutover finalize` ends it; or copy the source's tables back by hand",
        )

    def _describe(self) -> None:
        self._schema_version = self._writer.schema_version
        tables = self._next.rows
        self._writer.describe(
            (
                (name, [column.source for column in rows.target.columns], rows.key_sources)
                for name, rows in tables.items()
            ),
            {
                name: [_alike(column) for column in rows.target.columns]
                for name, rows in tables.items()
                if rows.target.adopted
            },
        )
        self._watch.describe(self._targets)

    # -- the loop ----------------------------------------------------------------------------------

    def step(self) -> Applied | None:
        """Carry what is new, if anything; None: nothing is.

        Raises :class:`SinkError` and :class:`SourceError`, retryable where that may help, and
        :class:`WayBackLostError`.
        """
        self._writer.busy = self._locked_out = False
        self._writer.follow(hold=self._lock.is_kept())
        self._writer.keep_lock()
        self._writer.look()
        self._watch.ask()
        self._check_now_and_then()
        before, after = self._before, self._next
        with self._explained(), translated("carry writes back", str(self._database)):
            if before.is_open:
                self._look(before)
            after.begin()
            try:
                since = Since(self.source_id, self._snapshot)
                pending = self._pending(after, since)
                if not (pending.tables or pending.discarded or self._retries()):
                    self._is_at(pending.snapshot)
                    return None
                self._faults("reverse:read")
                applied = self._apply(before, after, since, pending)
            except BaseException as error:
                for side, let_go in ((after, after.end), (before, before.release)):
                    if not side.conn.broken:
                        let_go()
                if isinstance(error, TruncatedError):
                    return Applied()  # a newer snapshot will do
                raise
            self._faults("reverse:written")
            before.end()
            self._save(before.conn, pending.snapshot, applied)
            self._is_at(pending.snapshot)
            # While the tables are locked: of one that is truncated all the time it could not be told later.
            self._look(after)
            after.release()
            self._faults("reverse:saved")
            return applied

    def _retries(self) -> bool:
        """Whether rows that the file has not taken are tried again: what was in their way may have gone."""
        return self.rejects > 0 and time.monotonic() - self._retried_at > RETRY_SECONDS

    def agree(self, since: str, *, touched: bool = False, after: str = "") -> Agreement | None:
        """Compare all rows of the file with what it should show now. Programs are not held up.

        ``since``: strays that were first seen after this time of Postgres are not known. ``touched``: only if another
        connection has committed to the file since the last comparison. ``after``: a snapshot: if none has, only what
        was written since. Returns None where that cannot be told: it can after the next step. Raises as :meth:`step`
        does.
        """
        self._writer.busy = self._locked_out = False
        with self._explained(), translated("compare with the file", str(self._database)):
            self._writer.look()
        if touched and not self._writer.foreign:
            return Agreement(rows=0)
        if not self._before.is_open:
            return None
        with self._explained(), translated("compare with the file", str(self._database)):
            # All at once: a program that truncates tables again and again would else always be faster with one.
            self._locked_out = True
            lock([self._before], self._targets)
            self._locked_out = False
            if self._watch.kept.truncated(self._snapshot):
                found = None
            elif after and not self._writer.foreign:
                found = self._watch.agree_on_written(self._before, self._snapshot, Since(self.source_id, after))
            else:
                found = self._watch.agree(self._before, self._snapshot, since)
            self._before.release()
            self._count()
        return found

    def let_go(self) -> None:
        """Hold no lock on a table in Postgres any more, until the next step."""
        with translated("carry writes back", str(self._database)):
            self._before.end()
            self._next.end()

    def _is_at(self, snapshot: str) -> None:
        """The file has what the newer side shows."""
        self._snapshot = snapshot
        self._before.end()
        self._before, self._next = self._next, self._before

    def _look(self, before: Side) -> None:
        """Look for strays, if it is time."""
        if self._watch.look(before, self._snapshot):
            before.release()
            self._count()
            self._next.conn.execute(
                "UPDATE mirror.reverse SET file = $2::text WHERE source_id = $1::bigint",
                (str(self.source_id), self._mark()),
            )

    def _count(self) -> None:
        row = self._next.conn.execute(
            "SELECT count(*) FROM mirror.strays WHERE source_id = $1::bigint", (str(self.source_id),)
        ).fetchone()
        self.strays = 0 if row is None else int(row[0])

    def drain(self, check: Callable[[], None] = lambda: None) -> None:
        """Carry until nothing is left that is visible. Raises as :meth:`step` does, and what ``check`` raises."""
        while self.step() is not None:
            check()

    def _pending(self, side: Side, since: Since) -> Pending:
        from psycopg.sql import SQL

        query = SQL(
            "SELECT pg_current_snapshot()::text, {}, {}, o.source_table, bool_or(o.key IS NULL) FROM (SELECT) x"
            " LEFT JOIN mirror.outbox o ON {} GROUP BY 4"
        ).format(*(SQL(_STRAYS).format(self.source_id, state) for state in ("in file", "discarded")), since.condition())
        rows = side.conn.execute(query).fetchall()
        snapshot, in_file, discarded, *_ = rows[0]
        return Pending(snapshot, {table: whole for *_, table, whole in rows if table is not None}, in_file, discarded)

    def _apply(self, before: Side, after: Side, since: Since, pending: Pending) -> Applied:
        writer = self._writer
        self._retried_at = time.monotonic()
        writer.begin()
        try:
            if writer.schema_version != self._schema_version:
                writer.roll_back()
                self._describe()
                writer.begin()
            tables = pending.tables
            if unknown := [name for name in tables if name not in after.rows]:
                raise self._give_up(f"the table {unknown[0]} is not mirrored any more")
            wanted = self._watch.is_wanted(pending)
            self._locked_out = True
            lock([before, after] if wanted and before.is_open else [after], self._targets if wanted else tables)
            self._locked_out = False
            self._watch.kept.require_whole(pending.snapshot)
            guard = self._watch.guard(before, after, since, pending)
            batch = Batch(writer, after.rows)
            for table, whole in tables.items():
                rows = after.rows[table]
                if whole:
                    if guard is not None:
                        guard.whole(table)
                    batch.replace(table)
                else:
                    gone = rows.written(since, gone=True)
                    batch.delete(table, gone if guard is None else guard.checked(table, gone))
            for table, whole in tables.items():
                rows = after.rows[table]
                there = rows.all() if whole else rows.written(since, gone=False)
                batch.put(table, there if guard is None or whole else guard.checked(table, there))
            if guard is not None:
                batch.undo(guard)
            for table, keys in self._rejected(after).items():
                batch.again(table, keys)
            batch.finish()
            if guard is not None:
                guard.touched(writer.touched())
            self._watch.kept.require_whole(pending.snapshot)  # also the other tables that were read
            self._faults("reverse:before commit")
            writer.commit()
            if guard is not None:
                guard.done()
            return batch.applied
        except BaseException:
            writer.roll_back()
            raise

    def _rejected(self, side: Side) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        for table, key in side.conn.execute(
            "SELECT source_table, key FROM mirror.reverse_rejects WHERE source_id = $1::bigint LIMIT $2::int",
            (str(self.source_id), str(RETRIED_REJECTS)),
        ):
            found.setdefault(table, []).append(key)
        return found

    def _mark(self) -> str | None:
        """What the file looks like; None: a program may have written to it."""
        try:
            now = mark(self._database)
        except OSError:
            return None
        self._writer.look()
        return None if self._writer.foreign else now

    def _save(self, conn: Session, snapshot: str, applied: Applied) -> None:
        """Record what the file has now. The file has it already: if this fails, the batch is done again."""
        with conn.transaction():
            known = {
                (table, tuple(key))
                for table, key in conn.execute(
                    "DELETE FROM mirror.reverse_rejects WHERE source_id = $1::bigint AND (source_table, key) IN"
                    " (SELECT t, ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_to_recordset($2::jsonb)"
                    " AS done(t text, k jsonb)) RETURNING source_table, key",
                    (
                        str(self.source_id),
                        json.dumps([{"t": table, "k": key} for table, key in (*applied.taken, *applied.rejects)]),
                    ),
                )
            }
            for (table, key), reason in applied.rejects.items():
                conn.execute(
                    "INSERT INTO mirror.reverse_rejects (source_id, source_table, key, reason)"
                    " VALUES ($1::bigint, $2::text, $3::text[], $4::text)",
                    (str(self.source_id), table, list(key), reason),
                )
                if (table, key) not in known:
                    logger.warning("{}: the file does not take a row of {}: {}", self._database.name, table, reason)
            conn.execute(
                "UPDATE mirror.reverse SET snapshot = $2::pg_snapshot, applied_at = clock_timestamp(),"
                " batches = batches + 1, rows = rows + $3::bigint, file = $4::text WHERE source_id = $1::bigint",
                (str(self.source_id), snapshot, str(applied.rows), self._mark()),
            )
            row = conn.execute(
                "SELECT count(*) FROM mirror.reverse_rejects WHERE source_id = $1::bigint", (str(self.source_id),)
            ).fetchone()
        self.rejects = 0 if row is None else int(row[0])

    # -- whether it can go on ----------------------------------------------------------------------

    def _look_after(self) -> None:
        """While all rows are compared, which may take long."""
        self._meanwhile()
        if not self._next.is_open:
            self._check_now_and_then()

    def _check_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._checked_at > CHECK_SECONDS:
            self._check()
            self._checked_at = now

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Where Postgres refuses a query, because its tables are others now: say that the way back is lost."""
        try:
            yield
        except RefusedError:
            self._before.end()
            self._next.end()
            self._check()
            raise

    def _check(self) -> None:
        """Raise :class:`WayBackLostError` if writes are not captured or cannot be read; remove old events."""
        with translated("look after the way back", str(self._database)):
            self._count()
            conn = self._next.conn
            if why := self._broken(conn):
                # Asked after that: moving back switches the triggers off, in one transaction with the phase.
                if not phase.is_sealed(conn, self.source_id, str(self._database)):
                    return
                raise self._give_up(why)
            if moving.is_moved(conn, self.source_id):
                return  # the command compares what was written since it has begun
            conn.execute(
                "DELETE FROM mirror.outbox WHERE source_id = $1::bigint AND xid < pg_snapshot_xmin($2::pg_snapshot)",
                (str(self.source_id), self._snapshot),
            )

    def _broken(self, conn: Session) -> str:
        """Why writes are not captured, or cannot be read; empty if all is well."""
        for name, target in self._targets.items():
            if not capture.is_on(conn, self.source_id, target):
                return f"the triggers of {target.schema}.{target.name} ({name}) are gone or off"
            if not is_intact(conn, target):
                return f"the table {target.schema}.{target.name} was altered in Postgres"
        if capture.version(conn, self.source_id) != self._captured:
            return "triggers were switched off for a time, or made again"
        return ""

    def _give_up(self, why: str) -> WayBackLostError:
        """Record that the way back is lost; a batch that reads is over."""
        self._next.end()
        self._next.conn.execute(
            "UPDATE mirror.reverse SET lost = $2::text WHERE source_id = $1::bigint AND lost IS NULL",
            (str(self.source_id), why),
        )
        return self._lost(why)
