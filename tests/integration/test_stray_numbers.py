"""Rows that a program inserts into the file under numbers that Postgres has given, too: adopted under new ones."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.reverse.marks import mark
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

CONFIGURATION = '{"sources": ["../source.db"], "storage": {"backend": "dual", "readFrom": "sqlite"}}'
SCHEMA = (
    "CREATE TABLE parents(id INTEGER PRIMARY KEY, name TEXT UNIQUE)",
    "CREATE TABLE children(id INTEGER PRIMARY KEY, parent INT REFERENCES parents, reply INT REFERENCES children)",
    "CREATE TABLE loose(v TEXT)",
    "CREATE TABLE codes(code TEXT PRIMARY KEY, v TEXT)",
    "INSERT INTO parents VALUES (1, 'one'), (2, 'two')",
    "INSERT INTO children VALUES (1, 1, NULL)",
    "INSERT INTO loose VALUES ('one')",
    "INSERT INTO codes VALUES ('a', 'one')",
)
ROWS = {
    "parents": "SELECT id, name FROM parents ORDER BY id",
    "children": "SELECT id, parent, reply FROM children ORDER BY id",
    "codes": "SELECT code, v FROM codes ORDER BY code",
}
ADOPT = ("--adopt", "--new-ids")


class World:
    def __init__(self, cli: CommandLine, writer: Writer, postgres: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.cli, self.writer, self.postgres = cli, writer, postgres

    def run(self, *command: object, code: int = 0) -> str:
        done = self.cli.run("cutover", *command)
        assert done.code == code, (command, done)
        return done.out + done.err

    def advance(self, *acknowledged: str) -> None:
        for _ in range(2):
            more = [word for name in ("backups", *acknowledged) for word in ("--acknowledge", name)]
            self.run("advance", *more, "--fence", "watch")

    def strays(self, *options: str, code: int = 0) -> Any:
        (source,) = json.loads(self.run("strays", "--json", *options, code=code))["sources"]
        return source if options else source["strays"]

    def there(self, query: str) -> list[list[Any]]:
        return [list(row) for row in self.postgres.execute(query).fetchall()]

    def one(self, query: str) -> int:
        [[number]] = self.there(query)
        return int(number)

    def insert(self, table: str, **values: object) -> int:
        """A row that Postgres gives a number."""
        names, marks = ", ".join(values), ", ".join("%s" for _ in values)
        column = "_rowid" if table == "loose" else "id"
        query = f"INSERT INTO {table}({names}) VALUES ({marks}) RETURNING {column}"
        [[number]] = self.postgres.execute(query.encode(), tuple(values.values())).fetchall()
        return int(number)

    def equal(self) -> bool:
        loose = self.there("SELECT _rowid, v FROM loose ORDER BY 1") == self.writer.run("SELECT rowid, v FROM loose")
        return loose and all(self.there(query) == self.writer.run(query) for query in ROWS.values())

    def rows_of(self, state: str, count: int) -> None:
        """Wait until there are so many strays in a state."""
        query = "SELECT count(*) FROM mirror.strays WHERE state = %s"
        until(lambda: self.postgres.execute(query, (state,)).fetchone() == (count,))

    def back(self) -> None:
        """Everything is equal, and it stays so on the way back."""
        until(self.equal)
        self.rows_of("discarded", 0)
        self.run("rollback")
        assert self.cli.run("wait").code == 0 and self.cli.run("parity").code == 0
        assert self.equal()


@pytest.fixture
def made(folder: Path, dsn: str, writer: Writer) -> Iterator[World]:
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(CONFIGURATION)
    writer.run(*SCHEMA)
    with psycopg.connect(dsn, autocommit=True) as postgres:
        yield World(CommandLine(folder, dsn), writer, postgres)


@pytest.fixture
def world(made: World, database: Path) -> Iterator[World]:
    with made.cli.up(database):
        assert made.cli.run("wait").code == 0 and made.cli.run("parity").code == 0
        made.advance()
        # From here on both give the same numbers.
        for table, values in (("parents", {"name": "first"}), ("children", {"parent": 1}), ("loose", {"v": "first"})):
            made.insert(table, **values)
        until(made.equal)
        yield made


def insert_astray(world: World) -> tuple[int, int]:
    """A program inserts a parent with children; the numbers of the parent and the first child."""
    writer = world.writer
    writer.transaction(
        "INSERT INTO parents(name) VALUES ('astray')",
        "INSERT INTO children(parent) SELECT max(id) FROM parents",
        "UPDATE children SET reply = id WHERE id = last_insert_rowid()",
        "INSERT INTO children(parent, reply) SELECT (SELECT max(id) FROM parents), last_insert_rowid()",
        "INSERT INTO loose VALUES ('astray')",
    )
    [[parent, child]] = writer.run("SELECT (SELECT max(id) FROM parents), (SELECT max(id) - 1 FROM children)")
    return parent, child


def test_new_rows_and_what_refers_to_them_follow(world: World) -> None:
    parent, child = insert_astray(world)
    world.rows_of("in file", 4)
    assert world.insert("parents", name="theirs") == parent
    world.insert("loose", v="theirs")
    assert world.insert("children", parent=parent) == child  # that of Postgres
    world.rows_of("overwritten", 3)
    left = {(one["table"], *one["key"]): one["reason"] for one in world.strays("--adopt", code=1)["left"]}
    assert "--new-ids adopts it under a new number" in left["parents", parent]
    assert "parents [" in left["children", child] and "children [" in left["children", child + 1]
    done = world.strays(*ADOPT)
    new = {(one["table"], *one["key"]): one["new_key"][0] for one in done["new_ids"]}
    assert done["adopted"] == 4 and done["left"] == [] and len(new) == 3
    # The sequence goes on above a child that keeps its number.
    moved = new["children", child]
    assert moved > child and new["parents", parent] == parent + 1
    assert world.there(ROWS["parents"])[-2:] == [[parent, "theirs"], [parent + 1, "astray"]]
    assert sorted(world.there(ROWS["children"])[-3:]) == sorted(
        [
            [child, parent, None],
            [moved, parent + 1, moved],
            [child + 1, parent + 1, moved],
        ]
    )
    assert world.there("SELECT v FROM loose ORDER BY _rowid")[-2:] == [["theirs"], ["astray"]]
    assert world.insert("children", parent=1) > max(moved, child + 1)
    until(lambda: world.strays() == [])
    world.back()


@pytest.fixture
def mirror(made: World, database: Path, dsn: str) -> Iterator[MirrorProcess]:
    """One that can be killed; programs write in Postgres alone."""
    mirror = MirrorProcess([database], dsn, made.cli.state_dir)
    try:
        mirror.start()
        mirror.wait_applied()
        assert made.cli.run("parity").code == 0
        made.advance()
        made.insert("parents", name="first")
        until(made.equal)
        until(lambda: made.postgres.execute("SELECT file FROM mirror.reverse").fetchone() == (mark(database),))
        yield mirror
    finally:
        mirror.end()


def test_both_have_inserted_while_no_mirror_ran(made: World, mirror: MirrorProcess) -> None:
    """What Postgres had by then is known by what has come and gone since."""
    mirror.kill()
    parent, child = insert_astray(made)
    made.writer.run("UPDATE parents SET name = 'two astray' WHERE id = 2", "INSERT INTO codes VALUES ('b', 'astray')")
    assert made.insert("parents", name="theirs") == parent
    made.postgres.execute("UPDATE parents SET name = name || ' of theirs' WHERE id = 2 OR name = 'theirs'")
    made.postgres.execute("INSERT INTO codes VALUES ('b', 'theirs')")
    made.postgres.execute("UPDATE children SET id = %s WHERE id = 1", (child,))
    made.postgres.execute("DELETE FROM parents WHERE id = 2; INSERT INTO parents VALUES (2, 'again')")
    mirror.start()
    made.rows_of("overwritten", 5)
    done = made.strays(*ADOPT, code=1)
    new = {(one["table"], *one["key"]): one["new_key"][0] for one in done["new_ids"]}
    assert set(new) == {("parents", parent), ("children", child)}
    reasons = {(one["table"], *one["key"]): one["reason"] for one in done["left"]}
    assert "not a number that SQLite gives" in reasons.pop(("codes", "b"))
    assert set(reasons) == {("parents", 2), ("children", 1)}
    assert all("not known whether a program has inserted it" in reason for reason in reasons.values())
    moved = new["children", child]
    assert made.there(ROWS["children"]) == sorted(
        [[child, 1, None], [moved, parent + 1, moved], [child + 1, parent + 1, moved]]
    )
    names = [row[1] for row in made.there(ROWS["parents"])]
    assert names == ["one", "again", "first", "theirs of theirs", "astray"]
    made.run("strays", "--discard")
    made.back()


@pytest.mark.slow
def test_before_the_mirror_has_written_over_them(made: World, mirror: MirrorProcess) -> None:
    """The file gets Postgres' rows, and what it had is not taken for other strays."""
    parent, child = insert_astray(made)
    made.rows_of("in file", 4)
    mirror.kill()
    assert made.insert("parents", name="theirs") == parent
    made.writer.run("INSERT INTO codes VALUES ('b', 'astray')")  # a program goes on
    (new,) = made.strays(*ADOPT)["new_ids"]
    assert (new["key"], new["new_key"]) == ([parent], [parent + 1])
    made.rows_of("discarded", 3)
    assert made.strays(*ADOPT)["adopted"] == 0
    mirror.start()
    made.rows_of("discarded", 0)
    until(lambda: [one["key"] for one in made.strays()] == [["b"]])
    assert made.writer.run(ROWS["children"]) == [
        [1, 1, None],
        [child, parent + 1, child],
        [child + 1, parent + 1, child],
    ]
    made.run("strays", "--adopt")
    made.back()


