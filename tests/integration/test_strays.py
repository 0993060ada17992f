"""What programs write to the file after the switch to phase 3: found, named, kept; adopted or thrown away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.reverse.marks import mark
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, WriterError
from tests.support.waiting import LIMIT, until

STRAY = Path(__file__).parents[1] / "support" / "stray_process.py"
CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
SCHEMA = (
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)",
    "CREATE TABLE loose(v, r REAL)",
    "CREATE VIRTUAL TABLE words USING fts5(body, content='notes', content_rowid='id')",
    "CREATE TRIGGER notes_ai AFTER INSERT ON notes BEGIN INSERT INTO words(rowid, body) VALUES (new.id, new.body); END",
    "INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    "INSERT INTO loose VALUES (x'00ff', 1.0)",
)


class World:
    def __init__(self, cli: CommandLine, writer: Writer, postgres: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.cli, self.writer, self.postgres = cli, writer, postgres

    def run(self, *command: object, code: int = 0) -> str:
        done = self.cli.run("cutover", *command)
        assert done.code == code, (command, done)
        return done.out + done.err

    def advance(self, fence: str = "watch") -> None:
        self.run("advance", "--acknowledge", "backups", "--fence", fence)

    def strays(self) -> list[dict[str, Any]]:
        (source,) = json.loads(self.run("strays", "--json"))["sources"]
        found: list[dict[str, Any]] = source["strays"]
        return found

    def strays_when(self, count: int) -> list[dict[str, Any]]:
        """They, once there are so many, and the mirror says so, too."""

        def look() -> bool:
            (source,) = json.loads(self.cli.run("status", "--json").out)["sources"]
            (phase,) = json.loads(self.run("status", "--json"))["sources"]
            return source["reverse"]["strays"] == count == phase["strays"]

        until(look)
        return self.strays()

    def there(self, query: str = "SELECT id, body FROM notes ORDER BY id") -> list[list[Any]]:
        return [list(row) for row in self.postgres.execute(query).fetchall()]

    def equal(self) -> bool:
        query = "SELECT id, body FROM notes ORDER BY id"
        return self.there(query) == self.writer.run(query)


@pytest.fixture
def world(folder: Path, dsn: str, writer: Writer, database: Path) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    cli = CommandLine(folder, dsn)
    writer.run(*SCHEMA)
    with psycopg.connect(dsn, autocommit=True) as postgres, cli.up(database):
        made = World(cli, writer, postgres)
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
        made.advance()
        yield made


def test_each_kind_of_write_is_kept_and_adopted(world: World) -> None:
    world.advance()
    world.writer.transaction(
        "INSERT INTO notes VALUES (9, 'nine')",
        "UPDATE notes SET body = 'changed' WHERE id = 1",
        "DELETE FROM notes WHERE id = 2",
        "UPDATE loose SET v = x'01', r = 2",
    )
    found = {(one["table"], *one["key"]): one for one in world.strays_when(4)}
    assert {key: (one["before"], one["after"]) for key, one in found.items()} == {
        ("notes", 9): (None, {"id": 9, "body": "nine"}),
        ("notes", 1): ({"id": 1, "body": "one"}, {"id": 1, "body": "changed"}),
        ("notes", 2): ({"id": 2, "body": "two"}, None),
        ("loose", 1): ({"v": {"blob": "AP8="}, "r": 1.0}, {"v": {"blob": "AQ=="}, "r": 2.0}),
    }
    assert all(f"(pid {world.writer.pid})" in " ".join(one["processes"]) for one in found.values())
    assert "mirror cutover strays" in world.run("rollback", code=2)
    assert f"pid {world.writer.pid}" in world.run("strays")
    assert json.loads(world.run("strays", "--adopt", "--json"))["sources"][0]["adopted"] == 4
    assert world.there() == [[1, "changed"], [3, "three"], [9, "nine"]]
    assert world.there("SELECT v, r FROM loose") == [[b"\x01", 2.0]]
    assert world.strays_when(0) == []
    world.postgres.execute("INSERT INTO notes VALUES (10, 'goes on')")
    until(world.equal)
    world.run("rollback")
    assert world.cli.run("wait").code == 0 and world.cli.run("parity").code == 0


def test_thrown_away(world: World) -> None:
    world.advance()
    world.writer.transaction(
        "INSERT INTO notes VALUES (9, 'nine')", "UPDATE notes SET body = 'x'", "DELETE FROM notes WHERE id = 2"
    )
    world.strays_when(4)
    assert "4 rows thrown away" in world.run("strays", "--discard")
    assert world.writer.run("SELECT id, body FROM notes") == [[1, "one"], [2, "two"], [3, "three"]]
    assert world.strays_when(0) == []
    world.run("rollback")
    assert world.cli.run("wait").code == 0 and world.cli.run("parity").code == 0


def test_undone_by_the_program_itself(world: World) -> None:
    world.advance()
    world.writer.run("INSERT INTO notes VALUES (9, 'nine')")
    world.strays_when(1)
    world.writer.run("DELETE FROM notes WHERE id = 9")
    assert world.strays_when(0) == []
    world.run("rollback")


def test_postgres_wins_and_the_strays_version_is_kept(world: World) -> None:
    world.advance()
    world.writer.run("UPDATE notes SET body = 'astray' WHERE id = 1")
    world.strays_when(1)
    world.postgres.execute("UPDATE notes SET body = 'in Postgres' WHERE id = 1")
    until(lambda: world.writer.run("SELECT body FROM notes WHERE id = 1") == [["in Postgres"]])
    (stray,) = world.strays()
    assert (stray["state"], stray["after"]["body"]) == ("overwritten", "astray")
    assert "the row has changed in Postgres since" in world.run("strays", "--adopt", code=1)
    assert world.there()[0] == [1, "in Postgres"]
    world.run("rollback", code=2)
    world.run("strays", "--discard")
    world.run("rollback")
    assert world.equal()


def test_adopting_does_not_write_over_what_postgres_has(world: World) -> None:
    world.advance()
    world.writer.run("INSERT INTO notes VALUES (7, 'astray'), (8, 'the same')")
    world.strays_when(2)
    # Not noticed by the mirror before: the table is held while it is written, and adopting waits for that.
    with world.postgres.transaction():
        world.postgres.execute("INSERT INTO notes VALUES (7, 'in Postgres'), (8, 'the same')")
    out = world.run("strays", "--adopt", code=1)
    assert "the row has changed in Postgres since" in out
    until(world.equal)
    assert world.there()[-2:] == [[7, "in Postgres"], [8, "the same"]]
    assert [one["key"] for one in world.strays_when(1)] == [[7]]


def test_finalizing_says_how_many_there_are(world: World) -> None:
    world.advance()
    world.writer.run("INSERT INTO notes VALUES (9, 'nine')")
    world.strays_when(1)
    assert "in the file alone: 1 row (`mirror cutover strays " in world.run("finalize")
    assert len(world.strays()) == 1
    world.run("strays", "--adopt")
    assert world.there()[-1] == [9, "nine"]
    assert world.strays() == []


def test_triggers_refuse_programs_and_let_the_mirror_pass(world: World) -> None:
    schema = world.writer.run("SELECT name, sql FROM sqlite_schema ORDER BY name")
    world.advance("abort")
    for text in (
        "INSERT INTO notes VALUES (9, 'nine')",
        "INSERT OR IGNORE INTO notes VALUES (9, 'nine')",
        "INSERT OR REPLACE INTO notes VALUES (1, 'nine')",
        "UPDATE OR IGNORE notes SET body = 'x'",
        "DELETE FROM notes",
        "INSERT INTO loose VALUES (1, 2)",
    ):
        with pytest.raises(WriterError, match="programs were moved to Postgres"):
            world.writer.run(text)
    world.postgres.execute("INSERT INTO notes VALUES (4, 'carried')")
    world.postgres.execute("UPDATE notes SET body = 'changed' WHERE id = 1")
    world.postgres.execute("DELETE FROM notes WHERE id = 2")
    until(world.equal)
    assert world.writer.run("SELECT rowid FROM words WHERE words MATCH 'carried'") == [[4]]
    assert world.strays() == []
    world.run("rollback")
    assert world.writer.run("SELECT name, sql FROM sqlite_schema ORDER BY name") == schema
    world.writer.run("INSERT INTO notes VALUES (9, 'nine')")
    assert world.cli.run("wait").code == 0 and world.cli.run("parity").code == 0
    assert world.equal()


@pytest.mark.few(1)
@pytest.mark.parametrize("fence", ["hold", "watch", "abort"])
def test_nothing_is_lost_of_a_program_that_writes_all_the_time(
    world: World, database: Path, folder: Path, fence: str
) -> None:
    """A raw program through the whole of a switch: each commit of its is in Postgres, or kept."""
    acknowledged, stop = folder / "acknowledged", folder / "stop"
    acknowledged.touch()
    program = subprocess.Popen([sys.executable, str(STRAY), str(database), str(acknowledged), str(stop)])
    try:
        until(lambda: acknowledged.read_text().count("\n") > 20, alive=lambda: program.poll() is None)
        world.advance(fence)
        if fence == "watch":  # and it goes on after the switch
            last = acknowledged.read_text().count("\n")
            until(lambda: acknowledged.read_text().count("\n") > last + 50, alive=lambda: program.poll() is None)
        else:
            until(lambda: acknowledged.read_text().splitlines()[-1].startswith("refused"))
        for number in range(100, 120):
            world.postgres.execute("INSERT INTO notes VALUES (%s, 'there')", (number,))
    finally:
        stop.touch()
        assert program.wait(LIMIT) == 0
    ids = {int(line) for line in acknowledged.read_text().splitlines() if line.isdigit()}

    def complete() -> bool:
        rows = {row[0] for row in world.there()}
        strays = {one["key"][0] for one in world.strays()}
        assert not rows & strays
        return rows | strays >= ids and {row[0] for row in world.writer.run("SELECT id FROM notes")} == rows | strays

    until(complete)
    if world.strays():
        world.run("strays", "--adopt")
    until(world.equal)
    world.run("rollback")
    assert world.cli.run("wait").code == 0 and world.cli.run("parity").code == 0
    assert {row[0] for row in world.there()} >= ids


def test_going_back_waits_for_a_program_that_has_a_table(world: World) -> None:
    world.advance()
    with psycopg.connect(world.cli.dsn or "") as program:
        program.execute("UPDATE notes SET body = 'by a program'")
        program.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        command = world.cli.start("cutover", "rollback")

        def meets_it() -> bool:
            (source,) = json.loads(world.cli.run("status", "--json").out)["sources"]
            return "locked" in str(source["last_error"])

        until(meets_it, alive=lambda: command.poll() is None)
        program.commit()
    out, err = command.communicate(timeout=LIMIT)
    assert command.returncode == 0, out + err
    assert world.cli.run("wait").code == 0 and world.cli.run("parity").code == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("patience", [0, 5])
def test_the_lock_is_kept_from_programs_that_write_without_a_pause(
    world: World, database: Path, folder: Path, patience: int
) -> None:
    """``patience``: seconds that SQLite waits for the lock in one program's name: it asks for it again and again.

    Between the command and the mirror the lock is free for an instant: what gets through there is found.
    """
    stop, logs = folder / "stop", [folder / "impatient", folder / "other"]
    programs = []
    for log, seconds in zip(logs, (0, patience), strict=True):
        log.touch()
        command = [sys.executable, str(STRAY), str(database), str(log), str(stop), str(seconds), "0"]
        programs.append(subprocess.Popen(command))

    def ids() -> set[int]:
        return {int(line) for log in logs for line in log.read_text().splitlines() if line.isdigit()}

    def refused() -> int:
        return logs[0].read_text().count("refused")

    def complete() -> bool:
        strays = {one["key"][0] for one in world.strays()}
        return {row[0] for row in world.there()} | strays == ids() | {1, 2, 3}

    try:
        until(lambda: len(ids()) > 50, alive=lambda: all(program.poll() is None for program in programs))
        world.run("advance", "--acknowledge", "backups", "--acknowledge", "lag", "--fence", "hold")
        until(complete)
        known, before = ids(), refused()
        until(lambda: refused() > before + 1000)
        assert ids() == known
    finally:
        stop.touch()
        assert [program.wait(LIMIT) for program in programs] == [0, 0]
    if world.strays():
        world.run("strays", "--adopt")
    until(world.equal)
    world.run("rollback")
    assert world.cli.run("wait").code == 0 and world.cli.run("parity").code == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("strays", [0, 3])
def test_both_have_written_the_same_keys_while_no_mirror_ran(
    folder: Path, dsn: str, writer: Writer, database: Path, strays: int
) -> None:
    """SQLite gives the number after the highest one, as the sequence in Postgres does: what a program wrote is kept."""
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    cli = CommandLine(folder, dsn)
    writer.run(*SCHEMA)
    mirror = MirrorProcess([database], dsn, cli.state_dir)
    try:
        mirror.start()
        mirror.wait_applied()
        assert cli.run("parity").code == 0
        for _ in range(2):
            done = cli.run("cutover", "advance", "--acknowledge", "backups")
            assert done.code == 0, done
        with psycopg.connect(dsn, autocommit=True) as postgres:
            postgres.execute("INSERT INTO notes(body) VALUES ('there')")
            until(lambda: writer.run("SELECT count(*) FROM notes") == [[4]])
            until(lambda: postgres.execute("SELECT file FROM mirror.reverse").fetchone() == (mark(database),))
            mirror.kill()
            for number in range(strays):
                writer.run(f"INSERT INTO notes(body) VALUES ('astray {number}')")
            for _ in range(5):
                postgres.execute("INSERT INTO notes(body) VALUES ('late')")
            postgres.execute("UPDATE notes SET body = 'later' WHERE id = 1")
            mirror.start()
            query = "SELECT id, body FROM notes ORDER BY id"
            theirs = [list(row) for row in postgres.execute(query).fetchall()]
            until(lambda: writer.run(query) == theirs)
            kept = postgres.execute("SELECT after ->> 'body' FROM mirror.strays WHERE state = 'overwritten' ORDER BY 1")
            doubtful = [("one",)] if strays else []  # it cannot be told that no program has written this one
            assert kept.fetchall() == [*((f"astray {number}",) for number in range(strays)), *doubtful]
            if strays:
                assert "mirror cutover strays" in cli.run("cutover", "rollback").error
                done = cli.run("cutover", "strays", "--discard")
                assert done.code == 0, done
        done = cli.run("cutover", "rollback")
        assert done.code == 0, done
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
    finally:
        mirror.end()
