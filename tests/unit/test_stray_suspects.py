"""Who is named beside strays: looked at as soon as a program has written, and not too often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from mirror.reverse import watch
from mirror.reverse.watch import ASK_COSTS, ASK_SECONDS, CREDIT_SECONDS, StrayWatch
from mirror.reverse.writer import SqliteWriter


class Clock:
    """A time that only looks at processes take."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Machine:
    """Its processes, of which one has the file open; and a file to which programs write."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.looks, self.seconds, self.open_in = clock, 0, 0.5, "one"
        self.foreign, self.changes = True, 1

    def openers(self, _: Path) -> list[str]:
        self.looks += 1
        self.clock.now += self.seconds
        return [self.open_in]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Machine:
    machine = Machine(clock)
    monkeypatch.setattr(watch, "openers", machine.openers)
    return machine


@pytest.fixture
def strays(machine: Machine) -> StrayWatch:
    def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is to be kept")

    return StrayWatch(cast("SqliteWriter", machine), Path("memory.db"), 1, cast("Callable[..., Any]", nothing), nothing)


def test_a_second_write_soon_after_is_looked_at_at_once(strays: StrayWatch, machine: Machine, clock: Clock) -> None:
    """Though the first look took long: on a busy machine, that of the opening does."""
    strays.ask()
    machine.foreign = False
    strays.ask()
    machine.foreign, machine.open_in = True, "two"
    clock.now += 0.01
    assert strays.who() == ["two"]
    assert machine.looks == 2


def test_all_that_had_it_open_meanwhile(strays: StrayWatch, machine: Machine, clock: Clock) -> None:
    strays.ask()
    machine.open_in = "two"
    clock.now += ASK_SECONDS / 2
    strays.ask()
    assert machine.looks == 1
    clock.now += ASK_SECONDS
    assert strays.who() == ["one", "two"]


def test_looks_take_a_small_part_of_the_time(strays: StrayWatch, machine: Machine, clock: Clock) -> None:
    """Also where a program writes all the time, and each of its writes is found out about at once."""
    begun = clock.now
    while clock.now < begun + 1000:
        machine.foreign = not machine.foreign
        strays.ask()
        clock.now += 0.01
    assert machine.looks * machine.seconds <= (1000 + CREDIT_SECONDS) / ASK_COSTS + 2 * machine.seconds
    assert strays.who() == ["one"], "forgotten between two looks"
