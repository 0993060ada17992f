"""One command at a time moves a source: an advisory lock of its session tells that it is there, however it ends."""

from __future__ import annotations

from mirror.core.locks import SOURCE_IN_MOVE
from mirror.postgres.target import Conn


def take(conn: Conn, source_id: int) -> bool:
    """Take the lock, without waiting, until the session ends; False: another session has it."""
    keys = (str(SOURCE_IN_MOVE), str(source_id))
    return conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", keys).fetchone() == (True,)


def is_moved(conn: Conn, source_id: int) -> bool:
    """Whether another session has the lock."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.classid = $1::int::oid"
        " AND l.objid = $2::int::oid AND l.objsubid = 2 AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()"
        " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))",
        (str(SOURCE_IN_MOVE), str(source_id)),
    ).fetchone()
    return row == (True,)
