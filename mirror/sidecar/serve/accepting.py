"""One thread that accepts the connections of all control sockets of this process."""

from __future__ import annotations

import selectors
import socketserver
import threading
import time
from typing import Any

from mirror.core.state_errors import NO_DESCRIPTORS

#: Seconds within which the thread ends once there is no server.
_LOOK_SECONDS = 5.0
#: Seconds until connections are accepted for which there was no descriptor.
_STARVED_SECONDS = 0.05


class AcceptedServer(socketserver.ThreadingUnixStreamServer):
    """A server for whose connections an :class:`Acceptor` waits."""

    timeout = 0.0
    starved = False
    """Whether the last connection could not be accepted for want of a descriptor. It waits, and is tried again."""

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection."""
        self.starved = False
        try:
            return super().get_request()
        except OSError as error:
            self.starved = error.errno in NO_DESCRIPTORS
            raise


class Acceptor:
    """Has each server handle a connection as it comes. The thread is there as long as a server is.

    Thread: any, for each method.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        """Locked while connections are accepted: none comes once :meth:`remove` has returned."""
        self._servers: set[AcceptedServer] = set()
        self._selector: selectors.BaseSelector | None = None

    def add(self, server: AcceptedServer) -> None:
        """Accept for a server that listens; what it does with a request must take no time."""
        with self._guard:
            self._servers.add(server)
            if self._selector is None:
                self._selector = selectors.DefaultSelector()
                threading.Thread(target=self._run, args=(self._selector,), name="mirror control", daemon=True).start()
            # The thread may be waiting: epoll and kqueue take more while they wait.
            self._selector.register(server, selectors.EVENT_READ, server)

    def remove(self, server: AcceptedServer) -> None:
        """Accept for it no more; it may be closed then."""
        with self._guard:
            if server not in self._servers:
                return
            self._servers.remove(server)
            assert self._selector is not None
            self._selector.unregister(server)
            if not self._servers:
                self._selector = None  # the thread closes its own, and ends

    def _run(self, selector: selectors.BaseSelector) -> None:
        with selector:
            while True:
                ready = selector.select(_LOOK_SECONDS)
                with self._guard:
                    if self._selector is not selector:
                        return
                    called = [key.data for key, _ in ready if key.data in self._servers]
                    for server in called:
                        server.handle_request()
                if any(server.starved for server in called):
                    time.sleep(_STARVED_SECONDS)  # it would be tried again at once


#: That of this process.
ACCEPTOR = Acceptor()
