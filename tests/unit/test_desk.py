"""Requests to a pipeline: each is answered, whatever happens; and a hold belongs to whoever took it."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from mirror.core.errors import ControlError, MirrorError, SourceError
from mirror.core.positions import Lsn, Position, Salts
from mirror.sidecar import mailbox as module
from mirror.sidecar.mailbox import Mailbox
from tests.support.serving import serving

ENDED = "the mirror of this source has ended"


def position(frame: int) -> Position:
    return Position(Lsn(1, frame), Salts(1, 2), 0.0)


def at(frame: int) -> Callable[[Future[Lsn]], None]:
    """What finds out that the place is this frame."""
    return lambda place: place.set_result(Lsn(1, frame))


def rings(desk: Mailbox) -> bool:
    return bool(select.select([desk.bell], [], [], 0)[0])


def error_of(future: Future[Any], kind: type[MirrorError] = SourceError) -> MirrorError:
    error = future.exception(0)
    assert isinstance(error, kind) and error.retryable, error
    return error


def held(desk: Mailbox, own: str | None = None) -> str:
    future = desk.ask_to_hold(own)
    desk.serve()
    return future.result(0)


# -- requests ------------------------------------------------------------------------------------------


def test_the_bell_rings_until_all_is_served() -> None:
    desk = Mailbox()
    assert not rings(desk)
    futures: list[Future[int]] = [desk.request(lambda future, n=n: future.set_result(n)) for n in range(3)]
    assert rings(desk)
    desk.serve()
    assert [future.result(0) for future in futures] == [0, 1, 2] and not rings(desk)
    desk.serve()  # nothing to do
    desk.close()


@pytest.mark.parametrize("error", [SourceError("talk to the capture process", retryable=True), RuntimeError("a bug")])
def test_one_that_fails_leaves_none_behind(error: Exception) -> None:
    """The bell has rung for all of them: those after it would wait until somebody else asks."""
    desk = Mailbox()

    def fail(future: Future[int]) -> None:
        raise error

    first: Future[int] = desk.request(lambda future: future.set_result(1))
    broken, again = desk.request(fail), desk.request(fail)
    last: Future[int] = desk.request(lambda future: future.set_result(2))
    with pytest.raises(type(error)):
        desk.serve()
    assert (first.result(0), last.result(0)) == (1, 2)
    if isinstance(error, RuntimeError):
        assert broken.exception(0) is again.exception(0) is error
    else:
        assert not broken.done(), "the link to capture is down, which asks again: see mirror.tail"
    desk.close()
    assert broken.done() and again.done()


def test_what_is_asked_after_the_end() -> None:
    desk = Mailbox()
    desk.close()
    for ask in (
        lambda: desk.request(lambda future: None),
        lambda: desk.ask_to_hold(None),
        lambda: desk.ask_to_reach("token", at(1)),
    ):
        with pytest.raises(SourceError, match=ENDED) as caught:
            ask()
        assert caught.value.retryable
    desk.ask_to_release("token")
    desk.post(lambda: None)
    desk.wake()
    desk.close()


def test_the_end_answers_all_that_waits() -> None:
    """What is queued, what was handed over to be answered later, and who waits for a position in a hold."""
    desk = Mailbox()
    token = held(desk)
    places: list[Future[Lsn]] = []
    unknown = desk.ask_to_reach(token, places.append)
    handed_over: Future[int] = desk.request(lambda future: None)
    known = desk.ask_to_reach(token, at(7))
    desk.serve()
    queued: Future[int] = desk.request(lambda future: future.set_result(1))
    queued_reach = desk.ask_to_reach(token, at(1))
    desk.close()
    for future in (unknown, handed_over, known, queued, queued_reach, places[0]):
        assert ENDED in str(error_of(future))
    assert not desk.held


def test_none_is_lost_between_the_last_look_and_the_end() -> None:
    """Many ask while it ends: each is told at once that it is too late, or is answered."""
    for _ in range(30):
        desk = Mailbox()
        answers: list[BaseException | int | None] = []
        begin = threading.Barrier(9)

        def ask(desk: Mailbox = desk, answers: list[Any] = answers, begin: threading.Barrier = begin) -> None:
            begin.wait(60)
            for _ in range(20):
                try:
                    answers.append(desk.request(lambda future: future.set_result(1)).exception(60))
                except SourceError as error:
                    answers.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        begin.wait(60)
        deadline = time.monotonic() + 0.002
        while time.monotonic() < deadline:
            desk.serve()
        desk.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert len(answers) == 160
        assert all(answer is None or ENDED in str(answer) for answer in answers)


def test_who_does_not_wait_any_more_is_not_served() -> None:
    desk = Mailbox()
    done: list[int] = []
    future: Future[None] = desk.request(lambda future: done.append(1))
    assert future.cancel()
    token = desk.ask_to_hold(None)
    assert token.cancel()
    desk.serve()
    assert done == [] and not desk.held
    with pytest.raises(CancelledError):
        future.result(0)
    desk.close()


# -- holds ---------------------------------------------------------------------------------------------


def test_a_hold_and_what_is_reached_in_it() -> None:
    desk = Mailbox()
    assert desk.limit(position(3)) is None
    token = held(desk)
    assert desk.held and desk.limit(position(3)) == Lsn(1, 3)
    reached = desk.ask_to_reach(token, at(5))
    desk.serve()
    assert desk.limit(position(3)) == Lsn(1, 5) and not reached.done()
    assert desk.limit(position(5)) == Lsn(1, 5)
    assert reached.result(0) == position(5)
    late = desk.ask_to_reach(token, at(4))
    desk.serve()
    desk.limit(position(5))
    assert "already at 1:5" in str(error_of(late))
    desk.ask_to_release(token)
    desk.serve()
    assert not desk.held and desk.limit(position(5)) is None
    desk.close()


def test_it_belongs_to_whoever_took_it() -> None:
    desk = Mailbox()
    token = held(desk)
    other = desk.ask_to_hold(None)
    stranger = desk.ask_to_hold("made up")
    reach = desk.ask_to_reach("made up", at(9))
    desk.ask_to_release("made up")
    desk.serve()
    for future in (other, stranger):
        assert "another client holds it" in str(error_of(future, ControlError))
    assert "the hold has ended" in str(error_of(reach))
    assert desk.held and desk.limit(position(3)) == Lsn(1, 3), "nothing has become of the first"
    mine = desk.ask_to_reach(token, at(3))
    desk.serve()
    desk.limit(position(3))
    assert mine.result(0) == position(3)
    desk.ask_to_release(token)
    desk.serve()
    assert held(desk) != token
    desk.close()


def test_who_holds_may_hold_again() -> None:
    desk = Mailbox()
    token = held(desk)
    waiting = desk.ask_to_reach(token, at(9))
    desk.serve()
    again = held(desk, own=token)
    assert again != token
    assert "the hold has ended" in str(error_of(waiting))
    desk.ask_to_release(token)  # of the one that was: no one's any more
    desk.serve()
    assert desk.held
    desk.ask_to_release(again)
    desk.serve()
    assert not desk.held
    desk.close()


def test_it_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Mailbox()
    monkeypatch.setattr(module, "LONGEST_HOLD", -1.0)
    token = held(desk)
    late = desk.ask_to_reach(token, at(9))
    desk.serve()
    assert "the hold has ended" in str(error_of(late))
    assert held(desk) != token, "nobody is in the way of the next"
    assert desk.limit(position(3)) is None and not desk.held
    desk.close()


def test_the_end_of_a_hold_ends_what_waits_in_it() -> None:
    desk = Mailbox()
    token = held(desk)
    first, second = desk.ask_to_reach(token, at(8)), desk.ask_to_reach(token, at(9))
    desk.serve()
    assert "the hold has ended" in str(error_of(first)), "one at a time"
    desk.ask_to_release(token)
    desk.serve()
    assert "the hold has ended" in str(error_of(second))
    desk.close()


def test_a_place_that_is_not_found(caplog: pytest.LogCaptureFixture) -> None:
    desk = Mailbox()
    token = held(desk)
    places: list[Future[Lsn]] = []
    futures = [desk.ask_to_reach(token, places.append) for _ in range(3)]
    desk.serve()
    places[0].cancel()
    places[1].set_exception(SourceError("find a frame", retryable=True))
    desk.ask_to_release(token)
    desk.serve()
    places[2].set_result(Lsn(1, 1))
    told = [str(error_of(future)) for future in futures]
    assert "not found" in told[0] and "find a frame" in told[1] and "the hold has ended" in told[2]
    assert caplog.records == [], "nothing is raised where nobody can catch it"
    desk.close()


# -- the pipeline --------------------------------------------------------------------------------------


def test_who_waits_for_a_position_is_told_of_the_end(folder: Path) -> None:
    with serving(folder) as served:
        answers: list[bool] = []
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            answers.append(served.pipeline.requests.wait_applied(Lsn(9, 9), 3600.0))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(60)
        waiting = [
            served.pipeline.requests.mark(),
            served.pipeline.requests.hold(),
            served.pipeline.requests.retry(["t"]),
        ]
        served.end()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert answers == [False] * 3
        for future in waiting:
            assert ENDED in str(error_of(future))
        assert served.pipeline.requests.ended
        served.pipeline.requests.release("token")
        assert not served.pipeline.requests.wait_applied(Lsn(9, 9), 3600.0), "at once"
