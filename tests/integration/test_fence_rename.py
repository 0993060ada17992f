"""``mirror cutover advance --fence rename``: after the switch no program finds the file by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.cutover.fence import Fence
from tests.support.renamed import QUERY, RenamedWorld, connected, opened_anew, renamed_world
from tests.support.source import Writer, WriterError
from tests.support.waiting import until

STRAY = Path(__file__).parents[1] / "support" / "stray_process.py"


@pytest.fixture
def world(
    request: pytest.FixtureRequest, folder: Path, dsn: str, writer: Writer, database: Path
) -> Iterator[RenamedWorld]:
    """In phase 2; with the journal mode that a test asks for."""
    with renamed_world(folder, dsn, writer, database, getattr(request, "param", "wal")) as made:
        yield made


@pytest.mark.few(1)
@pytest.mark.parametrize("world", ["wal", "delete"], indirect=True)
def test_no_program_finds_the_file_and_the_way_back_finds_it(world: RenamedWorld) -> None:
    assert f"it has another name now: {world.other.name}" in world.advance()
    world.require_no_program_finds_it()
    assert os.stat(world.other).st_ino == world.inode
    world.postgres.execute("INSERT INTO notes VALUES (2, 'there')")
    until(world.carried)
    world.writer.close()  # which had it open: it leaves the log alone
    world.postgres.execute("UPDATE notes SET body = 'changed' WHERE id = 1")
    until(world.carried)
    world.require_no_program_finds_it()
    assert world.strays() == []
    world.run("rollback")
    assert opened_anew(world.database, QUERY) == '[[1, "changed"], [2, "there"]]'
    assert opened_anew(world.database, "INSERT INTO notes VALUES (3, 'in the file again')") == "[]"
    world.require_as_before()
    world.advance()
    world.require_no_program_finds_it()
    world.run("rollback")
    world.require_as_before()


def test_a_program_that_had_the_file_open(world: RenamedWorld) -> None:
    """It is kept out while the mirror runs, and what it writes afterwards is found, with its name."""
    world.writer.run("PRAGMA busy_timeout=50")
    world.advance()

    def is_kept_out() -> bool:
        try:
            world.writer.run("INSERT INTO notes VALUES (9, 'astray')", "DELETE FROM notes WHERE id = 9")
        except WriterError as error:
            return "locked" in str(error)
        return False

    until(is_kept_out)
    until(lambda: world.strays() == [])
    world.stop_mirror()
    world.writer.run("INSERT INTO notes VALUES (9, 'astray')")
    world.start_mirror()
    until(world.strays)
    (stray,) = world.strays()
    assert stray["key"] == [9] and stray["processes"] == [f"python (pid {world.writer.pid})"]
    assert "mirror cutover strays" in world.run("rollback", code=2)
    world.require_no_program_finds_it()
    assert "1 row adopted" in world.run("strays", "--adopt")
    world.stop_mirror()
    world.writer.run("UPDATE notes SET body = 'astray' WHERE id = 1")
    world.start_mirror()
    until(world.strays)
    assert "1 row thrown away" in world.run("strays", "--discard")
    assert world.there() == [[1, "one"], [9, "astray"]]
    until(world.carried)
    world.run("rollback")
    world.writer.run("INSERT INTO notes VALUES (10, 'by the program that was there all the time')")
    world.require_as_before()


@pytest.mark.few(1)
@pytest.mark.parametrize("fence", ["rename", "abort", pytest.param("hold", marks=pytest.mark.slow)])
def test_a_program_writes_again_and_again_while_programs_go_back(
    world: RenamedWorld, fence: str, tmp_path: Path
) -> None:
    """It is kept out until all is compared: so it is no reason to refuse, and nothing that it wrote is a stray."""
    log, end = tmp_path / "acknowledged", tmp_path / "stop"
    with subprocess.Popen([sys.executable, str(STRAY), str(world.database), str(log), str(end)]) as program:
        try:
            until(lambda: log.exists() and len(log.read_text().split("\n")) > 5)
            world.advance(fence)
            for number in range(2):
                world.postgres.execute("INSERT INTO notes VALUES (%s, 'there')", (10 + number,))
                until(lambda: adopted(world))  # between a batch and the next lock it may have been faster
                world.run("rollback")
                assert world.strays() == []
                if number == 0:
                    world.advance(fence)
        finally:
            end.touch()
    assert program.returncode == 0
    assert world.cli.run("wait").code == 0
    written = {int(line) for line in log.read_text().split("\n") if line.isdigit()}
    assert written <= {row[0] for row in world.there()}
    world.require_as_before()


def adopted(world: RenamedWorld) -> bool:
    """Whether there are no strays any more, known or not; those that are known now are adopted."""
    world.run("strays", "--adopt")
    return world.carried()


@pytest.mark.slow
def test_a_program_that_had_connected_and_not_yet_read(world: RenamedWorld) -> None:
    """It would make a log of its own if the log's name were free, and see the past."""
    write = "INSERT INTO notes VALUES (9, 'astray')"
    with (
        connected(world.database, QUERY) as read_it,
        connected(world.database, write) as write_it,
        connected(world.database, QUERY) as read_it_after,
    ):
        world.writer.run("INSERT INTO notes VALUES (2, 'in the log')")
        world.advance()
        assert read_it().startswith("error unable to open database file")
        assert write_it().startswith("error unable to open database file")
        world.require_no_program_finds_it()
        world.run("rollback")
        assert read_it_after() == '[[1, "one"], [2, "in the log"]]'
    world.require_as_before()


