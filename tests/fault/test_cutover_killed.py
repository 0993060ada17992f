"""A command that moves a source is killed in and between its steps; the next one goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from mirror.core.control import ControlClient
from mirror.core.errors import SinkError
from mirror.core.positions import Lsn
from mirror.cutover import narrowing
from mirror.cutover.ways import BACK_TO_2, TO_3
from mirror.parity.views import open_source
from mirror.postgres.sessions import connect
from mirror.postgres.target import load_targets
from mirror.sidecar.parity_watch import ParityWatch
from tests.support.commands import CommandLine
from tests.support.quick import quick
from tests.support.source import Writer, WriterError
from tests.support.waiting import LIMIT, until

CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
FORWARD = [f"cutover:{where} {step.name}" for step in TO_3 for where in ("before", "in")]
BACK = [f"cutover:{where} {step.name}" for step in BACK_TO_2 for where in ("before", "in")]
#: In the normal run; the others take minutes.
QUICK = {"in seal", "in unseal"}


def seams(table: list[str]) -> list[Any]:
    return [pytest.param(seam, marks=() if seam.partition(":")[2] in QUICK else pytest.mark.slow) for seam in table]


HARNESS = Path(__file__).parents[1] / "support" / "move_process.py"
SEAL = [step.name for step in TO_3].index("seal")


class World:
    def __init__(self, cli: CommandLine, writer: Writer, postgres: psycopg.Connection[tuple[object, ...]]) -> None:
        self.cli, self.writer, self.postgres = cli, writer, postgres
        self.number = 0

    def kill(self, seam: str, *command: str) -> None:
        """Run a command that kills itself at a seam."""
        done = subprocess.run(
            [sys.executable, str(HARNESS), seam, "cutover", *command],
            env=self.cli.environment(),
            cwd=self.cli.folder,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, (seam, done.stdout, done.stderr)

    def run(self, *command: str) -> None:
        done = self.cli.run("cutover", *command)
        assert done.code == 0, (command, done)
        never_begun = self.postgres.execute(
            "SELECT step FROM mirror.cutover_log AS told WHERE event = 'undone' AND NOT EXISTS (SELECT"
            " FROM mirror.cutover_log AS l WHERE l.step = told.step AND l.event = 'begun' AND l.log_id < told.log_id"
            " AND l.epoch >= told.epoch - 1)"
        ).fetchall()
        assert never_begun == [], "told to be undone"

    def phase(self) -> dict[str, object]:
        (source,) = json.loads(self.cli.run("cutover", "status", "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def write(self) -> None:
        """A program writes to the file, which must be open to it."""
        self.number += 1
        self.writer.run(f"INSERT INTO notes VALUES ({self.number}, 'in the file')")

    def write_there(self) -> None:
        self.number += 1
        self.postgres.execute(f"INSERT INTO notes VALUES ({self.number}, 'there')")

    def require_equal(self) -> None:
        query = "SELECT id, body FROM notes ORDER BY id"

        def equal() -> bool:
            theirs = [list(row) for row in self.postgres.execute(query).fetchall()]
            return len(theirs) == self.number and self.writer.run(query) == theirs

        until(equal)


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    with psycopg.connect(dsn, autocommit=True) as postgres, cli.up(database):
        made = World(cli, writer, postgres)
        made.write()
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        made.run("advance", "--acknowledge", "backups")
        yield made
        made.require_equal()
        if made.phase()["phase"] == 3:
            made.run("rollback")
        made.write()
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0


@pytest.mark.parametrize("seam", seams(FORWARD))
def test_advance(world: World, seam: str) -> None:
    at = FORWARD.index(seam) // 2
    world.kill(seam, "advance", "--acknowledge", "backups")
    if at < SEAL or seam == "cutover:before seal":
        world.write()  # the file is open again
        assert world.phase()["phase"] == 2
    elif seam != "cutover:in seal":
        assert world.phase()["phase"] == 3
    if seam != "cutover:in end":  # then it is moved, and only its log does not say so
        world.run("advance", "--acknowledge", "backups")
    assert (world.phase()["phase"], world.phase()["moving_to"]) == (3, None)
    world.write_there()
    world.require_equal()


@pytest.mark.parametrize("seam", seams(BACK))
def test_rollback(world: World, seam: str) -> None:
    world.run("advance", "--acknowledge", "backups")
    world.write_there()
    world.kill(seam, "rollback")
    if seam != "cutover:in end":  # another one would go to phase 1
        world.run("rollback")
    assert (world.phase()["phase"], world.phase()["moving_to"]) == (2, None)
    world.write()


@pytest.mark.slow
@pytest.mark.parametrize("seam", quick("in keep", among=["in seal", "before keep", "in keep", "before end"]))
def test_advance_that_puts_triggers_into_the_file(world: World, seam: str) -> None:
    world.kill(f"cutover:{seam}", "advance", "--acknowledge", "backups", "--fence", "abort")
    world.run("advance", "--acknowledge", "backups")  # the fence is the one that was chosen
    assert world.phase()["phase"] == 3
    with pytest.raises(WriterError, match="moved to Postgres"):
        world.writer.run("INSERT INTO notes VALUES (1000, 'astray')")
    world.write_there()
    world.require_equal()


@pytest.mark.slow
@pytest.mark.parametrize("seam", quick("in open", among=["before open", "in open", "before unseal", "in unseal"]))
def test_rollback_with_triggers_in_the_file(world: World, seam: str) -> None:
    world.run("advance", "--acknowledge", "backups", "--fence", "abort")
    world.write_there()
    world.kill(f"cutover:{seam}", "rollback")
    if seam == "before open":
        with pytest.raises(WriterError, match="moved to Postgres"):
            world.writer.run("INSERT INTO notes VALUES (1000, 'astray')")
    world.run("rollback")
    assert world.writer.run("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'") == [[0]]
    assert (world.phase()["phase"], world.phase()["moving_to"]) == (2, None)
    world.write()


@pytest.mark.slow
def test_rollback_that_fails_shuts_the_file_again(world: World) -> None:
    world.run("advance", "--acknowledge", "backups", "--fence", "abort")
    world.kill("cutover:in open", "rollback")
    world.write()  # nothing keeps it out, as the command was killed: a stray
    until(lambda: world.cli.run("cutover", "strays", "--json").out.count('"table"') == 1)
    assert "mirror cutover strays" in world.cli.run("cutover", "rollback").error
    with pytest.raises(WriterError, match="moved to Postgres"):
        world.writer.run("INSERT INTO notes VALUES (1000, 'astray')")
    world.run("strays", "--adopt")


@pytest.mark.slow
@pytest.mark.parametrize("seam", quick("cutover:in seal", among=FORWARD[2 * SEAL + 1 :]))
def test_rollback_of_an_advance_that_was_killed(world: World, seam: str) -> None:
    world.kill(seam, "advance", "--acknowledge", "backups")
    world.write_there()
    world.run("rollback")
    assert (world.phase()["phase"], world.phase()["moving_to"]) == (2, None)
    world.write()


@pytest.mark.slow
def test_a_command_that_was_killed_leaves_nothing_that_grows(world: World, database: Path, dsn: str) -> None:
    """What the mirror writes is captured while a command compares it: not any more, once nobody does."""
    world.kill("cutover:in watch", "advance", "--acknowledge", "backups")
    assert "the command that moves it has ended" in world.cli.run("cutover", "status").out
    assert world.phase()["left"]
    world.write()

    def outbox() -> int:
        ((count,),) = world.postgres.execute("SELECT count(*) FROM mirror.outbox").fetchall()
        assert isinstance(count, int)
        return count

    until(outbox)
    ((schema,),) = world.postgres.execute("SELECT schema_name FROM mirror.sources").fetchall()
    watch = ParityWatch({database: str(schema)}, dsn, world.cli.state_dir)
    until(lambda: watch.verify(database).verdict == "equal" and outbox() == 0)
    world.write()
    world.require_equal()
    assert outbox() == 0
    world.run("advance", "--acknowledge", "backups")
    assert not world.phase()["left"]


@pytest.mark.slow
def test_what_is_written_during_the_comparison_is_compared_meanwhile(world: World, database: Path, dsn: str) -> None:
    """So that little is left for when programs wait; and what differs is found."""
    world.kill("cutover:in watch", "advance", "--acknowledge", "backups")
    with connect(dsn, name="test", raw=True) as conn:
        [[before, source_id]] = conn.execute(
            "SELECT r.before, s.source_id FROM mirror.sources s, (SELECT pg_current_snapshot()::text) AS r (before)"
        ).fetchall()
        targets = load_targets(conn, source_id, None)
        for _ in range(3):
            world.write()
        world.writer.run("UPDATE notes SET body = 'changed' WHERE id = 2")
        world.writer.run("INSERT INTO notes VALUES (1000, 'for a moment')")
        world.writer.run("DELETE FROM notes WHERE id = 1000")
        assert world.cli.run("wait").code == 0
        gate, source = ControlClient(world.cli.source_folder(database)), open_source(database)
        with gate, closing(source):

            def at_commit(begin: Callable[[Lsn], None], read: Callable[[apsw.Connection], None]) -> Lsn:
                return source.at_commit(gate, begin, lambda: read(source.connection))

            def narrow(since: str) -> str:
                return narrowing.narrow(conn, source_id, targets, since, at_commit, str(database))

            left = "SELECT count(*) FROM mirror.outbox WHERE NOT pg_visible_in_snapshot(xid, $1::pg_snapshot)"
            ((count,),) = conn.execute(left, (before,)).fetchall()
            assert count >= 3
            after = narrow(before)
            assert conn.execute(left, (after,)).fetchone() == (0,)
            world.postgres.execute("UPDATE notes SET body = 'by hand' WHERE id = 2")
            with pytest.raises(SinkError, match="notes: row 2 differs in body"):
                narrow(after)
            world.postgres.execute("DELETE FROM notes WHERE id = 2")
            with pytest.raises(SinkError, match="notes: row 2 is only in the file"):
                narrow(after)
            world.postgres.execute("INSERT INTO notes VALUES (2, 'changed'), (1000, 'by hand')")
            with pytest.raises(SinkError, match="notes: row 1000 is only in Postgres"):
                narrow(after)
            world.postgres.execute("DELETE FROM notes WHERE id = 1000")
            assert narrow(after) != after
