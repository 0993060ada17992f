"""The worst lag of the last minutes: how long, when, and what held the mirror up then."""

from __future__ import annotations

import time

import pytest

from mirror.core.errors import SinkError, SourceError
from mirror.sidecar import lags
from mirror.sidecar.lags import Lags


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(lags.time, "time", lambda: now[0])
    assert time.time() == 1000.0
    return now


def test_it_says_what_held_it_up(clock: list[float]) -> None:
    seen = Lags()
    seen.add(1000.0, 999.9)
    assert seen.worst(1000.0, 0.0)[2] == ""
    clock[0] = 1010.0
    seen.is_interrupted(SourceError("read the file", "f"))
    clock[0] = 1010.2
    seen.goes_on()
    clock[0] = 1020.0
    for _ in range(3):  # as it tries again and again
        seen.is_interrupted(SinkError("connect to Postgres", "host", retryable=True))
        clock[0] += 1
    now = seen.worst(1023.0, 3.0)
    assert now == (3.0, 1023.0, "Postgres was away"), "while it still is"
    clock[0] = 1024.5
    seen.goes_on()
    seen.add(1024.5, 1020.1)
    assert seen.worst(1100.0, 0.0) == (4.4, 1024, "Postgres was away")
    assert seen.worst(1024 + 301.0, 0.0) == (0.0, 1325.0, ""), "it counts for five minutes"
    assert seen.history() == [(1000, pytest.approx(0.1), 1), (1024, pytest.approx(4.4), 1)]
    seen.clear()
    assert seen.worst(1100.0, 0.0).seconds == 0.0


def test_what_took_long_by_itself(clock: list[float]) -> None:
    seen = Lags()
    seen.add(1005.0, 1000.0)
    clock[0] = 1050.0
    seen.is_interrupted(SinkError("connect to Postgres", "host", retryable=True))
    assert seen.worst(1050.0, 0.0) == (5.0, 1005, "")
