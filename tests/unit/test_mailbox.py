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


def rings(mailbox: Mailbox) -> bool:
    return bool(select.select([mailbox.bell], [], [], 0)[0])


def error_of(future: Future[Any], kind: type[MirrorError] = SourceError) -> MirrorError:
    error = future.exception(0)
    assert isinstance(error, kind) and error.retryable, error
    return error


def held(mailbox: Mailbox, own: str | None = None) -> str:
    future = mailbox.ask_to_hold(own)
    mailbox.serve()
    return future.result(0)


# -- requests ------------------------------------------------------------------------------------------


def test_the_bell_rings_until_all_is_served() -> None:
    mailbox = Mailbox()
    assert not rings(mailbox)
    futures: list[Future[int]] = [mailbox.request(lambda future, n=n: future.set_result(n)) for n in range(3)]
    assert rings(mailbox)
    mailbox.serve()
    assert [future.result(0) for future in futures] == [0, 1, 2] and not rings(mailbox)
    mailbox.serve()  # nothing to do
    mailbox.close()


@pytest.mark.parametrize("error", [SourceError("talk to the capture process", retryable=True), RuntimeError("a bug")])
def test_one_that_fails_leaves_none_behind(error: Exception) -> None:
    """The bell has rung for all of them: those after it would wait until somebody else asks."""
    mailbox = Mailbox()

    def fail(future: Future[int]) -> None:
        raise error

    first: Future[int] = mailbox.request(lambda future: future.set_result(1))
    broken, again = mailbox.request(fail), mailbox.request(fail)
    last: Future[int] = mailbox.request(lambda future: future.set_result(2))
    with pytest.raises(type(error)):
        mailbox.serve()
    assert (first.result(0), last.result(0)) == (1, 2)
    if isinstance(error, RuntimeError):
        assert broken.exception(0) is again.exception(0) is error
    else:
        assert not broken.done(), "the link to capture is down, which asks again: see mirror.tail"
    mailbox.close()
    assert broken.done() and again.done()


def test_what_is_asked_after_the_end() -> None:
    mailbox = Mailbox()
    mailbox.close()
    for ask in (
        lambda: mailbox.request(lambda future: None),
        lambda: mailbox.ask_to_hold(None),
        lambda: mailbox.ask_to_reach("token", at(1)),
    ):
        with pytest.raises(SourceError, match=ENDED) as caught:
            ask()
        assert caught.value.retryable
    mailbox.ask_to_release("token")
    mailbox.post(lambda: None)
    mailbox.wake()
    mailbox.close()


def test_the_end_answers_all_that_waits() -> None:
    """What is queued, what was handed over to be answered later, and who waits for a position in a hold."""
    mailbox = Mailbox()
    token = held(mailbox)
    places: list[Future[Lsn]] = []
    unknown = mailbox.ask_to_reach(token, places.append)
    handed_over: Future[int] = mailbox.request(lambda future: None)
    known = mailbox.ask_to_reach(token, at(7))
    mailbox.serve()
    queued: Future[int] = mailbox.request(lambda future: future.set_result(1))
    queued_reach = mailbox.ask_to_reach(token, at(1))
    mailbox.close()
    for future in (unknown, handed_over, known, queued, queued_reach, places[0]):
        assert ENDED in str(error_of(future))
    assert not mailbox.held


def test_none_is_lost_between_the_last_look_and_the_end() -> None:
    """Many ask while it ends: each is told at once that it is too late, or is answered."""
    for _ in range(30):
        mailbox = Mailbox()
        answers: list[BaseException | int | None] = []
        begin = threading.Barrier(9)

        def ask(mailbox: Mailbox = mailbox, answers: list[Any] = answers, begin: threading.Barrier = begin) -> None:
            begin.wait(60)
            for _ in range(20):
                try:
                    answers.append(mailbox.request(lambda future: future.set_result(1)).exception(60))
                except SourceError as error:
                    answers.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        begin.wait(60)
        deadline = time.monotonic() + 0.002
        while time.monotonic() < deadline:
            mailbox.serve()
        mailbox.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert len(answers) == 160
        assert all(answer is None or ENDED in str(answer) for answer in answers)


def test_who_does_not_wait_any_more_is_not_served() -> None:
    mailbox = Mailbox()
    done: list[int] = []
    future: Future[None] = mailbox.request(lambda future: done.append(1))
    assert future.cancel()
    token = mailbox.ask_to_hold(None)
    assert token.cancel()
    mailbox.serve()
    assert done == [] and not mailbox.held
    with pytest.raises(CancelledError):
        future.result(0)
    mailbox.close()


# -- holds ---------------------------------------------------------------------------------------------


