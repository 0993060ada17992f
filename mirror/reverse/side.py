"""One of the two connections of the way back: each batch reads on one, while the other still shows what was before."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.pq import TransactionStatus

from mirror.postgres.sessions import Session
from mirror.postgres.target import Target
from mirror.reverse.rows import TableRows

_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
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

    def end(self) -> None:
        """Let go of the snapshot."""
        if self.conn.info.transaction_status is not TransactionStatus.IDLE:
            self.conn.execute(b"ROLLBACK")
