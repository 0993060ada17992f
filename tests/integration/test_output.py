"""What is printed for people is what there is: names and reasons with brackets, quotes and control characters."""

from __future__ import annotations

import ast
import io
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from rich.console import Console
from rich.table import Table

import mirror
from mirror.cli.output import GOOD, print_line, print_table, text
from tests.support.commands import CommandLine
from tests.support.source import Writer

SOURCE, TABLE, COLUMN = "a[b].db", "[red]x[/]", "[bold]v"


def test_neither_markup_nor_control_characters() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=False)
    print_line(console, GOOD, " ", "[red]x[/]: [/nothing] \x1b[31m\r\n\u202e " + "long " * 20, style="bold")
    table = Table("name")
    table.add_row(text("[i]n\x07"))
    print_table(console, table)
    shown = out.getvalue()
    assert shown.startswith("✓ [red]x[/]: [/nothing] \\x1b[31m\\r\\n\\u202e long ")
    assert shown.index("\n") > 100, "a line is not broken"
    assert "[i]n\\x07" in shown


def test_nothing_else_prints() -> None:
    """Each line, table and bar goes through the one module that takes text for text."""
    for path in Path(mirror.__file__).parent.rglob("*.py"):
        if path.name == "output.py":
            continue
        tree = ast.parse(path.read_text())
        rich = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)
                for alias in node.names if "rich" in (getattr(node, "module", None) or alias.name)}  # fmt: skip
        assert not rich & {"escape", "TextColumn", "print", "Prompt"}, path
        for node in ast.walk(tree):
            if rich and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("print", "log", "rule", "from_markup"), (path, node.lineno)


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def source(folder: Path) -> Iterator[Path]:
    """A file, a table and a column whose names look like markup; one row that Postgres cannot hold."""
    with Writer(folder / SOURCE) as writer:
        writer.run("PRAGMA journal_mode=WAL", f'CREATE TABLE "{TABLE}"("{COLUMN}" TEXT PRIMARY KEY, n INTEGER)')
        writer.run(f"INSERT INTO \"{TABLE}\" VALUES (CAST(x'ff' AS TEXT), '[dim]a'), ('[/]', 2)")
        writer.run("CREATE TABLE taken(id INTEGER PRIMARY KEY)")
        yield folder / SOURCE


def on_a_terminal(cli: CommandLine, *arguments: object) -> str:
    """All that a command writes to a terminal, without what colours it."""
    master, slave = pty.openpty()
    environment = {"TERM": "dumb", "COLUMNS": "300", "NO_COLOR": "1"}
    process = cli.start(*arguments, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    written = b""
    try:
        while block := os.read(master, 65536):
            written += block
    except OSError:
        pass  # Linux's way of saying that nobody has the terminal open any more
    os.close(master)
    process.wait(60)
    return written.decode()


def test_every_command(cli: CommandLine, source: Path, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE taken(x int)")
    wide = {"COLUMNS": "300"}
    up = on_a_terminal(cli, "up", source, "--once")
    assert f"{SOURCE}: 1 table in Postgres" in up
    assert f"{SOURCE}: Postgres refuses taken" in up

    doctor = cli.run("doctor", source, env=wide).out
    assert f"{source}\n" in doctor
    assert f"column {TABLE}.{COLUMN}: 1 row would go to mirror.rejects" in doctor
    assert f" {TABLE} " in doctor and f" {COLUMN} " in doctor

    rejects = cli.run("rejects", "list", source, env=wide).out
    assert f"{COLUMN}: text that is not valid" in rejects and SOURCE in rejects
    assert '"n": "[dim]a"' in rejects

    with psycopg.connect(dsn) as connection:
        connection.execute(f'DELETE FROM "{TABLE}"'.encode())
        connection.execute("UPDATE mirror.refusals SET reason = '[blink]why[/]'")
        connection.execute(
            "INSERT INTO mirror.gaps (source_id, generation, reason) SELECT source_id, 1, '[u]lost' FROM mirror.sources"
        )
    parity = cli.run("parity", source, env=wide).out
    assert f"parity of {source}" in parity and f" {TABLE} " in parity
    assert f'missing in Postgres: {TABLE} ["[/]"]' in parity
    assert "taken: Postgres refuses it: [blink]why[/]" in parity and " not mirrored " in parity

    with cli.up(source, wait=False):
        cli.run("wait", source, "--timeout", 60)
        status = cli.run("status", source, env=wide).out
    assert f"{SOURCE} " in status and f"{SOURCE}: refused: taken: " in status
    assert f"{SOURCE}: gap, healed: [u]lost" in status

    plan = cli.run("cutover", "plan", source, env=wide).out
    assert f"NOT READY: {SOURCE}" in plan and "refused tables: taken" in plan
