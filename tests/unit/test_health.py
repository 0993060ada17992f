"""What /healthz and /readyz make of a status."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.status import Phase, ProofReport, RedisReport, RefusalReport, ReverseReport, StatusReport
from mirror.sidecar.serve.health import Health, healthy, ready
from mirror.sidecar.serve.metrics import LEAST_FREE_BYTES


def report(**given: Any) -> StatusReport:
    return StatusReport(**{"source": "/s/a.db", "schema": "public", "phase": Phase.FOLLOWING, **given})


def of(
    *reports: StatusReport,
    stalled: tuple[str, ...] = (),
    free: int | None = LEAST_FREE_BYTES,
    redis: RedisReport | None = None,
) -> Health:
    return ready(reports, stalled, free, redis)


def test_all_well() -> None:
    found = of(report(), report(source="/s/b.db"))
    assert (found.state, found.code) == ("ok", 200)
    assert [check.name for check in found.checks] == [
        "loop", "following", "postgres", "complete", "following", "postgres", "complete", "disk",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"phase": Phase.SNAPSHOT}, "following"),
        ({"phase": Phase.WAITING, "last_error": "gone", "error": {"code": "postgres"}}, "postgres"),
        ({"phase": Phase.WAITING, "last_error": "gone", "error": {"code": "postgres.fenced"}}, "postgres"),
        ({"phase": Phase.FAILED, "last_error": "no database", "error": {"code": "source"}}, "following"),
        ({"phase": Phase.REVERSE, "error": {"code": "postgres.way_back_lost"}}, "following"),
        ({"phase": Phase.STOPPED}, "following"),
    ],
)
def test_not_where_it_should_be(given: dict[str, Any], name: str) -> None:
    found = of(report(source="/s/b.db"), report(**given))
    assert (found.state, found.code) == ("failed", 503)
    assert name in {check.name for check in found.checks if check.state == "failed" and check.source == "/s/a.db"}
    assert not any(check.state == "failed" for check in found.checks if check.source == "/s/b.db")


@pytest.mark.parametrize(
    "given",
    [
        {"rejects": 3},
        {"refusals": [RefusalReport(table="t", reason="r", next_step="s")]},
        {"parity": ProofReport(proof="different", headline="one row")},
    ],
)
def test_what_is_known_to_be_missing_leaves_it_in_service(given: dict[str, Any]) -> None:
    found = of(report(**given))
    assert (found.state, found.code) == ("degraded", 200)
    (check,) = [check for check in found.checks if check.state == "degraded"]
    assert check.detail and check.next_step


def test_the_next_steps_can_be_pasted() -> None:
    given = report(source="/s/my a.db", rejects=1, parity=ProofReport(proof="different", headline="one row"))
    (check,) = [check for check in ready([given], (), None, None, " --state-dir /x").checks if check.name == "complete"]
    assert check.detail == "1 row that Postgres cannot hold; comparison: one row"
    named = "'/s/my a.db' --state-dir /x"
    assert check.next_step == f"`mirror rejects list {named}`; `mirror parity {named}`"


def test_one_that_was_killed() -> None:
    found = of(report(phase=Phase.STOPPED, killed=4711))
    assert [check.detail for check in found.checks if check.state == "failed"] == ["killed: its process 4711 is gone"]


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (
            {"rejects": 1, "parity": ProofReport(proof="verified except rejects", headline="equal except 1 row")},
            "1 row that Postgres cannot hold",
        ),
        (
            {
                "refusals": [RefusalReport(table="t", reason="r")],
                "parity": ProofReport(proof="not mirrored", headline="not mirrored: 1 table"),
            },
            "1 table that Postgres refuses",
        ),
    ],
)
def test_what_a_comparison_knows_as_well_is_told_once(given: dict[str, Any], detail: str) -> None:
    (complete,) = [check for check in of(report(**given)).checks if check.name == "complete"]
    assert (complete.state, complete.detail) == ("degraded", detail)


def test_a_move_that_was_finalized_is_no_failure() -> None:
    ended = report(phase=Phase.STOPPED, reverse=ReverseReport(ended="its move was finalized"))
    assert of(ended).code == 200


def test_a_loop_that_does_not_turn() -> None:
    assert (healthy(["a.db"]).code, healthy([]).code) == (503, 200)
    assert of(report(), stalled=("a.db",)).code == 503


def test_the_disk() -> None:
    assert of(report(), free=LEAST_FREE_BYTES - 1).code == 503
    assert of(report(), free=None).code == 200


def test_redis_that_is_away_leaves_it_in_service() -> None:
    found = of(report(), redis=RedisReport(place="redis h:1/0"))
    assert (found.state, found.checks[-1].name) == ("ok", "redis")
    for trouble in ({"error": "refused", "next_step": "start it"}, {"write_error": "the dump"}):
        found = of(report(), redis=RedisReport(place="redis h:1/0", **trouble))
        assert (found.state, found.code, found.checks[-1].state) == ("degraded", 200, "degraded")
