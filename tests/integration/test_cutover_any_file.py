"""``mirror cutover plan`` of any file: what SQLite enforces and Postgres does not is never passed in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.source import Writer
from tests.support.waiting import LIMIT

CONSTRAINTS = ("foreign keys", "unique indexes", "not null", "sequences")


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def plan(cli: CommandLine, source: Path, *acknowledged: str) -> dict[str, dict[str, Any]]:
    options = [part for name in ("backups", *acknowledged) for part in ("--acknowledge", name)]
    done = cli.run("cutover", "plan", source, "--json", *options)
    assert "Traceback" not in done.err, done
    (verdict,) = json.loads(done.out)["sources"]
    assert done.code == (0 if verdict["ready"] else 1)
    return {rail["name"]: rail for rail in verdict["rails"]}


def failing(rails: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, rail in rails.items() if not rail["passed"]}


def test_an_ordinary_programs_file(cli: CommandLine, writer: Writer, database: Path, dsn: str) -> None:
    writer.run(
        'CREATE TABLE "user"(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE UNIQUE,'
        ' boss INTEGER REFERENCES "User"(ID))',
        "INSERT INTO \"user\" VALUES (1, 'Ann', NULL), (2, 'bob', 1), (3, 'eve', 99), (500, 'gone', NULL)",
        'DELETE FROM "user" WHERE id = 500',
        'CREATE TABLE oauth(id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES "user" ON DELETE CASCADE)',
        "INSERT INTO oauth VALUES (1, 1), (2, 77)",
        "CREATE INDEX by_user ON oauth(user_id)",
        'CREATE VIEW v AS SELECT * FROM "user"',
    )
    with cli.up(database):
        assert cli.run("parity", database).code == 0
        rails = plan(cli, database)
        assert failing(rails) == {"foreign keys"}, "`mirror cutover advance` makes the others"
        assert {name for name in CONSTRAINTS if rails[name]["level"] == "note"} == {*CONSTRAINTS} - {"foreign keys"}
        figure = rails["foreign keys"]["figure"]
        assert "user(boss) to User: 1 orphan: 99" in figure
        assert "oauth(user_id) to user: 1 orphan: 77" in figure
        assert "1 of 1 is not in Postgres: user(name)" in rails["unique indexes"]["figure"]
        assert rails["not null"]["figure"] == "1 of 1 is not in Postgres: oauth.user_id"
        assert "user.id (SQLite is at 500)" in rails["sequences"]["figure"]
        assert "by_user on oauth" in rails["other indexes"]["figure"]
        assert rails["views"]["figure"].endswith(": v")
        assert "replica to read" in rails["tables"]["figure"]
        assert failing(plan(cli, database, *CONSTRAINTS)) == set()

        # Once the rows are right and Postgres has what the next steps name, nothing is left.
        writer.run('UPDATE "user" SET boss = NULL WHERE boss = 99', "DELETE FROM oauth WHERE user_id = 77")
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        rails = plan(cli, database)
        assert failing(rails) == set() and "orphan" not in rails["foreign keys"]["figure"]
        with psycopg.connect(dsn, autocommit=True) as connection:
            for name in CONSTRAINTS:
                step = rails[name]["next_step"]
                text = step.partition("at the switch: ")[2].partition("; if that is planned")[0]
                for command in text.split("; "):
                    connection.execute(command.encode())
            rails = plan(cli, database)
            assert failing(rails) == set(), rails
            made = connection.execute("INSERT INTO \"user\"(name) VALUES ('new') RETURNING id").fetchone()
            assert made == (501,)
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO \"user\"(name) VALUES ('ANN')")
            connection.execute("DELETE FROM \"user\" WHERE name = 'new'")
            connection.execute("SELECT setval(pg_get_serial_sequence('\"user\"', 'id'), 3)")
        rails = plan(cli, database)
        assert failing(rails) == {"sequence of user.id"} and "500" in rails["sequence of user.id"]["figure"]


def test_what_cannot_be_in_postgres_is_named(cli: CommandLine, writer: Writer, database: Path) -> None:
    """References to nothing, or between types that do not compare; names that only SQLite compares; expressions."""
    writer.run(
        "CREATE TABLE parent(code TEXT PRIMARY KEY)",
        "INSERT INTO parent VALUES ('1')",
        "CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(code), x REFERENCES nowhere(id),"
        " y REFERENCES parent(none))",
        "INSERT INTO child VALUES (1, 1, NULL, NULL)",
        "CREATE TABLE u(a, b TEXT, c TEXT COLLATE RTRIM UNIQUE, d UNIQUE COLLATE NOCASE)",
        "CREATE UNIQUE INDEX u_expression ON u(lower(b))",
        "CREATE UNIQUE INDEX u_part ON u(a) WHERE b IS NOT NULL",
        "INSERT INTO u VALUES (1, NULL, 'x', 1), (1, NULL, 'y', 'two')",
        "CREATE TABLE k(a INTEGER, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "INSERT INTO k VALUES (1, 'x')",
    )
    with cli.up(database):
        rails = plan(cli, database)
        figure = rails["foreign keys"]["figure"]
        assert "child(parent) to parent: Postgres does not compare bigint with text" in figure
        assert "child(x) to nowhere: there is no such table in Postgres" in figure
        assert "child(y) to parent: it does not have these columns" in figure
        figure = rails["unique indexes"]["figure"]
        assert "4 of 6 are not in Postgres" in figure, figure
        assert "u(an expression): it is of an expression" in figure
        assert "u(a) where a condition holds" in figure and "taken" not in figure
        assert "d is compared by NOCASE, which Postgres has not for jsonb" in figure
        assert rails["not null"]["passed"], "keys are NOT NULL in Postgres, too"


def test_rows_that_would_break_a_constraint(cli: CommandLine, writer: Writer, database: Path) -> None:
    """Letters that only Postgres takes for equal; NULL in a column as another program left it."""
    writer.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, n INTEGER)",
        "INSERT INTO t VALUES (1, 'É', NULL), (2, 'é', 1)",
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'n INTEGER', 'n INTEGER NOT NULL') WHERE name = 't'",
        "PRAGMA writable_schema=RESET",
    )
    with cli.up(database):
        rails = plan(cli, database)
        assert "t.n: NULL in 1 row" in rails["not null"]["figure"]
        assert not rails["not null"]["passed"]
        assert rails["unique indexes"]["level"] == "note", "SQLite takes the two for different, and Postgres, too"


def test_a_file_with_an_agent(cli: CommandLine, writer: Writer, database: Path) -> None:
    """The agent's id leads each key; the rows of another agent are none of its business."""
    writer.run(
        "CREATE TABLE a(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE b(a INTEGER REFERENCES a(id))",
        "INSERT INTO a VALUES (1, 'x')",
        "INSERT INTO b VALUES (1), (2)",
    )
    with cli.up(database, "--agent", "maya"):
        rails = plan(cli, database)
        assert "b(a) to a: 1 orphan: 2" in rails["foreign keys"]["figure"]
        assert 'ON "public"."a" ("agent_id", "name")' in rails["unique indexes"]["next_step"]