def test_the_mirror_is_started_while_the_file_has_another_name(world: RenamedWorld) -> None:
    world.advance()
    world.writer.close()
    for end in (world.stop_mirror, world.kill_mirror):
        end()
        world.postgres.execute("INSERT INTO notes SELECT max(id) + 1, 'meanwhile' FROM notes")
        world.start_mirror()
        until(world.carried)
        world.require_no_program_finds_it()
    assert world.status()["phase"] == "carrying back"
    assert world.strays() == []
    world.run("rollback")
    world.require_as_before()


@pytest.mark.few(1)
@pytest.mark.parametrize("world", ["delete", "truncate"], indirect=True)
def test_a_program_that_had_a_file_without_a_log_open(world: RenamedWorld) -> None:
    """It sees what the mirror writes, and nothing once that is gone: it would not find the journal of a killed one."""
    world.writer.run("PRAGMA busy_timeout=50")
    world.advance()
    world.postgres.execute("INSERT INTO notes VALUES (2, 'there')")
    until(world.carried)
    until(lambda: world.writer.run(QUERY) == [[1, "one"], [2, "there"]])
    world.kill_mirror()
    for text in (QUERY, "INSERT INTO notes VALUES (9, 'astray')"):
        with pytest.raises(WriterError, match="unable to open database file"):
            world.writer.run(text)
    world.start_mirror()
    world.postgres.execute("INSERT INTO notes VALUES (3, 'after that')")
    until(world.carried)
    world.run("rollback")
    world.writer.run("INSERT INTO notes VALUES (4, 'in the file again')")
    world.require_as_before()


@pytest.mark.slow
def test_the_mirror_is_started_while_programs_go_back(world: RenamedWorld) -> None:
    """It finds the file away, and asks Postgres only when the file is the original again."""
    world.advance()
    world.stop_mirror()
    with world.postgres.transaction():
        world.postgres.execute("LOCK TABLE mirror.reverse")
        world.start_mirror()
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'mirror.reverse'::regclass AND NOT granted)"
        until(lambda: world.postgres.execute(waits).fetchone() == (True,))
        fence = Fence(world.database)
        fence.show()
        fence.release()
        world.postgres.execute("UPDATE mirror.phase SET phase = 2, sealed_at = NULL")
    world.require_as_before()


def test_what_commands_say(world: RenamedWorld) -> None:
    world.advance()
    for running in (True, False):
        assert world.status()["phase"] == ("carrying back" if running else "stopped")
        (found,) = json.loads(world.run("status", "--json"))["sources"]
        assert (found["source"], found["phase"], found["configuration"]) == (str(world.database), 3, "")
        assert "CUTOVER_READY=NO" in world.run("plan", code=1)
        for more in ([], ["--repair"]):
            done = world.cli.run("parity", *more)
            assert done.code == (2 if more or not running else 0), done
            assert "moved to Postgres" in done.out or not running, done
        assert "moved to Postgres" in world.run("rehearse", code=2)
        done = world.cli.run("doctor", world.database)
        assert done.code == 1 and world.other.name in done.out, done
        assert "rollback" in done.out
        world.stop_mirror()
    world.start_mirror()
    world.run("rollback")
    world.require_as_before()


def test_finalizing_leaves_the_other_name(world: RenamedWorld) -> None:
    world.advance()
    world.postgres.execute("INSERT INTO notes VALUES (2, 'there')")
    until(world.carried)
    assert f"the file stays {world.other.name}" in world.run("finalize")
    world.stop_mirror()
    world.require_no_program_finds_it()
    assert opened_anew(world.other, QUERY) == '[[1, "one"], [2, "there"]]'
    done = world.cli.run("up", world.database, "--once")
    assert done.code == 2 and "finalized" in done.err, done


def test_a_name_that_is_taken(world: RenamedWorld) -> None:
    """It is refused before anything is done, and what has the name stays as it is."""
    for suffix in ("", "-wal"):
        taken = world.other.with_name(world.other.name + suffix)
        taken.write_text("a backup")
        assert f"{taken} is there already" in world.advance(code=2)
        assert taken.read_text() == "a backup"
        taken.unlink()
    (found,) = json.loads(world.run("status", "--json"))["sources"]
    assert (found["phase"], found["moving_to"]) == (2, None)
    world.writer.run("INSERT INTO notes VALUES (2, 'still open')")
    world.require_as_before()
