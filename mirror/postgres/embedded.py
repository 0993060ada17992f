"""The Postgres that pip installs, run in the state directory when no server is configured.

Each process that uses the server holds a shared ``flock`` beside its data directory; one that leaves and can turn that
into an exclusive one is the last and stops the server. The kernel drops the lock of a killed process, so a killed
process can neither keep the server running forever nor stop it while others use it. After a ``kill -9`` the server runs
on, and the next start attaches to it. A second lock lets one process at a time look for the server, make it and start
it (:mod:`mirror.core.locks` lists both).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from mirror.core.errors import SinkError
from mirror.core.files import make_folder
from mirror.core.state_errors import room_for, state_error
from mirror.postgres.cluster import Cluster, Postmaster

#: Seconds to wait for a server that was found and may be recovering.
_READY_SECONDS = 60.0
_POLL_SECONDS = 0.01


class EmbeddedPostgres:
    """A running server; a context manager that stops it, unless others still use it."""

    def __init__(self, cluster: Cluster, postmaster: Postmaster, lock: int) -> None:
        """``lock``: descriptor that holds the shared lock. Use :func:`start_embedded`."""
        self._cluster = cluster
        self._postmaster = postmaster
        self._lock: int | None = lock
        self.dsn = _dsn(postmaster)
        """Connection string of the server's database ``postgres``, for psycopg and psql."""
        self.is_new = False
        """Whether its directory was made just now."""

    @property
    def runs_as(self) -> str:
        """The name of the user that the server runs as; empty: the one of this process."""
        return self._cluster.runs_as

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._postmaster.pid

    def runs(self) -> bool:
        """Whether the server runs; another process with its id does not count."""
        return self._cluster.postmaster() is not None

    def start_again(self) -> None:
        """Start the server, if it has ended, at the same address.

        Raises :class:`SinkError` if it cannot be started, or its directory is gone; :class:`ConfigError`.
        """
        if not self._cluster.made:
            raise SinkError(
                "start the embedded Postgres again",
                str(self._cluster.data),
                "its directory is gone",
                next_step="stop the mirror and start it again: it copies its sources into a new one",
            )
        with _alone(self._cluster.data):
            self._postmaster = self._cluster.postmaster() or self._cluster.start()
        _await_connection(self.dsn, self._cluster.data)

    def stop(self) -> bool:
        """Leave the server, and stop it if no other process uses it; return whether it was stopped.

        Sessions that are still open are ended (fast mode). May be called twice. Raises
        :class:`SinkError` if the server does not end.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return False
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._cluster.leave()
                return False
            self._cluster.stop()
            return True
        finally:
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_embedded(state_dir: Path, making: Callable[[Path], None] | None = None) -> EmbeddedPostgres:
    """Start Postgres in ``state_dir/postgres``, or attach to the one that runs there.

    ``making``: called before its directory is made, with that. Raises :class:`ConfigError` if the package is not
    installed or the path cannot be used, :class:`StateError` if the state directory cannot be used,
    :class:`SinkError` if the server cannot be started.
    """
    data = (state_dir / "postgres").resolve()
    try:
        cluster = Cluster(data)
        make_folder(data.parent)
        return _start(cluster, data, making)
    except OSError as error:
        otherwise = "choose another --state-dir, or name a server with --postgres"
        raise state_error(
            error, data, "start the embedded Postgres", needed=room_for(0), otherwise=otherwise
        ) from error


def _start(cluster: Cluster, data: Path, making: Callable[[Path], None] | None) -> EmbeddedPostgres:
    lock = _open(data.with_name("postgres.lock"))
    try:
        # Waits while another process stops the server.
        fcntl.flock(lock, fcntl.LOCK_SH)
        with _alone(data):
            if is_new := not cluster.made:
                if making is not None:
                    making(data)
                cluster.make()
            server = EmbeddedPostgres(cluster, cluster.postmaster() or cluster.start(), lock)
            server.is_new = is_new
        _await_connection(server.dsn, data)
        return server
    except BaseException:
        os.close(lock)
        raise


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """No other process makes or starts the server while the block runs."""
    lock = _open(data.with_name("postgres.start.lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _dsn(postmaster: Postmaster) -> str:
    return make_conninfo(host=postmaster.socket_directory, port=postmaster.port, user="postgres", dbname="postgres")


def _await_connection(dsn: str, data: Path) -> None:
    """Return once the server takes connections: one that was found may still be recovering. Raises ``SinkError``."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise SinkError(
                    "start the embedded Postgres",
                    str(data),
                    str(error),
                    next_step=f"see {data / 'log'}",
                ) from error
            time.sleep(_POLL_SECONDS)
