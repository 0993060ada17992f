"""What `mirror status` says of a report, and how it fits on a terminal."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mirror.cli import status_words as words
from mirror.cli.fleet import done_with, print_done
from mirror.cli.status_view import folded, show
from mirror.core.happened import definitions, happened
from mirror.core.peer import start_step
from mirror.core.status import (
    AroundReport,
    EventsReport,
    GapReport,
    OutageReport,
    Phase,
    ProgressReport,
    ProofReport,
    RefusalReport,
    ReverseReport,
    StatusReport,
    WideningReport,
)

LONG = "my_production_customer_database_2026.sqlite3"


def report(name: str = "a.db", **given: Any) -> StatusReport:
    usual = {"source": f"/s/{name}", "schema": "public", "phase": Phase.FOLLOWING, "applied": "3:7", "tables": 5}
    return StatusReport(**{**usual, **given})


def shown(width: int, *reports: StatusReport, problem: str | None = None) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=width), reports, AroundReport(), problem)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_several_that_are_stopped_have_one_step() -> None:
    """As one mirror has had them; of a single one it is its own."""
    stopped = [
        report(f"{name}.db", phase=Phase.STOPPED, stopped_at=1.0, next_steps=[start_step(Path(f"/s/{name}.db"), "")])
        for name in "ab"
    ]
    assert [line for line in shown(200, *stopped) if "next: " in line] == [
        "next: start them with `mirror up /s/a.db /s/b.db`"
    ]
    assert "a.db: next: start it with `mirror up /s/a.db`" in shown(200, stopped[0])


def wait(code: str, **given: Any) -> StatusReport:
    outage = OutageReport(reason="gone", postgres=True, began_at=time.time() - 17, tries=40)
    usual = {"phase": Phase.WAITING, "error": {"code": code}, "last_error": "gone", "outage": outage}
    return report(**{**usual, **given})


PAGES = ProgressReport(what="copy pages", done=10_297_344, unit="bytes")
ROWS = ProgressReport(what="customers", done=4500, total=300_000)


@pytest.mark.parametrize(
    ("given", "state", "detail"),
    [
        ({}, "following", None),
        ({"tables": 0}, "following", "it has no table yet: its program has made none"),
        ({"phase": Phase.STARTING}, "starting", None),
        ({"phase": Phase.SNAPSHOT}, "loading", None),
        ({"phase": Phase.SNAPSHOT, "progress": PAGES}, "copying the file", "copying the file: 10.3 MB"),
        ({"phase": Phase.SNAPSHOT, "progress": ROWS}, "loading", "loading customers 4,500 of 300,000"),
        (
            {"phase": Phase.SNAPSHOT, "progress": ProgressReport(what="t", done=1, total=2, table=1, tables=5)},
            "loading, table 1 of 5",
            "loading t 1 of 2 (table 1 of 5)",
        ),
        ({"phase": Phase.STOPPED, "killed": 28217}, "killed", "killed (its process 28217 is gone)"),
        (
            {"phase": Phase.STOPPED, "killed": 1, "unread_bytes": 4_120_000},
            "killed",
            "killed (its process 1 is gone); up to 4.1 MB not read yet",
        ),
        ({"phase": Phase.STOPPED, "applied": None}, "never mirrored", None),
        (
            {"phase": Phase.STOPPED},
            "stopped",
            "its mirror has ended without a word, or runs where this command cannot see it",
        ),
        ({"phase": Phase.STOPPED, "reverse": ReverseReport(ended="it was finalized")}, "moved to Postgres", None),
    ],
)
def test_what_it_does(given: dict[str, Any], state: str, detail: str | None) -> None:
    found = report(**given)
    assert (words.state(found), words.detail(found)) == (state, detail)


def test_how_long_ago_it_ended() -> None:
    stopped = report(phase=Phase.STOPPED, stopped_at=time.time() - 300, unread_bytes=0)
    assert words.detail(stopped) == "stopped 5 min ago; nothing written since"
    failed = report(phase=Phase.FAILED, stopped_at=time.time() - 300, unread_bytes=84_000_000)
    assert words.detail(failed) == "failed 5 min ago; up to 84.0 MB not read yet"


def test_a_wait() -> None:
    found = wait("postgres", spool_bytes=84_000_000)
    assert words.state(found) == "waiting for Postgres"
    said = words.detail(found)
    assert said is not None and re.fullmatch(
        r"waiting for Postgres \(1[789] s, tried 40 times, since \d\d:\d\d\);"
        r" commits are kept: 84.0 MB of spool so far",
        said,
    )
    assert words.state(wait("source.replaced")) == "waiting for the file"
    assert words.state(wait("mirror")) == "waiting"
    assert words.state(wait("postgres", error=None)) == "waiting"
    assert words.detail(wait("postgres", outage=None)) is None
    nothing_there = words.detail(wait("postgres", spool_bytes=500, applied=None))
    assert nothing_there is not None and "kept" not in nothing_there, "the file is copied, when Postgres is back"


def test_what_is_not_known_is_no_figure() -> None:
    for phase in (Phase.STARTING, Phase.SNAPSHOT, Phase.STOPPED):
        assert words.lag(report(phase=phase, lag_seconds=0.0)) == "-"
    assert words.lag(report(lag_seconds=None)) == "-" and words.lag(report(lag_seconds=0.0)) == "0 ms"
    assert words.lag(report(applied=None, lag_seconds=2.0)) == "-"
    assert words.last_commit(report(freshness_seconds=9.2)) == "9 s ago"
    assert words.last_commit(report()) == "-"
    assert words.last_commit(report(phase=Phase.SNAPSHOT, freshness_seconds=0.1)) == "-"


def test_gaps_are_healed_once_the_position_has_left_their_generation() -> None:
    gaps = [GapReport(generation=number, reason="why", at="then") for number in (1, 3)]
    assert words.gaps(report()) == "0"
    assert words.gaps(report(gaps=gaps, applied="4:0")) == "2, all healed"
    assert words.gaps(report(gaps=gaps, applied="3:9")) == "2, 1 not healed"
    assert words.gaps(report(gaps=gaps, applied=None)) == "2, 2 not healed"
    lines = shown(120, report(gaps=gaps))
    assert "a.db: gap, healed: why (then)" in lines and "a.db: gap: why (then)" in lines


def test_what_a_gap_has_cost() -> None:
    found = GapReport(generation=9, reason="why", at="then", healed=True, rows=214, seconds=0.1)
    assert words.gap(found, report()) == "gap, healed: why (then, 214 rows sent, 100 ms)"


def test_columns_that_are_wider_than_they_are_declared() -> None:
    known = WideningReport(
        column="orders.total", since=time.time(), was="numeric", kind="text", value="'n/a'", key="[7]"
    )
    first, second = words.widened(report(widened=["orders.total", "t.v"], widenings=[known]))
    assert re.fullmatch(
        r"widened: orders\.total is jsonb since \d\d:\d\d, and was numeric \(first text 'n/a' in the row \[7\]\)", first
    )
    assert second == "widened: t.v is jsonb, because of values that do not fit its type"


def test_the_last_comparison() -> None:
    def of(**given: Any) -> str:
        return words.parity(report(parity=ProofReport(**given)))

    assert of() == "never compared"
    assert of(proof="verified", age_seconds=180, rows=200_133) == "checked 3 min ago: equal, 200,133 rows"
    assert of(proof="verified", age_seconds=30, rows=1) == "checked 30 s ago: equal, 1 row"
    assert of(proof="verified", age_seconds=21, rows=1, by_itself=True) == "checked by itself 21 s ago: equal, 1 row"
    assert of(proof="stale", age_seconds=30 * 3600, rows=1, headline="equal: 1 table, 1 row") == (
        "checked 30 h ago: equal: 1 table, 1 row"
    )
    assert of(proof="different", age_seconds=3, rows=9, headline="different: 1 table") == (
        "checked 3 s ago: different: 1 table"
    )


# -- on a terminal ---------------------------------------------------------------------------------------


def busy() -> list[StatusReport]:
    gaps = [GapReport(generation=1, reason="why", at="then")] * 2
    figures = {"lag_seconds": 0.004, "freshness_seconds": 9.0, "commits": 1_234_567, "captured": "17:257"}
    return [
        report(LONG, gaps=gaps, applied="17:255", rejects=12, **figures),
        wait("postgres", source="/s/shop.db", gaps=gaps, captured="17:257", commits=3),
    ]


def test_one_of_two_files_of_a_name_is_told_from_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where it alone is asked for, or is added."""
    one, other = "/s/x/db.sqlite3", "/s/y/db.sqlite3"
    out = io.StringIO()
    show(Console(file=out, width=100), [report(source=one)], AroundReport(), None, [Path(other), Path(one)])
    assert "\nx/db.sqlite3 " in out.getvalue() and "y/db" not in out.getvalue()
    print_done([done_with(Path(one), "added", "is mirrored from now on")], as_json=False, known=[Path(other)])
    assert capsys.readouterr().out == "x/db.sqlite3 is mirrored from now on\n"


