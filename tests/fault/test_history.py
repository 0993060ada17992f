"""Programs read and write through the storage adapters while all around them changes: no read of the past, no lost
write, no error.

Each writes down what it asked, when, and what it was answered (:mod:`tests.support.history_process`); a checker
(:mod:`tests.support.history`) looks at all of it together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.postgres import PostgresServer
from tests.support.programs import Programs

#: Seconds for which the mirror is away after it was killed.
AWAY = 1.0


class Plan(NamedTuple):
    """What is done to programs, in how long."""

    seconds: float
    processes: int
    flips: int
    kills: int
    restarts: int = 1

    def steps(self) -> list[tuple[float, str]]:
        """When to do what, in seconds from the beginning."""

        def times(number: int, shift: float) -> list[float]:
            return [self.seconds * (at + shift) / number for at in range(number)]

        return sorted(
            [(at, "flip") for at in times(self.flips, 0.1)]
            + [(at, "kill") for at in times(self.kills, 0.35)]
            + [(at + AWAY, "start") for at in times(self.kills, 0.35)]
            + [(at, "restart") for at in times(self.restarts, 0.62)]
        )


SHORT = Plan(seconds=10, processes=4, flips=4, kills=2)
FULL = Plan(seconds=60, processes=8, flips=20, kills=5)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A Postgres of the test's own, to restart."""
    server = PostgresServer(own=True)
    yield server
    server.stop()


def disturb(programs: Programs, server: PostgresServer, plan: Plan) -> None:
    """Do what the plan says, when it says it."""
    began = time.monotonic()
    for at, step in plan.steps():
        time.sleep(max(0.0, began + at - time.monotonic()))
        match step:
            case "flip":
                programs.flip()
            case "kill":
                programs.mirror.kill()
            case "start":
                programs.mirror.start(wait=False)
            case "restart":
                server.restart()
    time.sleep(max(0.0, began + plan.seconds - time.monotonic()))


def prove(folder: Path, server: PostgresServer, plan: Plan, **storage: Any) -> None:
    with Programs(folder, server.create_database(), plan.processes, **storage) as programs:
        programs.begin()
        disturb(programs, server, plan)
        programs.finish()
        programs.prove()


def test_while_everything_changes(folder: Path, server: PostgresServer) -> None:
    prove(folder, server, SHORT, reads={"maxWaitMs": 200})


@pytest.mark.slow
def test_for_a_minute_while_everything_changes(folder: Path, server: PostgresServer) -> None:
    prove(folder, server, FULL)
