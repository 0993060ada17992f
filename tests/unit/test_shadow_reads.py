"""Which reads are taken, and that a caller is never held up: the queue of shadow reads, without stores."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mirror.core.config.settings import ReadSettings, StorageSettings
from mirror.core.positions import Salts
from mirror.storage.backing import Files
from mirror.storage.newest import NewestCommit
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.operations import items
from mirror.storage.operations.base import Context
from mirror.storage.proofs import Floor, PositionRow, Proofs, Start
from mirror.storage.reads import READS, Reason, Shadow
from mirror.storage.routing import Health, Offer, OnSqlite, Routes, SourceReads
from mirror.storage.runners import RoutedRunner
from mirror.storage.sessions import Session
from mirror.storage.shadow_reads import MOST_WAITING, ShadowReads, _is_same
from mirror.storage.tables import Embedding
from tests.support.waiting import LIMIT, until

FILES = Files("argent", "public")
CONTEXT = Context("argent")


class Stuck(ShadowReads):
    """Its thread does not get beyond the first read until it may; then it only notes what it was given."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.taken: list[Any] = []
        super().__init__(self._no_store)

    def _no_store(self, schema: str) -> PostgresStore:
        raise AssertionError(schema)

    def _compare(self, task: Any) -> None:
        assert self.may.wait(LIMIT)
        self.taken.append(task)


@pytest.fixture
def shadow() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.may.set()
    made.close()


def counted(before: dict[tuple[Shadow, str], int]) -> dict[tuple[Shadow, str], int]:
    return dict(Counter(READS.shadows()) - Counter(before))


def offer(shadow: ShadowReads, percent: float, *args: Any, **kwargs: Any) -> None:
    shadow.offer(FILES, percent, items.get_items, CONTEXT, args, kwargs)


def test_a_part_of_the_reads_is_taken(shadow: Stuck) -> None:
    shadow.may.set()
    for _ in range(2000):
        offer(shadow, 0)
        offer(shadow, 100 / 4)
        assert shadow.wait_idle(LIMIT)
    assert 400 < len(shadow.taken) < 600
    before = len(shadow.taken)
    for _ in range(100):
        offer(shadow, 100)
        assert shadow.wait_idle(LIMIT)
    assert len(shadow.taken) == before + 100


def test_what_does_not_fit_is_dropped_and_counted(shadow: Stuck) -> None:
    """The caller never waits: here for a thread that does not go on."""
    before = READS.shadows()
    offer(shadow, 100, 0)
    until(lambda: shadow._busy)
    for number in range(MOST_WAITING + 30):
        offer(shadow, 100, number + 1)
    assert counted(before) == {(Shadow.DROPPED, ""): 30}
    shadow.may.set()
    assert shadow.wait_idle(LIMIT)
    assert [task.args for task in shadow.taken] == [(number,) for number in range(MOST_WAITING + 1)]


def test_what_the_caller_changes_later_changes_nothing(shadow: Stuck) -> None:
    ids, where, vector = ["1", "2"], {"extra.topic": {"in": ["a"]}}, Embedding([1, 2])
    offer(shadow, 100, ids, where=where, embedding=vector)
    ids.append("3")
    where["extra.topic"]["in"].append("b")
    shadow.may.set()
    assert shadow.wait_idle(LIMIT)
    (task,) = shadow.taken
    assert task.args == (["1", "2"],) and task.kwargs == {
        "where": {"extra.topic": {"in": ["a"]}}, "embedding": vector,
    }  # fmt: skip
    assert task.context.stamp() == task.context.stamp(), "its clock stands still"


def test_arguments_that_cannot_be_kept(shadow: Stuck) -> None:
    before = READS.shadows()
    offer(shadow, 100, threading.Lock())
    assert counted(before) == {(Shadow.NOT_COMPARED, "arguments"): 1} and shadow._thread is None


def test_closing_drops_what_waits(shadow: Stuck) -> None:
    offer(shadow, 100, 0)
    until(lambda: shadow._busy)
    offer(shadow, 100, 1)
    before = READS.shadows()
    closing = threading.Thread(target=shadow.close)
    closing.start()
    until(lambda: shadow._closing.is_set())
    shadow.may.set()
    closing.join(LIMIT)
    assert [task.args for task in shadow.taken] == [(0,)] and not closing.is_alive()
    assert shadow._thread is not None and not shadow._thread.is_alive()
    assert counted(before) == {(Shadow.DROPPED, ""): 1}
    offer(shadow, 100, 2)
    assert counted(before) == {(Shadow.DROPPED, ""): 1} and len(shadow._waiting) == 0
    shadow.close()


