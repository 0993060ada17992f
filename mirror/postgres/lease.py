"""The right to write a source's tables: an advisory lock that Postgres drops when its connection ends.

A connection is named by its *backend*, a text: the server's process id and when that process began. An id alone is not
enough: a server that was restarted uses ids again. The process that holds a source is in ``mirror.sources``: its name
(see :mod:`~mirror.core.process_name`) and its backend. :mod:`mirror.core.locks` lists this lock and the epoch with all
others.
"""

from __future__ import annotations

import os
import shlex
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from mirror.core.errors import FencedError, SinkError
from mirror.core.locks import SOURCE_HANDED_OVER, SOURCE_IN_POSTGRES
from mirror.core.process_name import is_gone, this_process
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

if TYPE_CHECKING:
    from mirror.postgres.keeper import Keeper

#: The last backends of connections that this process has closed or lost. The server may not have noticed yet that such
#: a backend has no client, so that it still holds a source's lock: this process may end it.
_LEFT_BEHIND: deque[str] = deque(maxlen=1000)

#: How long to wait for the backend of a mirror that has ended to end too.
_DEAD_HOLDER_SECONDS = 5.0
#: Milliseconds for which programs get no share of the lock, so that those that have one can end.
_AWAIT_MS = 200
_TRY, _UNLOCK = "SELECT pg_try_advisory_lock($1::int, $2::int)", "SELECT pg_advisory_unlock($1::int, $2::int)"


class Holder(NamedTuple):
    """The mirror that last took a source, as ``mirror.sources`` has it."""

    host: str | None
    pid: int | None
    process: str | None
    """See :func:`~mirror.core.process_name.this_process`; None: a mirror of an earlier version."""
    backend: str | None
    """Of its connection; None also if the user may not see it."""


def own_backend(conn: Conn) -> str | None:
    """The backend of a connection; None if the server does not show it."""
    row = conn.execute("SELECT mirror.backend(pg_catalog.pg_backend_pid())").fetchone()
    return None if row is None else row[0]


def take(
    conn: Conn,
    source_id: int,
    path: str,
    backend: str | None,
    last_holder: Callable[[], Holder],
    keeper: Keeper | None = None,
) -> int:
    """Take a source's lock, and record this process as its holder; returns the new epoch.

    A backend without a client that still has the lock is ended: one of a connection that this process has closed, or
    one of a process that ran in this boot and namespace of process ids and is gone. ``backend``: this connection's.
    ``last_holder``: reads who took the source last. ``keeper``: has the lock, perhaps. Raises :class:`FencedError` if
    another mirror holds it: at once where that mirror is the recorded one, after 5 s where it is not known which one it
    is.
    """
    deadline = time.monotonic() + _DEAD_HOLDER_SECONDS
    keys, hand = (str(SOURCE_IN_POSTGRES), str(source_id)), (str(SOURCE_HANDED_OVER), str(source_id))
    ours = keeper is not None and keeper.hand_over(conn, source_id)
    while not _try(conn, hand, keys):
        last = last_holder()
        found = conn.execute(statement("lock_holder"), keys).fetchone()
        theirs: str | None = found[0] if found is not None else None
        # Else another mirror has just taken it, and has not yet recorded itself.
        known = theirs is not None and theirs == last.backend
        left = theirs in _LEFT_BEHIND or (known and is_gone(last.process))
        if (known and not left) or time.monotonic() > deadline:
            raise FencedError(
                "take a source over",
                path,
                f"another mirror holds it: host {last.host}, pid {last.pid}",
                next_step="stop that mirror, or mirror into another --schema;"
                " if its machine or container is gone, Postgres notices within a minute",
                retryable=True,
            )
        if left:
            conn.execute(statement("backend_end"), (theirs,))
        elif theirs is None and _await(conn, hand, keys):
            break
        time.sleep(0.02)
    if ours:
        conn.execute(_UNLOCK, hand)
    holder = Holder(socket.gethostname(), os.getpid(), this_process() or None, backend)
    taken = conn.execute(statement("source_take"), (str(source_id), *map(_text, holder))).fetchone()
    return 0 if taken is None else int(taken[0])


def _try(conn: Conn, hand: tuple[str, str], keys: tuple[str, str]) -> bool:
    """Take a source's lock, if it is free and not being handed over."""
    if conn.execute(_TRY, hand).fetchone() != (True,):
        return False
    try:
        return conn.execute(_TRY, keys).fetchone() == (True,)
    finally:
        conn.execute(_UNLOCK, hand)


def _await(conn: Conn, hand: tuple[str, str], keys: tuple[str, str]) -> bool:
    """Wait for a source's lock, for a moment; whether it was given.

    Programs that write to Postgres alone share it, one after the other without a pause if there are many. Where a
    mirror waits, no other gets a share, so it is its turn when those that have one are done.
    """
    if not wait_for(conn, hand):
        return False
    try:
        return wait_for(conn, keys)
    finally:
        conn.execute(_UNLOCK, hand)


def wait_for(conn: Conn, keys: tuple[str, str]) -> bool:
    """Wait for an advisory lock, for a moment; whether it was given."""
    try:
        with impatient(conn):
            conn.execute("SELECT pg_advisory_lock($1::int, $2::int)", keys)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


@contextmanager
def impatient(conn: Conn) -> Iterator[None]:
    """Statements of the block wait for a lock only for a moment; then they raise ``LockNotAvailable``."""
    conn.execute(f"SET lock_timeout = '{_AWAIT_MS}ms'")
    try:
        yield
    finally:
        conn.execute("SET lock_timeout = 0")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def leave(backend: str | None) -> None:
    """Note that this process closes the connection of a backend."""
    if backend is not None:
        _LEFT_BEHIND.append(backend)


def require_no_other_schema(conn: Conn, path: str, schema: str) -> None:
    """Raise ``SinkError`` if a source was mirrored, but never into this schema, which nobody has named.

    A second copy would be made there, and whoever reads the first would see a table that does not change any more.
    """
    before = [str(row[0]) for row in conn.execute(statement("source_schemas"), (path,))]
    if not before or schema in before:
        return
    raise SinkError(
        "find the schema of a source",
        path,
        f"it was mirrored into {', '.join(before)} before, which this state directory does not know",
        next_step=f"name the schema once: `--schema {shlex.quote(before[0])}` goes on there, "
        f"`--schema {shlex.quote(schema)}` begins in {schema}",
    )


def require_agent(path: str, wanted: str | None, held: str | None) -> None:
    """Raise ``SinkError`` if a source was loaded for another agent than the wanted one; None wants any."""
    if wanted in (None, held):
        return
    for_whom = "without an agent" if held is None else f"for the agent {held}"
    raise SinkError(
        "bind a source to an agent",
        path,
        f"it is mirrored {for_whom}, not for {wanted}",
        next_step="leave --agent as it was, or mirror it into another --schema",
    )
