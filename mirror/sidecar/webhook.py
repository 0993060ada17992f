"""The webhook for alerts: looks at the mirror every few seconds, and tells what has changed (:mod:`.alerts`).

A POST with JSON (:mod:`.posts`), signed if ``MIRROR_ALERTS_SECRET`` is set. What cannot be delivered is tried again
after 5 s, 10 s, and so on up to 15 minutes, for as long as it is so; status says it. Between two messages that were
delivered are 30 s at least: meanwhile more may be to tell, in one.

What was told is kept in the state directory, so that a mirror that starts again neither repeats it nor forgets its end.
"""

from __future__ import annotations

import hashlib
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
from mirror.sidecar.alerts import Change, Condition, Found, Watch, message
from mirror.sidecar.around import Around
from mirror.sidecar.posts import Posts

#: Seconds between two looks, and between two messages that were delivered.
LOOK_SECONDS, BETWEEN_SECONDS = 5.0, 30.0
#: Seconds until something is tried again that could not be delivered, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
#: The variable with the secret of the signature.
SECRET = "MIRROR_ALERTS_SECRET"  # noqa: S105 - its name
#: The file in which is kept what was told, in the folder of the process' first source.
FILE = "alerts.json"
#: Seconds that stopping waits.
_STOP_SECONDS = 0.5


class Alerts:
    """Tells what changes until :meth:`stop`."""

    def __init__(
        self, settings: AlertSettings, find: Callable[[], Found], around: Around, folder: Path, host: str
    ) -> None:
        """``find``: returns what holds now. ``folder``: for what was told. ``host``: this machine's name."""
        assert settings.webhook is not None
        secret = os.environ.get(SECRET, "").strip() or None
        self._posts = Posts(settings.webhook, secret)
        self._find, self._around, self._host = find, around, host
        self._file = folder / FILE
        self._watch = Watch(settings.hold_seconds, _read(self._file))
        self._pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._next = 0.0
        self._logged = False
        self._bug = ""
        self._around.alerts = AlertsReport(place=self._posts.place)
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
        key = hashlib.sha256(repr([change[:3] for change in due]).encode()).hexdigest()[:32]
        try:
            self._posts.send(body, key)
        except MirrorError as error:
            self._next = time.monotonic() + self._pause.next()
            self._around.alerts = msgspec.structs.replace(report, failed=report.failed + 1, error=error.detail)
            if not self._logged:
                logger.warning("{error}; it is tried again and again", error=error)
            self._logged = True
            return
        finally:
            self._posts.close()  # the next message may be days away
        if self._logged:
            logger.info("{}: alerts are delivered again", self._posts.place)
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
