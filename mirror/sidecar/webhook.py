"""The webhook for alerts: looks at the mirror every few seconds, and tells what has changed (:mod:`.alerts`).

A POST with JSON, signed with ``X-Mirror-Signature: sha256=`` and the HMAC-SHA256 of the body in hexadecimal digits, if
``MIRROR_ALERTS_SECRET`` is set. ``X-Mirror-Id`` is the same for each attempt to deliver the same changes. An answer
from 200 to 299 counts as delivered; no other address is followed. What cannot be delivered is tried again after 5 s,
10 s, and so on up to 15 minutes, for as long as it is so; status says it. Between two messages that were delivered are
30 s at least: meanwhile more may be to tell, in one.

What was told is kept in the state directory, so that a mirror that starts again neither repeats it nor forgets its end.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from loguru import logger

from mirror.core.backoff import Backoff
from mirror.core.config.alert_settings import AlertSettings
from mirror.core.errors import MirrorError
from mirror.core.files import write_atomically
from mirror.core.status import AlertsReport
from mirror.core.web_address import WebAddress, web_address
from mirror.sidecar.alerts import Change, Condition, Found, Watch, message
from mirror.sidecar.around import Around

#: Seconds between two looks, and between two messages that were delivered.
LOOK_SECONDS, BETWEEN_SECONDS = 5.0, 30.0
#: Seconds until something is tried again that could not be delivered, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
#: Seconds for connecting, and for each part of an answer.
ANSWER_SECONDS = 10.0
#: The variable with the secret of the signature.
SECRET = "MIRROR_ALERTS_SECRET"  # noqa: S105 - its name
#: The file in which is kept what was told, in the folder of the process' first source.
FILE = "alerts.json"
#: Seconds that stopping waits.
_STOP_SECONDS = 0.5
_STEP = "check alerts.webhook, and what listens there"


class Webhook:
    """What is called."""

    def __init__(self, address: WebAddress, secret: str | None) -> None:
        self.place = address.place
        self._address = address
        self._secret = secret

    def send(self, body: bytes, name: str) -> None:
        """Deliver a message; ``name``: of it. Raises ``MirrorError`` (retryable), which does not have the path."""
        headers = {"Content-Type": "application/json", "User-Agent": "mirror", "X-Mirror-Id": name}
        if self._secret is not None:
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Mirror-Signature"] = f"sha256={digest}"
        kind = http.client.HTTPSConnection if self._address.secure else http.client.HTTPConnection
        connection = kind(self._address.host, self._address.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", self._address.path, body, headers)
            code = connection.getresponse().status
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            detail = f"{type(error).__name__}: {error}" if not isinstance(error, TimeoutError) else "no answer in time"
            raise MirrorError("tell the webhook", self.place, detail, next_step=_STEP, retryable=True) from error
        finally:
            connection.close()
        if not 200 <= code < 300:
            raise MirrorError("tell the webhook", self.place, f"it answers {code}", next_step=_STEP, retryable=True)


class Alerts:
    """Tells what changes until :meth:`stop`."""

    def __init__(
        self, settings: AlertSettings, find: Callable[[], Found], around: Around, folder: Path, host: str
    ) -> None:
        """``find``: returns what holds now. ``folder``: where it is kept what was told. ``host``: this machine's name.

        Raises ``ConfigError``.
        """
        assert settings.webhook is not None
        secret = os.environ.get(SECRET, "").strip() or None
        self._webhook = Webhook(web_address(settings.webhook, "alerts.webhook"), secret)
        self._find, self._around, self._host = find, around, host
        self._file = folder / FILE
        self._watch = Watch(settings.hold_seconds, _read(self._file))
        self._pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._next = 0.0
        self._logged = False
        self._bug = ""
        self._around.alerts = AlertsReport(place=self._webhook.place)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.turn(self._find())
            except Exception as error:  # a bug, which must not end it, and is logged once
                if repr(error) != self._bug:
                    logger.exception("what is to be told to the webhook could not be found out")
                self._bug = repr(error)

    def turn(self, found: Found) -> None:
        """Look at what holds, and tell what is to be told, if it is time."""
        now = time.time()
        due = self._watch.look(found, now)
        if not due:
            self._pause.reset()
        elif time.monotonic() >= self._next:
            self._tell(due, now)
        assert self._around.alerts is not None
        self._around.alerts = msgspec.structs.replace(
            self._around.alerts,
            holding=sum(detail is not None for detail in found.values()),
            untold=len(self._watch.look(found, now)),
        )

    def _tell(self, due: list[Change], now: float) -> None:
        report = self._around.alerts
        assert report is not None
        body = msgspec.json.encode(message(due, self._watch.told, self._host, now))
        name = hashlib.sha256(repr([change[:3] for change in due]).encode()).hexdigest()[:32]
        try:
            self._webhook.send(body, name)
        except MirrorError as error:
            self._next = time.monotonic() + self._pause.next()
            self._around.alerts = msgspec.structs.replace(report, failed=report.failed + 1, error=error.detail)
            if not self._logged:
                logger.warning("{}; it is tried again and again", error)
            self._logged = True
            return
        if self._logged:
            logger.info("{}: alerts are delivered again", self._webhook.place)
        self._logged = False
        self._pause.reset()
        self._next = time.monotonic() + BETWEEN_SECONDS
        self._watch.was_told(due)
        self._around.alerts = msgspec.structs.replace(report, delivered=report.delivered + 1, error=None)
        _write(self._file, self._watch.told)


def _read(file: Path) -> list[Condition]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Condition])
    except (OSError, ValueError):  # nothing was told yet, or it is told once more
        return []


def _write(file: Path, told: Iterable[Condition]) -> None:
    # A full disk is something to tell, and no reason to stop telling.
    with suppress(OSError):
        write_atomically(file, msgspec.json.encode(sorted(told)), durable=False)
