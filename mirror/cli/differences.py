"""``mirror differences``: reads that SQLite and Postgres answered differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console

from mirror.cli.groups import Commands
from mirror.cli.options import common, help_end, json_option, postgres_of, schema_of
from mirror.cli.output import print_line
from mirror.cli.plain import short
from mirror.core.commands import command
from mirror.core.config.settings import Settings
from mirror.core.words import counted, names_apart
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema, statement
from mirror.postgres.sessions import connect

#: Characters of arguments and answers that people are shown.
_SHOWN = 300
_NAMES = (
    "id", "method", "kind", "arguments", "sqlite", "postgres", "position", "first_seen", "last_seen", "count",
)  # fmt: skip


@click.group(
    cls=Commands,
    short_help="List or forget reads that differed.",
    epilog=help_end("mirror differences list", "mirror differences forget memory.db"),
)
def differences() -> None:
    """List, or forget, reads that SQLite and Postgres answered differently at one position.

    Programs that use the storage adapters run some of their reads on both stores (storage.reads.shadowPercent in
    mirror.json). Each difference is kept once, with how often it was seen, in the table mirror.read_differences.
    """


@differences.command(
    "list",
    short_help="List reads that differed.",
    epilog=help_end(
        "mirror differences list",
        "mirror differences list memory.db --json",
        codes={0: "they were listed, also if there are none"},
    ),
)
@common
@json_option
def list_(settings: Settings, debug: bool, as_json: bool) -> None:
    """List the reads that differed, last seen first. --json shows the arguments and answers as they are kept."""
    with postgres_of(settings) as dsn:
        found = [row for source in settings.known() for row in _found(dsn, source, schema_of(settings, source))]
    if as_json:
        click.echo(json.dumps({"version": 1, "differences": found}, indent=2))
        return
    console, names = Console(), names_apart(row["source"] for row in found)
    if not found:
        print_line(console, "no differences")
        return
    for row in found:
        times = "once" if row["count"] == 1 else f"{row['count']:,} times"
        seen = f"{times}, last {row['last_seen'][:19]} at {row['position']}"
        print_line(console, f"{row['id']}: {names[row['source']]}: {row['method']}: {row['kind']}: {seen}")
        for name, value in (
            ("with:    ", row["arguments"]),
            ("SQLite:  ", row["sqlite"]),
            ("Postgres:", row["postgres"]),
        ):
            print_line(console, f"  {name} {short(value or '-', _SHOWN)}")
    for source in dict.fromkeys(row["source"] for row in found):
        options = settings.options
        print_line(console, f"Next: {command('parity', source, options)}  # whether the rows differ, too")
        forget = command("differences forget", source, options)
        print_line(console, f"Next: {forget}  # once it is known why; --id NUMBER forgets only one")


@differences.command(
    short_help="Forget reads that differed.",
    epilog=help_end(
        "mirror differences forget memory.db",
        "mirror differences forget memory.db --id 3 --id 4",
        codes={0: "they are forgotten"},
    ),
)
@common
@click.option(
    "--id", "numbers", metavar="N", multiple=True, type=int, help="Forget only this one, by its id (may be repeated)."
)
def forget(settings: Settings, debug: bool, numbers: tuple[int, ...]) -> None:
    """Forget the differences, because it is known why. One that is found again is listed again."""
    with postgres_of(settings) as dsn:
        for source in settings.known():
            gone = _forget(dsn, source, schema_of(settings, source), numbers)
            click.echo(f"{source.name}: {counted(gone, 'difference')} forgotten")


def _found(dsn: str, source: Path, schema: str) -> list[dict[str, Any]]:
    with translated("read the differences"), connect(dsn, autocommit=False) as connection:
        require_known_schema(connection)
        cursor = psycopg.RawCursor(connection)
        if not _is_there(cursor):
            return []
        rows = cursor.execute(statement("differences_list"), (str(source), schema)).fetchall()
    return [{"source": str(source), **dict(zip(_NAMES, row, strict=True))} for row in rows]


def _forget(dsn: str, source: Path, schema: str, numbers: tuple[int, ...]) -> int:
    with translated("forget differences"), connect(dsn, autocommit=False) as connection:
        require_known_schema(connection)
        cursor = psycopg.RawCursor(connection)
        if not _is_there(cursor):
            return 0
        return cursor.execute(statement("differences_forget"), (str(source), schema, [*numbers] or None)).rowcount


def _is_there(cursor: psycopg.RawCursor[Any]) -> bool:
    """Whether a mirror that keeps differences has used this database."""
    return cursor.execute("SELECT to_regclass('mirror.read_differences') IS NOT NULL").fetchone() == (True,)
