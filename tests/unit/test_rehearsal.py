"""The rehearsal's arithmetic: the pause, of the moments of commits; the work of a writer, of what was recorded."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from mirror.core.recorded_load import RecordedLoad
from mirror.core.rows import TableResult
from mirror.cutover.rehearsal.pause import AROUND, measure
from mirror.cutover.rehearsal.statements import StoreStatements, TableStatements
from mirror.cutover.rehearsal.workload import DEFAULT_RATE, MOST_ROWS, workload
from mirror.sidecar.recent_load import MOST_TABLES, SECONDS, RecentLoad


def test_the_pause_is_the_longest_time_without_a_commit() -> None:
    times = [at / 100 for at in range(200)] + [2.49 + at / 100 for at in range(200)]
    found = measure(times, 1.0, 3.0)
    assert found is not None
    assert found.worst == pytest.approx(0.5)
    # One of three seconds' moments: 0.5 s of 1.5 s are in the pause; they wait up to half a second.
    assert found.p50 == pytest.approx(0.01, abs=0.01)
    assert found.p99 == pytest.approx(0.485, abs=0.001)


def test_quantiles_are_those_of_moments_taken_at_random() -> None:
    chosen = random.Random(7)
    times, now = [], 0.0
    for _ in range(400):
        now += chosen.choice([0.001, 0.003, 0.02])
        times.append(now)
    times = [at + (0.3 if at > 1 else 0) for at in times]
    found = measure(times, 0.0, times[-1])
    assert found is not None
    (start, end), *_ = [pair for pair in pairwise(times) if pair[1] - pair[0] > 0.25]
    assert found.worst == pytest.approx(end - start)
    waits = []
    for _ in range(20_000):
        at = chosen.uniform(start - AROUND, end + AROUND)
        waits.append(next(time for time in times if time >= at) - at)
    waits.sort()
    assert found.p50 == pytest.approx(waits[10_000], abs=0.01)
    assert found.p99 == pytest.approx(waits[19_800], abs=0.01)


def test_a_pause_that_begins_before_counts_as_a_whole_and_none_is_none() -> None:
    found = measure([0.0, 1.0, 5.0, 5.1], 2.0, 3.0)
    assert found is not None and found.worst == 4.0
    assert measure([], 0.0, 1.0) is None
    assert measure([0.5], 0.0, 1.0) is None
    assert measure([5.0, 6.0], 0.0, 1.0) is None


def test_seconds_are_counted_and_forgotten() -> None:
    load = RecentLoad()
    assert load.recorded(0.0) == RecordedLoad()
    load.add(100.2, 3, [TableResult("a", 5, 1, 0, 2)])
    load.add(100.9, 1, [TableResult("a", 1, 0, 0, 0), TableResult("b", 0, 4, 0)])
    load.add(101.0, 2, [])
    found = load.recorded(101.5)
    assert found == RecordedLoad(seconds=2, commits=6, peak=4, tables={"a": (2, 4, 1), "b": (0, 0, 4)})
    assert load.recorded(100.0 + SECONDS).commits == 2
    for second in range(2 * SECONDS):
        load.add(200.0 + second, 1, [TableResult(f"t{number}", 1, 0, 0, 1) for number in range(2 * MOST_TABLES)])
    found = load.recorded(200.0 + 2 * SECONDS - 1)
    assert found.seconds <= SECONDS and len(found.tables) == MOST_TABLES


def statements(name: str, *, swappable: bool = True) -> TableStatements:
    none = StoreStatements("", "", "", "", "")
    return TableStatements(name, swappable, none, none)


def test_the_work_of_a_commit_has_the_rows_that_were_recorded() -> None:
    known = {"a": statements("a"), "p": statements("p", swappable=False), "o": statements("o")}
    recorded = RecordedLoad(
        seconds=10, commits=100, peak=40, tables={"a": (30, 50, 10), "p": (8, 0, 0), "v": (1, 1, 1)}
    )
    found = workload(recorded, known)
    assert found.recorded and found.rate == 40 and "without v" in found.note
    a, p, other = found.tables
    assert (other.updates, other.swaps) == (0, 0)
    assert (a.updates, a.swaps) == (0.5, 0.2)
    assert (p.updates, p.swaps) == (pytest.approx(0.08), 0)
    total = sum(table.updates + 2 * table.swaps for table in found.tables)
    assert total == pytest.approx(0.98)


def test_large_commits_are_cut_and_what_was_not_recorded_has_a_rate() -> None:
    known = {"a": statements("a"), "b": statements("b")}
    large = workload(RecordedLoad(seconds=1, commits=2, peak=2, tables={"a": (0, 20_000, 0)}), known)
    assert sum(table.updates for table in large.tables) == pytest.approx(MOST_ROWS) and "no more than" in large.note
    for load, why in (
        (None, "no mirror"),
        (RecordedLoad(), "nothing was committed"),
        (RecordedLoad(seconds=1, commits=1, peak=1, tables={"v": (1, 0, 0)}), "no row of a table"),
    ):
        found = workload(load, known)
        assert not found.recorded and found.rate == DEFAULT_RATE and why in found.note
        assert sum(table.updates for table in found.tables) == 1
