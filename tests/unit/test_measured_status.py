"""Guard rails wait for the first lag of a mirror that has only begun to follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirror.cli import status
from mirror.core.config.settings import Settings
from mirror.core.status import Phase


class Clock:
    """A time that only pauses take."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def report(phase: Phase, worst: float | None) -> Any:
    return SimpleNamespace(phase=phase, worst_lag_seconds=worst)


def asked(monkeypatch: pytest.MonkeyPatch, reports: Iterator[Any]) -> tuple[Any, float]:
    """What is found, and how long it took."""
    clock = Clock()
    monkeypatch.setattr(status, "time", clock)
    monkeypatch.setattr(status, "status_of", lambda source, settings: next(reports))
    return status.measured_status_of(Path("memory.db"), cast("Settings", None)), clock.now


def test_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [report(Phase.FOLLOWING, None)] * 3
    found, took = asked(monkeypatch, iter([*first, report(Phase.FOLLOWING, 0.2)]))
    assert found.worst_lag_seconds == 0.2 and took == pytest.approx(3 * status.MEASURE_PAUSE)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.FOLLOWING])
def test_one_that_does_not_follow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, phase: Phase) -> None:
    assert asked(monkeypatch, iter([report(phase, None)]))[1] == 0


def test_it_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    found, took = asked(monkeypatch, iter(lambda: report(Phase.FOLLOWING, None), None))
    assert found.worst_lag_seconds is None
    assert took == pytest.approx(status.MEASURE_SECONDS, abs=2 * status.MEASURE_PAUSE)
