"""Tells changes to a webhook: a POST for each entry, in order, until each is taken.

=========================  =========================================================================================
``Content-Type``           ``application/json``: the body is the document of :mod:`mirror.core.changes`
``Idempotency-Key``        source and position. An entry may come twice, with the same key: an answer can get lost
``Mirror-Source``          the path, percent-encoded
``Mirror-Lsn``             the position
``Mirror-Signature``       ``sha256=`` and, in hexadecimal digits, the HMAC of the body with the secret (RFC 2104)
=========================  =========================================================================================

Any answer 2xx takes the entry. After anything else it comes again, ever more slowly, and none after it comes before:
order is kept. How far it has come is in ``mirror.change_readers``.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from mirror.core.changes import Entry, filtered
from mirror.core.config.change_options import shown
from mirror.core.errors import MirrorError
from mirror.sidecar.changes.log import ChangeLog
from mirror.sidecar.changes.teller import Teller, Told

#: Seconds for one answer; entries that are read together; seconds between two times that it is saved how far it is.
_ANSWER_SECONDS, _TOGETHER, _SAVE_SECONDS = 10.0, 20, 1.0
_READER = "webhook"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to, and what of it."""

    url: str
    """http or https."""
    secret: str = field(repr=False)
    tables: frozenset[str] = frozenset()
    """Only these; empty: all."""

    @property
    def place(self) -> str:
        """For errors: without what may be a password."""
        return shown(self.url)


def signature(secret: str, body: bytes) -> str:
    """The value of ``Mirror-Signature``."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class WebhookTeller(Teller):
    """The thread that posts."""

    where = "the webhook"

    def __init__(self, to: Webhook, log: ChangeLog) -> None:
        super().__init__()
        self._to = to
        self._log = log
        self._connection: http.client.HTTPConnection | None = None
        self._saved: dict[str, float] = {}

    def _tell(self, told: Told) -> bool:
        taken = told.feed.taken
        if taken is None or told.feed.position is None:
            return False
        if told.number != taken.number:
            known = self._log.read_up_to(taken.source_id, _READER)
            if known is None or known > told.feed.position:
                # The first time: what was before is not news. Or Postgres was put back.
                known = told.feed.position
                self._log.has_read(taken.source_id, _READER, known)
            told.position, told.number = known, taken.number
        entries = told.feed.read(told.position, _TOGETHER)
        before = told.position
        try:
            for entry in entries:
                if (document := filtered(entry, self._to.tables)) is not None:
                    self._post(told.feed.source, entry, document.encode())
                    told.count += 1
                told.gaps += entry.kind == "gap"
                told.position = entry.lsn
                if self._is_over():
                    break
        finally:
            due = time.monotonic() - self._saved.get(told.feed.source, 0.0) > _SAVE_SECONDS
            if told.position is not None and told.position != before and (due or len(entries) < _TOGETHER):
                self._log.has_read(taken.source_id, _READER, told.position)
                self._saved[told.feed.source] = time.monotonic()
        return bool(entries)

    def _post(self, source: str, entry: Entry, body: bytes) -> None:
        """Raises a retryable ``MirrorError``."""
        name = quote(source)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{name}@{entry.lsn}",
            "Mirror-Source": name,
            "Mirror-Lsn": str(entry.lsn),
            "Mirror-Signature": signature(self._to.secret, body),
            "User-Agent": "mirror",
        }
        parts = urlsplit(self._to.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection, self._connection = self._connection, None
        kept = connection is not None
        try:
            if connection is None:
                connection = self._connect()
            try:
                status = _ask(connection, path, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not kept:
                    raise
                connection.close()  # it was closed while it was idle
                connection = self._connect()
                status = _ask(connection, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            raise self._problem(str(error) or type(error).__name__) from error
        self._connection = connection
        if not 200 <= status < 300:
            raise self._problem(f"it answered {status} to {entry.lsn}")

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._to.url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_ANSWER_SECONDS, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_ANSWER_SECONDS)

    def _problem(self, detail: str) -> MirrorError:
        step = "check that it runs there, and answers 2xx"
        return MirrorError("post changes", self._to.place, detail, next_step=step, retryable=True)


def _ask(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> int:
    """POST; the status of the answer, which is read to its end."""
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read(1 << 16)
    if not answer.isclosed():
        connection.close()  # of a longer one the rest would be taken for the next
    return answer.status
