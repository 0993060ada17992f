"""Alerts at a webhook: delivered once, signed, tried again, and never with a secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from mirror.core.config.alert_settings import AlertSettings
from mirror.core.config.settings import load_settings
from mirror.core.errors import ConfigError
from mirror.core.status import AlertsReport
from mirror.core.web_address import web_address
from mirror.sidecar import webhook
from mirror.sidecar.alerts import Condition, Found
from mirror.sidecar.around import Around
from mirror.sidecar.webhook import SECRET, Alerts
from tests.support.receiver import Receiver

LAG, REDIS = Condition("lag", "/s/a.db"), Condition("redis")
SECRETS = ("s3cret-path", "s3cret-key", "s3cret-hmac")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "BETWEEN_SECONDS", 0.0)
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.0)
    monkeypatch.delenv(SECRET, raising=False)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, level="INFO", format="{message}")
    yield lines
    logger.remove(sink)


class Mirror:
    """One that begins, tells, and ends without a word."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._around = Around()
        settings = AlertSettings(web_address(receiver.url, "url"), hold_seconds=0)
        self._alerts = Alerts(settings, dict, self._around, folder, "here")

    def turn(self, found: Found) -> AlertsReport:
        self._alerts.turn(found)
        assert self._around.alerts is not None
        return self._around.alerts


def test_beginning_and_end_are_delivered_once(
    receiver: Receiver, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "s3cret-hmac")
    mirror = Mirror(receiver, folder)
    for _ in range(3):
        report = mirror.turn({LAG: "75 s behind"})
    assert (report.holding, report.untold, report.delivered, report.failed, report.error) == (1, 0, 1, 0, None)
    for _ in range(3):
        report = mirror.turn({})
    assert (report.holding, report.untold, report.delivered) == (0, 0, 2)
    began, ended = receiver.calls
    assert [call.value["changes"][0]["state"] for call in receiver.calls] == ["began", "ended"]
    assert (
        began.path == "/hook/s3cret-path?key=s3cret-key"
        and began.headers["Idempotency-Key"] != ended.headers["Idempotency-Key"]
    )
    for call in receiver.calls:
        digest = hmac.new(b"s3cret-hmac", call.body, hashlib.sha256).hexdigest()
        assert call.headers["Mirror-Signature"] == f"sha256={digest}"
        assert not any(secret in call.body.decode() + str(call.headers) for secret in SECRETS)


def test_without_a_secret_nothing_is_signed(receiver: Receiver, folder: Path) -> None:
    Mirror(receiver, folder).turn({REDIS: "away"})
    assert "Mirror-Signature" not in receiver.calls[0].headers


@pytest.mark.parametrize("code", [0, 302, 404, 500])
def test_it_is_tried_again_and_says_so(code: int, receiver: Receiver, folder: Path, log: list[str]) -> None:
    """Under one name, so that a receiver that has it already can tell; once there is more, in one message."""
    receiver.code = code
    mirror = Mirror(receiver, folder)
    for number in range(1, 4):
        report = mirror.turn({LAG: "75 s behind"})
        assert (report.untold, report.delivered, report.failed) == (1, 0, number)
        assert report.error is not None and not any(secret in str(report) for secret in SECRETS)
    assert len({call.headers["Idempotency-Key"] for call in receiver.calls}) == 1
    assert {call.path for call in receiver.calls} == {"/hook/s3cret-path?key=s3cret-key"}
    receiver.code = 200
    report = mirror.turn({LAG: "76 s behind", REDIS: "away"})
    assert (report.untold, report.delivered, report.error) == (0, 1, None)
    assert [change["kind"] for change in receiver.calls[-1].value["changes"]] == ["lag", "redis"]
    assert len([line for line in log if "tried again" in line]) == 1 and "delivered again" in log[-1]
    assert not any(secret in line for secret in SECRETS for line in log)


def test_pauses(receiver: Receiver, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "BETWEEN_SECONDS", 1000.0)
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 1000.0)
    mirror = Mirror(receiver, folder)
    mirror.turn({LAG: "x"})
    report = mirror.turn({LAG: "x", REDIS: "away"})  # so soon after the last: it is told later, with what comes then
    assert (report.untold, len(receiver.calls)) == (1, 1)
    receiver.code = 500
    other = Mirror(receiver, folder)
    for _ in range(3):
        other.turn({REDIS: "away"})
    assert len(receiver.calls) == 2


def test_a_mirror_that_starts_again_goes_on(receiver: Receiver, folder: Path) -> None:
    Mirror(receiver, folder).turn({LAG: "75 s behind"})
    mirror = Mirror(receiver, folder)
    mirror.turn({LAG: "80 s behind"})
    assert len(receiver.calls) == 1
    Mirror(receiver, folder).turn({})
    assert receiver.calls[1].value["changes"][0]["state"] == "ended"
    (folder / webhook.FILE).write_text("no JSON")
    Mirror(receiver, folder).turn({LAG: "75 s behind"})
    assert len(receiver.calls) == 3


def test_nobody_listens(receiver: Receiver, folder: Path) -> None:
    with Receiver() as gone:
        mirror = Mirror(gone, folder)
    report = mirror.turn({LAG: "x"})
    assert report.failed == 1 and "refused" in (report.error or "")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/s3cret-path",
        "https://",
        "https://u:s3cret-path@h/",
        "h/s3cret-path",
        "http://h:x/s3cret-path",
        "http://h/s3cret-path é",
    ],
)
def test_addresses_that_are_none(url: str, folder: Path) -> None:
    environment = {"MIRROR_ALERTS_WEBHOOK": url, "ARGENT_STATE_DIR": str(folder)}
    with pytest.raises(ConfigError) as caught:
        load_settings((), None, None, None, None, environment)
    assert "alerts.webhook" in str(caught.value) and "s3cret-path" not in str(caught.value)
