"""Rules by column in mirror.json: ``{"columns": {"messages.content": "bytea"}}``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

VALUES = (
    "INSERT INTO messages(content, doc) VALUES (char(0) || '{}', '{\"a\": 1}'), (CAST(x'61ff' AS TEXT), 'no JSON'),"
    " (x'00ff', x'7b7d'), ('plain é', NULL), (NULL, ''), ('', '[]')"
)


@pytest.fixture
def source(folder: Path) -> Iterator[Writer]:
    with Writer(folder / "app.db") as writer:
        writer.run("PRAGMA journal_mode=WAL")
        writer.run("CREATE TABLE messages(id INTEGER PRIMARY KEY, content TEXT, doc TEXT, k INT)", VALUES)
        yield writer


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def rules(folder: Path, **columns: str) -> Path:
    path = folder / "mirror.json"
    path.write_text(json.dumps({"columns": {f"messages.{name}": rule for name, rule in columns.items()}}))
    return path


def ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


TYPES = (
    "SELECT data_type FROM information_schema.columns WHERE table_name = 'messages' AND column_name IN"
    " ('content', 'doc') ORDER BY column_name"
)


def mirrored(cli: CommandLine, source: Path, config: Path, dsn: str) -> None:
    """Copy or catch up, and compare every value."""
    options = ("--config", config, "--state-dir", cli.state_dir)
    done = cli.run("up", source, "--once", *options)
    assert done.code == 0, done
    compared = cli.run("parity", source, *options)
    assert compared.code == 0, compared


def test_from_the_first_copy(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """The rules hold at the first copy and for what comes later; a type of the column's own is not lost."""
    config = rules(folder, content="bytea", doc="jsonb")
    mirrored(cli, folder / "app.db", config, dsn)
    assert ask(dsn, TYPES) == [("bytea",), ("jsonb",)]
    assert ask(dsn, "SELECT content FROM messages ORDER BY id LIMIT 4") == [
        (b"\0{}",), (b"a\xff",), (b"\0\xff",), ("plain é".encode(),),
    ]  # fmt: skip
    assert ask(dsn, "SELECT doc ->> 'a' FROM messages WHERE id = 1") == [("1",)]
    source.run(VALUES, "UPDATE messages SET content = content || 'x' WHERE id = 1")
    mirrored(cli, folder / "app.db", config, dsn)
    assert ask(dsn, "SELECT content FROM messages WHERE id IN (1, 7) ORDER BY id") == [(b"\0{}x",), (b"\0{}",)]
    assert ask(dsn, "SELECT count(*) FROM mirror.rejects") == [(0,)]


