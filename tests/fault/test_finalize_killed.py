"""``mirror cutover finalize`` is killed in and between its steps; what comes next goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mirror.core.errors import FencedError, MirrorError
from mirror.cutover.ways import FINALIZE
from mirror.postgres import phase
from mirror.postgres.sessions import connect
from mirror.postgres.table_locks import TableLocks
from mirror.reverse import ending
from tests.support.commands import CommandLine
from tests.support.quick import quick
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

HARNESS = Path(__file__).parents[1] / "support" / "move_process.py"
CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
SEAMS = [f"cutover:{where} {step.name}" for step in FINALIZE for where in ("before", "in")]
END = "cutover:in finalize"
#: In the normal run; the others take minutes.
QUICK = {END}


class World:
    """A source in phase 3, with its mirror."""

    def __init__(self, cli: CommandLine, writer: Writer, postgres: psycopg.Connection[tuple[object, ...]]) -> None:
        self.cli, self.writer, self.postgres = cli, writer, postgres

    def kill(self, seam: str, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, str(HARNESS), seam, "cutover", *command],
            env=self.cli.environment(),
            cwd=self.cli.folder,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, (seam, done.stdout, done.stderr)

    def run(self, *command: str) -> str:
        done = self.cli.run("cutover", *command)
        assert done.code == 0, (command, done)
        return done.out

    def row(self) -> tuple[object, ...] | None:
        query = "SELECT phase, moving_to, sealed_at IS NOT NULL, finalized_at IS NOT NULL FROM mirror.phase"
        return self.postgres.execute(query).fetchone()

    def triggers(self) -> list[tuple[object, ...]]:
        """How many capture, by whether they are on."""
        query = "SELECT tgenabled <> 'D', count(*)::int FROM pg_trigger WHERE tgname LIKE 'mirror_capture%' GROUP BY 1"
        return self.postgres.execute(query).fetchall()

    def carries(self, number: int) -> None:
        """What is written in Postgres comes to the file."""
        self.postgres.execute("INSERT INTO notes VALUES (%s, 'there')", (number,))
        until(lambda: self.writer.run(f"SELECT count(*) FROM notes WHERE id = {number}") == [[1]])


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'one')")
    with psycopg.connect(dsn, autocommit=True) as postgres, cli.up(database):
        made = World(cli, writer, postgres)
        assert cli.run("wait", "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0
        made.run("advance", "--acknowledge", "backups")
        made.run("advance", "--acknowledge", "backups")
        yield made


@pytest.mark.parametrize(
    "seam", [pytest.param(seam, marks=() if seam in QUICK else pytest.mark.slow) for seam in SEAMS]
)
def test_finalize(world: World, seam: str) -> None:
    """It is finalized or it is not; another one completes it."""
    world.kill(seam, "finalize")
    if SEAMS.index(seam) < SEAMS.index(END):
        assert world.row() == (3, None, True, False) and world.triggers() == [(True, 4)]
        world.carries(2)
        world.run("finalize")
    else:
        assert world.row() == (3, None, True, True) and world.triggers() in ([(False, 4)], [])
        world.postgres.execute("INSERT INTO notes VALUES (2, 'captured nowhere')")
        assert world.postgres.execute("SELECT count(*) FROM mirror.outbox").fetchone() == (0,)
        if world.triggers():
            assert ending.TIDY in world.run("finalize")
    assert world.row() == (3, None, True, True) and world.triggers() == []
    assert "that was done" in world.cli.run("cutover", "finalize").error


@pytest.mark.slow
@pytest.mark.parametrize("command", quick("rollback", among=["rollback", "advance"]))
def test_another_command(world: World, command: str) -> None:
    world.kill("cutover:before finalize", "finalize")
    if command == "advance":
        assert "in phase 3 already" in world.cli.run("cutover", "advance").error
        world.carries(2)
    world.run("rollback")
    assert world.row() == (2, None, False, False)
    world.writer.run("INSERT INTO notes VALUES (3, 'in the file')")
    assert world.cli.run("wait", "--timeout", LIMIT).code == 0 and world.cli.run("parity").code == 0


@pytest.mark.slow
def test_only_one_of_them_wins(world: World, dsn: str) -> None:
    """An end that was begun before a rollback, and a rollback that was begun before an end."""
    with connect(dsn, raw=True) as conn:
        [[source_id]] = conn.execute("SELECT source_id FROM mirror.sources").fetchall()
        before = phase.take(conn, source_id, None)
        world.run("rollback")
        with pytest.raises(FencedError), conn.transaction():
            ending.end(conn, source_id, before.epoch, TableLocks())
        assert world.row() == (2, None, False, False)
        world.run("advance", "--acknowledge", "backups")
        before = phase.read(conn, source_id)
        with conn.transaction():
            ending.end(conn, source_id, before.epoch, TableLocks())
        with pytest.raises(MirrorError, match="finalized"):
            phase.take(conn, source_id, 2)
    assert world.row() == (3, None, True, True)
