"""What commands answer around a move: two at once, sources that are not mirrored, and those that were moved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine, Done
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

HELD = Path(__file__).parents[1] / "support" / "held_move_process.py"
CONFIGURATION = """{
  "sources": ["../source.db"],
  "storage": {"backend": "dual", "readFrom": "sqlite", "writeTo": ["sqlite" /* ours */, "postgres"]}
}
"""
ADVANCE = ("cutover", "advance", "--acknowledge", "backups")


class World:
    def __init__(self, folder: Path, dsn: str, writer: Writer, postgres: psycopg.Connection[Any]) -> None:
        self.cli, self.writer, self.postgres = CommandLine(folder, dsn), writer, postgres
        self.configuration = folder / "argent" / "mirror.json"

    def run(self, *command: object, code: int = 0) -> Done:
        done = self.cli.run(*command)
        assert done.code == code, (command, done)
        return done

    def held(self, seam: str, *command: object) -> tuple[subprocess.Popen[str], Path]:
        """A command that stands at a seam, and the file that lets it go on."""
        shared = self.cli.folder / "held"
        shared.mkdir()
        process = subprocess.Popen(
            [sys.executable, str(HELD), seam, str(shared), *map(str, command)],
            env=self.cli.environment(), cwd=self.cli.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until((shared / "reached").exists, alive=lambda: process.poll() is None)
        return process, shared / "go"

    def phase(self) -> dict[str, Any]:
        (source,) = json.loads(self.run("cutover", "status", "--json").out)["sources"]
        assert isinstance(source, dict)
        return source


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    with psycopg.connect(dsn, autocommit=True) as postgres:
        made = World(folder, dsn, writer, postgres)
        made.configuration.write_text(CONFIGURATION)
        writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'one')")
        with made.cli.up(database):
            made.run("parity")
            yield made
            now = made.phase()
            if now["finalized_at"] is None:
                if now["sealed_at"] is not None:
                    made.run("cutover", "rollback")
                made.run("wait")
                made.run("parity")


def test_a_second_command_does_not_move_what_another_has_moved_meanwhile(world: World) -> None:
    first, go = world.held("cutover:before flip", *ADVANCE)
    second = world.cli.start(*ADVANCE)
    # It has read the phase, and asks for the lock again and again.
    asks = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mirror cutover'"
        " AND query LIKE 'SELECT pg_try_advisory_lock%'"
    )
    until(lambda: world.postgres.execute(asks).fetchone() == (1,), alive=lambda: second.poll() is None)
    go.touch()
    assert first.wait(LIMIT) == 0
    out, err = second.communicate(timeout=LIMIT)
    assert second.returncode == 2, out + err
    # On a busy machine it may have given up before.
    assert "another command has moved it meanwhile: phase 2" in err or "another command moves it" in err
    assert world.phase()["phase"] == 2


def test_a_list_that_stays_keeps_its_comment(world: World) -> None:
    world.run(*ADVANCE)
    assert world.configuration.read_text() == CONFIGURATION.replace('"sqlite", "writeTo"', '"postgres", "writeTo"')


def test_a_source_that_is_not_mirrored_yet_hides_no_other(world: World) -> None:
    (world.cli.folder / "new.db").touch()
    world.configuration.write_text(CONFIGURATION.replace('"../source.db"', '"../source.db", "../new.db"'))
    done = world.run("cutover", "status")
    assert "source.db: phase 1" in done.out
    assert "new.db: it is not mirrored here; next: run `mirror up" in done.err
    document = json.loads(world.run("cutover", "status", "--json").out)
    assert [one["phase"] for one in document["sources"]] == [1]
    (missing,) = document["not_mirrored"]
    assert missing["source"].endswith("new.db") and missing["error"]["code"] == "postgres.unknown_source"
    world.configuration.write_text(CONFIGURATION)


def test_a_configuration_that_cannot_be_changed_is_found_before_the_switch(world: World) -> None:
    world.run(*ADVANCE)
    good = world.configuration.read_text()
    command, go = world.held("cutover:before fence", *ADVANCE)
    world.configuration.write_text('{"sources": [[')
    go.touch()
    out, err = command.communicate(timeout=LIMIT)
    assert command.returncode == 2 and "write the phase" in err, out + err
    world.configuration.write_text(good)
    assert (world.phase()["phase"], world.phase()["sealed_at"]) == (2, None)
    world.writer.run("INSERT INTO notes VALUES (2, 'open')")


def test_where_the_configuration_disagrees(world: World) -> None:
    world.run(*ADVANCE)
    world.configuration.write_text(CONFIGURATION)
    assert world.phase()["configuration"] == (
        f"storage.readFrom is sqlite, not postgres: set that in {world.configuration}"
    )


def test_waiting_and_comparing_the_other_way_round(world: World) -> None:
    for _ in range(2):
        world.run(*ADVANCE, "--fence", "watch")
    world.postgres.execute("INSERT INTO notes SELECT i, 'there' FROM generate_series(2, 5000) i")
    world.run("wait")
    assert world.writer.run("SELECT count(*) FROM notes") == [[5000]]
    done = world.run("parity")
    assert "equal: it was moved to Postgres, so the file is compared with it: 5,000 rows" in done.out
    world.run("parity", "--table", "notes", code=2)
    assert "moved to Postgres" in world.run("parity", "--repair", code=2).out
    world.writer.run("INSERT INTO notes VALUES (9999, 'astray')")
    (source,) = json.loads(world.run("cutover", "strays", "--json").out)["sources"]
    assert [one["key"] for one in source["strays"]] == [[9999]]  # without any wait
    done = world.run("parity", code=1)
    assert "1 were written to the file by programs" in done.out
    (report,) = json.loads(world.run("parity", "--json", code=1).out)["reports"]
    assert (report["verdict"], report["rows"]) == ("different", 5001)
    world.run("cutover", "strays", "--discard")


def test_waiting_for_a_file_that_does_not_get_anything(world: World) -> None:
    for _ in range(2):
        world.run(*ADVANCE)
    world.postgres.execute("ALTER TABLE notes RENAME TO others")
    world.postgres.execute("INSERT INTO others VALUES (7, 'lost')")
    until(lambda: world.phase()["way_back_lost"])
    error = world.run("wait", "--timeout", "0.1", code=2).error
    assert "the way back is lost" in error and "mirror cutover status" in error
    world.run("cutover", "finalize")
    assert "finalized" in world.run("wait", "--timeout", "0.1", code=2).error
