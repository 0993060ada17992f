"""What is worth telling, and that it is told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.config.alert_settings import AlertSettings
from mirror.core.status import Phase, ProofReport, RedisReport, RefusalReport, ReverseReport, StatusReport
from mirror.sidecar.alerts import MOST_NAMED, Change, Condition, Watch, conditions, message

SETTINGS = AlertSettings(lag_seconds=10, rejects=2, parity_hours=1, free_bytes=1000)
LAG = Condition("lag", "/s/a.db")


def report(**given: Any) -> StatusReport:
    values = {"source": "/s/a.db", "schema": "public", "phase": Phase.FOLLOWING, "lag_seconds": 0.0, **given}
    return StatusReport(**values)


def found(*reports: StatusReport, **given: Any) -> dict[str, str | None]:
    more: dict[str, Any] = {"stalled": (), "free_bytes": 1000, "redis": None, **given}
    return {each.kind: detail for each, detail in conditions(reports, settings=SETTINGS, **more).items()}


WAITING = {"phase": Phase.WAITING, "last_error": "gone", "lag_seconds": None}
ENDED = ReverseReport(ended="its move was finalized", rejects=9)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"lag_seconds": 10.0}, {}),
        ({"lag_seconds": 75.4}, {"lag": "75 s behind"}),
        ({"phase": Phase.STARTING, "lag_seconds": None}, {"lag": None}),
        ({"rejects": 2}, {}),
        ({"rejects": 3000}, {"rejects": "3,000 rejected rows"}),
        ({"refusals": [RefusalReport(table="t", reason="r")]}, {"rejects": "1 refused table"}),
        ({"reverse": ReverseReport(rejects=3), "lag_seconds": None}, {"rejects": "3 rejected rows"}),
        ({**WAITING, "error": {"code": "postgres"}}, {"lag": None, "postgres": "gone"}),
        ({**WAITING, "error": {"code": "source"}}, {"lag": None, "stopped": "waiting: gone"}),
        (
            {"phase": Phase.FAILED, "lag_seconds": None, "last_error": "no database", "error": {"code": "source"}},
            {"lag": None, "stopped": "failed: no database"},
        ),
        (
            {"phase": Phase.WAITING, "error": {"code": "postgres.way_back_lost"}, "reverse": ReverseReport()},
            {"stopped": "waiting: no reason is known"},
        ),
        ({"phase": Phase.STOPPED, "reverse": ENDED, "lag_seconds": None}, {}),
        ({"parity": ProofReport(proof="different", headline="different: 3 rows")}, {"parity": "different: 3 rows"}),
        ({"parity": ProofReport(proof="stale", age_seconds=7300.0)}, {"parity": "compared 2 hours ago"}),
        ({"parity": ProofReport(proof="verified", age_seconds=3500.0)}, {}),
        # Rejected rows and refused tables are told by themselves: once.
        ({"parity": ProofReport(proof="verified except rejects", age_seconds=3500.0), "rejects": 2}, {}),
        (
            {"parity": ProofReport(proof="not mirrored"), "refusals": [RefusalReport(table="t", reason="r")]},
            {"rejects": "1 refused table"},
        ),
        ({"parity": ProofReport(proof="different"), "reverse": ReverseReport(), "phase": Phase.REVERSE}, {}),
    ],
)
def test_conditions_of_a_source(given: dict[str, Any], expected: dict[str, str | None]) -> None:
    assert found(report(**given)) == expected


def test_conditions_of_the_process() -> None:
    assert found(stalled=["a.db"], free_bytes=999) == {
        "stalled": "its loop does not turn", "disk": "999 bytes are free in the state directory",
    }  # fmt: skip
    assert found(free_bytes=None) == {"disk": None}
    assert found(redis=RedisReport(place="redis h:1/0")) == {}
    assert found(redis=RedisReport(place="redis h:1/0", error="refused")) == {
        "redis": "redis h:1/0 does not answer: refused"
    }
    assert found(redis=RedisReport(place="redis h:1/0", write_error="the dump"))["redis"] == (
        "redis h:1/0 cannot write the dump"
    )


def test_it_is_told_once_when_it_has_lasted_and_once_when_it_is_over() -> None:
    watch = Watch(60)
    assert watch.look({LAG: "11 s behind"}, 100) == [] == watch.look({LAG: "70 s behind"}, 159)
    (change,) = watch.look({LAG: "71 s behind"}, 160)
    assert change == Change(LAG, True, 100, "71 s behind")
    assert watch.look({LAG: "72 s behind"}, 161) == [change._replace(detail="72 s behind")]  # until it was delivered
    watch.was_told([change])
    assert watch.look({LAG: "73 s behind"}, 500) == []
    assert watch.look({}, 600) == [] == watch.look({}, 659)
    assert watch.look({}, 660) == [Change(LAG, False, 600, "")]
    watch.was_told(watch.look({}, 661))
    assert watch.look({}, 999) == [] and not watch.told


def test_what_comes_and_goes_is_not_told() -> None:
    watch = Watch(60)
    assert not any(watch.look({LAG: "x"} if at % 50 else {}, at) for at in range(0, 1000, 10))
    watch = Watch(60, [LAG])
    assert not any(watch.look({} if at % 50 else {LAG: "x"}, at) for at in range(0, 1000, 10))


def test_what_is_not_known_stays_as_it_was() -> None:
    watch = Watch(60, [LAG])
    assert not any(watch.look({LAG: None}, at) for at in (0, 60, 600))
    watch = Watch(60)
    assert not any(watch.look({LAG: None}, at) for at in (0, 60, 600))
    assert watch.look({LAG: "x"}, 700) == [] == watch.look({LAG: None}, 760)
    assert len(watch.look({LAG: "x"}, 761)) == 1


def test_what_is_over_before_it_could_be_delivered_is_not_told() -> None:
    watch = Watch(0)
    assert len(watch.look({LAG: "x"}, 1)) == 1
    assert watch.look({}, 2) == []


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans(), st.integers(1, 90))))
def test_beginnings_and_ends_alternate(steps: list[tuple[set[str], bool, int]]) -> None:
    watch, now, told = Watch(60), 0, set[Condition]()
    for kinds, delivered, seconds in steps:
        now += seconds
        changes = watch.look({Condition(kind): "" for kind in kinds}, now)
        for change in changes:
            assert change.began == (change.condition not in told) == (change.condition.kind in kinds)
            assert now - change.since >= 60
        if delivered:
            watch.was_told(changes)
            told ^= {change.condition for change in changes}
        assert watch.told == told


def test_one_message_has_all_of_many_sources() -> None:
    began = [Change(Condition("postgres", f"/s/{n:03}.db"), True, 1000.0 + n, "refused") for n in range(500)]
    changes = [*began, Change(Condition("redis"), False, 2000.0, "")]
    sent = message(changes, [Condition("redis"), LAG], "here", 1_700_000_000)
    assert sent["text"] == "mirror on here: postgres of 500 sources (000.db, …): refused; redis is over"
    first, second = sent["changes"]
    assert (first["kind"], first["state"], first["count"], len(first["sources"])) == (
        "postgres",
        "began",
        500,
        MOST_NAMED,
    )
    assert first["since"] == "1970-01-01T00:16:40+00:00" and sent["at"] == "2023-11-14T22:13:20+00:00"
    assert (second["kind"], second["state"], second["sources"]) == ("redis", "ended", [])
    assert sent["holding"] == 501


def test_a_message_is_short() -> None:
    sent = message([Change(LAG, True, 0.0, "x" * 9000)], [], "here", 0.0)
    assert len(sent["text"]) < 2100 and len(sent["changes"][0]["detail"]) <= 500
    assert Path(LAG.source).name in sent["text"]
