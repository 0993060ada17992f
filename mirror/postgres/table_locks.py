"""Locks on many tables that programs use, taken one after the other, each waited for only a moment.

Who waits for one table while holding others stops the programs that need those, and among them may be the one that is
waited for. So an attempt ends after a moment, and the next one begins with the table that this one did not get: it is
waited for while nothing else is held, and got as soon as the transaction that has it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier

from mirror.core.errors import SinkError
from mirror.postgres.target import Conn

#: Milliseconds to wait for one table: programs that come to it wait as long. Less than Postgres waits before it ends
#: one of two transactions in a deadlock.
WAIT_MS = 300

#: Schema and name.
Name = tuple[str, str]


class TableLocks:
    """The attempts of one change to lock its tables. Thread: one at a time."""

    def __init__(self) -> None:
        self._first: list[Name] = []
        """What earlier attempts did not get, the last one first."""

    def take(self, conn: Conn, tables: Iterable[Name], mode: LiteralString) -> None:
        """Lock all in the caller's transaction, in a mode as in ``SHARE ROW EXCLUSIVE``.

        Later statements of the transaction wait for a lock as long. Raises ``SinkError`` (retryable) if one is not to
        be had, then the transaction is broken; else psycopg's errors.
        """
        conn.execute(f"SET LOCAL lock_timeout = '{WAIT_MS}ms'".encode())
        wanted = set(tables)
        first = [table for table in self._first if table in wanted]
        for table in [*first, *sorted(wanted - set(first))]:
            try:
                conn.execute(SQL("LOCK TABLE {} IN " + mode + " MODE").format(Identifier(*table)))
            except psycopg.errors.LockNotAvailable as error:
                self._first = [table, *(one for one in first if one != table)]
                raise SinkError(
                    "lock a table",
                    ".".join(table),
                    "transactions of programs have it",
                    next_step="try again when none is open for long: pg_stat_activity shows them",
                    retryable=True,
                ) from error
