"""``mirror dropped``: tables that Postgres keeps after SQLite has dropped them."""

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
from mirror.postgres.kept import Dropped, dropped_tables
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
    short_help="List or purge tables SQLite has dropped.",
    epilog=help_end("mirror dropped list", "mirror dropped purge --dry-run"),
)
def dropped() -> None:
    """List, or drop for good, tables that Postgres keeps after SQLite has dropped them.

    Such a table stays as NAME__dropped_…, with all its rows. A table that is made anew in one transaction, as
    migrations do, is not dropped: Postgres keeps a copy only if the new one has fewer rows or columns, or if views,
    foreign keys or grants are for the first one.
    """


@dropped.command(
    "list",
    short_help="List tables that SQLite has dropped.",
    epilog=help_end(
        "mirror dropped list",
        "mirror dropped list --json",
        codes={0: "they were listed, also if there are none"},
    ),
)
@_common
@json_option
def list_(settings: _Named, debug: bool, as_json: bool) -> None:
    """List the tables that are kept (or only TABLEs): of which source, since when, how large, and who uses them.

    All sources in the database are looked at; with --schema, those of one schema.
    """
    known, names = settings
    with postgres_of(known) as dsn, translated("read the tables that are kept"), connect(dsn) as conn:
        require_known_schema(conn)
        found = _chosen(dropped_tables(conn), known, names)
    if as_json:
        tables = [asdict(each) | {"why": each.why} for each in found]
        click.echo(json.dumps({"version": 1, "dropped": tables}, indent=2))
        return
    console = Console()
    if not found:
        print_line(console, "Postgres keeps no table that SQLite has dropped")
        return
    for each in found:
        since = "" if each.since is None else f", since {datetime.fromisoformat(each.since).astimezone():{_TO_MINUTES}}"
        print_line(console, NOTE, f" {_place(each)}: {_rows(each)}, {amount(each.bytes)}{since}")
        of = "" if each.source is None else f"{Path(each.source).name}: "
        used = named([*each.depending, *each.grants])
        print_line(console, f"  {of}{each.why}; {f'for it: {used}' if used else 'nobody uses it'}")
    print_line(console, f"next: `mirror dropped purge --dry-run{known.options}` says which would go")


@dropped.command(
    "purge",
    short_help="Drop tables SQLite has dropped, for good.",
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
    """Drop the tables that are kept (or only TABLEs), with their rows, from Postgres. It asks first: there is no way
    back.

    One on which a view, a foreign key, a function or a trigger depends stays, and is named: nothing of others is
    dropped. So does, unless TABLE names it, one that others may read and its successor not, and one that is
    not known to be the mirror's own: it was in the place of that.
    """
    known, names = settings
    with postgres_of(known) as dsn, translated("drop tables that are kept"), connect(dsn, raw=True) as conn:
        require_known_schema(conn)
        found = _chosen(dropped_tables(conn), known, names)
        stay = {_place(each): why for each in found if (why := _kept_for(each, by_name=bool(names)))}
        doomed = [] if dry_run else [each for each in found if _place(each) not in stay]
        if doomed and has_to_ask("drop tables that are kept", yes=yes, as_json=as_json):
            size = amount(sum(each.bytes for each in doomed))
            if not agrees(f"Drop {', '.join(map(_place, doomed))} ({size}) for good?"):
                click.echo("nothing was changed")
                sys.exit(1)
        for each in doomed:
            try:
                if not drop_for_good(conn, each):
                    stay[_place(each)] = "something depends on it"
            except psycopg.errors.LockNotAvailable:
                stay[_place(each)] = "another session reads it just now"
    gone = [each for each in found if _place(each) not in stay]
    if as_json:
        tables = [{"schema": each.schema, "name": each.name, "bytes": each.bytes} for each in gone]
        click.echo(json.dumps({"version": 1, "dry_run": dry_run, "purged": tables, "stay": stay}, indent=2))
    else:
        _say(gone, stay, known, dry_run=dry_run)
    sys.exit(1 if stay else 0)


def _kept_for(table: Dropped, *, by_name: bool) -> str:
    """Why a table stays; empty: it may go."""
    if table.strange and not by_name:
        return "it is not known to be the mirror's own; it goes if it is named"
    return named(table.depending + ([] if by_name else table.grants))


def _place(table: Dropped) -> str:
    return f"{table.schema}.{table.name}"


def _say(gone: Sequence[Dropped], stay: dict[str, str], settings: Settings, *, dry_run: bool) -> None:
    console = Console()
    done = "would go" if dry_run else "is gone"
    for each in gone:
        print_line(console, GOOD, f" {_place(each)} {done}: {_rows(each)}, {amount(each.bytes)}")
    for name, why in stay.items():
        print_line(console, BAD, f" {name} stays: {why}")
    if gone:
        total = amount(sum(each.bytes for each in gone))
        print_line(console, f"{counted(len(gone), 'table')}, {total}")
    if not gone and not stay:
        print_line(console, "Postgres keeps no table that SQLite has dropped")
    elif stay:
        print_line(
            console, f"next: `mirror dropped list{settings.options}` says what is for them, and why they are kept"
        )
    elif dry_run:
        print_line(console, f"next: `mirror dropped purge{settings.options} --yes`")


def _rows(each: Dropped) -> str:
    if each.rows is None:
        return "rows not counted"
    return counted(each.rows, "row") if each.exact else f"about {counted(each.rows, 'row')}"


def _chosen(found: Sequence[Dropped], settings: Settings, names: Collection[str]) -> list[Dropped]:
    """Those that are named, or all; of the schema that is named. Raises ``ConfigError`` for an unknown name."""
    found = [each for each in found if settings.schema in (None, each.schema)]
    for name in names:
        if all(name not in (each.name, f"{_place(each)}") for each in found):
            raise ConfigError(
                "find a table that is kept",
                name,
                "there is none of this name",
                next_step=f"mirror dropped list{settings.options}",
            )
    return [each for each in found if not names or {each.name, f"{_place(each)}"} & set(names)]
