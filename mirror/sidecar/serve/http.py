"""The status page, metrics and health of a running mirror, over HTTP.

=================  ==========================================================================================
``/``              the page, for people
``/status.json``   what ``mirror status --json`` prints
``/history.json``  for each source, the last seconds in which something was applied: Unix time, worst lag in
                   seconds, transactions
``/metrics``       for Prometheus (:mod:`mirror.sidecar.serve.metrics`)
``/healthz``       whether the process is well: 200 or 503, and named checks as JSON
``/readyz``        whether all sources are where they should be: the same
``/changes``       what is applied, as it is applied (:mod:`mirror.sidecar.serve.events`), if mirror.json says so
=================  ==========================================================================================

With ``?source=PATH``, once or more, ``/history.json`` has these sources alone.

Everything is read, nothing can be changed. Table names and paths are shown, no row and no password; there is no login,
so the address is this machine's own unless another is given.

**The name in the request.** Who can reach the address may read; a browser can be made to read for somebody who cannot:
a page of theirs, whose name then leads here (DNS rebinding), is of one origin with this. So a request's ``Host`` must
be a name that no stranger can have lead here: an address in numbers, ``localhost``, or the HOST that was given. Where
the address is not the loopback's, also this machine's name, a name without a dot (a service of Compose, a Pod), and
those that exist in private networks alone (:data:`PRIVATE`). Behind any other name the server is asked by giving that
name as HOST.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qs, urlsplit

import msgspec
from loguru import logger

from mirror.core.errors import ConfigError
from mirror.core.status import AroundReport, StatusDocument, encode, without_rows
from mirror.sidecar.changes.feed import SourceFeed
from mirror.sidecar.serve import health, metrics
from mirror.sidecar.serve.events import CONTENT_TYPE as EVENTS
from mirror.sidecar.serve.events import Events, Refusal
from mirror.sidecar.serve.metrics import Watched

#: Where it is served if only a port is given.
LOOPBACK = "127.0.0.1"
#: What names end with that nobody can register: RFC 6762, RFC 8375, what ICANN keeps for private use, and Kubernetes'.
PRIVATE = (".local", ".internal", ".home.arpa", ".localhost", ".svc")
#: Seconds in which a request must come, and its answer be read.
_PATIENCE = 10.0
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_NOT_NAMED = b"the name in the request is not this server's: give it as HOST with --http HOST:PORT, or ask by address\n"
_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
#: Bytes that the system keeps for a client that gets events and does not read them.
_SEND_BYTES = 1 << 17
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class HasFeeds(Protocol):
    """The change feeds of the sources."""

    @property
    def feeds(self) -> Sequence[SourceFeed]:
        """Those that there are."""


class Looks(NamedTuple):
    """How the server sees the mirror. All may be called in any thread, at any time."""

    watched: Callable[[], Sequence[Watched]]
    history: Callable[[], dict[str, list[tuple[int, float, int]]]]
    """By the source's path."""
    stalled: Callable[[], Iterable[str]]
    """Sources whose loop does not turn."""
    state_dir: Path
    around: Callable[[], AroundReport] = AroundReport
    """What is around the mirrors of this process."""
    changes: HasFeeds | None = None
    """None: there is no change feed."""
    options: str = ""
    """What a command needs besides a source's name, with a space in front."""


class Address(NamedTuple):
    """Where it is served."""

    host: str
    port: int
    """0: any free one."""

    @classmethod
    def of(cls, text: str) -> Address:
        """``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``. Raises ``ConfigError``."""
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or LOOPBACK
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            step = "give a port (0 to 65535), or HOST:PORT"
            raise ConfigError("serve the status page", text, "no address", next_step=step)
        return cls(host, int(port))


