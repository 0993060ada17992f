"""``mirror overwritten``: rows that others had written in Postgres, and that the mirror has replaced."""

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

#: Characters of a row that people are shown.
_SHOWN = 300
_NAMES = ("id", "table", "key", "row", "written_at", "overwritten_at", "operation")


@click.group(
    cls=Commands,
    short_help="List or forget replaced rows of others.",
    epilog=help_end("mirror overwritten list", "mirror overwritten forget memory.db"),
)
def overwritten() -> None:
    """List, or forget, rows that others had written in Postgres and that the mirror has replaced.

    A whole copy, a repair or a retry that was given --replace-rows keeps each such row, as it was, in the table
    mirror.overwritten.
    """


@overwritten.command(
    "list",
    short_help="List replaced rows of others.",
    epilog=help_end(
        "mirror overwritten list",
        "mirror overwritten list memory.db --json",
        codes={0: "they were listed, also if there are none"},
    ),
)
@common
@json_option
def list_(settings: Settings, debug: bool, as_json: bool) -> None:
    """List the rows, those that were replaced last first.

    A row without content is one that others had deleted; one without a key stands for a TRUNCATE. --json shows rows
    whole.
    """
    with postgres_of(settings) as dsn:
        found = [row for source in settings.known() for row in _found(dsn, source, schema_of(settings, source))]
    if as_json:
        click.echo(json.dumps({"version": 1, "overwritten": found}, indent=2))
        return
    console, names = Console(), names_apart(row["source"] for row in found)
    if not found:
        print_line(console, "nothing of others was replaced")
        return
    for row in found:
        key = "all rows" if row["key"] is None else ", ".join(row["key"])
        what = f"{names[row['source']]}: {row['table']} {key}: {row['operation']}, {row['overwritten_at'][:19]}"
        print_line(console, f"{row['id']}: {what}")
        was = "it was deleted" if row["row"] is None else short(json.dumps(row["row"], ensure_ascii=False), _SHOWN)
        print_line(console, f"  {was}")
    for source in dict.fromkeys(row["source"] for row in found):
        forget = command("overwritten forget", source, settings.options)
        print_line(console, f"Next: {forget}  # once what is to stay is written to {names[source]}")


@overwritten.command(
    short_help="Forget replaced rows of others.",
    epilog=help_end(
        "mirror overwritten forget memory.db",
        "mirror overwritten forget memory.db --id 3 --id 4",
        codes={0: "they are forgotten"},
    ),
)
@common
@click.option(
    "--id", "numbers", metavar="N", multiple=True, type=int, help="Forget only this one, by its id (may be repeated)."
)
def forget(settings: Settings, debug: bool, numbers: tuple[int, ...]) -> None:
    """Delete what is kept of replaced rows, because nobody needs it any more."""
    with postgres_of(settings) as dsn:
        for source in settings.known():
            gone = _forget(dsn, source, schema_of(settings, source), numbers)
            click.echo(f"{source.name}: {counted(gone, 'row')} forgotten")


def _found(dsn: str, source: Path, schema: str) -> list[dict[str, Any]]:
    with translated("read what was replaced"), connect(dsn, autocommit=False) as connection:
        require_known_schema(connection)
        cursor = psycopg.RawCursor(connection)
        if not _is_there(cursor):
            return []
        rows = cursor.execute(statement("overwritten_list"), (str(source), schema)).fetchall()
    return [{"source": str(source), **dict(zip(_NAMES, row, strict=True))} for row in rows]


def _forget(dsn: str, source: Path, schema: str, numbers: tuple[int, ...]) -> int:
    with translated("forget what was replaced"), connect(dsn, autocommit=False) as connection:
        require_known_schema(connection)
        cursor = psycopg.RawCursor(connection)
        if not _is_there(cursor):
            return 0
        return cursor.execute(statement("overwritten_forget"), (str(source), schema, [*numbers] or None)).rowcount


def _is_there(cursor: psycopg.RawCursor[Any]) -> bool:
    """Whether a mirror that keeps such rows has used this database."""
    return cursor.execute("SELECT to_regclass('mirror.overwritten') IS NOT NULL").fetchone() == (True,)
