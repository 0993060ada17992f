"""A client of server-sent events, and a receiver of webhooks, in tests."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from mirror.core.changes import Change
from tests.support.waiting import LIMIT


class Event(NamedTuple):
    """One event; without data it only moves the client's position."""

    kind: str
    id: str
    change: Change | None


class EventClient:
    """Reads events until it is closed."""

    def __init__(self, url: str, query: str = "", last: str | None = None) -> None:
        at = urlsplit(url)
        self._connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=LIMIT)
        headers = {} if last is None else {"Last-Event-ID": last}
        self._connection.request("GET", f"/changes{query}", headers=headers)
        self._answer = self._connection.getresponse()
        self.code = self._answer.status
        self.type = self._answer.headers["Content-Type"]
        self.last = last or ""

    @property
    def text(self) -> str:
        """The answer of a request that gets no events."""
        return self._answer.read().decode()

    def all(self) -> Iterator[Event]:
        """All that come, those without data too."""
        fields: dict[str, str] = {}
        for line in self._answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            self.last = fields.get("id", self.last)
            data = fields.get("data")
            change = None if data is None else msgspec.json.decode(data, type=Change)
            yield Event(fields.get("event", ""), self.last, change)
            fields = {}

    def take(self, count: int) -> list[Event]:
        """The next ones with data."""
        found: list[Event] = []
        for event in self.all():
            found += [event] if event.change is not None else []
            if len(found) == count:
                break
        return found

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Post(NamedTuple):
    """What came by a webhook."""

    headers: dict[str, str]
    body: bytes
    change: Change


class Receiver:
    """Takes posts, or refuses them."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        """All of them, those that were refused too."""
        self.taken: list[Post] = []
        self.answers: list[int] = []
        """To the next ones, from the last; 0: none, the connection is cut. Then 204 for each."""
        self.url = ""

    def got(self, headers: dict[str, str], body: bytes) -> int:
        post = Post(headers, body, msgspec.json.decode(body, type=Change))
        self.posts.append(post)
        code = self.answers.pop() if self.answers else 204
        if code == 204:
            self.taken.append(post)
        return code


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on this machine, until the end of the block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not (code := receiver.got(dict(self.headers.items()), body)):
                self.close_connection = True
                return
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Not in the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?key=hidden"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
