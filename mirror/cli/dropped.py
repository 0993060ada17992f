"""``mirror dropped``: tables and columns that Postgres keeps after SQLite has dropped them."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
import psycopg
from rich.console import Console

from mirror.cli.agreed import agrees, has_to_ask, yes_option
from mirror.cli.groups import Commands
from mirror.cli.options import common_as, help_end, json_option, postgres_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line
from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import ConfigError
from mirror.core.status import named
from mirror.core.words import amount, counted
from mirror.postgres.failures import translated
from mirror.postgres.kept import Dropped, dropped_columns, dropped_tables
from mirror.postgres.kept import purge as drop_for_good
from mirror.postgres.migrate import require_known_schema
from mirror.postgres.sessions import connect

_TO_MINUTES = "%Y-%m-%d %H:%M"
_Named = tuple[Settings, tuple[str, ...]]


def _load(names: tuple[str, ...], *options: str | None) -> _Named:
    postgres, state_dir, schema, config = options
    return load_settings((), postgres, state_dir, schema, config), names


_common = common_as(_load, "[TABLE]...")


@click.group(
    cls=Commands,
    short_help="List or purge what SQLite has dropped.",
    epilog=help_end("mirror dropped list", "mirror dropped purge --dry-run"),
)
def dropped() -> None:
    """List, or drop for good, tables and columns that Postgres keeps after SQLite has dropped them.

    Such a table stays as NAME__dropped_…, with all its rows; such a column in its table, likewise. A table that is
    made anew in one transaction, as migrations do, is not dropped: Postgres keeps a copy only if the new one has fewer
    rows or columns, or if views, foreign keys or grants are for the first one.
    """


@dropped.command(
    "list",
    short_help="List what SQLite has dropped.",
    epilog=help_end(
        "mirror dropped list",
        "mirror dropped list --json",
        codes={0: "they were listed, also if there are none"},
    ),
)
@_common
@json_option
def list_(settings: _Named, debug: bool, as_json: bool) -> None:
    """List what is kept (or only TABLEs; a column is TABLE.COLUMN): of which source, since when, how large, and who
    uses it.

    All sources in the database are looked at; with --schema, those of one schema.
    """
    known, names = settings
    with postgres_of(known) as dsn, translated("read the tables that are kept"), connect(dsn) as conn:
        require_known_schema(conn)
        found = _chosen([*dropped_tables(conn), *dropped_columns(conn)], known, names)
    if as_json:
        tables = [asdict(each) | {"why": each.why} for each in found]
        click.echo(json.dumps({"version": 1, "dropped": tables}, indent=2))
        return
    console = Console()
    if not found:
        print_line(console, "Postgres keeps no table and no column that SQLite has dropped")
        return
    for each in found:
        since = "" if each.since is None else f", since {datetime.fromisoformat(each.since).astimezone():{_TO_MINUTES}}"
        print_line(console, NOTE, f" {each.place}: {_size(each)}{since}")
        of = "" if each.source is None else f"{Path(each.source).name}: "
        used = named([*each.depending, *each.grants])
        print_line(console, f"  {of}{each.why}; {f'for it: {used}' if used else 'nobody uses it'}")
    print_line(console, f"next: `mirror dropped purge --dry-run{known.options}` says which would go")


@dropped.command(
    "purge",
    short_help="Drop what SQLite has dropped, for good.",
    epilog=help_end(
        "mirror dropped purge --dry-run",
        "mirror dropped purge notes__dropped_3_120 --yes",
        codes={
            0: "all of them are gone, or there were none",
            1: "some stay, because others use or have made them, or you have answered no",
        },
    ),
)
@_common
@json_option
@click.option("--dry-run", is_flag=True, help="Say which would go, and change nothing.")
@yes_option
def purge(settings: _Named, debug: bool, as_json: bool, dry_run: bool, yes: bool) -> None:
    """Drop the tables and columns that are kept (or only TABLEs; a column is TABLE.COLUMN), with their rows and
    values, from Postgres. It asks first: there is no way back.

    One on which a view, a foreign key, a function or a trigger depends stays, and is named: nothing of others is
    dropped. So does, unless TABLE names it, one that others may read and its successor not, and one that is
    not known to be the mirror's own: it was in the place of that.
    """
    known, names = settings
    with postgres_of(known) as dsn, translated("drop tables that are kept"), connect(dsn, raw=True) as conn:
        require_known_schema(conn)
        found = _chosen([*dropped_tables(conn), *dropped_columns(conn)], known, names)
        stay = {each.place: why for each in found if (why := _kept_for(each, by_name=bool(names)))}
        doomed = [] if dry_run else [each for each in found if each.place not in stay]
        if doomed and has_to_ask("drop what is kept", yes=yes, as_json=as_json):
            size = amount(sum(each.bytes or 0 for each in doomed))
            if not agrees(f"Drop {', '.join(each.place for each in doomed)} ({size}) for good?"):
                click.echo("nothing was changed")
                sys.exit(1)
        for each in doomed:
            try:
                if not drop_for_good(conn, each):
                    stay[each.place] = "something depends on it"
            except psycopg.errors.LockNotAvailable:
                stay[each.place] = "another session reads it just now"
    gone = [each for each in found if each.place not in stay]
    if as_json:
        tables = [
            {"schema": each.schema, "name": each.name, "column": each.column, "bytes": each.bytes} for each in gone
        ]
        click.echo(json.dumps({"version": 1, "dry_run": dry_run, "purged": tables, "stay": stay}, indent=2))
    else:
        _say(gone, stay, known, dry_run=dry_run)
    sys.exit(1 if stay else 0)


def _kept_for(each: Dropped, *, by_name: bool) -> str:
    """Why a table or column stays; empty: it may go."""
    if each.strange and not by_name:
        return "it is not known to be the mirror's own; it goes if it is named"
    return named(each.depending + ([] if by_name else each.grants))


def _say(gone: Sequence[Dropped], stay: dict[str, str], settings: Settings, *, dry_run: bool) -> None:
    console = Console()
    done = "would go" if dry_run else "is gone"
    for each in gone:
        print_line(console, GOOD, f" {each.place} {done}: {_size(each)}")
    for name, why in stay.items():
        print_line(console, BAD, f" {name} stays: {why}")
    if gone:
        total = amount(sum(each.bytes or 0 for each in gone))
        columns = sum(each.column is not None for each in gone)
        parts = [counted(len(gone) - columns, "table")] if len(gone) > columns else []
        parts += [counted(columns, "column")] if columns else []
        print_line(console, ", ".join([*parts, total]))
    if not gone and not stay:
        print_line(console, "Postgres keeps no table and no column that SQLite has dropped")
    elif stay:
        print_line(
            console, f"next: `mirror dropped list{settings.options}` says what is for them, and why they are kept"
        )
    elif dry_run:
        print_line(console, f"next: `mirror dropped purge{settings.options} --yes`")


def _size(each: Dropped) -> str:
    noun = "row" if each.column is None else "value"
    if each.rows is None:
        number = f"{noun}s not counted"
    else:
        number = f"{'' if each.exact else 'about '}{counted(each.rows, noun)}"
    return number if each.bytes is None else f"{number}, {amount(each.bytes)}"


def _chosen(found: Sequence[Dropped], settings: Settings, names: Collection[str]) -> list[Dropped]:
    """Those that are named, or all; of the schema that is named. Raises ``ConfigError`` for an unknown name."""
    found = [each for each in found if settings.schema in (None, each.schema)]
    for name in names:
        if all(name not in each.names for each in found):
            raise ConfigError(
                "find what is kept",
                name,
                "there is none of this name",
                next_step=f"mirror dropped list{settings.options}",
            )
    return [each for each in found if not names or each.names & set(names)]
