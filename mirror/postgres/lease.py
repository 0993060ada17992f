"""The right to write a source's tables: an advisory lock that Postgres drops with the connection that has it.

A connection is known by its *backend*, a text: the server's process id and when that process began. Ids alone are
used again, by a server that was restarted from the lowest on. Who holds a source is in ``mirror.sources``: the
holder's process (see :mod:`~mirror.postgres.holder`) and its backend.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from mirror.core.errors import FencedError
from mirror.postgres.holder import is_gone, this_process
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

#: First key of the two-key advisory locks of sources; the second is the source's id. ("mirr")
_LOCK_CLASS = 0x6D697272

#: Backends of connections that this process has given up, the last ones: one that the server has not noticed yet to
#: be without a client may hold a source's lock. It is ours to end.
_LEFT_BEHIND: deque[str] = deque(maxlen=1000)

#: How long to wait for a dead mirror's backend to end.
_DEAD_HOLDER_SECONDS = 5.0


class Holder(NamedTuple):
    """The mirror that last took a source, as ``mirror.sources`` has it."""

    host: str | None
    pid: int | None
    process: str | None
    """See :func:`~mirror.postgres.holder.this_process`; None: a mirror of an earlier version."""
    backend: str | None
    """Its connection's; None as well if the user may not see it."""


def own_backend(conn: Conn) -> str | None:
    """The backend of a connection; None if the server does not tell."""
    row = conn.execute("SELECT mirror.backend(pg_catalog.pg_backend_pid())").fetchone()
    return None if row is None else row[0]


def take(conn: Conn, source_id: int, path: str, backend: str | None, last_holder: Callable[[], Holder]) -> int:
    """Take a source's lock, and note who holds it now; returns the new epoch.

    A backend that a dead mirror has left behind is ended: one of this process, or one whose process ran here (same
    boot, same namespace of process ids) and is gone. ``backend``: this connection's. ``last_holder``: reads who took
    the source last. Raises :class:`FencedError` if another mirror holds it, or one of which nobody here can say
    whether it lives.
    """
    deadline = time.monotonic() + _DEAD_HOLDER_SECONDS
    keys = (str(_LOCK_CLASS), str(source_id))
    while conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", keys).fetchone() != (True,):
        last = last_holder()
        found = conn.execute(statement("lock_holder"), keys).fetchone()
        theirs: str | None = found[0] if found is not None else None
        # Else somebody has it from this moment on, and is about to write that down.
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
        time.sleep(0.02)
    holder = Holder(socket.gethostname(), os.getpid(), this_process() or None, backend)
    taken = conn.execute(statement("source_take"), (str(source_id), *map(_text, holder))).fetchone()
    return 0 if taken is None else int(taken[0])


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def leave(backend: str | None) -> None:
    """Note that this process gives up the connection of a backend."""
    if backend is not None:
        _LEFT_BEHIND.append(backend)
