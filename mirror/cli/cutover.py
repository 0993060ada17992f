"""``mirror cutover``: may reads move to Postgres, and the moves themselves."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

from mirror.cli.adapters import judge_adapters, judge_server
from mirror.cli.groups import Commands
from mirror.cli.options import common, help_end, json_option, postgres_of, schema_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line, text
from mirror.cli.status import measured_status_of
from mirror.core.config.settings import Settings
from mirror.core.folders import source_folder
from mirror.core.status import Phase
from mirror.cutover.rails import ACKNOWLEDGED
from mirror.cutover.rails import plan as judge
from mirror.cutover.readiness import Readiness

_MARKS = {"ok": GOOD, "note": NOTE, "problem": BAD}


@click.group(
    cls=Commands,
    short_help="Move programs to Postgres, and back.",
    epilog=help_end("mirror cutover plan memory.db"),
)
def cutover() -> None:
    """Move programs from SQLite to Postgres in three phases, and back.

    1: both stores, SQLite answers. 2: both, Postgres answers. 3: Postgres alone; what is written there is carried back
    into the file until the move is finalized. `advance` goes one phase forward, `rollback` one back.
    """


_acknowledge = click.option(
    "--acknowledge",
    "acknowledged",
    multiple=True,
    type=click.Choice(ACKNOWLEDGED),
    metavar="NAME",
    help="Count this guard rail as passed, because you have checked it yourself (may be repeated): "
    f"{', '.join(ACKNOWLEDGED)}.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Print the steps, and do nothing.")


@cutover.command(
    short_help="Print READY or NOT READY, with the reasons.",
    epilog=help_end(
        "mirror cutover plan memory.db",
        "mirror cutover plan memory.db --acknowledge backups",
        codes={0: "READY", 1: "NOT READY"},
    ),
)
@common
@json_option
@_acknowledge
def plan(settings: Settings, debug: bool, as_json: bool, acknowledged: tuple[str, ...]) -> None:
    """Print READY or NOT READY: may programs read from Postgres instead of SQLite?

    Each guard rail is shown with its verdict, its figure and, where it does not hold, a next step: the mirror runs,
    its worst lag, parity, rejects, what is left out, indexes, foreign keys, unique indexes, NOT NULL, sequences,
    statistics, vector indexes, disk, backups. Tables of programs that the mirror does not know are a replica to read:
    what SQLite enforces on them and Postgres does not is named, with the statements that make it, which `advance` runs
    at the switch ("statements" in --json), or with the reason why there is none.

    The last line is CUTOVER_READY=YES or CUTOVER_READY=NO, for all sources together ("ready" in --json).
    """
    verdicts = []
    with postgres_of(settings) as dsn:
        for source in settings.known():
            folder, schema = source_folder(settings.state_dir, source), schema_of(settings, source)
            status = measured_status_of(source, settings)
            if status.phase is Phase.SILENT:
                click.secho(f"mirror: {status.last_error}", fg="red", err=True)
            verdict = judge(source, status, folder, dsn, schema, acknowledged, settings.options, settings.sequences)
            if verdict.reached:
                judge_server(verdict, settings)
                judge_adapters(verdict, source, settings, dsn, schema)
            verdicts.append(verdict)
    ready = all(verdict.ready for verdict in verdicts)
    if as_json:
        sources = [_as_json(verdict) for verdict in verdicts]
        click.echo(json.dumps({"version": 1, "ready": ready, "sources": sources}, indent=2))
    else:
        console = Console()
        for verdict in verdicts:
            _render(verdict, console)
        # For scripts, which look at the last line.
        click.echo(f"CUTOVER_READY={'YES' if ready else 'NO'}")
    sys.exit(0 if ready else 1)


def _as_json(verdict: Readiness) -> dict[str, Any]:
    return {
        "source": verdict.source,
        "rails": [rail.as_json() for rail in verdict.rails],
        "ready": verdict.ready,
        "statements": verdict.statements,
        "next_steps": [f"{rail.name}: {rail.next_step}" for rail in verdict.rails if not rail.passed],
    }


def _render(verdict: Readiness, console: Console) -> None:
    for rail in verdict.rails:
        figure, next_step = verdict.short.get(rail.name, (rail.detail, rail.next_step))
        print_line(console, _MARKS[rail.level], f" {rail.name}: {figure}")
        if next_step:
            print_line(console, f"  next: {next_step}", style="yellow")
    word = text("READY", "bold green") if verdict.ready else text("NOT READY", "bold red")
    print_line(console, word, f": {verdict.source}")
