"""Guard rails about the mirror, in words: what a lag comes from and when it is over, and columns that became jsonb."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mirror.core.checks import Check
from mirror.core.status import Phase, StatusReport
from mirror.cutover.rails import plan

AT = time.mktime((2026, 3, 4, 1, 45, 38, 0, 0, -1))


def rails(folder: Path, report: StatusReport, *acknowledged: str) -> dict[str, Check]:
    found = plan(Path("/data/shop.db"), report, folder, "host=/nowhere", "public", acknowledged, " --state-dir /s")
    return {rail.name: rail for rail in found.rails}


def following(**known: object) -> StatusReport:
    return StatusReport(source="/data/shop.db", schema="public", phase=Phase.FOLLOWING, lag_seconds=0.0, **known)


def test_a_lag_says_when_it_was_why_and_until_when_it_counts(folder: Path) -> None:
    report = following(worst_lag_seconds=4.21, worst_lag_at=AT, worst_lag_why="Postgres was away")
    lag = rails(folder, report, "backups")["lag"]
    assert not lag.passed
    assert lag.detail == "4.2 s at worst, at 01:45:38 (Postgres was away); the limit is 1 s"
    assert lag.next_step.startswith("this clears at 01:50:39, if nothing else")
    assert "`mirror cutover plan /data/shop.db --state-dir /s --acknowledge backups`" in lag.next_step
    assert "`mirror cutover plan /data/shop.db --state-dir /s --acknowledge backups --acknowledge lag`" in lag.next_step
    assert rails(folder, report, "lag")["lag"].level == "note"


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.STOPPED, "start it, and wait until it follows: `mirror up /data/shop.db --state-dir /s`"),
        (Phase.PAUSED, "resume it: `mirror resume /data/shop.db --state-dir /s`"),
        (Phase.SNAPSHOT, "wait until it follows: `mirror status /data/shop.db --state-dir /s` says what it does"),
    ],
)
def test_a_mirror_that_does_not_follow(folder: Path, phase: Phase, step: str) -> None:
    found = rails(folder, StatusReport(source="/data/shop.db", schema="public", phase=phase))
    assert not found["mirror"].passed and found["mirror"].next_step == step
    assert found["gaps since parity"].passed, "there is none"
    assert "mirror up" in found["parity"].next_step, "as far as is known there is nothing to compare with"


def test_columns_that_are_jsonb(folder: Path) -> None:
    found = rails(folder, following(widened=["orders.total"]))["widened columns"]
    assert not found.passed and "orders.total" in found.detail
    assert "`mirror rejects retry /data/shop.db --state-dir /s`" in found.next_step
    assert rails(folder, following())["widened columns"].passed
    assert rails(folder, following(widened=["orders.total"]), "widened columns")["widened columns"].level == "note"
