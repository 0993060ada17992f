"""The checker of histories finds each kind of violation, and nothing in a history that may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.history import GONE, Event, State, check, figures

LINEAGE = "00000000-0000-0000-0000-000000000001"


def state(version: int, digest: str = "") -> State:
    return State(version, digest or f"d{version}")


def wrote(session: str, begin: int, version: int, item: str = "a", **more: Any) -> Event:
    made = {"kind": "event"} if version == 1 else {}
    value = State(GONE, "") if version == GONE else state(version)
    return Event(session, "write", begin, begin + 5, wrote={item: value}, **(made | more))


def saw(session: str, begin: int, version: int | None, item: str = "a", **more: Any) -> Event:
    return Event(session, "get", begin, begin + 5, saw={item: None if version is None else state(version)}, **more)


def listed(session: str, begin: int, **versions: int) -> Event:
    found: dict[str, State | None] = {item: state(version) for item, version in versions.items()}
    return Event(session, "list", begin, begin + 5, saw=found, kind="event", complete=True)


def counted(session: str, begin: int, count: int) -> Event:
    return Event(session, "count", begin, begin + 5, kind="event", count=count)


def token(session: str, begin: int, frame: int, lineage: str = LINEAGE, **more: Any) -> Event:
    return Event(session, "token", begin, begin + 5, token=f"m1.{lineage}.1.{frame}", **more)


#: 0..300: a is made, changed twice and deleted, b is made and changed; all by two sessions that read, too.
GOOD = [
    wrote("one", 0, 1, "a"),
    saw("two", 2, None, "a"),
    saw("two", 10, 1, "a"),
    wrote("two", 20, 2, "a"),
    saw("one", 22, 1, "a"),
    saw("one", 30, 2, "a"),
    wrote("one", 40, 1, "b"),
    listed("two", 50, a=2, b=1),
    counted("two", 60, 2),
    counted("one", 42, 2),
    wrote("two", 70, 2, "b"),
    listed("one", 72, a=2, b=1),
    token("one", 80, 10, claims={"a": 2}),
    saw("reader", 90, 2, "a", at=True, token=f"m1.{LINEAGE}.1.10", claims={"a": 2}),
    wrote("one", 100, 3, "a"),
    saw("reader", 110, 2, "a", at=True, token=f"m1.{LINEAGE}.1.10", claims={"a": 2}),
    wrote("two", 200, GONE, "a"),
    saw("one", 203, 3, "a"),
    counted("one", 204, 1),
    saw("one", 210, None, "a"),
    counted("one", 220, 1),
    listed("two", 230, b=2),
    token("one", 240, 10),
    saw("reader", 250, 3, "a", at=True, token=f"m1.{LINEAGE}.1.10", claims={"a": 2}),
]
FINAL = {"sqlite": {"b": state(2)}, "postgres": {"b": state(2)}}


def test_a_history_that_may_be() -> None:
    assert check(GOOD, FINAL) == []
    assert check([], {"sqlite": {}}) == []


def without(begin: int) -> list[Event]:
    return [event for event in GOOD if event.begin != begin]


OUT_OF_ORDER = [wrote("one", 110, 1, "c"), wrote("two", 120, 3, "c"), wrote("one", 130, 2, "c")]

PLANTED: dict[str, tuple[str, Callable[[], list[Event]]]] = {
    "a read after a write has the version before": ("past", lambda: [*GOOD, saw("three", 30, 1)]),
    "a read after another's read has the version before": (
        "past",
        lambda: [*without(20), replace(wrote("two", 20, 2), end=60), saw("three", 36, 1)],
    ),
    "an item is not there after it was made": ("lost write", lambda: [*GOOD, saw("three", 30, None)]),
    "a session goes back": ("session", lambda: [*GOOD, saw("two", 80, 1)]),
    "a session does not have what it wrote": ("session", lambda: [*GOOD, saw("two", 27, 1)]),
    "a version that nobody had written": ("nowhere", lambda: [*GOOD, saw("three", 60, 3)]),
    "an item that nobody made": ("nowhere", lambda: [*GOOD, saw("three", 60, 1, "c")]),
    "another value": ("value", lambda: [*GOOD, Event("three", "get", 60, 65, saw={"a": state(2, "torn")})]),
    "a deleted item comes back": ("resurrected", lambda: [*GOOD, saw("three", 220, 3)]),
    "a deleted item is in a list": ("resurrected", lambda: [*GOOD, listed("three", 220, a=3, b=2)]),
    "a deleted item comes back for its session": ("resurrected", lambda: [*GOOD, saw("one", 220, 3)]),
    "a deleted item is written": ("resurrected", lambda: [*GOOD, wrote("three", 220, 4)]),
    "two writes of one version": ("two writes", lambda: [*GOOD, wrote("three", 101, 3)]),
    "two deletions": ("two writes", lambda: [*GOOD, wrote("three", 202, GONE)]),
    "a write that is missing": ("lost write", lambda: without(20)),
    "a write that is older than another": ("past", lambda: [*GOOD, *OUT_OF_ORDER]),
    "a count that is too low": ("count", lambda: [*GOOD, counted("three", 60, 1)]),
    "a count that is too high": ("count", lambda: [*GOOD, counted("three", 220, 2)]),
    "a list that lacks an item": ("list", lambda: [*GOOD, listed("three", 90, a=2)]),
    "a token that goes back": ("token", lambda: [*GOOD, token("one", 260, 9)]),
    "a token of another copy": ("token", lambda: [*GOOD, token("one", 260, 11, LINEAGE[:-1] + "2")]),
    "a read at a token without what its holder had seen": (
        "token read",
        lambda: [*GOOD, saw("reader", 120, 1, at=True, token=f"m1.{LINEAGE}.1.10", claims={"a": 2})],
    ),
    "a read at a token after a deletion": (
        "token read",
        lambda: [*GOOD, saw("reader", 220, 3, at=True, token=f"m1.{LINEAGE}.1.12", claims={"a": GONE})],
    ),
    "an error": ("error", lambda: [*GOOD, Event("one", "get", 90, 95, error="SinkError: away")]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_must_not_be(name: str) -> None:
    kind, planted = PLANTED[name]
    found = check(planted())
    assert kind in {violation.kind for violation in found}, found


def test_lists_that_are_of_no_one_moment() -> None:
    """Two writes at one time: one list has the first alone, the other the second alone."""
    made = [wrote("one", 0, 1, "a"), wrote("one", 10, 1, "b")]
    both = [replace(wrote("one", 20, 2, "a"), end=90), replace(wrote("two", 20, 2, "b"), end=90)]
    first = replace(listed("three", 30, a=2, b=1), end=80)
    assert check([*made, *both, first, replace(listed("four", 30, a=1, b=1), end=80)]) == []
    [violation] = check([*made, *both, first, replace(listed("four", 30, a=1, b=2), end=80)])
    assert violation.kind == "snapshots"


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        ("lost write", {}),
        ("lost write", {"b": state(1)}),
        ("nowhere", {"b": state(3)}),
        ("nowhere", {"b": state(2), "c": state(1)}),
        ("value", {"b": state(2, "torn")}),
        ("resurrected", {"b": state(2), "a": state(3)}),
    ],
)
def test_what_must_not_be_at_the_end(kind: str, items: dict[str, State]) -> None:
    [violation] = check(GOOD, {"postgres": items})
    assert violation.kind == kind


def test_events_as_json() -> None:
    for event in [*GOOD, replace(GOOD[0], count=0, error="x", claims={"a": GONE}, wall=1.5)]:
        assert Event.of_json(event.to_json()) == event


def test_figures() -> None:
    some = [replace(GOOD[2], store="postgres", reason="fresh"), replace(GOOD[5], store="sqlite", reason="behind")]
    found = figures([*some, *GOOD[11:14]])
    assert (
        found["reads"] == 2 and found["by postgres"] == 0.5 and found["tokens"] == 1 and found["reads at tokens"] == 1
    )
