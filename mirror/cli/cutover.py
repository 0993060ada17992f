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
from mirror.core.words import counted, names_apart
from mirror.cutover.onward import finalized, onward
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

    First the verdict; then each guard rail with its figure and, where it does not hold, a next step: the mirror runs,
    its worst lag, parity, rejects, columns that are jsonb because of some values, what is left out, indexes, foreign
    keys, unique indexes, NOT NULL, sequences, statistics, vector indexes, disk, backups. Tables of programs that the
    mirror does not know are a replica to read: what SQLite enforces on them and Postgres does not is named, with the
    statements that make it, which `advance` runs at the switch ("statements" in --json), or with the reason why there
    is none. Last what to do next: where it is READY, the commands that go on, and back.

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
            if verdict.reached and verdict.phase < 3:
                judge_server(verdict, settings)
                judge_adapters(verdict, source, settings, dsn, schema)
            verdicts.append(verdict)
    ready = all(verdict.ready for verdict in verdicts)
    if as_json:
        sources = [_as_json(verdict) for verdict in verdicts]
        click.echo(json.dumps({"version": 1, "ready": ready, "sources": sources}, indent=2))
    else:
        console = Console()
        names = names_apart(verdict.source for verdict in verdicts)
        for verdict in verdicts:
            _render(verdict, names[verdict.source], console)
        # For scripts, which look at the last line.
        click.echo(f"CUTOVER_READY={'YES' if ready else 'NO'}")
    sys.exit(0 if ready else 1)


def _as_json(verdict: Readiness) -> dict[str, Any]:
    return {
        "source": verdict.source,
        "rails": [rail.as_json() for rail in verdict.rails],
        "ready": verdict.ready,
        "statements": verdict.statements,
        "next_steps": _next_steps(verdict),
    }


def _next_steps(verdict: Readiness) -> list[str]:
    """What is to be done first; or, if it is ready, the commands that go on, and back."""
    if verdict.ready:
        return _onward(verdict)
    return [f"{rail.name}: {rail.next_step}" for rail in verdict.rails if not rail.passed]


def _onward(verdict: Readiness) -> list[str]:
    known = verdict.acknowledging()
    return onward(verdict.phase, verdict.source, verdict.options, known, adopted=verdict.adopted)


def _render(verdict: Readiness, name: str, console: Console) -> None:
    """The verdict first, then what is wrong, then what is to be known, then what is right."""
    wrong = sum(not rail.passed for rail in verdict.rails)
    checks = counted(len(verdict.rails), "check")
    if verdict.ready:
        print_line(console, text(f"READY: {name}: {checks}, none failed", "bold green"))
    else:
        print_line(console, text(f"NOT READY: {name}: {wrong:,} of {checks}", "bold red"))
    for level in ("problem", "note", "ok"):
        for rail in verdict.rails:
            if rail.level == level:
                figure, next_step = verdict.short.get(rail.name, (rail.detail, rail.next_step))
                print_line(console, _MARKS[level], f" {rail.name}: {figure}")
                if next_step:
                    print_line(console, f"  next: {next_step}", style="yellow")
    if verdict.finalized:
        print_line(console, f"Next: {finalized(verdict.source, verdict.options)}")
    elif verdict.ready or verdict.phase == 3:
        for step in _onward(verdict):
            print_line(console, f"Next: {step}")
    else:
        again = verdict.command("cutover plan", verdict.acknowledging())
        above = "the check above is" if wrong == 1 else f"the {wrong:,} checks above are"
        print_line(console, f"Next: {again}  # again, once {above} seen to")
