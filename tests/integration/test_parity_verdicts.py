"""Rows that Postgres cannot hold, tables that it refuses, and a repair that only says what it would do."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from loguru import logger

from mirror.sidecar.parity_watch import ParityWatch
from tests.support.commands import CommandLine
from tests.support.source import Writer
from tests.support.waiting import until

#: A text that is not valid, in a key: no text of Postgres is the same.
REJECTED = "INSERT INTO keyed VALUES (CAST(x'ff' AS TEXT), 1)"


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "source.db"


@pytest.fixture
def program(path: Path) -> Iterator[Writer]:
    with Writer(path) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE keyed(id TEXT PRIMARY KEY, v)")
        writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT, n)", "INSERT INTO notes VALUES (1, 'one', 1)")
        yield writer


def reported(cli: CommandLine, path: Path, *more: object) -> tuple[int, dict[str, Any]]:
    done = cli.run("parity", path, "--json", *more)
    document = json.loads(done.out)
    (report,) = document["reports"]
    assert document["version"] == report["version"] == 2
    return done.code, report


def proof(cli: CommandLine, path: Path) -> str:
    (status,) = json.loads(cli.run("status", path, "--json").out)["sources"]
    return str(status["parity"]["proof"])


def failing(cli: CommandLine, path: Path, *more: str) -> set[str]:
    """The guard rails that do not hold; those of lag and load are not this test's."""
    (verdict,) = json.loads(cli.run("cutover", "plan", path, "--json", *more).out)["sources"]
    return {rail["name"] for rail in verdict["rails"] if not rail["passed"]} & {"parity", "rejects", "refused tables"}


@contextmanager
def warnings() -> Iterator[list[str]]:
    found: list[str] = []
    handler = logger.add(found.append, level="WARNING", format="{message}")
    try:
        yield found
    finally:
        logger.remove(handler)


def test_rejected_rows(cli: CommandLine, path: Path, program: Writer, dsn: str, folder: Path) -> None:
    """A verdict and an exit code of their own, in every form; one guard rail; no alarm; equal once they are gone."""
    with cli.up(path):
        assert reported(cli, path)[0] == 0 and proof(cli, path) == "verified"
        program.run(REJECTED)
        assert cli.run("wait", path).code == 0
        page = folder / "report.html"
        shown = cli.run("parity", path, "--html", page)
        assert shown.code == 4 and "equal except 1 rejected row: 2 tables, 2 rows in " in shown.out, shown
        assert re.search(r"keyed +equal except rejects +1 +0 ", shown.out) and "≠" not in shown.out
        assert "equal except 1 rejected row (2 rows of 1 source compared)" in page.read_text()
        code, report = reported(cli, path)
        assert (code, report["verdict"], report["exit_code"], report["rejected"]) == (4, "equal_except_rejects", 4, 1)
        assert [table["status"] for table in report["tables"]] == ["equal_except_rejects", "equal"]
        assert (report["postgres"]["schema"], report["postgres"]["database"]) == ("public", dsn_database(dsn))
        assert proof(cli, path) == "verified except rejects"
        assert failing(cli, path) == {"rejects"} and failing(cli, path, "--acknowledge", "rejects") == set()
        with warnings() as logged:
            watched = ParityWatch({path: "public"}, dsn, cli.state_dir).verify(path)
        assert (watched.verdict, watched.agreement, logged) == ("equal except rejects", "equal", [])
        with psycopg.connect(dsn) as connection:
            kept = connection.execute("SELECT verdict, report ->> 'verdict' FROM mirror.parity_runs ORDER BY run_id")
            assert kept.fetchall()[-1] == ("equal except rejects", "equal_except_rejects")
        program.run("DELETE FROM keyed")
        assert cli.run("wait", path).code == 0
        assert reported(cli, path)[0] == 0 and proof(cli, path) == "verified"


def dsn_database(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])


def test_the_worst_of_several(cli: CommandLine, path: Path, program: Writer, folder: Path, dsn: str) -> None:
    program.run(REJECTED)
    other = folder / "other.db"
    with Writer(other) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE others(id INTEGER PRIMARY KEY)")
        writer.run("INSERT INTO others VALUES (1)")
        with cli.up(path, other):
            assert cli.run("wait", path, other).code == 0
            assert cli.run("parity", path, other).code == 4
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("DELETE FROM others")
            assert cli.run("parity", path, other).code == 1
            with Writer(folder / "never.db") as never:
                never.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(x)")
                done = cli.run("parity", path, folder / "never.db")
            assert done.code == 2 and "equal except 1 rejected row" in done.out