class StatusServer:
    """Serves until :meth:`close`. Thread: its own, and one for each request."""

    def __init__(self, address: Address, looks: Looks) -> None:
        """Start serving. Raises ``ConfigError`` if the address cannot be had."""
        try:
            self._server = _Server(address, looks)
        except OSError as error:
            place = f"{address.host}:{address.port}"
            step = "choose another port; `ss -ltnp` says who has it"
            detail = error.strerror or str(error)
            raise ConfigError("serve the status page", place, detail, next_step=step) from error
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="status page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._server.events.end()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: Address, looks: Looks) -> None:
        self.looks = looks
        changes = looks.changes
        self.events = Events(lambda: changes.feeds if changes is not None else ())
        kind, *_, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = kind
        self.named = address.host
        super().__init__(where[:2], _Request)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """As the base does, without asking for the host's name, which may take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def is_named_by(self, host: str) -> bool:
        """Whether a request's ``Host`` is a name that no stranger can have lead here."""
        return is_safe(host, self.named, str(self.server_address[0]), socket.gethostname())

    def handle_error(self, request: object, client_address: object) -> None:
        """A bug, or no more threads: one line in the log, and the others go on."""
        logger.exception("a request to the status page failed")


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE
    server_version, sys_version = "mirror", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        try:
            if not self.server.is_named_by(self.headers.get("Host", "")):
                self._send(421, _TEXT, _NOT_NAMED, body=body)
                return
            asked = urlsplit(self.path)
            if asked.path == "/changes":
                self._stream(asked, body=body)
                return
            code, kind, content = self._content(asked)
            self._send(code, kind, content, body=body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client has gone

    def _content(self, asked: SplitResult) -> tuple[int, str, bytes]:
        looks, path = self.server.looks, asked.path
        if path in _PAGE:
            name, kind = _PAGE[path]
            return 200, kind, files("mirror.sidecar.serve").joinpath("page", name).read_bytes()
        if path == "/status.json":
            around, reports = looks.around(), [without_rows(one.report) for one in looks.watched()]
            return 200, _JSON, encode(StatusDocument(sources=reports, redis=around.redis, alerts=around.alerts))
        if path == "/history.json":
            wanted = parse_qs(asked.query).get("source")
            found = {source: seen for source, seen in looks.history().items() if wanted is None or source in wanted}
            return 200, _JSON, msgspec.json.encode({"version": 1, "sources": found})
        if path == "/metrics":
            return 200, *metrics.text_of(looks.watched, self.headers.get("Accept", ""), looks.around(), looks.stalled)
        if path == "/healthz":
            return _health(health.healthy(looks.stalled()))
        if path == "/readyz":
            reports = [one.report for one in looks.watched()]
            free = free_bytes(looks.state_dir)
            return _health(health.ready(reports, looks.stalled(), free, looks.around().redis, looks.options))
        return 404, _TEXT, b"there is no such page\n"

    def _stream(self, asked: SplitResult, *, body: bool) -> None:
        """Send events for as long as the client reads them fast enough; the time for one write is bounded."""
        events = self.server.events
        wish = events.wish(asked.query, self.headers.get("Last-Event-ID"))
        if isinstance(wish, Refusal):
            self._send(wish.code, _TEXT, f"{wish.why}\n".encode(), body=body)
            return
        if not events.enter():
            self._send(503, _TEXT, b"there are too many clients\n", body=body)
            return
        try:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            self.send_response(200)
            for name, value in {"Content-Type": EVENTS, "Connection": "close", **_HEADERS}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in events.stream(wish) if body else ():
                self.wfile.write(piece)
        finally:
            events.leave()

    def _send(self, code: int, kind: str, content: bytes, *, body: bool) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged: a scraper comes every few seconds."""


def _health(found: health.Health) -> tuple[int, str, bytes]:
    return found.code, _JSON, msgspec.json.encode(found)


def is_safe(host: str, given: str, bound: str, own: str) -> bool:
    """Whether ``host``, of a request, is a name that no stranger can have lead to this server.

    ``given``: the HOST of :class:`Address`. ``bound``: the address that is served, in numbers. ``own``: this machine's
    name.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    if name in ("localhost", given.lower()) or _address_in(name) is not None:
        return True
    at = _address_in(bound)
    if not name or at is None or at.is_loopback:
        return False
    return "." not in name or name.endswith(PRIVATE) or name == own.lower()


def _address_in(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def free_bytes(folder: Path) -> int | None:
    """Bytes that are free where a folder is; None: not known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
