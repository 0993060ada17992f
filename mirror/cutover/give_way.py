"""Changes of tables that programs use: no program is made to wait for long, and none loses a deadlock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from mirror.postgres.sessions import Session
from mirror.postgres.table_locks import WAIT_MS

T = TypeVar("T")

#: Seconds between two attempts, in which programs go on.
PAUSE_SECONDS = 0.05


def giving_way(conn: Session, change: Callable[[], T], seconds: float) -> T:
    """Call ``change`` in a transaction of ``conn``, again and again until it gets all locks.

    Raises psycopg's errors; ``LockNotAvailable`` if that has not helped for ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = '{WAIT_MS}ms'".encode())
                return change()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_SECONDS)
