"""Writes to Postgres that a stalled holder of a lock cannot make.

A process that is stopped between looking at its lock and writing wakes up when another has the lock, and writes. No
lock can prevent that; Postgres can, because it knows the number of the last holder that wrote. The transaction first
sets its own number in ``mirror.fences``, ``WHERE fence <=`` its own, and holds that row until it ends. So a later
holder waits until it has ended, and an earlier one finds a higher number and is refused.

It needs the table (:func:`create_fences`), and all writers of what the lock protects have to write in this way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any

import psycopg

from mirror.core.errors import LateWriteError

_GATE = """
INSERT INTO mirror.fences AS known (name, fence) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET fence = excluded.fence WHERE known.fence <= excluded.fence
"""


def create_fences(connection: psycopg.Connection[Any]) -> None:
    """Create ``mirror.fences``, unless it is there. Once a database; roles that write need INSERT and UPDATE."""
    with connection.transaction():
        connection.execute((files("mirror.hot") / "fences.sql").read_bytes())


@contextmanager
def fenced_write(connection: psycopg.Connection[Any], name: str, fence: int) -> Iterator[psycopg.Cursor[Any]]:
    """A transaction in which the holder number ``fence`` of the lock ``name`` writes. Gives a cursor.

    Use it as ``with fenced_write(connection, lock.name, lock.fence) as cursor:``. Raises ``LateWriteError`` before
    anything is written if a later holder has written; psycopg's errors as they are. Within an open transaction it is a
    savepoint, and the row is held until that ends.
    """
    with connection.transaction(), connection.cursor() as cursor:
        if cursor.execute(_GATE, (name, fence)).rowcount != 1:
            raise _late(name, fence)
        yield cursor


@asynccontextmanager
async def async_fenced_write(
    connection: psycopg.AsyncConnection[Any], name: str, fence: int
) -> AsyncIterator[psycopg.AsyncCursor[Any]]:
    """:func:`fenced_write` for an asynchronous connection."""
    async with connection.transaction(), connection.cursor() as cursor:
        if (await cursor.execute(_GATE, (name, fence))).rowcount != 1:
            raise _late(name, fence)
        yield cursor


def _late(name: str, fence: int) -> LateWriteError:
    detail = f"a later holder than number {fence} has written"
    return LateWriteError("write under a lock", name, detail, next_step="take the lock again, and begin anew")