@pytest.mark.slow
def test_no_row_that_was_there_before_is_adopted_as_another(world: World) -> None:
    world.writer.run("UPDATE parents SET name = 'astray' WHERE id = 1", "DELETE FROM parents WHERE id = 2")
    world.rows_of("in file", 2)
    world.postgres.execute("UPDATE parents SET name = name || ' of theirs' WHERE id < 3")
    world.rows_of("overwritten", 2)
    before = world.there(ROWS["parents"])
    left = world.strays(*ADOPT, code=1)["left"]
    assert [one["reason"].partition("number: ")[2] for one in left] == ["it is not a new row"] * 2
    # The same of one that Postgres has deleted since.
    world.postgres.execute("DELETE FROM children; DELETE FROM parents WHERE id = 1")
    assert len(world.strays(*ADOPT, code=1)["left"]) == 2
    assert world.there(ROWS["parents"]) == [row for row in before if row[0] != 1]
    world.run("strays", "--discard")
    world.back()


@pytest.mark.slow
def test_which_row_is_meant_is_not_guessed(world: World) -> None:
    """A program refers to a number after the mirror has written Postgres' row there: it may mean either."""
    parent, child = insert_astray(world)
    world.rows_of("in file", 4)
    assert world.insert("parents", name="theirs") == parent
    until(lambda: world.writer.run("SELECT name FROM parents ORDER BY id")[-1] == ["theirs"])
    world.writer.run(f"INSERT INTO children(id, parent) VALUES (7000, {parent})")
    world.rows_of("in file", 4)
    for _ in range(2):
        (one,) = world.strays(*ADOPT, code=1)["left"]
        assert one["key"] == [7000] and "which is meant is not known" in one["reason"]
    assert world.there(ROWS["children"])[-2:] == [
        [child, parent + 1, child],
        [child + 1, parent + 1, child],
    ]
    world.run("strays", "--adopt")
    assert world.there(ROWS["children"])[-1] == [7000, parent, None]
    world.back()


