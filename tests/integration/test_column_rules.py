"""Rules by column in mirror.json: ``{"columns": {"messages.content": "bytea"}}``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import CommandLine
from tests.support.source import Writer

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
