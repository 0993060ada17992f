"""``mirror doctor``: preflight, before anything is copied."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mirror.cli.options import (
    agent_and_profile,
    common,
    help_end,
    json_option,
    own_schema_command,
    postgres_of,
    schema_of,
)
from mirror.cli.output import BAD, GOOD, NOTE, print_line, print_table, text
from mirror.cli.reachable import reachable_checks
from mirror.cli.service.checks import service_checks
from mirror.core.checks import Code
from mirror.core.config.notes import configuration_checks
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings, require_file
from mirror.core.errors import ConfigError, MirrorError, NewerStateError
from mirror.sidecar.doctor import examine
from mirror.sidecar.doctor_place import say_user
from mirror.sidecar.doctor_report import Report

_MARKS = {"ok": GOOD, "note": NOTE, "problem": BAD}


@click.command(
    short_help="Check a file before anything is copied.",
    epilog=help_end(
        "mirror doctor memory.db",
        "mirror doctor memory.db --postgres postgresql://localhost/app --json",
        codes={0: "no problem: notes (•) do not keep a mirror from working", 1: "a problem (✗)"},
    ),
)
@common
@agent_and_profile
@json_option
def doctor(settings: Settings, debug: bool, agent: str | None, profile: str | None, as_json: bool) -> None:
    """Check a SQLite file, Postgres and the settings before anything is copied.

    Prints what would go wrong, with a next step for each problem, and for each column the kinds of values that it
    has and the Postgres type that it gets. Copies nothing.
    """
    if not settings.sources:
        raise ConfigError("look at the sources", detail="no source is named", next_step="mirror doctor FILE.db")
    for source in settings.sources:
        require_file(source, "look at the sources")
    reports: list[tuple[str, Report]] = []
    with _existing_postgres(settings) as (dsn, problem):
        for source in settings.sources:
            owner = agent or settings.agents.get(source)
            taken_for = profile or settings.profiles.get(source)
            schema, damage = _schema(settings, source)
            command = own_schema_command(settings, source, schema)
            known = [error for error in (problem, damage) if error is not None]
            report = examine(source, dsn, settings.state_dir, schema, owner, taken_for, command, settings.rules, known)
            if settings.dsn is None and dsn is not None:
                say_user(report, settings.state_dir)
            for found in reachable_checks(settings) if not reports else ():
                report.add(*found)
            for check in configuration_checks(settings) if not reports else ():
                report.add(Code.CONFIGURATION, *check)
            for check in service_checks(settings.state_dir) if not reports else ():
                report.add(Code.SERVICE, *check)
            for others, other in reports:
                if others == schema:
                    _look_for_shared_names(report, other, command)
            reports.append((schema, report))
            if not as_json:
                _render(report, settings.options, Console())
    if as_json:
        click.echo(json.dumps({"version": 1, "reports": [_as_json(report) for _, report in reports]}, indent=2))
    sys.exit(0 if all(report.healthy for _, report in reports) else 1)


def _schema(settings: Settings, source: Path) -> tuple[str, MirrorError | None]:
    """The schema of a source's tables; where it cannot be known, the usual one, and why.

    That the state directory cannot be used is told by itself.
    """
    try:
        return schema_of(settings, source), None
    except MirrorError as error:
        of_directory = not isinstance(error, NewerStateError) and not os.path.isdir(settings.state_dir)
        return settings.schema or DEFAULT_SCHEMA, None if of_directory else error


@contextmanager
def _existing_postgres(settings: Settings) -> Iterator[tuple[str | None, MirrorError | None]]:
    """The server to look at; None if there is none yet, or, with why, if it cannot be started.

    The embedded one counts if an earlier run has made it.
    """
    if settings.dsn is not None or not os.path.exists(settings.state_dir / "postgres" / "PG_VERSION"):
        yield settings.dsn, None
        return
    with ExitStack() as beside:
        dsn: str | None = None
        problem: MirrorError | None = None
        try:
            dsn = beside.enter_context(postgres_of(settings))
        except MirrorError as error:
            problem = error
        yield dsn, problem


def _look_for_shared_names(report: Report, other: Report, own_schema: str) -> None:
    """Two sources without agents cannot have tables of one name in one schema. ``own_schema``: the way out."""
    if report.agent is None and other.agent is None:
        shared = {column.table for column in report.columns} & {column.table for column in other.columns}
        for name in sorted(shared):
            detail = f"{other.source} has a table of this name, too, and both would use one schema"
            report.add(Code.TABLE_SHARED, "problem", f"table {name}", detail, own_schema)


def _as_json(report: Report) -> dict[str, Any]:
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
    keys = {found.table: ", ".join(found.key) for found in report.tables}
    for name, columns in groupby(report.columns, lambda column: column.table):
        table.add_row(text(name, "bold"), "", text(f"key: {keys[name]}"))
        for column in columns:
            classes = ", ".join(f"{count:,} {kind}" for kind, count in column.classes.items())
            becomes = column.becomes.replace("timestamp with time zone", "timestamptz")
            table.add_row(text(f"  {column.column}"), text(column.declared or "-"), classes or "no rows", becomes)
    if report.columns:
        print_table(console, table)
    if report.healthy:
        print_line(console, f"Next: `mirror up {shlex.quote(report.source)}{options}`.")
