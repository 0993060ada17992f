"""What a source has and Postgres will not have is named by every command that somebody may look at before a switch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


#: As sqlite-vec leaves it, for a program that has not loaded it: the shadow tables are ordinary ones.
VECTORS = (
    *(f"CREATE TABLE vectors_{suffix}(a, b)" for suffix in ("info", "chunks", "rowids", "vector_chunks00")),
    "PRAGMA writable_schema=ON",
    "INSERT INTO sqlite_schema VALUES ('table', 'vectors', 'vectors', 0,"
    " 'CREATE VIRTUAL TABLE vectors USING vec0(embedding float[3])')",
    "PRAGMA writable_schema=RESET",
)
LEFT_OUT = ("notes (fts5)", "places (rtree)", "vectors (vec0)")


def rails(cli: CommandLine, source: Path, *arguments: object) -> dict[str, dict[str, Any]]:
    done = cli.run("cutover", "plan", source, "--json", *arguments)
    (verdict,) = json.loads(done.out)["sources"]
    return {rail["name"]: rail for rail in verdict["rails"]}


@pytest.mark.slow
def test_virtual_tables_that_hold_data_are_named(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run(
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, body TEXT)",
        "INSERT INTO docs VALUES (1, 'd')",
        "CREATE VIRTUAL TABLE notes USING fts5(title, body)",
        "INSERT INTO notes VALUES ('first', 'its text is nowhere else')",
        "CREATE VIRTUAL TABLE words USING fts5(body, content='docs', content_rowid='id')",
        "CREATE VIRTUAL TABLE places USING rtree(id, x0, x1)",
        *VECTORS,
        "CREATE VIEW recent AS SELECT * FROM docs",
        "CREATE INDEX by_body ON docs(body)",
        "CREATE TRIGGER kept AFTER INSERT ON docs BEGIN SELECT 1; END",
    )
    found = cli.run("doctor", database).out
    for name in LEFT_OUT:
        assert name in found, found
    assert "derived virtual tables: left out: words (fts5)" in found
    assert "1 view, 1 trigger, 1 index" in found
    up = cli.start("up", database)
    try:
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        parity = cli.run("parity", database)
        assert parity.code == 0
        status = cli.run("status", database).out
        for name in LEFT_OUT:
            assert name in parity.out and name in status, (parity, status)
        assert "words (fts5)" not in parity.out + status
        assert json.loads(cli.run("parity", database, "--json").out)["reports"][0]["left_out"] == list(LEFT_OUT)
        assert "virtual table" in cli.run("parity", database, "--table", "notes").out
        rail = rails(cli, database)["left out"]
        assert not rail["passed"] and rail["figure"] == f"not in Postgres: {', '.join(LEFT_OUT)}"
        assert rails(cli, database, "--acknowledge", "left out")["left out"]["passed"]

        # What comes and goes while it runs is noticed, too.
        writer.run("CREATE VIRTUAL TABLE more USING fts4(a)", "DROP TABLE notes")
        assert cli.run("wait", database, "--timeout", LIMIT).code == 0
        now = json.loads(cli.run("status", database, "--json").out)["sources"][0]["virtual"]
        assert now == ["more (fts4)", "places (rtree)", "vectors (vec0)"]
    finally:
        stop(up)
    assert up.stdout is not None and up.stderr is not None
    log = up.stdout.read() + up.stderr.read()
    assert ", ".join(LEFT_OUT) in log and "more (fts4)" in log


def test_it_is_not_known_before_a_mirror_has_run(cli: CommandLine, writer: Writer, database: Path) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    rail = rails(cli, database)["left out"]
    assert not rail["passed"] and rail["figure"] == "not known"


def test_what_an_unknown_module_keeps_is_mirrored(cli: CommandLine, writer: Writer, database: Path) -> None:
    """In ordinary tables, which are mirrored, or outside of the file: nothing of the file is missing."""
    writer.run(
        "CREATE TABLE fuzzy_vocab(id INTEGER PRIMARY KEY, word)",
        "PRAGMA writable_schema=ON",
        "INSERT INTO sqlite_schema VALUES ('table', 'fuzzy', 'fuzzy', 0, 'CREATE VIRTUAL TABLE fuzzy USING spellfix1')",
        "PRAGMA writable_schema=RESET",
    )
    with cli.up(database):
        assert rails(cli, database)["left out"]["passed"]
        assert until(lambda: cli.run("parity", database).code == 0)
