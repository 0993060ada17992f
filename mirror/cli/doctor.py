"""``mirror doctor``: preflight, before anything is copied."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mirror.cli.options import common, own_schema_command, postgres_of, schema_of, whose_and_how
from mirror.cli.output import BAD, GOOD, NOTE, print_line, print_table, text
from mirror.core.checks import Code
from mirror.core.config.notes import configuration_checks
from mirror.core.config.settings import Settings, require_file
from mirror.core.errors import ConfigError
from mirror.sidecar.doctor import Report, examine

_MARKS = {"ok": GOOD, "note": NOTE, "problem": BAD}


@click.command()
@common
@whose_and_how
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(settings: Settings, debug: bool, agent: str | None, profile: str | None, as_json: bool) -> None:
    """Say what would go wrong, and what becomes of each column, before anything is copied (exit code 1: a problem)."""
    if not settings.sources:
        raise ConfigError("look at the sources", detail="no source is named", next_step="mirror doctor FILE.db")
    for source in settings.sources:
        require_file(source, "look at the sources")
    reports: list[tuple[str, Report]] = []
    with _postgres_there_is(settings) as dsn:
        for source in settings.sources:
            whose = agent or settings.agents.get(source)
            how, schema = profile or settings.profiles.get(source), schema_of(settings, source)
            command = own_schema_command(settings, source, schema)
            report = examine(source, dsn, settings.state_dir, schema, whose, how, command)
            for check in configuration_checks(settings) if not reports else ():
                report.add(Code.CONFIGURATION, *check)
            for others, other in reports:
                if others == schema:
                    _look_for_shared_names(report, other, command)
            reports.append((schema, report))
            if not as_json:
                _render(report, settings.options, Console())
    if as_json:
        click.echo(json.dumps({"version": 1, "reports": [_told(report) for _, report in reports]}, indent=2))
    sys.exit(0 if all(report.healthy for _, report in reports) else 1)


@contextmanager
def _postgres_there_is(settings: Settings) -> Iterator[str | None]:
    """The server to look at: the embedded one, too, if it has been made before."""
    if settings.dsn is None and (settings.state_dir / "postgres").exists():
        with postgres_of(settings) as dsn:
            yield dsn
    else:
        yield settings.dsn


def _look_for_shared_names(report: Report, other: Report, own_schema: str) -> None:
    """Two sources without agents cannot have tables of one name in one schema. ``own_schema``: the way out."""
    if report.agent is None and other.agent is None:
        shared = {column.table for column in report.columns} & {column.table for column in other.columns}
        for name in sorted(shared):
            told = f"{other.source} has one of this name, too"
            report.add(Code.TABLE_SHARED, "problem", f"table {name}", told, own_schema)


def _told(report: Report) -> dict[str, Any]:
    steps = [finding.next_step for finding in report.findings if finding.next_step]
    findings = [finding.as_json() for finding in report.findings]
    return asdict(report) | {
        "findings": findings,
        "healthy": report.healthy,
        "next_steps": list(dict.fromkeys(steps)),
    }


def _render(report: Report, options: str, console: Console) -> None:
    print_line(console, report.source, style="bold")
    for finding in report.findings:
        print_line(console, _MARKS[finding.level], f" {finding.name}: {finding.detail}")
        if finding.next_step:
            print_line(console, f"  next: {finding.next_step}", style="yellow")
    table = Table(
        Column("column", overflow="fold"), "declared", Column("values", overflow="fold"), "in Postgres",
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name, columns in groupby(report.columns, lambda column: column.table):
        table.add_row(text(name, "bold"))
        for column in columns:
            classes = ", ".join(f"{count:,} {kind}" for kind, count in column.classes.items())
            becomes = column.becomes.replace("timestamp with time zone", "timestamptz")
            table.add_row(text(f"  {column.column}"), text(column.declared or "-"), classes or "no rows", becomes)
    if report.columns:
        print_table(console, table)
    if report.healthy:
        print_line(console, f"Next: `mirror up {shlex.quote(report.source)}{options}`.")