def test_120_columns_show_all() -> None:
    lines = shown(120, *busy())
    assert lines[0].split() == ["source", "state", "last", "commit", "lag", "rejects", "gaps", "commits", "applied",
                                "captured"]  # fmt: skip
    assert any("17:255" in line and "17:257" in line and "2, all healed" in line for line in lines)
    assert not any("not shown" in line for line in lines)


def test_80_columns_leave_out_positions_and_say_so() -> None:
    lines = shown(80, *busy())
    rows = lines[: next(at for at, line in enumerate(lines) if line.startswith("not shown"))]
    assert lines[len(rows)] == "not shown, for lack of room: commits, applied, captured"
    assert max(map(len, rows)) <= 80
    shop = next(line for line in rows if line.startswith("shop.db"))
    assert re.fullmatch(r"shop\.db +waiting for Postgres +- +- +0 +2, all healed", shop), "no word is broken"
    parts = [line.split()[0] for line in rows[2 : rows.index(shop)]]
    first, last = "".join(parts).split("…")
    assert len(parts) == 2 and LONG.startswith(first) and LONG.endswith(last), "two lines are enough"
    assert lines[len(rows) + 1] == f"{first}…{last} is {LONG}", "nothing of it vanishes"


@pytest.mark.parametrize("width", [60, 70, 80, 100])
def test_no_word_is_broken_and_no_figure_cut(width: int) -> None:
    lines = shown(width, *busy())
    assert not any("…" in line for line in lines if "…" not in line.split()[0])
    text = " ".join(" ".join(lines).split())
    for word in ("following", "waiting", "Postgres", "healed", "rejects", "commit"):
        assert word in text


