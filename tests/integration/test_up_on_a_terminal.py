"""`mirror up` as a person sees it, at 80 columns: progress, the live line, and what it says at the end."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.commands import UNREACHABLE, CommandLine, stop
from tests.support.source import Writer
from tests.support.terminal import Terminal, terminal
from tests.support.waiting import until

#: What a bar is made of.
BAR = ("━", "─")


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def shop(writer: Writer, database: Path) -> Path:
    writer.run("CREATE TABLE products(id INTEGER PRIMARY KEY, v TEXT)", "CREATE TABLE one(v)", "CREATE TABLE none(v)")
    fill(writer, "products", 4000)
    writer.run("INSERT INTO one VALUES (1)")
    return database


def fill(writer: Writer, table: str, rows: int) -> None:
    writer.run(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        f" INSERT INTO {table} SELECT i, printf('%.100c', 'x') FROM n"
    )


def up(cli: CommandLine, *arguments: object) -> AbstractContextManager[Terminal]:
    command = [sys.executable, "-m", "mirror", "up", *map(str, arguments)]
    return terminal(command, cli.environment({"NO_COLOR": "1"}), cli.folder)


def follows(text: str) -> bool:
    return "\nfollowing  lag" in text


def commands_in(text: str) -> list[str]:
    """The commands in back-ticks; the terminal shows a long one on several lines."""
    return re.findall(r"`([^`]*)`", text.replace("\n", ""))


def test_a_copy_and_then_one_live_line(cli: CommandLine, shop: Path, writer: Writer) -> None:
    with up(cli, shop) as shown:
        shown.until(lambda text: follows(text) and "tables in Postgres, following" in text)
        *said, live = shown.lines
        for table in ("products  4,000 rows", "one  1 row", "none  0 rows"):
            assert [line for line in said if re.fullmatch(rf"✓ {table}  [\d.]+ m?s", line)], said
        assert "✓ source.db: 3 tables in Postgres, following every commit" in said
        assert [line for line in said if line.startswith("psql 'postgresql:///")]
        assert not any(mark in shown.text for mark in BAR), "a bar is left"
        assert re.fullmatch(r"following  lag \d+ ms  0 commits  last \d\d:\d\d:\d\d", live)
        writer.run("INSERT INTO one VALUES (2)")
        shown.until(lambda text: "  1 commit  last " in text)
        assert len(shown.lines) == len(said) + 1, "it is one line, in place"
        assert shown.end(signal.SIGINT) == 0
        assert not follows(shown.text) and "Postgres has all of it, up to " in shown.text
        (parity,) = [command for command in commands_in(shown.text) if command.startswith("mirror parity")]
    assert cli.run(*shlex.split(parity)[1:]).code == 0, "the step works as it is"
    with up(cli, shop) as shown:
        shown.until(follows)
        assert shown.end(signal.SIGINT) == 0
        assert "Next:" not in shown.text, "it was compared"


def test_an_end_while_the_source_is_copied(cli: CommandLine, shop: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE zz(id INTEGER PRIMARY KEY, v TEXT)")
    fill(writer, "zz", 400_000)
    with up(cli, shop) as shown:
        text = shown.until(lambda text: "of 400,000 rows" in text)
        assert re.search(r"\n3 of 4 tables  ━*─*  +\d+%", text), text
        assert "/100" not in text and "rows/s" not in text
        assert shown.end(signal.SIGINT) == 0
        assert "Postgres has nothing of it yet: the first copy was cut short" in shown.text
        assert not any(mark in shown.text for mark in BAR)
        (again,) = [command for command in commands_in(shown.text) if command.startswith("mirror up")]
        assert "mirror parity" not in shown.text
    assert shlex.split(again) == ["mirror", "up", str(shop)]


def test_an_end_where_postgres_never_answered(cli: CommandLine, shop: Path) -> None:
    with up(cli, shop, "--postgres", UNREACHABLE) as shown:
        shown.until(lambda text: "\nwaiting for Postgres  tries again by itself" in text)
        assert shown.end(signal.SIGINT) == 0
        said = " ".join(line.strip() for line in shown.lines)
    assert "Connection refused; Is the server running" in said
    assert "Postgres has nothing of it: it could not be reached Next: check that Postgres is up" in said
    assert "mirror parity" not in said


def test_a_file_that_was_moved(cli: CommandLine, shop: Path, writer: Writer) -> None:
    assert cli.run("up", shop, "--once").code == 0
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.close()
    moved = shop.rename(shop.with_name("moved.db"))
    refused = cli.run("up", moved).error
    assert f"it has the rows of {shop}, which is not there any more" in refused
    assert f"mirror rename {shop} {moved}" in commands_in(refused)
    # A state directory that knows nothing of the first one: its tables do.
    another = "--state-dir", str(cli.folder / "another")
    with up(cli, moved, *another) as shown:
        text = shown.until(lambda text: "but none of its tables can be mirrored" in text)
        assert "✗ moved.db: none of its 3 tables can be mirrored" in text and "✓" not in text
        assert any(step.startswith(f"mirror rename {shop} {moved}") for step in commands_in(text))
        assert shown.end(signal.SIGINT) == 2
        assert "Next:" not in shown.text and shown.text.count("mirrors another source") == 1, "it is told once"
    done = cli.run("up", moved, "--once", *another)
    assert done.code == 2 and done.err.count("mirrors another source") == 1, done
    assert "mirror rename" in done.err.splitlines()[-1]


def test_one_line_for_a_second_mirror(cli: CommandLine, shop: Path) -> None:
    """Though it has another state directory, and meets the first one only in Postgres."""
    with cli.up(shop):
        done = cli.run("up", shop, "--state-dir", cli.folder / "another")
        assert "another mirror" in done.error and done.err.count("another mirror") == 1, done


def test_one_stream_and_one_form_elsewhere(cli: CommandLine, shop: Path) -> None:
    done = cli.run("up", shop, "--once")
    assert done.code == 0 and done.out == ""
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO   |WARNING) \S.*")
    assert done.err and all(form.fullmatch(line) for line in done.err.splitlines()), done.err
    quiet = cli.run("up", shop, "--once", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    both = cli.run("up", shop, "--once", "-q", "--log-level", "debug")
    assert both.code == 2 and "-q leaves out what --log-level debug asks for" in both.err


def test_what_comes_once_is_told_beside_what_comes_often(cli: CommandLine, writer: Writer, database: Path) -> None:
    """A row that is rejected again and again hides no table that is dropped; what stands is no news at a restart."""
    writer.run("CREATE TABLE t(k TEXT PRIMARY KEY)", "CREATE TABLE passing(id INTEGER)", "CREATE TABLE nokey(x, y)")
    writer.run("INSERT INTO nokey VALUES (1, 'a')")
    log = cli.folder / "up.log"
    with log.open("w") as file, ending(cli.start("up", database, stdout=file, stderr=file)):
        for _ in range(12):  # one after the other: each is a row that is rejected, and one that is rejected no more
            writer.run("INSERT INTO t VALUES (CAST(x'61ff' AS TEXT))")
            assert cli.run("wait", database, "--timeout", "200").code == 0
            writer.run("DELETE FROM t")
            assert cli.run("wait", database, "--timeout", "200").code == 0
        writer.run("DROP TABLE passing", "INSERT INTO nokey VALUES ('b', 'b')")
        assert cli.run("wait", database, "--timeout", "200").code == 0
        for line in ("1 column widened to jsonb: nokey.x", "table dropped in SQLite, and kept in Postgres"):
            until(lambda line=line: line in log.read_text())
        assert log.read_text().count("1 row rejected, as") == log.read_text().count("1 row rejected no more") == 12
        shown = cli.run("status", database).out
        assert "nokey.x is jsonb since" in shown
        assert re.search(r"since [-0-9]+ [:0-9]+: 1 table dropped", shown)
        assert "passing__dropped_" in cli.run("cutover", "plan", database).out
    with log.open("w") as file, ending(cli.start("up", database, stdout=file, stderr=file)):
        assert cli.run("wait", database, "--timeout", "200").code == 0
        until(lambda: "as before: 1 column widened to jsonb (nokey.x since" in log.read_text())
        assert "WARNING" not in log.read_text()


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a mirror with the block."""
    try:
        yield
    finally:
        assert stop(process) == 0
