"""Eight programs on storage adapters go all the way to Postgres and back, under load, while parts are killed.

The table of steps and faults is made from the lists of steps (:mod:`mirror.cutover.ways`). Its rows share a world,
which goes on from row to row; what each came to is in OUTCOMES.md (:mod:`tests.support.outcomes`). In the normal run is
one journey of three programs.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mirror.cutover.ways import BACK_TO_1, BACK_TO_2, FINALIZE, TO_2, TO_3
from tests.support.fleet import FleetWorld
from tests.support.outcomes import record, record_failure
from tests.support.postgres import PostgresServer
from tests.support.waiting import until

#: Programs in the table's worlds.
PROGRAMS = 8


def journey(folder: Path, dsn: str, programs: int) -> None:
    """1 → 2 → 3 → 2 → 1 → 2 → 3 → finalize, with a stray in each stay in phase 3."""
    world = FleetWorld(folder, dsn, programs)
    try:
        for command in ("advance", "advance", "rollback", "rollback", "advance", "advance", "finalize"):
            if command == "advance":
                world.prove()
            world.move(command)
            world.fleet.await_turns()
            if command == "advance" and world.phase()["phase"] == 3:
                world.start_raw()
                world.await_raw(20)
                world.strays.add(world.stray())
                world.check()
                world.settle_strays("--adopt")
            world.check()
        assert len(world.seen()) > 10, "the reader of the file has seen hardly anything"
        world.end()
    finally:
        world.clean_up()


@pytest.mark.slow
def test_the_whole_journey(folder: Path, dsn: str) -> None:
    journey(folder, dsn, 3)


@pytest.mark.slow
def test_the_whole_journey_of_eight(folder: Path, dsn: str) -> None:
    journey(folder, dsn, 8)


# -- step × fault ----------------------------------------------------------------------------------------


class Way(NamedTuple):
    name: str
    begin: int
    command: str
    end: int
    steps: Sequence[Any]

    def is_done(self, phase: dict[str, Any]) -> bool:
        if self.command == "finalize":
            return phase["finalized_at"] is not None
        return phase["phase"] == self.end and phase["moving_to"] is None


WAYS = {
    way.name: way
    for way in (
        Way("1 to 2", 1, "advance", 2, TO_2),
        Way("2 to 1", 2, "rollback", 1, BACK_TO_1),
        Way("2 to 3", 2, "advance", 3, TO_3),
        Way("3 to 2", 3, "rollback", 2, BACK_TO_2),
        Way("finalize", 3, "finalize", 3, FINALIZE),
    )
}
#: What is killed while the command stands at a seam. The mirror and a program are started again at once.
FAULTS = ("command", "mirror", "program", "all")


def rows() -> list[Any]:
    """In an order in which most rows begin where the one before has ended."""

    def of(name: str) -> list[tuple[str, str, str]]:
        return [
            (name, f"{where} {step.name}", fault)
            for fault in FAULTS
            for step in WAYS[name].steps
            for where in ("before", "in")
        ]

    pairs = (("2 to 3", "3 to 2"), ("1 to 2", "2 to 1"))
    ordered = [row for one, other in pairs for row in chain(*zip_longest(of(one), of(other))) if row is not None]
    return [pytest.param(*row, id=": ".join(row)) for row in ordered + of("finalize")]


class Worlds:
    """A world for one row after the other; another one after a row that has failed, or has finalized it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.world: FleetWorld | None = None

    def get(self) -> FleetWorld:
        if self.world is None:
            self.dsn, folder = self.server.create_database(), Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
            try:
                self.world = FleetWorld(folder, self.dsn, PROGRAMS)
            except BaseException:
                self.server.drop_database(self.dsn)
                raise
        return self.world

    def leave(self, *, well: bool) -> None:
        """End the world; ``well``: it must end so."""
        world, self.world = self.world, None
        if world is None:
            return
        try:
            if well:
                world.end()
        finally:
            world.clean_up()
            self.server.drop_database(self.dsn)
            shutil.rmtree(world.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def worlds(postgres_server: PostgresServer) -> Iterator[Worlds]:
    made = Worlds(postgres_server)
    try:
        yield made
        made.leave(well=True)
    finally:
        made.leave(well=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seam", "fault"), rows())
def test_step(worlds: Worlds, name: str, seam: str, fault: str) -> None:
    way, world = WAYS[name], worlds.get()
    try:
        with_fault(world, way, seam, fault)
        if way.command == "finalize":
            worlds.leave(well=True)
    except BaseException as error:
        record_failure(way.name, seam, fault, error)
        worlds.leave(well=False)
        raise


def with_fault(world: FleetWorld, way: Way, seam: str, fault: str) -> None:
    world.go_to(way.begin)
    if way.command == "advance":
        world.prove()
    number = world.fleet.kills % world.fleet.size

    def meanwhile(command: subprocess.Popen[str]) -> None:
        if fault in ("command", "all"):
            command.kill()
            command.wait()
        if fault in ("mirror", "all"):
            world.mirror.kill()
        if fault in ("program", "all"):
            world.fleet.kill(number)
        if fault == "all":
            world.write_to_file()
        if fault in ("mirror", "all"):
            world.restart_mirror()
        if fault in ("program", "all"):
            world.fleet.start(number)

    done = world.move_held(way.command, f"cutover:{seam}", meanwhile)
    world.await_mirror()
    world.fleet.await_turns(1)
    if world.strays:
        world.check()
        world.settle_strays("--adopt" if world.fleet.kills % 2 else "--discard")
    stood = world.phase()
    then = ""
    if not way.is_done(stood):
        assert done.code != 0, (done, stood)
        if way.command == "advance" and stood["sealed_at"] is None:
            world.prove()  # the mirror was killed, so there may be a gap since the last one
        world.move(way.command)
        then = "completed" if way.is_done(world.phase()) else ""
        assert then, (done, world.phase())
    world.start_raw()
    world.fleet.await_turns(1)
    world.check()
    record(way.name, seam, fault, done, stood, then)


# -- the mirror's own seams ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("hit", [1, 5])
@pytest.mark.parametrize("seam", ["reverse:read", "reverse:before commit", "reverse:written", "reverse:saved"])
def test_the_mirror_is_killed_in_a_batch_of_the_way_back(worlds: Worlds, seam: str, hit: int) -> None:
    """Under load, with a stray between two batches, and one while no mirror runs."""
    world = worlds.get()
    try:
        world.go_to(3)
        world.start_raw()
        world.await_raw(5)
        world.strays.add(world.stray())
        world.mirror.stop()
        world.mirror.start(kill_at=seam, hit=hit, wait=False)
        world.mirror.wait_killed()
        world.strays.add(world.stray())
        world.restart_mirror()
        world.await_mirror()
        world.await_raw(5)
        world.check()
        world.settle_strays("--adopt")
        world.check()
    except BaseException:
        worlds.leave(well=False)
        raise


@pytest.mark.slow
@pytest.mark.parametrize("seam", ["apply:before-commit", "apply:after-commit", "spool:append", "spool:appended"])
def test_the_mirror_is_killed_at_a_commit(worlds: Worlds, seam: str) -> None:
    world = worlds.get()
    try:
        world.go_to(2)
        world.mirror.stop()
        capture = seam.startswith("spool:")
        world.mirror.capture_killed.unlink(missing_ok=True)
        world.mirror.start(kill_at="" if capture else seam, capture_at=seam if capture else "", hit=20, wait=False)
        if capture:
            until(world.mirror.capture_killed.exists)
        else:
            world.mirror.wait_killed()
            world.fleet.await_turns(1)
            world.restart_mirror()
        world.await_mirror()
        world.fleet.await_turns(1)
        world.check()
    except BaseException:
        worlds.leave(well=False)
        raise
