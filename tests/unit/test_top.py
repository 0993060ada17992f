"""What `mirror top` shows, and what its keys change."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mirror.cli.status_words import lag
from mirror.cli.top_view import ORDERS, Moment, View, bars
from mirror.core.recorded_load import RecordedLoad
from mirror.core.status import AlertsReport, AroundReport, Phase, ReadCount, RedisReport, StatusReport


def report(name: str, **given: Any) -> StatusReport:
    return StatusReport(**{"source": f"/s/{name}", "schema": "public", "phase": Phase.FOLLOWING, **given})


def seen(view: View, width: int = 120, **loads: RecordedLoad) -> str:
    console = Console(file=io.StringIO(), width=width, height=30)
    console.print(view.render({f"/s/{name}.db": load for name, load in loads.items()}, width, 30))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def names(view: View) -> list[str]:
    return [line.report.source.removeprefix("/s/") for line in view.shown()]


@pytest.fixture
def view() -> View:
    made = View()
    a, b, c = report("a.db", lag_seconds=0.5), report("b.db", lag_seconds=2.0), report("c.db", lag_seconds=None)
    made.take(Moment(10.0, [a, b, c], {}))
    a = report("a.db", lag_seconds=0.5, commits=30, rows=300)
    b = report(
        "b.db", lag_seconds=2.0, commits=10, rows=1000, next_steps=["`mirror parity /s/b.db`"], last_error="gone"
    )
    made.take(Moment(12.0, [a, b, c], {}))
    return made


def test_figures_of_a_second_are_differences(view: View) -> None:
    assert {line.report.source: (line.commits, line.rows) for line in view.shown()} == {
        "/s/a.db": (15.0, 150.0), "/s/b.db": (5.0, 500.0), "/s/c.db": (0.0, 0.0),
    }  # fmt: skip
    # Started anew: it counts from 0.
    view.take(Moment(13.0, [report("a.db", commits=2)], {}))
    assert [(line.commits, line.rows) for line in view.shown()] == [(0.0, 0.0)]


def test_orders(view: View) -> None:
    found = []
    for _ in ORDERS:
        found.append((view.order, names(view)))
        view.key("s")
    assert found == [
        ("lag", ["c.db", "b.db", "a.db"]), ("commits/s", ["a.db", "b.db", "c.db"]),
        ("rows/s", ["b.db", "a.db", "c.db"]), ("source", ["a.db", "b.db", "c.db"]),
    ]  # fmt: skip
    view.key("r")
    assert (view.order, names(view)) == ("lag", ["a.db", "b.db", "c.db"])


def test_filter(view: View) -> None:
    for key in "/", "B", ".", "x", "backspace":
        view.key(key)
    assert view.typing and "filter: B." in seen(view) and names(view) == ["b.db"]
    view.key("enter")
    assert not view.typing and names(view) == ["b.db"]
    view.key("q")
    assert view.ended
    view.key("escape")
    assert len(names(view)) == 3


def test_pause(view: View) -> None:
    view.key("p")
    view.take(Moment(13.0, [report("z.db")], {}))
    assert len(names(view)) == 3 and "PAUSED" in seen(view)
    view.key("p")
    view.take(Moment(14.0, [report("z.db")], {}))
    assert names(view) == ["z.db"] and "PAUSED" not in seen(view)


def test_the_chosen_one(view: View) -> None:
    assert view.opened() is None
    for key in "down", "down", "down", "up", "enter":
        view.key(key)
    assert view.opened() == "/s/b.db"
    shown = seen(view, b=RecordedLoad(tables={"notes": (1200, 3, 0), "few": (1, 0, 0)}))
    assert "gone" in shown and "next: `mirror parity /s/b.db`" in shown
    assert shown.index("notes: 1,200 inserted, 3 updated, 0 deleted") < shown.index("few: 1 inserted")
    view.take(Moment(15.0, [report("a.db")], {}))
    assert view.opened() == "/s/a.db"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_width(view: View, width: int) -> None:
    shown = seen(view, width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert "1 of 3" not in shown and "3 of 3 at work" in shown and "a.db" in shown


def test_more_sources_than_lines() -> None:
    view = View(order="source")
    view.take(Moment(1.0, [report(f"{number:03}.db") for number in range(100)], {}))
    for _ in range(60):
        view.key("down")
    assert "› 060.db" in seen(view) and "000.db" not in seen(view)
    assert len(seen(view).splitlines()) <= 30


def test_what_is_around() -> None:
    view = View()
    redis = RedisReport(place="redis h:6380/0", seen_at=1.0, error="refused", away_since=1.0)
    alerts = AlertsReport(place="https://example.org", error="it answers 500", untold=2)
    a = report("a.db", reads=[ReadCount(store="postgres", reason="fresh", count=1200)])
    view.take(Moment(1.0, [a], {}, AroundReport(redis=redis, alerts=alerts)))
    shown = seen(view)
    assert "redis h:6380/0: it does not answer since" in shown and "2 cannot be delivered" in shown
    assert "reads of programs: 1,200 from postgres (fresh 1,200)" in shown
    assert len(seen(view, 60).splitlines()) <= 30


def test_files_of_one_name_are_told_apart() -> None:
    view = View(order="source")
    view.take(Moment(1.0, [report("ada/memory.db"), report("bob/memory.db"), report("tasks.db")], {}))
    shown = seen(view)
    assert "ada/memory.db" in shown and "bob/memory.db" in shown and "s/tasks.db" not in shown


@pytest.mark.parametrize("number", [40, 500])
def test_hundreds_of_sources(number: int) -> None:
    """The worst are there at once, and one is found by a part of its path."""
    view = View()
    reports = [report(f"agent-{each:03}/memory.db", lag_seconds=each / 1000) for each in range(number)]
    view.take(Moment(1.0, reports, {}))
    shown = seen(view)
    assert len(shown.splitlines()) <= 30 and f"› agent-{number - 1:03}/memory.db" in shown
    for key in "/agent-017":
        view.key(key)
    assert names(view) == ["agent-017/memory.db"]


def test_names_are_text() -> None:
    view = View()
    view.take(Moment(1.0, [report("[red]x\x1b[2J.db")], {}))
    assert "[red]x\\x1b[2J.db" in seen(view)


def test_forms() -> None:
    lags = (None, 0.0123, 1.26, 600.0, 8000.0)
    assert [lag(report("a.db", applied="1:2", lag_seconds=one)) for one in lags] == [
        "-",
        "12 ms",
        "1.3 s",
        "10 min",
        "2 h",
    ]
    assert bars([0.0, 1.0, None, 8.0]) == "▁▁ █" and bars([]) == "" and bars([0.0]) == "▁"
