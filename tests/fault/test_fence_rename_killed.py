"""The command that gives the file another name, or its own name back, is killed between any two of its changes.

At each of these moments a program that opens the file by its name finds the whole database, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mirror.core.place import is_stand_in
from mirror.cutover.renaming import AWAY, BACK
from tests.support.renamed import QUERY, RenamedWorld, connected, opened_anew, renamed_world
from tests.support.source import Writer
from tests.support.waiting import until

#: What the mirror does while the command is gone.
MEANWHILE = ["runs", "ends", "is killed"]
#: In the normal run; the others take minutes.
QUICK = {
    ("rename:away-wal", "ends"),
    ("rename:back-wal", "runs"),
}


def table(seams: list[str], commands: list[str]) -> list[Any]:
    return [
        pytest.param(*row, marks=() if row[1:] in QUICK and row[0] == commands[0] else pytest.mark.slow)
        for row in product(commands, seams, MEANWHILE)
    ]


@pytest.fixture
def world(
    request: pytest.FixtureRequest, folder: Path, dsn: str, writer: Writer, database: Path
) -> Iterator[RenamedWorld]:
    with renamed_world(folder, dsn, writer, database, getattr(request, "param", "wal")) as made:
        writer.run("INSERT INTO notes VALUES (2, 'in the log')")
        yield made


def require_whole_or_nothing(world: RenamedWorld) -> None:
    """Also of a program that connected before, and of a second look."""
    whole = str(world.there()).replace("'", '"')
    for _ in range(2):
        found = opened_anew(world.database, QUERY)
        assert found == whole or found.startswith("error unable to open database file"), found
        if is_stand_in(world.database):
            assert found.startswith("error")


def go_on(world: RenamedWorld, meanwhile: str) -> None:
    """The mirror does something, and what is written in Postgres arrives."""
    require_whole_or_nothing(world)
    if meanwhile == "ends":
        world.stop_mirror()
    elif meanwhile == "is killed":
        world.kill_mirror()
    require_whole_or_nothing(world)
    if world.mirror is None:
        world.start_mirror()
    world.postgres.execute("INSERT INTO notes VALUES (3, 'while the command was gone')")
    until(world.carried)
    require_whole_or_nothing(world)


def end(world: RenamedWorld, command: str) -> None:
    """Run the next command; then it is as if none was killed."""
    if command == "advance":
        world.advance("hold")  # the fence is the one that was chosen first
        world.require_no_program_finds_it()
        world.postgres.execute("INSERT INTO notes VALUES (4, 'after that')")
        until(world.carried)
        assert world.strays() == []
    world.run("rollback")
    assert opened_anew(world.database, QUERY) == str(world.there()).replace("'", '"')
    opened_anew(world.database, "INSERT INTO notes VALUES (5, 'in the file again')")
    world.require_as_before()


@pytest.mark.parametrize(("command", "seam", "meanwhile"), table(AWAY, ["advance", "rollback"]))
def test_advance(world: RenamedWorld, command: str, seam: str, meanwhile: str) -> None:
    with connected(world.database, QUERY) as read_it:
        world.kill(seam, "advance", "--acknowledge", "backups", "--fence", "rename")
        world.writer.close()  # a program that had it open
        go_on(world, meanwhile)
        found = read_it()
        assert found.startswith("error unable") or found == str(world.there()).replace("'", '"')
    end(world, command)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "seam", "meanwhile"), table(BACK, ["rollback", "finalize"]))
def test_rollback(world: RenamedWorld, command: str, seam: str, meanwhile: str) -> None:
    world.advance()
    world.writer.close()
    world.kill(seam, "rollback")
    go_on(world, meanwhile)
    if command == "rollback":
        end(world, command)
    else:
        world.run("finalize")
        world.require_no_program_finds_it()
        assert world.in_file() == str(world.there()).replace("'", '"')


@pytest.mark.slow
@pytest.mark.parametrize("world", ["delete"], indirect=True)
@pytest.mark.parametrize("seam", ["rename:linked", "rename:away-journal", "rename:away"])
def test_advance_of_a_file_without_a_log(world: RenamedWorld, seam: str) -> None:
    world.kill(seam, "advance", "--acknowledge", "backups", "--fence", "rename")
    go_on(world, "is killed")
    end(world, "advance")


@pytest.mark.slow
@pytest.mark.parametrize("world", ["delete"], indirect=True)
@pytest.mark.parametrize("seam", ["rename:back", "rename:back-journal", "rename:cleared"])
def test_rollback_of_a_file_without_a_log(world: RenamedWorld, seam: str) -> None:
    world.advance()
    world.kill(seam, "rollback")
    go_on(world, "is killed")
    end(world, "rollback")
