"""One of the two connections of the way back: each batch reads on one, while the other still shows what was before."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL

from mirror.core.errors import SinkError
from mirror.parity.selected import identifier
from mirror.postgres.sessions import Session
from mirror.postgres.target import Target
from mirror.reverse.rows import TableRows

_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SAVEPOINT tables"
#: Ends the locks on tables that were read, and not the snapshot.
_RELEASE = b"ROLLBACK TO SAVEPOINT tables"
#: Seconds for which tables are tried to be locked, and between two attempts.
LOCK_SECONDS, LOCK_PAUSE = 1.0, 0.005
#: While one connection has read a table, a program that waits to alter it makes the other wait, too: not for ever.
_SETTINGS = b"SET lock_timeout = '5s'"


class Side:
    """A connection, and while it has a transaction open, one snapshot of Postgres. Raises psycopg's errors."""

    def __init__(self, conn: Session, targets: Mapping[str, Target]) -> None:
        self.conn = conn
        self.rows = {name: TableRows(conn, target) for name, target in targets.items()}
        conn.execute(_SETTINGS)

    @property
    def is_open(self) -> bool:
        """Whether it shows a snapshot."""
        return self.conn.info.transaction_status is TransactionStatus.INTRANS

    def begin(self) -> None:
        """Take a snapshot, which is that of the next query."""
        self.end()
        self.conn.execute(_BEGIN)

    def lock(self, tables: Collection[str]) -> bool:
        """Keep tables from being truncated and altered, if no program does that now or waits to.

        Until :meth:`release`, or the end. Returns whether that is so.
        """
        names = [identifier(target.schema, target.name) for target in (self.rows[name].target for name in tables)]
        try:
            if names:
                self.conn.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(SQL(", ").join(names)))
        except psycopg.errors.LockNotAvailable:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Let go of the tables, and keep the snapshot; it is good again after an error."""
        if self.conn.info.transaction_status is not TransactionStatus.IDLE:
            self.conn.execute(_RELEASE)

    def end(self) -> None:
        """Let go of the snapshot."""
        if self.conn.info.transaction_status is not TransactionStatus.IDLE:
            self.conn.execute(b"ROLLBACK")


def lock(sides: Sequence[Side], tables: Collection[str]) -> None:
    """:meth:`Side.lock` on some sides: none waits for a program with a lock that it waits for.

    Raises :class:`SinkError`, retryable, if a program has one of the tables all the time.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not all(side.lock(tables) for side in sides):
        for side in sides:
            side.release()
        if time.monotonic() > deadline:
            raise SinkError(
                "carry writes back",
                detail=f"a program has had a table locked for {LOCK_SECONDS:g} s",
                next_step="end its transaction; see pg_locks",
                retryable=True,
            )
        time.sleep(LOCK_PAUSE)