def test_a_defect_of_comparing_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ShadowReads):
        def _compare(self, task: Any) -> None:
            raise KeyError("a defect")

    shadow = Broken(lambda _: pytest.fail("no store"))
    before = READS.shadows()
    for _ in range(5):
        offer(shadow, 100)
    assert shadow.wait_idle(LIMIT)
    shadow.close()
    assert counted(before) == {(Shadow.NOT_COMPARED, Reason.FAILED): 5}
    assert len([one for one in caplog.records if "a defect" in one.getMessage()]) == 1, "it is logged once"


# -- the rules -----------------------------------------------------------------------------------------


class _NoMoves:
    """What is known of a source that is not moved by phases."""

    path = ""

    def is_moved(self) -> None: ...

    def in_doubt(self) -> None: ...

    def require_writable(self) -> None: ...


def routes(percent: float, backend: str = "dual", read_from: str = "sqlite") -> Routes:
    settings = StorageSettings(backend=backend, read_from=read_from, reads=ReadSettings(shadow_percent=percent))
    source: Any = SourceReads(_NoMoves(), Session(), threading.Lock())  # type: ignore[arg-type]
    return Routes(lambda: settings, {"memory": source}, Health())


def test_reads_of_files_are_offered_and_writes_are_not() -> None:
    assert next(routes(5).steps(items.get_item)) == Offer(5)
    assert next(routes(0).steps(items.get_item)) == OnSqlite()
    assert next(routes(5, "sqlite").steps(items.get_item)) == OnSqlite()
    assert next(routes(5).steps(items.create_item)) == OnSqlite()
    alone = routes(5, "postgres", "postgres")
    alone._sources["memory"].moved = True
    assert not isinstance(next(alone.steps(items.get_item)), Offer)


def test_arguments_that_can_be_read_once_are_read_once() -> None:
    offered: list[Any] = []

    class Store:
        def run(self, context: Context, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return [*args[0], *kwargs["more"]]

    store: Any = Store()
    runner = RoutedRunner(
        CONTEXT,
        routes(100),
        {"memory": store},
        lambda: pytest.fail("not Postgres"),
        lambda *given: offered.append(given),
    )
    assert runner.run(items.get_items, (iter("ab"),), {"more": (one for one in "cd")}) == ["a", "b", "c", "d"]
    assert offered == [(100, items.get_items, CONTEXT, (["a", "b"],), {"more": ["c", "d"]})]


# -- one commit ----------------------------------------------------------------------------------------


def commit(frame: int, *, salts: int = 5, stamp: int = 1, changes: int = 0) -> NewestCommit:
    return NewestCommit((1, 2, 3, 4), (stamp, 4096), Salts(salts, salts), frame, changes or frame)


def start(newest: NewestCommit | None, era: int = 0) -> Start:
    return Start(newest, None, None, era)


def test_a_snapshot_is_of_the_commit_that_was_the_newest_all_the_time() -> None:
    assert _is_same(start(commit(7)), start(commit(7)))
    assert _is_same(start(commit(7)), start(commit(7, stamp=2))), "a checkpoint commits nothing"
    assert not _is_same(start(commit(7)), start(commit(8)))
    assert not _is_same(start(commit(7)), start(commit(7, salts=6)))
    assert not _is_same(start(commit(7)), start(commit(7, changes=9)))
    assert not _is_same(start(commit(7)), start(commit(7), era=1))
    assert not _is_same(start(None), start(None))


def test_only_the_very_commit_is_the_same() -> None:
    """Not one before, not one after, not one of another copy, nor of files that are not there any more."""
    proofs = Proofs()
    proofs.look(commit(7))
    proofs.floor = Floor((1,), "lineage", 3, Salts(5, 5), (1, 4096))
    begun = proofs.begin(commit(7))
    assert proofs.is_at(begun, PositionRow(3, 7, 5, 5, "lineage"))
    assert proofs.is_at(begun, PositionRow(4, 7, 5, 5, "lineage"))
    for row in (
        PositionRow(3, 6, 5, 5, "lineage"),
        PositionRow(3, 8, 5, 5, "lineage"),
        PositionRow(3, 7, 6, 5, "lineage"),
        PositionRow(2, 7, 5, 5, "lineage"),
        PositionRow(3, 7, 5, 5, "another"),
    ):
        assert not proofs.is_at(begun, row), row
    proofs.look(commit(9))
    assert proofs.is_at(begun, PositionRow(3, 7, 5, 5, "lineage")), "the answers are of then"
    proofs.look(commit(8))  # the files went back
    assert not proofs.is_at(begun, PositionRow(3, 7, 5, 5, "lineage"))
    assert not proofs.is_at(Start(commit(7), None), PositionRow(3, 7, 5, 5, "lineage")), "nothing is known"


def test_the_text_for_prometheus_has_them() -> None:
    READS.count_shadow(Shadow.NOT_COMPARED, "passed")
    text = READS.text()
    assert "# TYPE mirror_shadow_reads_total counter" in text
    assert 'mirror_shadow_reads_total{result="not_compared",reason="passed"}' in text
    assert text.endswith("\n")
