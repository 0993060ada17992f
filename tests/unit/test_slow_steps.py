"""A step that takes long is told of on stderr; one that is over is not."""

from __future__ import annotations

import pytest

from mirror.cli import slow_steps
from mirror.cli.slow_steps import SlowSteps
from tests.support.waiting import until


def test_it_tells_how_far_a_step_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(slow_steps, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(slow_steps, "NEXT_SECONDS", 0.0)
    said: list[str] = []

    def told(words: str) -> bool:
        said.append(capsys.readouterr().err)
        return words in "".join(said)

    with SlowSteps("shop.db", lambda: "customers, 12,345 rows") as slow:
        slow.begin("compare all rows")
        until(lambda: told("• shop.db: compare all rows: 0 s, customers, 12,345 rows …\n"))
        slow.end()
        slow.begin("end the way back")
        until(lambda: told("• shop.db: end the way back: "))
    capsys.readouterr()
    assert not slow._thread.is_alive()


def test_a_short_step_is_not_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    with SlowSteps("shop.db") as slow:
        slow.begin("record the phase")
        slow.end()
    assert capsys.readouterr().err == ""
