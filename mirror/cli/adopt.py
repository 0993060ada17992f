"""``mirror adopt``: mirror a source into the tables that its application's own migrations made in Postgres."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import click
from rich.console import Console

from mirror.adoption.examine import Wishes, examine
from mirror.adoption.presets import COPIED, PRESETS
from mirror.adoption.remember import remember, require_unmirrored
from mirror.cli.adopt_view import show
from mirror.cli.copied_checkpoints import copy
from mirror.cli.hand_over import commands_to_restart
from mirror.cli.options import common, help_end, json_option, postgres_of, require_sources, schema_of
from mirror.core.adopted import Unit
from mirror.core.config.settings import Settings, require_file
from mirror.core.errors import ConfigError
from mirror.core.folders import require_not_moved, source_folder
from mirror.postgres.adopted.script import read_script, require_syntax
from mirror.postgres.migrate import require_known_schema
from mirror.postgres.sessions import connect, require_utf8

_OPERATION = "adopt a source"
_UNITS = tuple(unit for unit in get_args(Unit) if unit)


@click.command(
    short_help="Mirror into an application's own tables.",
    epilog=help_end(
        "mirror adopt app.db --dry-run",
        "mirror adopt app.db --exclude 'cache_*' --unit orders.paid_at=ms",
        "mirror adopt app.db --map users=auth_user --drop-column users.legacy",
        "mirror adopt app.db --after-copy search.sql",
        f"mirror adopt agents.db --preset {COPIED}",
        codes={
            0: "it can be adopted, or was",
            1: "something keeps it from that (✗), or is to be decided first (?)",
        },
    ),
)
@common
@json_option
@click.option("--dry-run", is_flag=True, help="Only report; remember nothing.")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="FROM=TO",
    help="Where a table goes that has another name in Postgres; or a column: TABLE.COLUMN=TABLE.COLUMN. May be given"
    " again.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Tables of the source that are not mirrored: a name, or a pattern with * and ?. May be given again.",
)
@click.option(
    "--drop-column",
    multiple=True,
    metavar="TABLE.COLUMN",
    help="A column of the source that is not mirrored. May be given again.",
)
@click.option(
    "--unit",
    multiple=True,
    metavar="TABLE.COLUMN=UNIT",
    help="What numbers are that are times: s, ms or us since 1970; or how intervals are written: those, or datetime,"
    " clock or iso. May be given again.  [default: what the preset or all values say]",
)
@click.option(
    "--naive-zone",
    metavar="ZONE",
    help="The zone of times that have no offset, as Europe/Berlin.  [default: what the preset says, or UTC]",
)
@click.option(
    "--decimal-digits",
    type=click.IntRange(1, 17),
    metavar="N",
    help="To so many digits reals are rounded in columns of numeric: 15 is what Django shows.  [default: what the"
    " preset says, or 17, which is all of them]",
)
@click.option("--empty-is-null", is_flag=True, help="Take empty texts, and times of 0000-00-00, as NULL.")
@click.option(
    "--replace-rows", is_flag=True, help="Have rows deleted that the tables in Postgres have and the source does not."
)
@click.option(
    "--after-copy",
    type=click.Path(path_type=Path),
    metavar="FILE.sql",
    help="SQL that is run in Postgres once the first copy is there, and again by the switch of a move: for what cannot"
    " be mirrored, as full-text search. It is run in one transaction, and must be such that it can run twice.",
)
@click.option(
    "--preset",
    type=click.Choice(["auto", "none", *(preset.name for preset in PRESETS), COPIED]),
    default="auto",
    show_default=True,
    metavar="NAME",
    help=f"What program made the tables: {', '.join(preset.name for preset in PRESETS)} or none. auto: found by the"
    f" tables that record its migrations. {COPIED}: copies these once, which cannot be mirrored (pip install"
    " 'mirror[langgraph]').",
)
def adopt(
    settings: Settings,
    debug: bool,
    as_json: bool,
    dry_run: bool,
    mapped: tuple[str, ...],
    exclude: tuple[str, ...],
    drop_column: tuple[str, ...],
    unit: tuple[str, ...],
    naive_zone: str | None,
    decimal_digits: int | None,
    empty_is_null: bool,
    replace_rows: bool,
    after_copy: Path | None,
    preset: str,
) -> None:
    """Mirror SOURCE into the tables that its application's own migrations have made in Postgres, in place of tables of
    the mirror's own.

    Tables and columns are found by their names. All values are read, and what does not fit is reported with its reason
    and three keys: such rows go to mirror.rejects later. Nothing is copied, and no table is changed: what was decided
    is remembered in Postgres, and `mirror up` copies and follows. Rows that are there already are replaced by those of
    the source; records of migrations are kept.
    """
    require_sources(settings, "APP.db")
    if len(settings.sources) > 1:
        raise ConfigError(_OPERATION, detail="several sources are named", next_step="adopt one at a time")
    (path,) = settings.sources
    require_file(path, _OPERATION)
    require_not_moved(source_folder(settings.state_dir, path), path)
    if preset == COPIED:
        others = (
            mapped,
            exclude,
            drop_column,
            unit,
            naive_zone,
            decimal_digits,
            empty_is_null,
            replace_rows,
            after_copy,
        )
        if any(others):
            step = "leave out all but --postgres, --schema, --dry-run and --json"
            raise _wrong("--preset", preset, "nothing is mirrored, so other options mean nothing", step)
        copy(settings, path, schema_of(settings, path), dry_run=dry_run, as_json=as_json)
    tables, columns = _maps(mapped)
    script = "" if after_copy is None else read_script(after_copy)
    wishes = Wishes(
        schema=schema_of(settings, path),
        preset=None if preset == "auto" else "" if preset == "none" else preset,
        tables=tables,
        columns=columns,
        excluded=exclude,
        dropped=_dropped(drop_column),
        units=_units(unit),
        zone=_zone(naive_zone),
        real_digits=decimal_digits,
        empty_is_null=empty_is_null,
        replace_rows=replace_rows,
        after_copy=script,
        after_copy_file="" if after_copy is None else str(after_copy.absolute()),
    )
    restart: list[str] = []
    with postgres_of(settings) as dsn, connect(dsn, raw=True) as conn:
        require_known_schema(conn)
        require_utf8(conn)
        require_unmirrored(conn, str(path))
        if after_copy is not None:
            require_syntax(conn, after_copy, script)
        report = examine(path, conn, wishes)
        adopted = report.can_be_adopted and not dry_run
        if adopted:
            remember(conn, str(path), report.decisions)
            restart = commands_to_restart(settings, path)
    if as_json:
        click.echo(json.dumps({"version": 1, "reports": [report.as_json(adopted=adopted, restart=restart)]}, indent=2))
    else:
        show(report, Console(), options=settings.options, adopted=adopted, restart=restart)
    sys.exit(0 if report.can_be_adopted else 1)


def _wrong(option: str, given: str, detail: str, step: str = "mirror adopt --help") -> ConfigError:
    return ConfigError(_OPERATION, f"{option} {given}", detail, next_step=step)


def _column(option: str, given: str, name: str) -> tuple[str, str]:
    table, dot, column = name.rpartition(".")
    if not dot or not table or not column:
        raise _wrong(option, given, f"{name or 'nothing'} is not TABLE.COLUMN")
    return table, column


def _maps(given: Iterable[str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    tables: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    for each in given:
        source, equals, target = each.partition("=")
        if not equals or not source or not target:
            raise _wrong("--map", each, "it is not FROM=TO")
        if "." in source:
            table, column = _column("--map", each, source)
            columns.setdefault(table, {})[column] = target.rpartition(".")[2]
        else:
            tables[source] = target
    return tables, columns


def _dropped(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    dropped: dict[str, tuple[str, ...]] = {}
    for each in given:
        table, column = _column("--drop-column", each, each)
        dropped[table] = (*dropped.get(table, ()), column)
    return dropped


def _units(given: Iterable[str]) -> dict[str, dict[str, Unit]]:
    units: dict[str, dict[str, Unit]] = {}
    for each in given:
        name, _, wanted = each.rpartition("=")
        table, column = _column("--unit", each, name)
        unit = next((known for known in _UNITS if known == wanted), None)
        if unit is None:
            raise _wrong("--unit", each, f"{wanted or 'nothing'} is none of {', '.join(_UNITS)}")
        units.setdefault(table, {})[column] = unit
    return units


def _zone(given: str | None) -> str | None:
    if given is None:
        return None
    try:
        return ZoneInfo(given).key
    except (KeyError, ValueError, OSError) as error:
        raise _wrong("--naive-zone", given, "no zone of this name is known") from error