def test_a_hold_and_what_is_reached_in_it() -> None:
    mailbox = Mailbox()
    assert mailbox.limit(position(3)) is None
    token = held(mailbox)
    assert mailbox.held and mailbox.limit(position(3)) == Lsn(1, 3)
    reached = mailbox.ask_to_reach(token, at(5))
    mailbox.serve()
    assert mailbox.limit(position(3)) == Lsn(1, 5) and not reached.done()
    assert mailbox.limit(position(5)) == Lsn(1, 5)
    assert reached.result(0) == position(5)
    late = mailbox.ask_to_reach(token, at(4))
    mailbox.serve()
    mailbox.limit(position(5))
    assert "already at 1:5" in str(error_of(late))
    mailbox.ask_to_release(token)
    mailbox.serve()
    assert not mailbox.held and mailbox.limit(position(5)) is None
    mailbox.close()


def test_it_belongs_to_whoever_took_it() -> None:
    mailbox = Mailbox()
    token = held(mailbox)
    other = mailbox.ask_to_hold(None)
    stranger = mailbox.ask_to_hold("made up")
    reach = mailbox.ask_to_reach("made up", at(9))
    mailbox.ask_to_release("made up")
    mailbox.serve()
    for future in (other, stranger):
        assert "another client holds it" in str(error_of(future, ControlError))
    assert "the hold has ended" in str(error_of(reach))
    assert mailbox.held and mailbox.limit(position(3)) == Lsn(1, 3), "nothing has become of the first"
    mine = mailbox.ask_to_reach(token, at(3))
    mailbox.serve()
    mailbox.limit(position(3))
    assert mine.result(0) == position(3)
    mailbox.ask_to_release(token)
    mailbox.serve()
    assert held(mailbox) != token
    mailbox.close()


def test_who_holds_may_hold_again() -> None:
    mailbox = Mailbox()
    token = held(mailbox)
    waiting = mailbox.ask_to_reach(token, at(9))
    mailbox.serve()
    again = held(mailbox, own=token)
    assert again != token
    assert "the hold has ended" in str(error_of(waiting))
    mailbox.ask_to_release(token)  # of the one that was: no one's any more
    mailbox.serve()
    assert mailbox.held
    mailbox.ask_to_release(again)
    mailbox.serve()
    assert not mailbox.held
    mailbox.close()


def test_it_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox()
    monkeypatch.setattr(module, "LONGEST_HOLD", -1.0)
    token = held(mailbox)
    late = mailbox.ask_to_reach(token, at(9))
    mailbox.serve()
    assert "the hold has ended" in str(error_of(late))
    assert held(mailbox) != token, "nobody is in the way of the next"
    assert mailbox.limit(position(3)) is None and not mailbox.held
    mailbox.close()


def test_it_does_not_end_while_the_mirror_applies_up_to_its_position() -> None:
    """However far behind it was: on a busy machine that takes longer than a hold may last."""
    mailbox = Mailbox()
    token = held(mailbox)
    reached = mailbox.ask_to_reach(token, at(9))
    mailbox.serve()
    assert mailbox._hold is not None
    mailbox._hold.until = 0.0
    for frame in range(3, 9):
        assert mailbox.limit(position(frame)) == Lsn(1, 9)
    assert mailbox.limit(position(9)) == Lsn(1, 9) and reached.result(0) == position(9)
    assert mailbox.limit(position(9)) == Lsn(1, 9), "it stands there for as long as a hold may last"
    mailbox._hold.until = 0.0
    assert mailbox.limit(position(9)) is None and not mailbox.held
    mailbox.close()


def test_the_end_of_a_hold_ends_what_waits_in_it() -> None:
    mailbox = Mailbox()
    token = held(mailbox)
    first, second = mailbox.ask_to_reach(token, at(8)), mailbox.ask_to_reach(token, at(9))
    mailbox.serve()
    assert "the hold has ended" in str(error_of(first)), "one at a time"
    mailbox.ask_to_release(token)
    mailbox.serve()
    assert "the hold has ended" in str(error_of(second))
    mailbox.close()


def test_a_place_that_is_not_found(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = Mailbox()
    token = held(mailbox)
    places: list[Future[Lsn]] = []
    futures = [mailbox.ask_to_reach(token, places.append) for _ in range(3)]
    mailbox.serve()
    places[0].cancel()
    places[1].set_exception(SourceError("find a frame", retryable=True))
    mailbox.ask_to_release(token)
    mailbox.serve()
    places[2].set_result(Lsn(1, 1))
    told = [str(error_of(future)) for future in futures]
    assert "not found" in told[0] and "find a frame" in told[1] and "the hold has ended" in told[2]
    assert caplog.records == [], "nothing is raised where nobody can catch it"
    mailbox.close()


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
