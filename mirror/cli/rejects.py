"""``mirror rejects``: rows that Postgres cannot hold, and, of the way back, rows that the file does not take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console

from mirror.cli.groups import Commands
from mirror.cli.mending import alike, find, key_columns, mend
from mirror.cli.options import (
    advise_replacing,
    common,
    help_end,
    json_option,
    postgres_of,
    replace_rows,
    schema_of,
)
from mirror.cli.output import BAD, print_line
from mirror.cli.plain import short
from mirror.cli.running import gate_of
from mirror.core.commands import command
from mirror.core.config.settings import Settings
from mirror.core.errors import ControlError, OthersWroteError
from mirror.core.status import named
from mirror.core.words import counted, names_apart
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema, statement
from mirror.postgres.sessions import connect

#: Characters of a row that people are shown.
_SHOWN = 300


@click.group(
    cls=Commands,
    short_help="List or retry rows Postgres cannot hold.",
    epilog=help_end("mirror rejects list", "mirror rejects retry memory.db"),
)
def rejects() -> None:
    """List, or try again, rows that Postgres cannot hold.

    Such a row (a NUL in its key, say) is kept whole in the table mirror.rejects. It moves into its own table as soon
    as it is changed in SQLite to something that Postgres can hold. After a move to Postgres (`mirror cutover`), rows of
    Postgres that the file does not take are listed, too.
    """


@rejects.command(
    "list",
    short_help="List rows that Postgres cannot hold.",
    epilog=help_end(
        "mirror rejects list",
        "mirror rejects list memory.db --table notes --json",
        codes={0: "they were listed, also if there are none"},
    ),
)
@common
@json_option
@click.option(
    "--table", "tables", metavar="NAME", multiple=True, help="List only the rows of this table (may be repeated)."
)
def list_(settings: Settings, debug: bool, as_json: bool, tables: tuple[str, ...]) -> None:
    """List the rows that Postgres cannot hold, each with its key and the reason. --json shows the rows whole.

    Where it can be known, the statement is given that mends the row in the source; else one that finds it there.

    In phase 3 of `mirror cutover` also those that Postgres has and the file does not take, by the names of the file's
    tables; --json has them in "way_back".
    """
    with postgres_of(settings) as dsn:
        known = [(source, schema_of(settings, source)) for source in settings.known()]
        found = [row for source, schema in known for row in _rejects(dsn, source, schema)]
        back = [row for source, schema in known for row in _way_back(dsn, source, schema)]
    found = [row for row in found if not tables or row["table"] in tables]
    back = [row for row in back if not tables or row["table"] in tables]
    if as_json:
        click.echo(json.dumps({"version": 2, "rejects": found, "way_back": back}, indent=2))
        return
    console, names = Console(), names_apart(str(source) for source, _ in known)
    for row in found:
        _show(row, names[row["source"]], console)
    for source in dict.fromkeys(row["source"] for row in found):
        again = command("rejects retry", source, settings.options)
        change = f"Next: change these rows of {names[source]}, and Postgres gets them by itself; after a change of"
        print_line(console, f"{change} Postgres: `{again}`")
    if back:
        _show_way_back(back, names, console)
    if not found and not back:
        print_line(console, "no rejects: every row is in both stores")


def _show(row: dict[str, Any], name: str, console: Console) -> None:
    """One reject, as a block of lines: its row is as wide as it likes."""
    key, data = (json.dumps(value, ensure_ascii=False) for value in (row["key"], row["row"]))
    print_line(console, BAD, f" {name}: {row['table']} {short(key, _SHOWN)}: {row['reason']}")
    print_line(console, f"  row:  {short(data, _SHOWN)}")
    if row["statement"]:
        print_line(console, f"  mend: {row['statement']}")
    elif row["find"]:
        print_line(console, f"  find: {row['find']}")


def _show_way_back(found: list[dict[str, Any]], names: dict[str, str], console: Console) -> None:
    """Rows of Postgres that the file does not take."""
    print_line(console, "rows of Postgres that the file does not take:")
    for row in found:
        key, seen = ", ".join(row["key"]), row["first_seen"].partition(".")[0]
        print_line(console, BAD, f" {names[row['source']]}: {row['table']} {short(key, _SHOWN)}: {row['reason']}")
        print_line(console, f"  first seen: {seen}")
    print_line(console, "Next: change or delete them in Postgres; they are tried again with all that is carried back")


@rejects.command(
    short_help="Send rejected rows and tables again.",
    epilog=help_end("mirror rejects retry memory.db", codes={0: "no rejects are left", 1: "some are left"}),
)
@common
@click.option(
    "--timeout", metavar="SECONDS", default=600.0, show_default=True, help="That each source may take at most."
)
@replace_rows
def retry(settings: Settings, debug: bool, timeout: float, replace_rows: bool) -> None:
    """Send tables with rejected rows, and tables that Postgres refused, to Postgres again.

    Useful after a change in Postgres. A row that was changed in SQLite is sent again by itself. A column that became
    jsonb because of a value, or that keeps text with NUL beside it, gets its own type back if every value fits again,
    or that of all its values.
    """
    left = 0
    with postgres_of(settings) as dsn:
        for source in settings.known():
            schema = schema_of(settings, source)
            with gate_of(source, dsn, settings.state_dir, schema, settings.options, settings.rules) as mirror:
                deadline = time.monotonic() + timeout
                before = mirror.status()
                # What was repaired a moment ago would be sent as it was. (A moved source refuses, and answers no wait.)
                if before.reverse is None and not mirror.wait(timeout):
                    late = f"what is committed is not in Postgres after {timeout:g} s"
                    step = "retry, or give it more by --timeout"
                    raise ControlError("send rejected rows again", str(source), late, next_step=step, retryable=True)
                try:
                    mirror.retry(max(0.0, deadline - time.monotonic()), replace=replace_rows)
                except OthersWroteError as error:
                    advise_replacing(error, command("rejects retry", str(source), settings.options, " --replace-rows"))
                    raise
                status = mirror.status()
            left += status.rejects + len(status.refusals)
            refused = f", {counted(len(status.refusals), 'table')} refused" if status.refusals else ""
            wide = {*before.widened, *before.escaped} - {*status.widened, *status.escaped}
            narrow = f"{named(sorted(wide))} {'has its' if len(wide) == 1 else 'have their'} own type again"
            rows = (
                f"{counted(status.rejects, 'row')} that Postgres cannot hold"
                if status.rejects
                else "every row is there"
            )
            said = ", ".join(filter(None, [narrow if wide else "", rows]))
            click.echo(f"{source.name}: {said}{refused}")
            if status.rejects:
                shown = command("rejects list", str(source), settings.options)
                click.echo(f"Next: {shown}  # which rows, and how to change them in the source")
            if status.refusals:
                click.echo(f"Next: {command('status', str(source), settings.options)}  # why tables are refused")
    sys.exit(1 if left else 0)


def _rejects(dsn: str, source: Path, schema: str) -> list[dict[str, Any]]:
    with translated("read the rejects"), connect(dsn, autocommit=False) as connection:
        require_known_schema(connection)
        cursor = psycopg.RawCursor(connection)
        if cursor.execute("SELECT to_regclass('mirror.rejects') IS NULL").fetchone() == (True,):
            return []
        rows = cursor.execute(statement("rejects_list"), (str(source), schema)).fetchall()
    keys: dict[object, list[Any]] = {}
    for table, key, *_ in rows:
        keys.setdefault((table, alike(values := json.loads(key))), []).append(values)
    return [_as_json(source, keys, *row) for row in rows]


def _as_json(
    source: Path,
    keys: Mapping[object, list[Any]],
    table: str,
    key: str,
    reason: str,
    row: str,
    position: str,
    seen: str,
    columns: Any,
    named: Any,
) -> dict[str, Any]:
    values, of_row = json.loads(key), json.loads(row)
    names = None if columns is None else key_columns(columns, named)
    known, others = columns is not None, keys[table, alike(values)]
    return {
        "source": str(source),
        "table": table,
        "key": values,
        "reason": reason,
        "row": of_row,
        "position": position,
        "first_seen": seen,
        "statement": mend(table, names, values, of_row, reason, others) if known else None,
        "find": find(table, names, values, of_row, others) if known else None,
    }


def _way_back(dsn: str, source: Path, schema: str) -> list[dict[str, Any]]:
    """Rows of Postgres that the file does not take: table and key (texts of Postgres) as the mirror knows them."""
    with translated("read the rejects of the way back"), connect(dsn, autocommit=False) as connection:
        require_known_schema(connection)
        cursor = psycopg.RawCursor(connection)
        if cursor.execute("SELECT to_regclass('mirror.reverse_rejects') IS NULL").fetchone() == (True,):
            return []
        rows = cursor.execute(statement("rejects_back"), (str(source), schema)).fetchall()
    names = ("table", "key", "reason", "first_seen")
    return [{"source": str(source), **dict(zip(names, row, strict=True))} for row in rows]
