"""A receiver of webhooks on the loopback interface, which answers as the test says."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self


class Call(NamedTuple):
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)


class Receiver:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.code = 204
        """Of the answers; 0: the connection is closed without one."""
        self.codes: list[int] = []
        """Of the next ones, from the last."""
        self.taken: list[Call] = []
        """Those that were answered 2xx."""
        receiver = self

        class Request(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(self.path, dict(self.headers.items()), body)
                receiver.calls.append(call)
                code = receiver.codes.pop() if receiver.codes else receiver.code
                if 200 <= code < 300:
                    receiver.taken.append(call)
                if not code:
                    self.close_connection = True
                    return
                self.send_response(code)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        self._server.daemon_threads = True  # a connection that is kept has one
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/s3cret-path?key=s3cret-key"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
