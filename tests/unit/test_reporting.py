"""What a program has read comes to the mirror of its source once, whatever is lost on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirror.core.config.settings import StorageSettings
from mirror.core.control import ControlClient
from mirror.core.errors import RequestError
from mirror.core.messages import Reads, request_in
from mirror.core.status import ReadCount, ShadowCount
from mirror.sidecar.read_tally import MOST_PROCESSES, MOST_WORDS, ReadTally
from mirror.storage import reporting
from mirror.storage.operations import items, knowledge
from mirror.storage.reads import READS, Reason, Shadow
from mirror.storage.reporting import Reporter
from mirror.storage.routing import Health, OnPostgres, Routes
from tests.support.serving import Serving, serving
from tests.support.waiting import LIMIT, until


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "LAST_SECONDS", LIMIT)


@pytest.fixture
def served(folder: Path) -> Iterator[Serving]:
    with serving(folder) as made:
        yield made


def source(folder: Path) -> Any:
    """A file that nobody else has read."""
    return SimpleNamespace(path=f"{folder}/none.db", folder=folder / "s")


def read(at: Any, times: int = 1, reason: Reason = Reason.FRESH) -> None:
    for _ in range(times):
        READS.count("postgres" if reason is Reason.FRESH else "sqlite", reason, at.path)


def reads(served: Serving) -> dict[str, int]:
    with ControlClient(served.folder, LIMIT) as client:
        return {f"{each.store}:{each.reason}": each.count for each in client.status().reads}


def test_what_is_new_is_reported_and_stays(served: Serving, folder: Path) -> None:
    """By the last use of it, too; programs add up, also those that have ended."""
    at, reporter = source(folder), Reporter()
    reporter.add(at)
    reporter.add(at)
    read(at, 3)
    reporter.remove(at)
    assert reads(served) == {}
    reporter.remove(at)
    assert reads(served) == {"postgres:fresh": 3}
    reporter.add(at)
    read(at, 2, Reason.BEHIND)
    READS.count_shadow(Shadow.NOT_COMPARED, "passed", at.path)
    READS.count("sqlite", Reason.BEHIND, "/another.db")
    reporter.end()
    assert reads(served) == {"postgres:fresh": 3, "sqlite:behind": 2}
    other = Reporter()  # of another program, which has read the same number
    other.add(at)
    other.remove(at)
    assert reads(served) == {"postgres:fresh": 6, "sqlite:behind": 4}
    with ControlClient(served.folder, LIMIT) as client:
        assert client.status().shadow_reads == [ShadowCount(result="not_compared", reason="passed", count=2)]


def test_it_is_reported_now_and_then(served: Serving, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "EVERY", 0.01)
    at, reporter = source(folder), Reporter()
    reporter.add(at)
    for number in range(1, 4):
        read(at)
        until(lambda number=number: reads(served) == {"postgres:fresh": number})  # type: ignore[misc]
    reporter.remove(at)
    assert reporter._thread is None


def test_where_no_mirror_runs_it_is_reported_later(folder: Path) -> None:
    at, reporter = source(folder), Reporter()
    reporter.add(at)
    read(at)
    reporter.remove(at)
    reporter.add(at)
    read(at, 4)
    with serving(folder) as served:
        reporter.remove(at)
        assert reads(served) == {"postgres:fresh": 5}


def test_a_report_whose_answer_was_lost_is_counted_once(
    served: Serving, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, reporter = source(folder), Reporter()
    reporter.add(at)
    read(at)
    whole = ControlClient.report_reads

    def loses(client: ControlClient, report: Reads) -> None:
        whole(client, report)
        raise RequestError("lose the answer")

    monkeypatch.setattr(ControlClient, "report_reads", loses)
    reporter.end()
    monkeypatch.setattr(ControlClient, "report_reads", whole)
    read(at)
    reporter.remove(at)
    assert reads(served) == {"postgres:fresh": 2}


def test_a_forked_child_reports_its_own(served: Serving, folder: Path) -> None:
    at = source(folder)
    reporting.add(at)
    read(at, 3)
    child = os.fork()
    if not child:
        try:
            mine = READS.values(at.path) == {}
            read(at, 2)
            reporting.remove(at)
            os._exit(0 if mine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reads(served) == {"postgres:fresh": 2}
    reporting.remove(at)
    assert reads(served) == {"postgres:fresh": 5}


# -- the mirror's side -----------------------------------------------------------------------------


def test_a_report_that_comes_again_is_counted_once() -> None:
    tally = ReadTally()
    for process, number in (("a", 1), ("a", 1), ("b", 1), ("a", 2), ("a", 1), ("a", 2)):
        tally.add(Reads(process, number, [("postgres", "fresh", 10)], [("equal", "", 1)]))
    assert tally.answers() == [ReadCount(store="postgres", reason="fresh", count=30)]
    assert tally.shadows() == [ShadowCount(result="equal", count=3)]


def test_it_is_bounded() -> None:
    tally = ReadTally()
    for number in range(MOST_PROCESSES + 5):
        tally.add(Reads(f"{number}", 1, [("sqlite", "behind", 1)], []))
    assert len(tally._last) == MOST_PROCESSES and tally.answers()[0].count == MOST_PROCESSES + 5
    for number in range(MOST_WORDS):
        tally.add(Reads("x", number + 1, [], [(f"{number}", "", 1)]))
    with pytest.raises(RequestError):
        tally.add(Reads("x", MOST_WORDS + 1, [], [("more", "", 1)]))
    assert len(tally.shadows()) == MOST_WORDS


@pytest.mark.parametrize(
    "message",
    [
        '{"op":"reads","process":"a","number":0,"answers":[],"shadows":[]}',
        '{"op":"reads","process":"a","number":1,"answers":[["mysql","fresh",1]],"shadows":[]}',
        '{"op":"reads","process":"a","number":1,"answers":[["sqlite","a b",1]],"shadows":[]}',
        '{"op":"reads","process":"a","number":1,"answers":[["sqlite","fresh",-1]],"shadows":[]}',
        '{"op":"reads","process":"%s","number":1,"answers":[],"shadows":[]}' % ("a" * 65),
    ],
)
def test_what_is_no_report_is_refused(message: str) -> None:
    with pytest.raises(RequestError):
        request_in(message.encode())


def test_reads_of_a_program_that_has_moved_are_counted_too() -> None:
    """What only Postgres has ever had is not: there is nothing to choose."""
    settings = StorageSettings("postgres", "postgres", ("postgres",))
    routes = Routes(lambda: settings, {}, Health())
    before = READS.values("")
    for operation in (items.count_items, knowledge.list_collections):
        steps = routes.steps(operation)
        assert isinstance(next(steps), OnPostgres)
        with pytest.raises(StopIteration):
            steps.send((1, None))  # type: ignore[arg-type]
    after = READS.values("")
    assert (
        after.pop(("postgres", Reason.SETTING)) == before.pop(("postgres", Reason.SETTING), 0) + 1 and after == before
    )