@pytest.mark.slow
def test_what_postgres_refuses_is_left(world: World) -> None:
    world.writer.run("INSERT INTO parents(name) VALUES ('same')", "INSERT INTO codes VALUES ('b', 'astray')")
    world.rows_of("in file", 2)
    world.insert("parents", name="other")
    world.insert("parents", name="same")
    world.postgres.execute("INSERT INTO codes VALUES ('b', 'theirs')")
    world.rows_of("overwritten", 2)
    rows = world.there(ROWS["parents"])
    reasons = {one["table"]: one["reason"] for one in world.strays(*ADOPT, code=1)["left"]}
    assert "the same unique value" in reasons["parents"]
    assert "not a number that SQLite gives" in reasons["codes"]
    assert world.there(ROWS["parents"]) == rows and len(world.strays()) == 2
    world.run("strays", "--discard")
    world.back()


@pytest.mark.slow
def test_an_agents_rows(made: World, folder: Path, database: Path) -> None:
    """In a table that agents share the numbers are those of one sequence; the rows of others are not looked at.

    What refers to a row as a text goes on to do so, also where Postgres has no foreign key.
    """
    entry = {"path": "../source.db", "agent": "maya"}
    (folder / "argent" / "mirror.json").write_text(json.dumps(json.loads(CONFIGURATION) | {"sources": [entry]}))
    made.writer.run(
        *("DROP TABLE loose", "DROP TABLE codes", "DROP TABLE children"),
        "CREATE TABLE children(id INTEGER PRIMARY KEY, parent TEXT REFERENCES parents)",
    )
    with made.cli.up(database):
        assert made.cli.run("wait").code == 0 and made.cli.run("parity").code == 0
        (verdict,) = json.loads(made.cli.run("cutover", "plan", "--json").out)["sources"]
        for statement in verdict["statements"]:
            made.postgres.execute(statement.encode())
        made.advance("foreign keys")
        made.insert("parents", agent_id="maya", name="first")
        until(lambda: made.writer.run("SELECT count(*) FROM parents") == [[3]])
        made.writer.transaction(
            "INSERT INTO parents(name) VALUES ('astray')", "INSERT INTO children(parent) SELECT max(id) FROM parents"
        )
        made.rows_of("in file", 2)
        theirs = made.insert("parents", agent_id="maya", name="theirs")
        made.rows_of("overwritten", 1)
        bobs = made.insert("parents", agent_id="bob", name="of bob")
        (new,) = made.strays(*ADOPT)["new_ids"]
        assert (new["key"], new["new_key"]) == ([theirs], [bobs + 1])
        assert made.there("SELECT agent_id, id, name FROM parents ORDER BY id")[-3:] == [
            ["maya", theirs, "theirs"],
            ["bob", bobs, "of bob"],
            ["maya", bobs + 1, "astray"],
        ]
        assert made.there("SELECT parent FROM children ORDER BY id")[-1] == [str(bobs + 1)]
        until(lambda: made.strays() == [])
        until(lambda: made.writer.run("SELECT max(id) FROM parents") == [[bobs + 1]])
        made.run("rollback")
        assert made.cli.run("wait").code == 0 and made.cli.run("parity").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("at", ["mirror.stray_numbers", "children"])
