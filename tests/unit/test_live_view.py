"""What `mirror up` shows on a terminal of 80 columns while it copies and follows."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group

from mirror.cli.live_view import MOST_LINES, Shown, lines_of, tick
from mirror.cli.parity import _Bar
from mirror.core.status import Phase, ProgressReport
from mirror.sidecar.copy_progress import COMPARED, MEANWHILE, THE_FILE, Loaded

NOW = time.mktime((2026, 5, 4, 14, 2, 15, 0, 0, -1))
LONG = "a_table_with_quite_a_long_name_that_goes_on_and_on_until_it_is_longer_than_a_line"


def shown(*sources: Shown, others: tuple[str, ...] = (), width: int = 80) -> list[str]:
    """The lines, as they are on a terminal."""
    console = Console(record=True, width=width, file=io.StringIO())
    lines = lines_of(sources, others, width, NOW)
    console.print(Group(*lines))
    printed = [line.rstrip() for line in console.export_text().splitlines()]
    assert printed == [line.plain.rstrip() for line in lines], "nothing was broken or cut"
    assert all(line.cell_len <= width for line in lines)
    return printed


def copying(what: str = "orders", done: int = 0, total: int | None = None, **values: Any) -> Shown:
    unit = values.pop("unit", "rows")
    known: dict[str, Any] = {"fraction": 0.5, "done": 2, "tables": 5}
    progress = ProgressReport(what=what, done=done, total=total, unit=unit)
    return Shown("shop.db", Phase.SNAPSHOT, progress, followed=False, **{**known, **values})


def test_one_bar_for_all_and_one_for_the_table() -> None:
    whole, table = shown(copying("orders", 23_500, 120_000, left=10.2))
    assert whole == f"2 of 5 tables  {'━' * 12}{'─' * 12}   50%  10 s left"
    assert table == f"orders  {'━' * 4}{'─' * 20}  23,500 of 120,000 rows"


def test_the_time_that_is_left_is_told_where_it_is_known_of_all() -> None:
    """Else an average of tables that go at very different paces would be shown."""
    assert shown(copying())[0].endswith("50%")
    both = shown(copying(left=10.0), copying(left=95.0))
    assert both[0].endswith("50%  95 s left")
    for other in (copying(), Shown("b.db", Phase.STARTING, followed=False)):
        assert "left" not in shown(copying(left=10.0), other)[0]
    assert shown(copying(left=10.0), Shown("b.db"))[0].endswith("75%  10 s left")


def test_bytes_are_bytes() -> None:
    whole, file = shown(copying(THE_FILE, 10_297_344, 25_100_000, unit="bytes", tables=0, fraction=0.041))
    assert whole.startswith("shop.db  ") and "4%" in whole
    assert file.startswith("copying the file  ━") and file.endswith("10.3 MB of 25.1 MB")


@pytest.mark.parametrize(("done", "tail"), [(0, "orders"), (1, "orders  1 row"), (23_500, "orders  23,500 rows")])
def test_what_has_no_total_has_no_bar(done: int, tail: str) -> None:
    assert shown(copying("orders", done))[1] == tail


def test_phases_have_words() -> None:
    assert shown(copying("orders", 500, 500))[1] == "orders  500 rows, building its indexes"
    assert shown(copying("orders", 500, 500, saving=True))[1] == "saving the copy  all rows are sent"
    for phase, known, words in (
        (Phase.STARTING, False, "connecting to Postgres"),
        (Phase.CATCHING_UP, False, "looking at what Postgres has"),
        (Phase.CATCHING_UP, True, "reading what happened meanwhile"),
        (Phase.REDIFF, True, "comparing the file with its copy"),
    ):
        assert shown(Shown("shop.db", phase, followed=False, known=known)) == [words]


def test_what_is_read_after_a_restart_moves() -> None:
    for what, words in ((MEANWHILE, "reading what happened meanwhile"), (COMPARED, "comparing the file with its copy")):
        progress = ProgressReport(what=what, done=3_000_000, total=12_000_000, unit="bytes")
        (line,) = shown(Shown("shop.db", Phase.FOLLOWING, progress, followed=False))
        assert line == f"{words}  {'━' * 6}{'─' * 18}  3.0 MB of 12.0 MB"


def test_the_live_line() -> None:
    """No bar is left, whatever the last report of the copy was."""
    last = ProgressReport(what="products", done=37_500, total=40_000)
    follows = {"commits": 1234, "committed_at": NOW - 4, "behind_since": NOW - 0.001}
    assert shown(Shown("shop.db", progress=last, **follows)) == ["following  lag 1 ms  1,234 commits  last 14:02:11"]
    assert shown(Shown("shop.db", commits=1, committed_at=NOW - 2 * 86_400)) == [
        "following  lag 0 ms  1 commit  last 2026-05-02 14:02"
    ]
    assert shown(Shown("shop.db", indexing="notes.embedding"))[0].startswith(
        "following, building the index notes.embedding  lag"
    )
    assert shown(Shown("shop.db", Phase.WAITING, awaits="Postgres", waits=17.0, commits=9)) == [
        "waiting for Postgres  tries again by itself  17 s so far"
    ]
    assert shown(Shown("shop.db", refused=True))[0].startswith("following, but none of its tables can be mirrored")


def test_hundreds_of_sources_are_some_lines() -> None:
    follow = [Shown(f"s{number}.db", commits=2, committed_at=NOW - number) for number in range(400)]
    copies = [copying("t", number, 100, fraction=0.0) for number in range(90)]
    waits = Shown("bad.db", Phase.WAITING, waits=3.0)
    lines = shown(*follow, waits, *copies, others=("late.db",))
    assert len(lines) == MOST_LINES + 3 and lines[0].startswith("401 of 491 sources  ")
    assert lines[-2] == "… and 87 more sources"
    assert lines[-1] == "400 of 492 following, 1 waiting, 1 could …  lag 0 ms  800 commits  last 14:02:15"
    assert shown(*follow) == ["400 of 400 following  lag 0 ms  800 commits  last 14:02:15"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_what_has_no_room_is_marked(width: int) -> None:
    """Figures stay; of a name the end goes."""
    _, table = shown(copying(LONG, 27_000, 360_000), width=width)
    assert ("… " in table or LONG in table) and table.endswith("27,000 of 360,000 rows") and table.startswith("a_")
    shown(copying("表" * 60, 27_000, 360_000), width=width)


def test_a_tick() -> None:
    assert tick(Loaded("products", 40_000, 0.31)) == "products  40,000 rows  310 ms"
    assert tick(Loaded("one", 1, 1234.0)) == "one  1 row  21 min"


def test_the_total_of_a_comparison_grows_with_what_is_compared() -> None:
    """It is Postgres' estimate, and rows come while they are compared."""
    bar = _Bar(None, Path("a.db"), "public", counted=False)  # type: ignore[arg-type]
    bar._total = 104_051
    (task,) = bar._progress.tasks
    for rows in (104_051, 104_053):
        bar.show("tags", rows)
        assert (task.completed, task.total) == (rows, rows)
