"""``mirror cutover advance --wait``: it is ready, compares again and again, and switches when it is told to."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.folders import holder
from tests.support.commands import CommandLine, Done
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
HARNESS = Path(__file__).parents[1] / "support" / "waiting_process.py"
WAIT = "wait for `mirror cutover go`, and compare all rows again and again"
Connection = psycopg.Connection[tuple[Any, ...]]


class World:
    def __init__(self, cli: CommandLine, database: Path, writer: Writer, postgres: Connection) -> None:
        self.cli, self.database, self.writer, self.postgres = cli, database, writer, postgres
        self.often = CommandLine(cli.folder, cli.dsn, (sys.executable, str(HARNESS)))

    @contextmanager
    def waiting(self, cli: CommandLine | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A command that waits, from when it does."""
        arguments = ("cutover", "advance", "--wait", "--acknowledge", "backups")
        process = (cli or self.often).start(*arguments, **options)
        try:
            until(lambda: self.status()["waiting"], alive=lambda: process.poll() is None)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def status(self) -> dict[str, Any]:
        (source,) = json.loads(self.cli.run("cutover", "status", "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def run(self, *command: str) -> None:
        done = self.cli.run("cutover", *command)
        assert done.code == 0, (command, done)

    def go(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Have it go on as soon as all guard rails hold, and see how it ends."""
        until(lambda: self.cli.run("cutover", "go").code == 0, alive=lambda: process.poll() is None)
        return ended(process)

    def compared(self) -> int:
        [(count,)] = self.postgres.execute("SELECT count(*) FROM mirror.parity_runs").fetchall()
        return int(count)

    def require_undone(self, phase: int = 1) -> None:
        """Nothing is left, and the same move works."""
        now = self.status()
        assert (now["phase"], now["moving_to"], now["waiting"]) == (phase, None, None), now
        self.writer.run("INSERT INTO notes(body) VALUES ('the file is open')")


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT NOT NULL)", "INSERT INTO notes VALUES (1, 'one')")
    with psycopg.connect(dsn, autocommit=True) as postgres:
        made = World(cli, database, writer, postgres)
        with cli.up(database):
            assert cli.run("parity").code == 0
            yield made


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def test_it_is_a_step(world: World) -> None:
    steps = world.cli.run("cutover", "advance", "--dry-run", "--wait").out.splitlines()
    assert [step.strip() for step in steps].index(WAIT) == 2
    assert WAIT not in world.cli.run("cutover", "advance", "--dry-run").out
    (told,) = json.loads(world.cli.run("cutover", "advance", "--dry-run", "--wait", "--json").out)["sources"]
    assert [step["step"] for step in told["steps"]] == [step[2:] for step in steps]


def test_there_in_two_steps(world: World) -> None:
    """Programs write meanwhile, and make tables: what they write in Postgres afterwards is carried back from each."""
    with world.waiting() as process:
        before = world.compared()
        until(lambda: world.compared() > before + 1)
        world.writer.run("INSERT INTO notes VALUES (2, 'meanwhile')")
        assert "waiting since" in world.cli.run("cutover", "status").out
        assert world.status()["phase"] == 1
        code, out, err = world.go(process)
        assert code == 0 and WAIT in out and "`mirror cutover go " in err, (out, err)
    assert (world.status()["phase"], world.status()["waiting"]) == (2, None)
    with world.waiting() as process:
        world.writer.run("CREATE TABLE more(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT)")
        world.writer.run("INSERT INTO more VALUES (70, 'new')")
        assert world.go(process)[0] == 0, "a guard rail says that it was never compared, until it is"
    assert world.status()["phase"] == 3
    [(number,)] = world.postgres.execute("INSERT INTO more(t) VALUES ('in Postgres') RETURNING id").fetchall()
    assert int(str(number)) > 70
    until(lambda: world.writer.run("SELECT count(*) FROM more") == [[2]])
    world.run("rollback")


def test_go_without_a_move_that_waits(world: World) -> None:
    done = world.cli.run("cutover", "go")
    assert "no `mirror cutover advance --wait` waits for it" in done.error and "advance --wait" in done.error
    done = world.cli.run("cutover", "go", "--json")
    assert done.code == 2 and json.loads(done.out)["error"]["next_step"]


@pytest.mark.slow
def test_go_of_a_move_that_fails(world: World) -> None:
    """The command that has it go on ends as the move does."""
    world.run("advance", "--acknowledge", "backups")
    with world.waiting() as process:
        world.writer.run("BEGIN IMMEDIATE")  # the file cannot be fenced then
        error = until(lambda: failed(world.cli.run("cutover", "go")), alive=lambda: process.poll() is None)
        assert "went on, and has ended: fence the file: no program can write to it: a program has had its" in error
        assert f"`mirror cutover status {world.database}` shows where it is" in error
        assert ended(process)[0] == 2
        world.writer.run("ROLLBACK")
    world.require_undone(2)


def failed(done: Done) -> str:
    """Why the move failed that was told to go on; empty: it could not yet."""
    assert done.code == 2, done
    return "" if "it cannot yet" in done.err else done.err.splitlines()[-1]


def test_a_difference_ends_it(world: World) -> None:
    with world.waiting() as process:
        world.postgres.execute("UPDATE notes SET body = 'changed by somebody'")
        code, out, err = ended(process)
        assert code == 2 and "nothing was switched" in err and "different: 1 row in 1 table" in err, (out, err)
    world.require_undone()
    assert [line["event"] for line in world.status()["log"] if line["step"] == WAIT] == ["begun", "undone", "failed"]
    assert "no `mirror cutover advance --wait`" in world.cli.run("cutover", "go").error
    assert world.cli.run("parity", "--repair", "--replace-rows").code == 0
    world.run("advance", "--acknowledge", "backups")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_is_ended(world: World, number: signal.Signals) -> None:
    with world.waiting() as process:
        process.send_signal(number)
        assert ended(process)[0] == (130 if number == signal.SIGINT else 2)
    world.require_undone()


def test_it_is_killed(world: World) -> None:
    """Nothing is left that the next one trips on; and nobody has it go on."""
    world.run("advance", "--acknowledge", "backups")
    with world.waiting(world.cli) as process:
        process.kill()
        process.wait()
        until(lambda: not world.status()["waiting"])
        assert "no `mirror cutover advance --wait`" in world.cli.run("cutover", "go").error
        world.writer.run("INSERT INTO notes(body) VALUES ('the file is open')")
    assert world.status()["moving_to"] == 3
    world.run("rollback")
    world.require_undone()
    world.run("advance", "--acknowledge", "backups")
    with world.waiting() as process:
        process.kill()
    with world.waiting() as process:
        assert world.go(process)[0] == 0
    assert world.status()["phase"] == 3
    world.run("rollback")


def test_one_at_a_time(world: World) -> None:
    """Whoever would move it as well is told, and the one that waits goes on."""
    with world.waiting() as process:
        error = world.cli.run("cutover", "advance", "--acknowledge", "backups").error
        assert "another command moves it" in error
        assert world.go(process)[0] == 0
    assert world.status()["phase"] == 2


def test_a_guard_rail_that_does_not_hold(folder: Path, world: World) -> None:
    """It waits on, and does not go on before it holds."""
    folder_of_state = world.cli.source_folder(world.database)
    with world.waiting() as process:
        pid = holder(folder_of_state)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        reason = until(lambda: world.status()["waiting"]["reason"], alive=lambda: process.poll() is None)
        assert "mirror" in reason
        error = world.cli.run("cutover", "go").error
        assert "it cannot yet" in error and f"`mirror cutover go {world.database}` again" in error
        with world.cli.up(world.database):
            assert world.go(process)[0] == 0
            assert world.status()["phase"] == 2


def test_enter_at_a_terminal(world: World) -> None:
    ours, theirs = pty.openpty()
    try:
        with world.waiting(world.cli, stdin=theirs, start_new_session=True, preexec_fn=lambda: own(theirs)) as process:
            os.write(ours, b"no line yet")
            before = world.compared()
            assert world.status()["phase"] == 1
            os.write(ours, b"\n")
            code, _, err = ended(process)
            assert code == 0 and "press Enter" in err, err
            assert world.compared() >= before
    finally:
        os.close(ours)
        os.close(theirs)
    assert world.status()["phase"] == 2


def own(terminal: int) -> None:
    """Make it the terminal of this process, which has a session of its own."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
