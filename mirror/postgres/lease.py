"""The right to write a source's tables: an advisory lock that Postgres drops with the connection that has it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from mirror.errors import FencedError
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

#: First key of the two-key advisory locks of sources; the second is the source's id. ("mirr")
_LOCK_CLASS = 0x6D697272

#: Backends of connections that this process has given up. One that the server has not noticed yet to be
#: gone may hold a source's lock: it is ours to end.
_LEFT_BEHIND: set[int] = set()

#: How long to wait for a dead mirror's backend to let go of its lock.
_DEAD_HOLDER_SECONDS = 5.0


def take(conn: Conn, source_id: int, path: str, last_holder: Callable[[], tuple[str | None, int | None]]) -> None:
    """Take a source's lock; a backend left behind by a dead mirror of this host is ended.

    ``last_holder``: reads host and pid of the mirror that last took the source. Raises :class:`FencedError` if
    another mirror holds it.
    """
    deadline = time.monotonic() + _DEAD_HOLDER_SECONDS
    keys = (str(_LOCK_CLASS), str(source_id))
    while True:
        got = conn.execute("SELECT pg_try_advisory_lock($1::int, $2::int)", keys).fetchone()
        if got == (True,):
            return
        host, pid = last_holder()
        holder = conn.execute(statement("lock_holder"), keys).fetchone()
        ours = holder is not None and int(holder[0]) in _LEFT_BEHIND
        alive = not ours and (host != socket.gethostname() or _process_lives(pid))
        if alive or time.monotonic() > deadline:
            raise FencedError(
                "take a source over",
                path,
                f"another mirror holds it: host {host}, pid {pid}",
                next_step="stop that mirror, or mirror into another --schema",
                retryable=True,
            )
        if holder is not None:
            conn.execute("SELECT pg_terminate_backend($1::int)", (str(holder[0]),))
        time.sleep(0.02)


def leave(backend: int) -> None:
    """Note that this process gives up the connection of a backend."""
    _LEFT_BEHIND.add(backend)


def _process_lives(pid: int | None) -> bool:
    """Whether a process of this host has this id."""
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