def test_a_file_that_declares_nothing_is_a_replica_to_read(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run("CREATE TABLE t(a TEXT, b)", "INSERT INTO t VALUES ('x', 1)")
    with cli.up(database):
        assert cli.run("parity", database).code == 0
        rails = plan(cli, database)
        assert failing(rails) == set(), rails
        assert {rails[name]["figure"] for name in CONSTRAINTS} == {"none in SQLite"}
        assert rails["tables"]["level"] == "note"


def test_a_source_that_cannot_be_read_passes_nothing(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run("CREATE TABLE t(a TEXT UNIQUE)")
    with cli.up(database):
        pass
    database.rename(database.with_name("elsewhere.db"))
    assert "constraints" in failing(plan(cli, database))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["CREATE TABLE fresh(id INTEGER PRIMARY KEY)", "INSERT INTO fresh VALUES (1)"], "fresh"),
        (["ALTER TABLE t RENAME TO renamed"], "renamed"),
        (["ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'x'"], "t"),
        (["DROP TABLE t", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)"], "t"),
    ],
)
def test_a_table_that_was_never_compared(
    cli: CommandLine, writer: Writer, database: Path, changes: list[str], named: str
) -> None:
    writer.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)",
        "INSERT INTO t VALUES (1, 'x')",
        "CREATE TABLE other(id INTEGER PRIMARY KEY)",
    )
    with cli.up(database):
        assert cli.run("parity", database).code == 0
        assert plan(cli, database)["parity"]["passed"]
        writer.run("INSERT INTO t VALUES (2, 'more')", "UPDATE other SET id = 2")
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        assert plan(cli, database)["parity"]["passed"], "rows come and go"
        for change in changes:
            writer.run(change)
            assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        rail = plan(cli, database)["parity"]
        assert not rail["passed"]
        assert rail["figure"].endswith(f"made or changed since, and not compared: {named}")
        assert "mirror parity" in rail["next_step"]
        assert cli.run("parity", database).code == 0
        assert plan(cli, database)["parity"]["passed"]


def test_json_names_all_of_many(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run(
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        *(
            f"CREATE TABLE table{n}(id INTEGER PRIMARY KEY, a TEXT UNIQUE NOT NULL, p INT REFERENCES p)"
            for n in range(12)
        ),
        *(f"CREATE INDEX i{n} ON table{n}(p)" for n in range(12)),
    )
    assert cli.run("up", database, "--once").code == 0
    done = cli.run("cutover", "plan", database, "--json")
    (verdict,) = json.loads(done.out)["sources"]
    rails = {rail["name"]: rail for rail in verdict["rails"]}
    assert "more" not in done.out
    for name, number in {"unique indexes": 12, "not null": 12, "foreign keys": 12, "sequences": 13}.items():
        assert len([each for each in verdict["statements"] if each in rails[name]["next_step"]]) == number
        assert all(f"table{n}" in rails[name]["figure"] for n in range(12))
    assert all(f"i{n} on table{n}" in rails["other indexes"]["figure"] for n in range(12))
    shown = cli.run("cutover", "plan", database).out
    assert "and 7 more (--json has all)" in shown and "table9" not in shown
