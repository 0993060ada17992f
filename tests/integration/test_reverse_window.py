"""``mirror cutover advance --reverse-window``: the way back ends by itself, or says why it does not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.reverse import ending
from mirror.sidecar.reverse_window import ELAPSED
from tests.support.commands import CommandLine
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

HARNESS = Path(__file__).parents[1] / "support" / "move_process.py"
CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'


class World:
    """A source in phase 2, and its mirror."""

    def __init__(self, cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
        self.cli, self.writer, self.database = cli, writer, database
        self.stack = ExitStack()
        self.postgres = self.stack.enter_context(psycopg.connect(dsn, autocommit=True))
        self.up()
        assert cli.run("wait", "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0
        self.advance()

    def up(self, *sources: Path) -> None:
        self.mirror = self.stack.enter_context(ExitStack())
        self.process = self.mirror.enter_context(self.cli.up(*(sources or (self.database,)), wait=False))
        until(lambda: self.cli.run("wait", "--timeout", "0.1").code != 2, alive=lambda: self.process.poll() is None)

    def advance(self, *options: str) -> None:
        assert self.cli.run("wait", str(self.database), "--timeout", str(LIMIT)).code == 0
        done = self.cli.run("cutover", "advance", str(self.database), "--acknowledge", "backups", *options)
        assert done.code == 0, done

    def state(self) -> dict[str, Any]:
        (source,) = json.loads(self.cli.run("cutover", "status", str(self.database), "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def status(self) -> dict[str, Any]:
        (source,) = json.loads(self.cli.run("status", str(self.database), "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def elapse(self) -> None:
        """The time has come."""
        self.postgres.execute("UPDATE mirror.phase SET reverse_window = '1 microsecond'")

    def is_finalized(self) -> bool:
        return self.state()["finalized_at"] is not None

    def log(self) -> list[tuple[str, str, str]]:
        return [(line["step"], line["event"], line["detail"]) for line in self.state()["log"]]

    def triggers(self) -> list[tuple[Any, ...]]:
        return self.postgres.execute("SELECT FROM pg_trigger WHERE tgname LIKE 'mirror_capture%'").fetchall()


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    writer.run(
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT CHECK (length(body) < 9))",
        "INSERT INTO notes VALUES (1, 'one')",
    )
    made = World(CommandLine(folder, dsn), writer, database, dsn)
    with made.stack:
        yield made


def test_it_elapses(world: World) -> None:
    """While the move itself goes on, nothing ends; then it does, as by the command."""
    world.advance("--reverse-window", "1s")
    until(world.is_finalized)
    state = world.state()
    assert state["finalized_because"] == ELAPSED and state["moving_to"] is None and state["reverse_window_until"]
    steps = [(step, event) for step, event, _ in world.log() if event in ("done", "journal")]
    ours = [(word, "journal" if word == ending.END else "done") for word in
            (ending.CHECK, ending.DRAIN, ending.COMPARE, ending.END, ending.TIDY)]  # fmt: skip
    assert [step for step in steps if step in ours] == ours
    assert steps.index(("record the phase", "done")) < steps.index(ours[0])
    assert world.process.wait(LIMIT) == 0
    assert world.status()["reverse"]["ended"] == f"its move to Postgres was finalized: {ELAPSED}"
    assert world.status()["last_error"] is None
    assert world.triggers() == []
    assert "nothing left to do" in world.cli.run("cutover", "rollback").error


@pytest.mark.slow
def test_until_when(world: World) -> None:
    assert "no span of time" in world.cli.run("cutover", "advance", "--reverse-window", "30").err
    world.advance("--reverse-window", "7d")
    ((until_,),) = world.postgres.execute("SELECT extract(epoch FROM sealed_at)::float8 + 7 * 86400 FROM mirror.phase")
    until(lambda: world.status()["reverse"]["until"] is not None)
    assert abs(world.status()["reverse"]["until"] - until_) < 1e-3
    assert "reverse window until" in world.cli.run("status").out
    assert "reverse window until" in world.cli.run("cutover", "status").out
    done = world.cli.run("cutover", "rollback")
    assert done.code == 0 and world.state()["reverse_window_until"] is None
    world.advance()  # the next way back has its own, or none
    assert world.state()["reverse_window_until"] is None


@pytest.mark.slow
def test_what_was_written_is_in_the_file(world: World) -> None:
    world.advance("--reverse-window", "7d")
    with world.postgres.transaction():
        world.elapse()
        world.postgres.execute("INSERT INTO notes SELECT n, 'there' FROM generate_series(2, 500) n")
    until(world.is_finalized)
    assert world.writer.run("SELECT count(*) FROM notes") == [[500]]


@pytest.mark.slow
def test_strays_and_rejects_keep_it_open(world: World) -> None:
    world.advance("--reverse-window", "7d", "--fence", "watch")
    world.writer.run("INSERT INTO notes VALUES (9, 'astray')")
    world.postgres.execute("INSERT INTO notes VALUES (3, 'not in the file')")
    until(lambda: (world.state()["strays"], world.state()["rejects"]) == (1, 1))
    world.elapse()
    until(lambda: world.status()["reverse"]["kept_open"])
    assert "in the file alone: 1 row " in world.status()["reverse"]["kept_open"]
    assert any("the way back is open still" in step for step in world.status()["next_steps"])
    assert [event for step, event, detail in world.log() if "stays open" in detail] == ["failed"]
    world.postgres.execute("DELETE FROM notes WHERE id = 3")
    until(lambda: world.state()["rejects"] == 0)
    world.postgres.execute("INSERT INTO notes VALUES (4, 'goes on')")
    until(lambda: world.writer.run("SELECT id FROM notes WHERE id = 4"))
    assert not world.is_finalized()
    assert world.cli.run("cutover", "strays", "--adopt").code == 0
    until(world.is_finalized)
    assert world.state()["finalized_because"] == ELAPSED
    assert world.postgres.execute("SELECT id FROM notes ORDER BY id").fetchall() == [(1,), (4,), (9,)]


@pytest.mark.slow
def test_what_was_not_carried_keeps_it_open(world: World) -> None:
    world.advance("--reverse-window", "7d")
    until(lambda: world.status()["reverse"]["until"])
    with world.postgres.transaction():
        world.postgres.execute("UPDATE notes SET body = 'there'")
        world.postgres.execute("DELETE FROM mirror.outbox")
    world.elapse()
    until(lambda: world.status()["reverse"]["kept_open"])
    assert "did not carry them" in world.status()["reverse"]["kept_open"]
    assert not world.is_finalized()
    assert world.cli.run("cutover", "rollback").code == 2
    assert world.cli.run("cutover", "finalize", "--acknowledge", "way back").code == 0


@pytest.mark.slow
def test_no_mirror_runs_then(world: World) -> None:
    world.advance("--reverse-window", "7d")
    world.mirror.close()
    world.postgres.execute("INSERT INTO notes VALUES (2, 'there')")
    world.elapse()
    assert not world.is_finalized()
    process = world.cli.start("up", world.database)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0 and f"finalized: {ELAPSED}" in out and "ERROR" not in err
    assert "nothing left to do" in out
    assert world.is_finalized()
    assert world.writer.run("SELECT id FROM notes") == [[1], [2]]


@pytest.mark.slow
def test_a_way_back_that_is_lost(world: World) -> None:
    world.advance("--reverse-window", "7d")
    world.postgres.execute("ALTER TABLE notes DROP COLUMN body")
    assert world.process.wait(LIMIT) == 2
    assert not world.is_finalized()
    world.elapse()
    process = world.cli.start("up", world.database)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2 and "finalized" in err and "starts again" not in err
    assert world.is_finalized()
    assert "notes was altered" in world.state()["finalized_because"]
    assert world.triggers() == []


@pytest.mark.slow
def test_a_rollback_that_has_begun_wins(world: World) -> None:
    world.advance("--reverse-window", "7d")
    done = subprocess.run(
        [sys.executable, str(HARNESS), "cutover:in drain", "cutover", "rollback"],
        env=world.cli.environment(),
        cwd=world.cli.folder,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done
    world.elapse()
    for number in range(2, 6):  # it looks between them
        world.postgres.execute("INSERT INTO notes VALUES (%s, 'there')", (number,))
        until(lambda number=number: world.writer.run(f"SELECT 1 FROM notes WHERE id = {number}"))
    assert not world.is_finalized() and not world.status()["reverse"]["kept_open"]
    assert world.cli.run("cutover", "rollback").code == 0
    assert world.state()["phase"] == 2 and not world.is_finalized()


@pytest.mark.slow
def test_the_other_sources_go_on(world: World, folder: Path, dsn: str) -> None:
    world.mirror.close()
    other = folder / "other.db"
    with Writer(other) as writer:
        writer.run("CREATE TABLE tasks_of_another(id INTEGER PRIMARY KEY)", "INSERT INTO tasks_of_another VALUES (1)")
        world.up(world.database, other)
        world.advance("--reverse-window", "7d")
        world.elapse()
        until(world.is_finalized)
        until(lambda: world.status()["phase"] == "stopped")
        writer.run("INSERT INTO tasks_of_another VALUES (2)")
        assert world.cli.run("wait", other, "--timeout", LIMIT).code == 0
        assert world.postgres.execute("SELECT count(*) FROM tasks_of_another").fetchone() == (2,)
        assert world.process.poll() is None
