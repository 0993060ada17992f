"""A pooler of connections, as PgBouncer is one: its clients share the server's processes.

In transaction mode a client has a server process for a transaction, then it may be another client's, with all that was
set in it. In session mode a client has its own until it leaves; the next one gets it as it is, no reset query is set.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import struct
import threading
from collections import deque
from types import TracebackType
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_CHUNK = 1 << 16
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102


class _Messages:
    """Takes the bytes of one direction apart into messages: (kind, whole message)."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, data: bytes) -> list[tuple[bytes, bytes]]:
        self._rest += data
        found = []
        while len(self._rest) >= 5:
            end = 1 + struct.unpack_from("!I", self._rest, 1)[0]
            if len(self._rest) < end:
                break
            found.append((self._rest[:1], self._rest[:end]))
            self._rest = self._rest[end:]
        return found


class _Server:
    """One process of the server, logged in."""

    def __init__(self, address: str | tuple[str, int], startup: bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.connect(address)
        self.socket.sendall(startup)
        self.messages = _Messages()
        self.greeting: list[bytes] = []
        """What it says of itself, for clients."""
        while True:
            for kind, message in self.messages.of(self.socket.recv(_CHUNK)):
                assert kind != b"E", message
                if kind == b"S":
                    self.greeting.append(message)
                if kind == b"Z":
                    return


class Pooler:
    """Takes connections at :attr:`dsn` until it is closed. The server's processes are taken in turn."""

    def __init__(self, dsn: str, mode: Literal["transaction", "session"], *, idle: int = 0) -> None:
        """``idle``: so many server processes wait from the beginning; each client that waits gets the next one."""
        target = conninfo_to_dict(dsn)
        host, port = str(target["host"]), int(str(target.get("port") or 5432))
        self._address = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._mode = mode
        self._idle: deque[_Server] = deque()
        self._guard = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        number = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=number, sslmode="disable", gssencmode="disable")
        words = f"user\0{target['user']}\0database\0{target['dbname']}\0\0".encode()
        self._startup = struct.pack("!II", len(words) + 8, 3 << 16) + words
        for _ in range(idle):
            self._idle.append(self._new())
        threading.Thread(target=self._accept, daemon=True).start()

    def _new(self) -> _Server:
        server = _Server(self._address, self._startup)
        with self._guard:
            self._ends.append(server.socket)
        return server

    def _take(self) -> _Server:
        with self._guard:
            if self._idle:
                return self._idle.popleft()
        return self._new()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._guard:
                self._ends.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: _Server | None = None
        try:
            head = client.recv(_CHUNK)
            code = struct.unpack_from("!I", head, 4)[0]
            if code in (_SSL, _GSS, _CANCEL):
                return  # the DSN asks for none
            server = self._take()
            greeting = b"".join(server.greeting)
            key = b"K" + struct.pack("!III", 12, secrets.randbits(31), secrets.randbits(31))
            client.sendall(b"R" + struct.pack("!II", 8, 0) + greeting + key + b"Z" + struct.pack("!I", 5) + b"I")
            if self._mode == "transaction":
                self._idle.append(server)
                server = None
            self._forward(client, server)
        except OSError:
            pass  # the test is over
        finally:
            client.close()

    def _forward(self, client: socket.socket, server: _Server | None) -> None:
        """Until the client leaves; a client that leaves amid a transaction takes its server process with it."""
        asked, messages = 0, _Messages()
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            if server is not None:
                selector.register(server.socket, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(_CHUNK)  # type: ignore[union-attr]
                    if not data:
                        if server is not None:
                            server.socket.close()
                        return
                    if key.fileobj is client:
                        for kind, message in messages.of(data):
                            if kind == b"X":
                                if server is not None and not asked:
                                    self._idle.append(server)
                                    return
                                continue
                            if server is None:
                                server = self._take()
                                selector.register(server.socket, selectors.EVENT_READ)
                            asked += kind in b"QS"
                            server.socket.sendall(message)
                        continue
                    assert server is not None
                    for kind, message in server.messages.of(data):
                        client.sendall(message)
                        if kind != b"Z":
                            continue
                        asked -= 1
                        if asked == 0 and message[5:] == b"I" and self._mode == "transaction":
                            selector.unregister(server.socket)
                            self._idle.append(server)
                            server = None
                            break

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        with self._guard:
            for end in self._ends:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has gone already
                end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