def test_killed_in_the_middle_and_two_at_once(world: World, at: str) -> None:
    """Each row is adopted once, whenever the command is killed and however many there are."""
    parent, child = insert_astray(world)
    world.rows_of("in file", 4)
    assert world.insert("parents", name="theirs") == parent
    world.rows_of("overwritten", 1)
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mirror cutover' AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(world.cli.dsn or "") as holder:
        holder.execute(f"LOCK TABLE {at} IN SHARE ROW EXCLUSIVE MODE".encode())
        command = world.cli.start("cutover", "strays", *ADOPT)
        until(lambda: world.one(waiting) == 1)
        command.send_signal(signal.SIGKILL)
        command.communicate()
        holder.rollback()
        until(lambda: world.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mirror cutover'") == 0)
        assert world.there("SELECT count(*) FROM parents WHERE name = 'astray'") == [[int(at == "children")]]
        holder.execute(f"LOCK TABLE {at} IN SHARE ROW EXCLUSIVE MODE".encode())
        two = [world.cli.start("cutover", "strays", *ADOPT) for _ in range(2)]
        until(lambda: world.one(waiting) == 2)
        holder.rollback()
        for each in two:
            each.communicate()
    world.run("strays", *ADOPT)
    new = world.one("SELECT id FROM parents WHERE name = 'astray'")
    assert world.there(ROWS["children"])[-2:] == [[child, new, child], [child + 1, new, child]]
    assert world.there("SELECT count(*) FROM loose WHERE v = 'astray'") == [[1]]
    until(lambda: world.strays() == [])
    world.back()


def test_a_table_that_postgres_empties(world: World) -> None:
    """What it had before is not known then; and a row that neither has is none."""
    with world.postgres.transaction():
        world.postgres.execute("TRUNCATE loose")
        new = world.insert("loose", v="new")
        world.writer.run("INSERT INTO loose(rowid, v) VALUES (7000, 'astray')")
    until(lambda: world.there("SELECT count(*) FROM mirror.strays WHERE key = '[7000]'") == [[1]])
    until(lambda: world.writer.run("SELECT rowid, v FROM loose") == [[new, "new"]])
    found = world.strays()
    assert all(one["before"] or one["after"] for one in found), found
    reasons = {one["key"][0]: one["reason"] for one in world.strays(*ADOPT, code=1)["left"]}
    assert "not known whether a program has inserted it" in reasons[7000]
    world.run("strays", "--discard")
    world.back()


def test_people_are_shown_twenty(world: World) -> None:
    world.writer.transaction(*(f"INSERT INTO codes VALUES ('{number}', 'x')" for number in range(25)))
    world.rows_of("in file", 25)
    shown = world.run("strays")
    assert shown.count("before:") == 20 and "and 5 more (--json has all)" in shown
    assert len(world.strays()) == 25
    assert "--new-ids says how to --adopt" in world.run("strays", "--new-ids", code=2)
