"""``mirror cutover finalize``: what it looks at before the way back ends, while programs write in Postgres."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.reverse import ending
from tests.support.commands import CommandLine
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
STEPS = [ending.CHECK, ending.DRAIN, ending.COMPARE, ending.END, ending.TIDY]


class World:
    """A source in phase 3, whose file nothing keeps programs from; and its mirror."""

    def __init__(self, cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
        self.cli, self.writer, self.database, self.dsn = cli, writer, database, dsn
        self.stack = ExitStack()
        self.postgres = self.stack.enter_context(psycopg.connect(dsn, autocommit=True))
        self.up()
        assert cli.run("wait", "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0
        for _ in range(2):
            done = cli.run("cutover", "advance", "--acknowledge", "backups", "--fence", "watch")
            assert done.code == 0, done

    def up(self) -> None:
        self.mirror = self.stack.enter_context(ExitStack())
        self.process = self.mirror.enter_context(self.cli.up(self.database, wait=False))
        until(lambda: self.cli.run("status").code == 0 and self.cli.run("wait", "--timeout", "0.1").code != 2)

    def down(self) -> None:
        self.mirror.close()

    def there(self, text: str) -> list[tuple[Any, ...]]:
        return self.postgres.execute(text.encode()).fetchall()

    def finalize(self, *options: str) -> dict[str, str]:
        """By step, what was said of it."""
        done = self.cli.run("cutover", "finalize", "--json", *options)
        assert done.code == 0, done
        (source,) = json.loads(done.out)["sources"]
        return {step["step"]: step["detail"] for step in source["steps"] if step["event"] in ("done", "journal")}

    def refused(self) -> str:
        done = self.cli.run("cutover", "finalize")
        assert done.code == 2 and "Traceback" not in done.err, done
        assert self.state()["finalized_at"] is None and self.state()["moving_to"] is None
        return done.err

    def state(self) -> dict[str, Any]:
        (source,) = json.loads(self.cli.run("cutover", "status", "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def status(self) -> dict[str, Any]:
        (source,) = json.loads(self.cli.run("status", "--json").out)["sources"]
        assert isinstance(source, dict)
        return source

    def is_over(self) -> bool:
        """Nothing of the way back is left in Postgres."""
        left = "SELECT FROM pg_trigger WHERE tgname LIKE 'mirror_capture%' UNION ALL SELECT FROM mirror.outbox"
        assert self.there(left) == []
        return self.state()["finalized_at"] is not None

    @contextmanager
    def programs(self) -> Iterator[list[int]]:
        """One that writes in Postgres without an end; how many rows it has written."""
        written: list[int] = []
        over = threading.Event()

        def write() -> None:
            with psycopg.connect(self.dsn, autocommit=True) as program:
                while not over.is_set():
                    program.execute("INSERT INTO notes VALUES (%s, 'there')", (1000 + len(written),))
                    written.append(1000 + len(written))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            until(lambda: written, alive=thread.is_alive)
            yield written
            assert thread.is_alive()
        finally:
            over.set()
            thread.join(LIMIT)


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    writer.run(
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT CHECK (length(body) < 9))",
        "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
    )
    made = World(CommandLine(folder, dsn), writer, database, dsn)
    with made.stack:
        yield made


def test_while_programs_write(world: World) -> None:
    with world.programs() as written:
        before = len(written)
        said = world.finalize()
        assert len(written) > before
        until(lambda: len(written) > before + 1)  # and go on
    assert list(said) == STEPS
    assert "rows of the file compared" in said[ending.COMPARE] and "no mirror" not in said[ending.COMPARE]
    assert world.is_over()
    carried = [row for (row,) in world.writer.run("SELECT id FROM notes WHERE id >= 1000 ORDER BY id")]
    assert carried == written[: len(carried)] and len(carried) >= before
    logged = [(line["step"], line["event"]) for line in world.state()["log"]][-2 * len(STEPS) :]
    assert [step for step, event in logged if event in ("done", "journal")] == STEPS
    assert "that was done" in world.cli.run("cutover", "finalize").error
    assert "nothing left to do" in world.cli.run("cutover", "rollback").error
    assert world.process.wait(LIMIT) == 0
    status = world.status()
    assert (status["phase"], status["last_error"], status["next_steps"]) == ("stopped", None, [])
    assert status["reverse"]["ended"] == "its move to Postgres was finalized"


def test_without_a_mirror(world: World) -> None:
    world.down()
    world.there("UPDATE notes SET body = 'there' WHERE id = 1 RETURNING 1")
    said = world.finalize()
    assert said[ending.COMPARE] == "2 rows of the file compared; no mirror runs: done by this command"
    assert world.writer.run("SELECT body FROM notes") == [["there"], ["two"]]
    assert world.is_over()


def test_what_was_not_known_before(world: World) -> None:
    """It is named, and kept; whoever then calls for it again, knows it."""
    world.there("INSERT INTO notes VALUES (3, 'not in the file') RETURNING 1")
    until(lambda: world.state()["rejects"] == 1)
    world.down()
    world.writer.run("INSERT INTO notes VALUES (9, 'astray')")
    error = world.refused()
    assert "1 row of the file not as in Postgres (notes [9])" in error and "mirror cutover strays" in error
    assert world.state()["strays"] == 1
    said = world.finalize()
    assert "in the file alone: 1 row " in said[ending.CHECK]
    assert "in Postgres alone: 1 row " in said[ending.END] and "in the file alone: 1 row " in said[ending.END]
    assert said[ending.COMPARE].startswith("3 rows of the file compared, 2 differ as is known")
    assert world.is_over()
    assert world.cli.run("cutover", "strays", "--adopt").code == 0
    assert world.there("SELECT body FROM notes WHERE id = 9") == [("astray",)]


def test_what_the_way_back_did_not_carry(world: World) -> None:
    until(lambda: world.status()["reverse"]["strays"] == 0)
    with world.postgres.transaction():  # as if a trigger had not fired
        world.there("UPDATE notes SET body = 'there' WHERE id = 1 RETURNING 1")
        world.there("DELETE FROM mirror.outbox RETURNING 1")
    assert "the way back did not carry them" in world.refused()
    assert "the way back did not carry them" in world.refused()
    assert "was acknowledged" in world.finalize("--acknowledge", "way back")[ending.COMPARE]
    assert world.is_over()


def test_the_file_is_gone(world: World) -> None:
    world.down()
    world.writer.close()
    world.database.unlink()
    error = world.refused()
    assert "there is no such file" in error and "--acknowledge 'way back'" in error
    assert "was acknowledged" in world.finalize("--acknowledge", "way back")[ending.DRAIN]
    assert world.is_over()


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE notes RENAME TO others", "DROP TABLE notes", "ALTER TABLE notes DISABLE TRIGGER {}"],
)
def test_a_way_back_that_is_lost(world: World, change: str) -> None:
    """`mirror status` says so, and nothing is compared."""
    ((name,),) = world.there("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'mirror_capture%_insert'")
    world.postgres.execute(change.format(name).encode())
    until(lambda: world.status()["phase"] == "failed")
    assert "the way back is lost" in world.status()["last_error"]
    (step,) = world.status()["next_steps"]
    assert step.startswith(f"`mirror cutover finalize {world.database}") and "` ends it" in step
    assert "the way back is lost" in world.cli.run("cutover", "rollback").error
    assert world.process.wait(LIMIT) == 2
    again = world.cli.run("up", world.database)
    assert again.code == 2 and "the way back is lost" in again.err and "starts again" not in again.err
    assert world.state()["way_back_lost"]
    said = world.finalize()
    assert said[ending.CHECK].startswith("the way back is lost: ") and said[ending.DRAIN].startswith("left out")
    assert said[ending.COMPARE].startswith("left out")
    assert world.is_over()


def test_a_program_has_the_table_at_the_end(world: World) -> None:
    """It is not waited for with all others behind it; what it has not written to is not ended before."""
    with psycopg.connect(world.dsn) as program, psycopg.connect(world.dsn, autocommit=True) as other:
        program.execute("INSERT INTO notes VALUES (50, 'long')")
        process = world.cli.start("cutover", "finalize")
        begun = f"SELECT FROM mirror.cutover_log WHERE step = '{ending.END}' AND event = 'begun'"
        until(lambda: world.there(begun), alive=lambda: process.poll() is None)
        for number in range(51, 55):
            other.execute("INSERT INTO notes VALUES (%s, 'short')", (number,))
        assert world.state()["finalized_at"] is None
        program.commit()
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert world.is_over()
