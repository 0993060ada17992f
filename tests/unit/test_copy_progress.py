"""How far a copy is: units, totals, numbers of tables, and what is finished."""

from __future__ import annotations

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