def test_names_are_broken_where_they_can_be_read_on() -> None:
    assert folded(LONG, 20) == ["my_production_", "customer_database_", "2026.sqlite3"]
    assert folded("/a/long/path/x.db", 9) == ["/a/long/", "path/x.db"]
    assert folded("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert folded("a.db", 20) == ["a.db"] and folded("", 20) == [""]


def test_what_is_wrong_with_the_configuration_comes_first() -> None:
    assert shown(80, report(), problem="why")[0] == "configuration: why"


def test_a_source_of_which_nothing_is_mirrored_does_not_follow() -> None:
    refusals = [RefusalReport(table=name, reason="it is taken") for name in ("t", "u")]
    assert words.state(report(refusals=refusals, tables=2)) == "all tables refused"
    assert words.state(report(refusals=refusals, tables=3)) == "following"


def test_what_has_happened() -> None:
    since = time.mktime((2026, 5, 4, 14, 2, 15, 0, 0, -1))
    assert happened(report(ever=EventsReport(columns_widened=2), ever_since=since)) == "", "another line has it"
    told = report(ever=EventsReport(tables_dropped=1, columns_added=2, rows_lost=1, reconnections=3), ever_since=since)
    assert definitions(told) == "since 2026-05-04 14:02: 1 table dropped, 2 columns added"
    rest = ", 1 row gone from Postgres, which cannot hold it, 3 outages of Postgres"
    assert happened(told) == definitions(told) + rest