def test_a_rule_that_comes_later(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """A table that is there is held as the rules say from the next start on, and stays one table."""
    source.run("DELETE FROM messages WHERE id = 3")
    mirrored(cli, folder / "app.db", rules(folder), dsn)
    assert ask(dsn, TYPES) == [("text",), ("text",)]
    assert "escaped" in cli.run("status", folder / "app.db", "--json", "--state-dir", cli.state_dir).out
    mirrored(cli, folder / "app.db", rules(folder, content="bytea", doc="jsonb"), dsn)
    assert ask(dsn, TYPES) == [("bytea",), ("jsonb",)]
    assert ask(dsn, "SELECT content FROM messages WHERE id = 1") == [(b"\0{}",)]
    mirrored(cli, folder / "app.db", rules(folder, content="text", doc="text"), dsn)
    assert ask(dsn, "SELECT content FROM messages WHERE id = 1") == [("␀{}",)]
    assert ask(dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_text_by_rule_and_a_blob(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """A value that is no text turns that column into jsonb, as without a rule."""
    config = rules(folder, content="text")
    for _ in range(2):
        mirrored(cli, folder / "app.db", config, dsn)
        assert ask(dsn, TYPES) == [("jsonb",), ("jsonb",)]
        source.run(VALUES)


TIMES = (
    "INSERT INTO times VALUES (1, '2024-05-06 07:08:09', 1700000000, 1700000000000, 1, 1, 't')",
    "INSERT INTO times VALUES (2, '2024-05-06', '2024-05-06T07:08:09.123456+02:00', 1700000000.5, 2, 0.5, 'f')",
    "INSERT INTO times VALUES (3, 'soon', x'00', 99999999999999999, 3, -7, NULL)",
    "INSERT INTO times VALUES (4, NULL, char(0), CAST(x'ff' AS TEXT), NULL, NULL, 't')",
)


def test_times_and_numbers(cli: CommandLine, folder: Path, dsn: str) -> None:
    """Unix times and ISO texts are times, and come back exactly; what is no time is NULL, and whole beside it."""
    database = folder / "app.db"
    with Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL")
        writer.run("CREATE TABLE times(id INTEGER PRIMARY KEY, a TEXT, b DATETIME, c BLOB, n TEXT, r INTEGER, f TEXT)")
        writer.run(*TIMES[:2], "CREATE TABLE others(id INTEGER PRIMARY KEY, n DATETIME)")
        writer.run("INSERT INTO others VALUES (1, 1700000000)")
        config = folder / "mirror.json"
        said = {"a": "timestamptz", "b": "timestamptz", "c": "timestamptz", "r": "double precision", "f": "boolean"}
        columns = {f"times.{name}": rule for name, rule in said.items()}
        config.write_text(json.dumps({"columns": columns}))
        mirrored(cli, database, config, dsn)
        writer.run(*TIMES[2:])
        mirrored(cli, database, config, dsn)
        assert ask(dsn, "SELECT (a AT TIME ZONE 'UTC')::text, (b AT TIME ZONE 'UTC')::text,"
                        " (c AT TIME ZONE 'UTC')::text, r, f FROM times ORDER BY id") == [
            ("2024-05-06 07:08:09", "2023-11-14 22:13:20", "2023-11-14 22:13:20", 1.0, True),
            ("2024-05-06 00:00:00", "2024-05-06 05:08:09.123456", "2023-11-14 22:13:20.5", 0.5, False),
            (None, None, None, -7.0, None),
            (None, None, None, None, True),
        ]  # fmt: skip
        assert ask(dsn, "SELECT _original ->> 'a', _original ->> 'c' FROM times WHERE id IN (1, 3) ORDER BY id") == [
            (None, "1700000000000"),
            ("soon", "99999999999999999"),
        ]
        assert ask(dsn, "SELECT count(*) FROM mirror.rejects") == [(0,)]
        # A rule for a column that took the type of its values.
        config.write_text(json.dumps({"columns": columns | {"others.n": "timestamptz"}}))
        mirrored(cli, database, config, dsn)
        assert ask(dsn, "SELECT extract(epoch FROM n)::bigint FROM others") == [(1700000000,)]
        # What queries see is compared, too.
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE others SET n = n + interval '1 second'")
        assert cli.run("parity", database, "--config", config, "--state-dir", cli.state_dir).code == 1


def test_numbers_that_do_not_fit(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """A rule for one kind of value is as a declared type: the column is jsonb, or of the kind of all values."""
    source.run("UPDATE messages SET doc = 'x'")
    config = rules(folder, content="bigint", doc="boolean", k="double precision")
    for _ in range(2):
        mirrored(cli, folder / "app.db", config, dsn)
        assert ask(dsn, TYPES) == [("jsonb",), ("text",)]
        source.run("INSERT INTO messages(content, doc, k) VALUES ('a', 'b', 9007199254740993)")
    assert ask(dsn, "SELECT k FROM messages WHERE id = 7") == [(9007199254740993,)]


def test_a_rule_after_the_type_of_the_values(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """A column that took the type of its values follows a rule that comes later, if they fit that as well."""
    source.run("DELETE FROM messages", "CREATE TABLE t(id INTEGER PRIMARY KEY, a DATETIME, b DATETIME)")
    source.run("INSERT INTO t VALUES (1, 0, 0), (2, 1, 7)")
    types = "SELECT a::text, b::text FROM t ORDER BY id"
    mirrored(cli, folder / "app.db", rules(folder), dsn)
    assert ask(dsn, types) == [("0", "0"), ("1", "7")]
    config = folder / "mirror.json"
    config.write_text(json.dumps({"columns": {"t.a": "boolean", "t.b": "boolean"}}))
    for _ in range(2):
        mirrored(cli, folder / "app.db", config, dsn)
        assert ask(dsn, types) == [("false", "0"), ("true", "7")]


def test_wrong_rules(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """A type that is none is an error; a column that is none is named."""
    done = cli.run("up", folder / "app.db", "--once", "--config", rules(folder, content="blob"))
    assert done.code == 2 and "messages.content" in done.error and "bytea" in done.error
    options = ("--config", rules(folder, contents="bytea", id="text"), "--state-dir", cli.state_dir)
    done = cli.run("up", folder / "app.db", "--once", *options)
    assert done.code == 0 and "no column messages.contents" in done.err and "no column messages.id" in done.err


def test_doctor_knows_them(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """What becomes of a column is what the rule says."""
    done = cli.run("doctor", folder / "app.db", "--json", "--config", rules(folder, content="bytea"))
    columns = json.loads(done.out)["reports"][0]["columns"]
    assert [c["becomes"] for c in columns if c["column"] == "content"] == ["bytea"]


# -- columns that are not mirrored ----------------------------------------------------------------------------------

COLUMNS = "SELECT string_agg(column_name, ' ' ORDER BY column_name) FROM information_schema.columns"
COLUMNS += " WHERE table_name = 'messages'"


def test_a_column_is_left_out(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """It is in no table and no reject; doctor, status, parity and the plan say so; everything else is compared."""
    config = rules(folder, content="omit", doc="jsonb")
    options = ("--config", config, "--state-dir", cli.state_dir)
    database = folder / "app.db"
    assert "left out by a rule in mirror.json: content" in cli.run("doctor", database, "--config", config).out
    mirrored(cli, database, config, dsn)
    assert ask(dsn, COLUMNS) == [("_original doc id k",)]
    up = cli.start("up", database, *options)
    try:
        source.run(
            "INSERT INTO messages(content, k) VALUES ('secret', 7)",
            "UPDATE messages SET content = 'another', k = 8 WHERE id = 1",
            "UPDATE messages SET content = zeroblob(100000) WHERE id = 2",
            "DELETE FROM messages WHERE id = 3",
            "ALTER TABLE messages ADD COLUMN later TEXT DEFAULT 'x'",
        )
        assert cli.run("wait", database, "--timeout", LIMIT, *options).code == 0
        assert ask(dsn, "SELECT id, k, later FROM messages WHERE k > 6 ORDER BY id") == [(1, 8, "x"), (7, 7, "x")]
        status = cli.run("status", database, *options)
        assert "left out by a rule in mirror.json: messages.content" in status.out, status
        compared = cli.run("parity", database, *options)
        assert compared.code == 0 and "left out by a rule in mirror.json: content" in compared.out, compared
        plan = cli.run("cutover", "plan", database, "--json", *options)
        (verdict,) = json.loads(plan.out)["sources"]
        (rail,) = [each for each in verdict["rails"] if each["name"] == "left out"]
        assert not rail["passed"] and "messages.content" in rail["figure"]
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE messages SET k = -1 WHERE id = 1")
            connection.execute("DELETE FROM messages WHERE id = 2")
        assert cli.run("parity", database, *options).code == 1
        repaired = cli.run("parity", database, "--repair", "--replace-rows", *options)
        assert repaired.code == 0, repaired
        assert ask(dsn, COLUMNS) == [("_original doc id k later",)]
    finally:
        stop(up)
    # A comparison without the rules reads the source as it is in Postgres.
    source.run("INSERT INTO messages(content, k) VALUES ('secret', 9)")
    compared = cli.run("parity", database, "--state-dir", cli.state_dir)
    assert compared.code == 0 and "left out by a rule" in compared.out, compared


@pytest.mark.parametrize("key", ["", pytest.param("WITHOUT ROWID", marks=pytest.mark.slow)])
def test_a_column_is_left_out_later_and_comes_back(cli: CommandLine, folder: Path, dsn: str, key: str) -> None:
    """In the table that is there: its grants, indexes and other columns stay, also one that keeps originals."""
    database = folder / "app.db"
    with Writer(database) as writer:
        writer.run(
            "PRAGMA journal_mode=WAL",
            "CREATE TABLE messages(first TEXT, id INTEGER PRIMARY KEY, content TEXT, doc JSON, sum INT AS (id * 2),"
            f" last TEXT) {key}",
            "INSERT INTO messages VALUES ('a', 1, char(0) || 'x', '{ \"a\": 1}', 'l'), ('b', 2, 'y', '[]', 'm')",
        )
        mirrored(cli, database, rules(folder), dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE INDEX by_last ON messages(last)")
            [(oid,)] = connection.execute("SELECT 'messages'::regclass::oid").fetchall()
        for omitted in (("content",), ("first", "content", "sum"), ("doc", "sum"), ("last",), ()):
            mirrored(cli, database, rules(folder, **dict.fromkeys(omitted, "omit")), dsn)
            names = {"first", "id", "content", "doc", "sum", "last"} - set(omitted)
            if not {"content", "doc"} <= set(omitted):
                names.add("_original")
            assert ask(dsn, COLUMNS) == [(" ".join(sorted(names)),)], omitted
            assert ask(dsn, "SELECT 'messages'::regclass::oid") == [(oid,)]
            writer.run("UPDATE messages SET content = content || '!' WHERE id = 1")
        mirrored(cli, database, rules(folder), dsn)
        assert ask(dsn, "SELECT first, content, doc ->> 'a', sum, last FROM messages WHERE id = 1") == [
            ("a", "␀x!!!!!", "1", 2, "l")
        ]
        assert ask(dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_a_view_that_shows_a_column_to_be_left_out(cli: CommandLine, source: Writer, folder: Path, dsn: str) -> None:
    """Nothing of somebody else's is dropped: the table is refused, with the reason, until the view is gone."""
    database = folder / "app.db"
    mirrored(cli, database, rules(folder, doc="text"), dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE VIEW shown AS SELECT content FROM messages")
        config = rules(folder, content="omit", doc="text")
        options = ("--config", config, "--state-dir", cli.state_dir)
        assert cli.run("up", database, "--once", *options).code != 0
        [refusal] = json.loads(cli.run("status", database, "--json", *options).out)["sources"][0]["refusals"]
        assert refusal["table"] == "messages" and "shown" in refusal["reason"], refusal
        connection.execute("DROP VIEW shown")
    mirrored(cli, database, config, dsn)
    assert ask(dsn, COLUMNS) == [("doc id k",)]


def test_columns_that_are_left_out_are_renamed_and_dropped(
    cli: CommandLine, source: Writer, folder: Path, dsn: str
) -> None:
    """Under another name a column stays left out, until a rule says what it is; a dropped one is kept nowhere."""
    database, config = folder / "app.db", rules(folder, content="omit", later="omit", doc="text")
    options = ("--config", config, "--state-dir", cli.state_dir)
    source.run("DELETE FROM messages", "INSERT INTO messages VALUES (1, 'c', 'd', 2), (2, 'e', 'f', 3)")
    up = cli.start("up", database, *options)
    try:
        assert cli.run("wait", database, "--timeout", LIMIT, *options).code == 0
        for sql, shown in (
            ("ALTER TABLE messages RENAME COLUMN content TO shown", "'d' 2"),
            ("ALTER TABLE messages RENAME COLUMN shown TO content", "'d' 2"),
            ("ALTER TABLE messages DROP COLUMN content", "'d' 2"),
            ("ALTER TABLE messages ADD COLUMN later TEXT DEFAULT 'x'", "'d' 2"),
            ("UPDATE messages SET later = 'y', k = 4", "'d' 4"),
            ("ALTER TABLE messages RENAME COLUMN later TO seen", "'d' 4"),
        ):
            source.run(sql)
            assert cli.run("wait", database, "--timeout", LIMIT, *options).code == 0
            compared = cli.run("parity", database, *options)
            assert compared.code == 0, (sql, compared)
            there = ask(dsn, COLUMNS)[0][0].split()
            assert there == ["_original", "doc", "id", "k"], sql
            [row] = ask(dsn, "SELECT doc, k FROM messages WHERE id = 1")
            assert " ".join(map(repr, row)) == shown, sql
    finally:
        stop(up)


PROGRAM = """
import sys, apsw, mirror
database, state_dir = sys.argv[1:]
mirror.enable_mirror([database], state_dir=state_dir, sidecar="none")
db = apsw.Connection(database)
sys.stdin.readline()
for n in range(20):
    db.execute("INSERT INTO messages(content, k) VALUES (?, ?)", ("secret", n))
    db.execute("UPDATE messages SET content = ?, k = k + 100 WHERE k = ?", ("other", n))
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_hooks_of_a_table_with_a_column_that_is_left_out(cli: CommandLine, folder: Path, dsn: str, mode: str) -> None:
    """What a program's hook sends of it agrees with what is decoded, and the column does not come by that way."""
    database = folder / "app.db"
    options = ("--config", rules(folder, content="omit"), "--state-dir", cli.state_dir)
    with Writer(database) as writer:
        writer.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE messages(id INTEGER PRIMARY KEY, content TEXT, k INT)")
    up = cli.start("up", database, *options)
    try:
        assert cli.run("wait", database, "--timeout", LIMIT, *options).code == 0
        arguments = [sys.executable, "-c", PROGRAM, str(database), str(cli.state_dir)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(arguments, **pipes, text=True, env=cli.environment()) as program:
            assert program.stdout is not None and program.stdin is not None

            def hook() -> dict[str, Any]:
                report = json.loads(cli.run("status", database, "--json", *options).out)["sources"][0]
                assert report["discrepancies"] == 0
                return dict(report["hook"])

            assert until(lambda: hook()["writers"])
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "done\n"
            assert until(lambda: hook()["checked" if mode == "wal" else "applied"] > 0)
            assert cli.run("wait", database, "--timeout", LIMIT, *options).code == 0
            assert ask(dsn, "SELECT count(*), min(k), max(k) FROM messages") == [(20, 100, 119)]
            program.stdin.write("\n")
        assert cli.run("parity", database, *options).code == 0
        assert ask(dsn, COLUMNS) == [("id k",)]
    finally:
        stop(up)