def test_a_table_that_postgres_refuses(cli: CommandLine, path: Path, program: Writer, dsn: str) -> None:
    """It is not mirrored, which is no difference of rows; and told by its own guard rail alone."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes(x int)")
    with cli.up(path, wait=False):
        until(lambda: cli.run("wait", path).code == 1 and "refuses notes" in cli.run("wait", path).err)
        code, report = reported(cli, path)
        assert (code, report["verdict"]) == (1, "not_mirrored")
        assert {table["table"]: table["status"] for table in report["tables"]} == {
            "keyed": "equal", "notes": "not_mirrored"
        }  # fmt: skip
        shown = cli.run("parity", path)
        assert "not mirrored: 1 table; compared 2 tables, 0 rows in " in shown.out and "rows/s" not in shown.out
        assert proof(cli, path) == "not mirrored" and failing(cli, path) == {"refused tables"}


def test_a_dry_run(cli: CommandLine, path: Path, program: Writer, dsn: str) -> None:
    """It says what would be written, by table, and writes nothing; a repair then writes that."""
    program.run("INSERT INTO notes VALUES (2, 'two', 2), (3, 'three', 3), (4, 'four', 4)")
    program.run("CREATE TABLE shaped(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO shaped VALUES (1, 'x')")
    rows = "SELECT id, body, n::text, xmin::text FROM notes ORDER BY id"
    with cli.up(path), psycopg.connect(dsn, autocommit=True) as connection:
        assert cli.run("wait", path).code == 0
        for command in (
            "UPDATE notes SET body = 'other', n = '9' WHERE id = 1",
            "DELETE FROM notes WHERE id IN (2, 3)",
            "INSERT INTO notes VALUES (77, 'mine')",
            "ALTER TABLE shaped ALTER v TYPE varchar",
        ):
            connection.execute(command.encode())
        before = connection.execute(rows).fetchall()
        code, report = reported(cli, path, "--repair", "--dry-run")
        assert (code, report["verdict"]) == (1, "different")
        notes, shaped = report["would_write"]
        assert notes == {"table": "notes", "insert": 2, "change": 1, "delete": 1, "whole": "", "others": True,
                         "replaces": False, "narrow": []}  # fmt: skip
        assert shaped["table"] == "shaped" and "character varying" in shaped["whole"]
        changed = [one for table in report["tables"] for one in table["examples"] if one["kind"] == "different"]
        assert [(one["key"], one["column"], one["source_value"], one["target_value"]) for one in changed] == [
            ([1], "body", "one", "other"), ([1], "n", 1, 9),
        ]  # fmt: skip
        shown = cli.run("parity", path, "--repair", "--dry-run").out
        assert "  notes: would insert 2 rows, change 1 row, delete 1 row; others have written there" in shown
        assert connection.execute(rows).fetchall() == before
        assert connection.execute("SELECT count(*) FROM mirror.repairs").fetchone() == (0,)
        assert reported(cli, path)[1]["would_write"] is None
        done = cli.run("parity", path, "--repair", "--replace-rows")
        assert done.code == 0 and "repaired notes: 4 rows, each in mirror.repairs" in done.err, done
        code, report = reported(cli, path, "--repair", "--dry-run")
        assert (code, report["would_write"]) == (0, [])
    assert "--dry-run belongs to --repair" in cli.run("parity", path, "--dry-run").err


def test_values_of_every_kind_come_through_jsonb(cli: CommandLine, path: Path, program: Writer, dsn: str) -> None:
    """A report is kept in Postgres, which takes no NUL; and what it says of a value can be read back."""
    program.run(
        "INSERT INTO notes VALUES (5, 'a' || char(0) || 'b', x'00ff')", "INSERT INTO notes VALUES (6, 'x', 1.0)"
    )
    program.run("INSERT INTO notes VALUES (7, 'y', 9007199254740993)")
    with cli.up(path):
        assert cli.run("wait", path).code == 0
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE notes SET body = 'changed', n = 'null' WHERE id >= 5")
            _, report = reported(cli, path)
            (kept,) = connection.execute(
                "SELECT report FROM mirror.parity_runs ORDER BY run_id DESC LIMIT 1"
            ).fetchone()  # type: ignore[misc]
    found = {(*one["key"], one["column"]): one["source_value"] for one in report["tables"][1]["examples"]}
    assert found[5, "body"] == {"utf8": "YQBi"} and found[5, "n"] == {"blob": "AP8="}
    assert found[6, "n"] == {"real": "1.0"} and found[7, "n"] == {"integer": "9007199254740993"}
    assert kept["tables"] == report["tables"]


def test_the_log_is_printed_above_the_bar(tmp_path: Path) -> None:
    """Not through it."""
    program = (
        "from pathlib import Path; from loguru import logger; from mirror.cli.logs import start_log;"
        "from mirror.cli.parity import _Bar; start_log();\n"
        "with _Bar(None, Path('a.db'), 'public', counted=False) as bar:\n"
        "    bar.show('a_table_with_a_long_name_memory_item_categories', 5000)\n"
        "    logger.warning('a.db: all pages')\n"
        "logger.warning('a.db: later')\n"
    )
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    written = b""
    try:
        while block := os.read(master, 65536):
            written += block
    except OSError:
        pass  # Linux's way of saying that nobody has the terminal open any more
    os.close(master)
    assert process.wait(60) == 0, written
    pieces = re.split(r"\r|\n|\x1b\[[0-9]*[A-Za-z]", written.decode())
    lines = [piece for piece in pieces if "WARNING" in piece]
    assert [line.partition("WARNING")[2].strip() for line in lines] == ["a.db: all pages", "a.db: later"], written
    assert not any("comparing" in line for line in lines) and "comparing …ory_item_categories " in written.decode()
