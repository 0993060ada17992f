"""How far a copy is: units, totals, numbers of tables, and what is finished."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mirror.capture.spool import SEGMENT_BYTES, SpoolPlace
from mirror.core.status import ProgressReport
from mirror.sidecar.copy_progress import COMPARED, MEANWHILE, THE_FILE, CopyProgress, Loaded
from mirror.sidecar.status import SourceStatus


class _Copy:
    def __init__(self) -> None:
        self.now, self.checks = 100.0, 0
        self.status = SourceStatus("/data/shop.db", "public")
        self.progress = CopyProgress(self.status, self._check, lambda: self.now)

    def _check(self) -> None:
        self.checks += 1

    @property
    def said(self) -> ProgressReport:
        assert self.status.progress is not None
        return self.status.progress


def test_a_copy_from_the_first_byte_to_the_last_row() -> None:
    copy = _Copy()
    copy.progress.copies(10, 40)
    assert copy.said == ProgressReport(what=THE_FILE, done=10, total=40, unit="bytes")
    assert copy.progress.fraction == pytest.approx(0.025)
    copy.progress.begins({"a": 300, "b": None, "c": 100, "d": 0})
    seen = [copy.progress.fraction]
    for table, rows, total in (
        ("a", 0, None), ("a", 150, 300), ("a", 290, 290), ("b", 0, None), ("b", 500, None), ("b", 700, 700),
        ("c", 0, None), ("c", 120, 100), ("d", 0, None), ("d", 0, 0),
    ):  # fmt: skip
        copy.now += 1
        copy.progress.loads(table, rows, total)
        seen.append(copy.progress.fraction)
        assert copy.said.unit == "rows" and copy.said.tables == 4 and copy.said.table == " abcd".index(table)
        assert copy.said.total is None or copy.said.done <= copy.said.total
    assert seen == sorted(seen) and seen[0] >= 0.1 and seen[-1] == pytest.approx(1.0)
    assert copy.progress.loaded == [Loaded("a", 290, 3.0), Loaded("b", 700, 3.0)], "c was refused"
    copy.progress.saves()
    assert copy.progress.loaded[-1] == Loaded("d", 0, 1.0) and copy.progress.saving
    copy.progress.ends()
    assert copy.status.progress is None and not copy.progress.saving and copy.checks == 11


def test_a_table_that_is_sent_again_is_finished_once() -> None:
    copy = _Copy()
    copy.progress.begins({"a": 10})
    for rows, total in ((0, None), (10, 10), (5, 10), (10, 10)):
        copy.progress.loads("a", rows, total)
    copy.progress.saves()
    assert [each.rows for each in copy.progress.loaded] == [10]
    copy.progress.begins({})
    assert copy.progress.loaded == [] and copy.progress.loads_begun == 2


def test_what_happened_meanwhile() -> None:
    copy = _Copy()
    copy.progress.reads(SpoolPlace(3, 100), SpoolPlace(4, 600))
    assert copy.said == ProgressReport(what=MEANWHILE, done=0, total=SEGMENT_BYTES + 500, unit="bytes")
    copy.progress.reads(SpoolPlace(4, 200), SpoolPlace(4, 700))
    assert (copy.said.done, copy.said.total) == (SEGMENT_BYTES + 100, SEGMENT_BYTES + 600)
    copy.progress.ends()
    copy.status.has_caught_up(None)
    copy.progress.reads(SpoolPlace(4, 700), SpoolPlace(5, 0))
    assert copy.status.progress is None, "it follows: nothing to wait for"
    copy.progress.compares(1, 2)
    assert copy.said.what == COMPARED


@pytest.mark.parametrize(
    "course",
    [
        {"json": (60_000, 500), "plain": (3_000_000, 100_000)},
        {"plain": (3_000_000, 100_000), "json": (60_000, 500)},
        {"a": (40_000, 1000), "b": (30_000, 600), "plain": (900_000, 90_000), "c": (20_000, 800), "d": (9_000, 1500)},
        {"only": (500_000, 10_000)},
        {f"t{number}": (20_000, 5_000) for number in range(20)},
    ],
    ids=lambda course: "-".join(course)[:20],
)
def test_the_time_that_is_left_is_about_right_or_not_told(course: dict[str, tuple[int, int]]) -> None:
    """By table: rows, and rows a second. JSON goes at a two-hundredth of the pace of numbers."""
    copy = _Copy()
    copy.progress.copies(10**9, 10**9)
    assert copy.progress.left is None
    copy.progress.begins(
        {name: rows for name, (rows, _) in course.items()}, [n for n, (_, p) in course.items() if p < 5e3]
    )
    end = copy.now + sum(rows / pace for rows, pace in course.values())
    told = []
    for name, (rows, pace) in course.items():
        copy.progress.loads(name, 0, None)
        for done in range(500, rows + 500, 500):
            copy.now += 500 / pace
            copy.progress.loads(name, min(done, rows), rows)
            if (left := copy.progress.left) is not None:
                truly = end - copy.now
                assert truly / 3 <= left <= 3 * truly, (name, done, left, truly)
                told.append(left)
    assert len(told) > 10 and told[-1] < told[0]
    assert all(later <= 1.5 * earlier for earlier, later in pairwise(told)), "it does not grow"


def test_a_table_that_gets_slower_is_judged_by_its_last_seconds() -> None:
    copy = _Copy()
    copy.progress.begins({"a": 100_000})
    for done in range(500, 50_500, 500):
        copy.now += 0.005
        copy.progress.loads("a", done, 100_000)
    for done in range(50_500, 60_500, 500):
        copy.now += 1
        copy.progress.loads("a", done, 100_000)
    assert copy.progress.left == pytest.approx(80, rel=0.1)
    copy.now += 30
    assert copy.progress.left is not None and copy.progress.left > 200, "nothing comes any more"
    copy.progress.begins({"a": None, "b": 7})
    copy.progress.loads("a", 500, None)
    assert copy.progress.left is None
