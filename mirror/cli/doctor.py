"""``mirror doctor``: preflight, before anything is copied."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mirror.cli.options import common, whose_and_how
from mirror.config import Settings, require_file
from mirror.doctor import Level, Report, examine
from mirror.errors import ConfigError

_MARKS: dict[Level, str] = {"ok": "[green]✓[/]", "note": "[yellow]•[/]", "problem": "[red]✗[/]"}


@click.command()
@common
@whose_and_how
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(settings: Settings, debug: bool, agent: str | None, profile: str | None, as_json: bool) -> None:
    """Say what would go wrong, and what becomes of each column, before anything is copied (exit code 1: a problem)."""
    if not settings.sources:
        raise ConfigError("look at the sources", detail="no source is named", next_step="mirror doctor FILE.db")
    reports = []
    for source in settings.sources:
        require_file(source, "look at the sources")
        whose = agent or settings.agents.get(source)
        report = examine(source, settings.dsn, settings.state_dir, settings.schema, whose, profile)
        reports.append(report)
        if not as_json:
            _render(report, Console())
    if as_json:
        click.echo(json.dumps({"version": 1, "reports": [_told(report) for report in reports]}, indent=2))
    sys.exit(0 if all(report.healthy for report in reports) else 1)


def _told(report: Report) -> dict[str, Any]:
    steps = [finding.next_step for finding in report.findings if finding.next_step]
    return asdict(report) | {"healthy": report.healthy, "next_steps": list(dict.fromkeys(steps))}


def _render(report: Report, console: Console) -> None:
    console.print(f"[bold]{escape(report.source)}[/]", highlight=False)
    for finding in report.findings:
        console.print(f"{_MARKS[finding.level]} {escape(finding.check)}: {escape(finding.detail)}", highlight=False)
        if finding.next_step:
            console.print(f"  next: {escape(finding.next_step)}", style="yellow", highlight=False)
    table = Table(
        Column("column", overflow="fold"), "declared", Column("values", overflow="fold"), "in Postgres",
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name, columns in groupby(report.columns, lambda column: column.table):
        table.add_row(f"[bold]{escape(name)}[/]")
        for column in columns:
            classes = ", ".join(f"{count:,} {kind}" for kind, count in column.classes.items())
            becomes = column.becomes.replace("timestamp with time zone", "timestamptz")
            table.add_row(f"  {escape(column.column)}", escape(column.declared or "-"), classes or "no rows", becomes)
    if report.columns:
        console.print(table)
    if report.healthy:
        console.print(f"Next: `mirror up {escape(report.source)}`.", highlight=False)
