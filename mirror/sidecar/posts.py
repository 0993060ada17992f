"""Posts to a webhook: what alerts and changes have in common.

====================  ==============================================================================================
``Content-Type``      ``application/json``
``Idempotency-Key``   the same for each attempt to deliver the same: an answer can get lost
``Mirror-Signature``  ``sha256=`` and, in hexadecimal digits, the HMAC of the body with the secret (RFC 2104), if there
                      is one
====================  ==============================================================================================

An answer from 200 to 299 counts as delivered; no other address is followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
from collections.abc import Mapping

from mirror.core.errors import MirrorError
from mirror.core.web_address import WebAddress

#: Seconds for connecting, and for each part of an answer.
ANSWER_SECONDS = 10.0
_STEP = "check that address, and that what listens there answers 2xx"


class Posts:
    """What is posted to one address, by one connection. Thread: one at a time."""

    def __init__(self, to: WebAddress, secret: str | None) -> None:
        """``secret``: signs; None: nothing is signed."""
        self.place = to.place
        self._to = to
        self._secret = secret
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes, key: str, more: Mapping[str, str] | None = None) -> None:
        """Deliver a document. ``key``: its ``Idempotency-Key``. ``more``: other headers.

        Raises ``MirrorError`` (retryable), which does not have the address' path.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "mirror", "Idempotency-Key": key, **(more or {})}
        if self._secret is not None:
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["Mirror-Signature"] = f"sha256={digest}"
        try:
            code = self._ask(body, headers)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            detail = "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            raise self._problem(detail) from error
        if not 200 <= code < 300:
            raise self._problem(f"it answered {code}")

    def _ask(self, body: bytes, headers: dict[str, str]) -> int:
        if self._connection is not None:
            try:
                return self._asked(self._connection, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()  # it was closed while it was idle
        kind = http.client.HTTPSConnection if self._to.secure else http.client.HTTPConnection
        self._connection = kind(self._to.host, self._to.port, timeout=ANSWER_SECONDS)
        return self._asked(self._connection, body, headers)

    def _asked(self, connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer, which is read to its end."""
        connection.request("POST", self._to.path, body, headers)
        answer = connection.getresponse()
        answer.read(1 << 16)
        if not answer.isclosed():
            self.close()  # of a longer one the rest would be taken for the next
        return answer.status

    def close(self) -> None:
        """Keep no connection until the next one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _problem(self, detail: str) -> MirrorError:
        return MirrorError("tell the webhook", self.place, detail, next_step=_STEP, retryable=True)
