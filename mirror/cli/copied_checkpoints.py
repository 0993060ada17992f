"""``mirror adopt --preset langgraph-checkpoints``: a copy, made once, of what cannot be mirrored."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from mirror.adoption.presets import COPIED
from mirror.cli.options import postgres_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line
from mirror.core.commands import command
from mirror.core.config.settings import Settings
from mirror.core.errors import ConfigError
from mirror.core.words import counted

if TYPE_CHECKING:
    from mirror.adoption.checkpoints import CheckpointReport

_OPERATION = "copy LangGraph's checkpoints"


def copy(settings: Settings, path: Path, schema: str, *, dry_run: bool, as_json: bool) -> None:
    """Copy, tell of it, and end the process: 0 if all is in Postgres, 1 if not."""
    try:
        from mirror.adoption.checkpoints import copy_checkpoints  # needs what an extra installs
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langgraph", "ormsgpack"):
            raise
        step = "pip install 'mirror[langgraph]', into the environment of the mirror"
        raise ConfigError(_OPERATION, detail=f"{error.name} is not installed", next_step=step) from error
    console = Console()
    if not dry_run and not as_json:
        live = "This is a copy, made once: nothing that is written to the file from now on comes into it."
        said = f"{live} End its programs first, and have them use PostgresSaver afterwards."
        print_line(console, said, style="yellow")

    def progress(what: str) -> None:
        if console.is_terminal and not as_json:
            print_line(console, f" {what}", style="dim")

    with postgres_of(settings) as dsn:
        report = copy_checkpoints(path, dsn, schema, dry_run=dry_run, progress=progress)
    if as_json:
        told = {"preset": COPIED, "good": report.good, **asdict(report)}
        click.echo(json.dumps({"version": 1, "reports": [told]}, indent=2))
    else:
        _show(report, console, settings.options)
    sys.exit(0 if report.good else 1)


def _show(report: CheckpointReport, console: Console, options: str) -> None:
    print_line(console, report.source, style="bold")
    has = f"{counted(report.checkpoints, 'checkpoint')} of {counted(report.threads, 'thread')}"
    print_line(
        console, GOOD, f" the file has {has} (with subgraphs {report.namespaces:,}), and {report.writes:,} writes"
    )
    again = command("adopt", report.source, options, f" --preset {COPIED}")
    if not report.copied:
        there = (
            "no tables of PostgresSaver yet" if report.in_postgres is None else f"{report.in_postgres:,} checkpoints"
        )
        print_line(console, NOTE, f" the schema {report.schema} has {there}")
        print_line(console, f"Nothing was copied (--dry-run). Next: end the file's programs, and `{again}`.")
        return
    mark = GOOD if report.equal == report.checkpoints else BAD
    print_line(console, mark, f" {report.equal:,} of them are in Postgres as in the file, with their writes")
    more = (report.in_postgres or 0) - report.equal - report.different
    if more > 0:
        print_line(console, NOTE, f" {counted(more, 'checkpoint')} of Postgres are not in the file, and left alone")
    for each in report.problems:
        place = " ".join(filter(None, (each.thread, each.namespace, each.checkpoint)))
        print_line(console, BAD, f" {place}: {each.detail}")
    if report.came_meanwhile:
        rows = counted(report.came_meanwhile, "row")
        print_line(console, BAD, f" {rows} or more were written to the file while it was copied, and may be missing")
        print_line(console, f"  next: end its programs, and `{again}` again", style="yellow")
    if report.problems:
        step = "where Postgres has another value, PostgresSaver's delete_thread takes that thread away there"
        print_line(console, f"  next: {step}; then `{again}` again", style="yellow")
    if report.good:
        print_line(console, "Copied. Next: have the programs use PostgresSaver; its setup() is done.")
