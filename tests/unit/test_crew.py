"""The threads that work for all sources, and the sessions that they share."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil
import pytest

from mirror.sidecar.crew import WORKERS, Crew, Rest
from mirror.sidecar.seats import Seats
from tests.support.waiting import LIMIT, until


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew()
    yield made
    made.close()


def workers(before: Collection[threading.Thread]) -> int:
    """Threads of crews that were not there before: others of this process come and go, those of earlier crews end."""
    return sum(thread.name.startswith("mirror w") and thread not in before for thread in threading.enumerate())


def later() -> float:
    return time.monotonic() + LIMIT


def test_a_loop_rests_until_a_descriptor_is_readable(crew: Crew) -> None:
    bell, ring = socket.socketpair()
    heard: list[bytes] = []

    def loop() -> Iterator[Rest]:
        while not heard:
            yield Rest(later(), (bell,))
            heard.append(bell.recv(1))

    job = crew.start(loop(), "one")
    until(lambda: job.rest is not None)
    ring.send(b"!")
    assert job.done.wait(LIMIT) and heard == [b"!"]
    bell.close()
    ring.close()


def test_a_descriptor_that_cannot_be_watched(crew: Crew, folder: Path) -> None:
    """As when the system has no room for more: the rest ends soon by itself. Here it is a file's, which is none of
    those that can be waited for.
    """
    with (folder / "file").open("w") as file:

        def loop() -> Iterator[Rest]:
            yield Rest(later(), (file,))

        assert crew.start(loop(), "one").done.wait(LIMIT)


def test_it_is_woken_when_it_is_time_by_a_call_and_by_its_tick(crew: Crew) -> None:
    ticks: list[bool] = []

    def tick() -> bool:
        ticks.append(bool(ticks))
        return ticks[-1]

    def loop() -> Iterator[Rest]:
        yield Rest(time.monotonic() + 0.01)
        yield Rest(later(), tick=tick)
        yield Rest(later())

    job = crew.start(loop(), "one")
    until(lambda: ticks == [False, True] and job.rest is not None and job.rest.tick is None)
    job.wake()
    assert job.done.wait(LIMIT)


def test_a_call_before_the_rest_is_not_lost(crew: Crew) -> None:
    running, go = threading.Event(), threading.Event()

    def loop() -> Iterator[Rest]:
        running.set()
        go.wait(LIMIT)
        yield Rest(later())

    job = crew.start(loop(), "one")
    assert running.wait(LIMIT)
    job.wake()
    go.set()
    assert job.done.wait(LIMIT)


def test_few_threads_for_many_loops(crew: Crew) -> None:
    """All of them rest; none has a thread."""

    def loop() -> Iterator[Rest]:
        for _ in range(3):
            yield Rest(time.monotonic() + 0.001)
        yield Rest(later())

    before = frozenset(threading.enumerate())
    jobs = [crew.start(loop(), str(number)) for number in range(300)]
    until(lambda: all(job.rest is not None and job.rest.until > time.monotonic() + 1.0 for job in jobs))
    assert workers(before) <= WORKERS + 1
    for job in jobs:
        job.wake()
    assert all(job.done.wait(LIMIT) for job in jobs)


def test_what_is_stuck_holds_up_no_other(crew: Crew) -> None:
    """More loops wait inside a turn, and more ticks, than there are threads: the others go on."""
    go = threading.Event()

    def stuck() -> Iterator[Rest]:
        go.wait(LIMIT)
        yield Rest(0.0)

    def ticked() -> Iterator[Rest]:
        yield Rest(later(), tick=lambda: go.wait(LIMIT))

    def free() -> Iterator[Rest]:
        for _ in range(10):
            yield Rest(time.monotonic() + 0.001)

    jobs = [crew.start(stuck(), "stuck") for _ in range(WORKERS + 2)]
    jobs += [crew.start(ticked(), "ticked") for _ in range(2)]
    assert crew.start(free(), "free").done.wait(LIMIT)
    go.set()
    assert all(job.done.wait(LIMIT) for job in jobs)


def test_threads_that_others_were_stuck_for_end(crew: Crew) -> None:
    """Also while ticks wake all threads in turn."""
    go = threading.Event()

    def stuck() -> Iterator[Rest]:
        go.wait(LIMIT)
        yield Rest(later(), tick=lambda: False)

    before = frozenset(threading.enumerate())
    jobs = [crew.start(stuck(), "stuck") for _ in range(2 * WORKERS)]
    until(lambda: workers(before) > WORKERS + 1)
    go.set()
    until(lambda: workers(before) <= WORKERS + 1)
    for job in jobs:
        job.wake()
    assert all(job.done.wait(LIMIT) for job in jobs)


def test_a_tick_that_comes_too_late(crew: Crew) -> None:
    """The loop has worked since it was due, and rests without one now: it is woken all the same."""
    bell, ring = socket.socketpair()

    def loop() -> Iterator[Rest]:
        yield Rest(later(), tick=lambda: False)
        yield Rest(later(), (bell,))

    job = crew.start(loop(), "one")
    until(lambda: job.rest is not None)
    with crew._guard:
        crew._due.append(job)
        crew._rouse(job)
        crew._due.append(job)
    until(lambda: job.rest is not None and job.rest.tick is None and not crew._due)
    ring.send(b"!")
    assert job.done.wait(LIMIT)
    bell.close()
    ring.close()


def test_no_descriptor_is_left_behind() -> None:
    before = psutil.Process().num_fds()
    crew = Crew()
    job = crew.start(iter((Rest(later()),)), "one")
    until(lambda: job.rest is not None)
    crew.close()
    job.wake()
    assert job.done.wait(LIMIT)
    Crew().close()
    until(lambda: psutil.Process().num_fds() <= before)
    crew.close()


def test_a_bug_ends_one_loop(crew: Crew) -> None:
    def bad() -> Iterator[Rest]:
        yield Rest(0.0)
        raise ZeroDivisionError

    def good() -> Iterator[Rest]:
        yield Rest(0.0)

    assert crew.start(bad(), "bad").done.wait(LIMIT)
    assert crew.start(good(), "good").done.wait(LIMIT)


# -- sessions ------------------------------------------------------------------------------------------


def callers(number: int) -> tuple[list[Callable[[], None]], list[int]]:
    """Calls that wake so many sources, and which of them were called."""
    rung: list[int] = []
    return [lambda at=at: rung.append(at) for at in range(number)], rung  # type: ignore[misc]


def test_who_waits_gets_the_seat_of_who_has_rested_longest() -> None:
    seats, (calls, rung) = Seats(most=2), callers(4)
    assert seats.take(calls[0], copies=False) and seats.take(calls[1], copies=False)
    assert not seats.rests(calls[1]) and not seats.rests(calls[0])
    assert not seats.take(calls[2], copies=False) and rung == [1]
    assert seats.wanted and seats.rests(calls[0]), "the next one that rests is told"
    seats.give(calls[1])
    assert rung == [1, 2]
    assert not seats.take(calls[3], copies=False), "who came later does not pass"
    assert seats.take(calls[2], copies=False) and seats.take(calls[2], copies=False)
    seats.give(calls[3])
    assert not seats.wanted


def test_copies_leave_seats_for_others() -> None:
    seats, (calls, rung) = Seats(most=3, most_copies=1), callers(4)
    assert seats.take(calls[0], copies=True)
    assert not seats.take(calls[1], copies=True)
    assert seats.take(calls[2], copies=False), "it need not wait behind a copy"
    seats.has_copied(calls[0])
    assert rung == [1] and seats.take(calls[1], copies=True)
    assert not seats.take(calls[3], copies=False)
    seats.give(calls[0])
    assert rung == [1, 3] and seats.take(calls[3], copies=False)
