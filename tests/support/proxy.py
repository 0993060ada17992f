"""A proxy between a mirror and its Postgres that fails as networks and servers do, at a byte that the test names."""

from __future__ import annotations

import selectors
import socket
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHUNK = 1 << 16


@dataclass
class Trap:
    """Cuts a connection ``more`` bytes after the end of a pattern (before it, if negative)."""

    to_server: bool
    pattern: bytes
    more: int = 0
    leave_server: bool = False
    """Cut only the mirror's side: the server does not notice."""
    sprung: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Forwards TCP connections to a Postgres, unless a test stops it. Its methods may be called at any time."""

    def __init__(self, dsn: str) -> None:
        """``dsn``: connection string of the Postgres to which it forwards."""
        target = conninfo_to_dict(dsn)
        host, port = str(target["host"]), int(str(target.get("port") or 5432))
        self._unix = host.startswith("/")
        self._target: str | tuple[str, int] = f"{host}/.s.PGSQL.{port}" if self._unix else (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self._port, sslmode="disable", gssencmode="disable")
        self._refusing = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._trap: Trap | None = None
        self._guard = threading.Lock()
        self._ends: list[socket.socket] = []
        self.refused = threading.Event()
        """A client has connected while it refused."""
        self.swallowed = threading.Event()
        """Bytes have come that were not forwarded, because of :meth:`hang`."""
        threading.Thread(target=self._accept, daemon=True).start()

    def set_trap(self, trap: Trap) -> threading.Event:
        """Set a trap for any connection; the event is set when it has sprung, which it does once."""
        self._trap = trap
        return trap.sprung

    def cut(self) -> None:
        """Cut all connections, on both sides."""
        with self._guard:
            for end in self._ends:
                _hang_up(end)
            self._ends.clear()
        self._flowing.set()

    def refuse(self) -> None:
        """Cut all connections, and close new ones at once."""
        self.refused.clear()
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Accept connections again."""
        self._refusing = False

    def hang(self) -> None:
        """Forward nothing, and keep what comes."""
        self.swallowed.clear()
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again, first what came since :meth:`hang`."""
        self._flowing.set()

    def heard(self, client: socket.socket, data: bytes) -> None:
        """Called with what a client sends; for those that listen."""

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._refusing:
                client.close()
                self.refused.set()
                continue
            server = socket.socket(socket.AF_UNIX if self._unix else socket.AF_INET)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            with self._guard:
                self._ends += [client, server]
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        # What was forwarded last, so that a pattern is found that two packets share.
        tails = {client: b"", server: b""}
        due: dict[socket.socket, int] = {}
        # (select.select takes no descriptor above 1,023, and a process of tests may have more.)
        selector = selectors.DefaultSelector()
        selector.register(client, selectors.EVENT_READ, client)
        selector.register(server, selectors.EVENT_READ, server)
        try:
            while True:
                for key, _ in selector.select():
                    end: socket.socket = key.data
                    data = end.recv(CHUNK)
                    if not data:
                        return
                    if not self._flowing.is_set():
                        self.swallowed.set()
                        self._flowing.wait()
                    to_server = end is client
                    if to_server:
                        self.heard(client, data)
                    trap = self._trap
                    if trap is not None and trap.to_server == to_server:
                        joined = tails[end] + data
                        at = joined.find(trap.pattern)
                        if end not in due and at >= 0:
                            due[end] = at + len(trap.pattern) + trap.more - len(tails[end])
                        if end in due:
                            if due[end] <= len(data):
                                self._spring(trap, server if to_server else client, data[: max(0, due[end])])
                                if trap.leave_server:
                                    client.close()
                                    self._wait_cut(server)
                                return
                            due[end] -= len(data)
                        tails[end] = joined[-len(trap.pattern) :]
                    (server if to_server else client).sendall(data)
        except (OSError, ValueError):
            return  # cut, or the other side has gone
        finally:
            selector.close()
            client.close()
            server.close()

    def _spring(self, trap: Trap, other: socket.socket, last: bytes) -> None:
        self._trap = None
        other.sendall(last)
        trap.sprung.set()

    @staticmethod
    def _wait_cut(server: socket.socket) -> None:
        while True:
            if not server.recv(CHUNK):
                return

    def close(self) -> None:
        """End everything."""
        self._refusing = True
        _hang_up(self._listener)
        self._listener.close()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _hang_up(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has gone already
