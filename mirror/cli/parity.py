"""``mirror parity``: compare every value in SQLite with its copy in Postgres."""

from __future__ import annotations

import json
import shlex
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import click
import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from mirror.cli import moved
from mirror.cli.options import (
    advise_replacing,
    common,
    help_end,
    json_option,
    own_schema_command,
    postgres_of,
    replace_rows,
    schema_of,
)
from mirror.cli.output import Words, print_line, print_table, text
from mirror.cli.running import gate_of
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, MirrorError, OthersWroteError
from mirror.core.folders import source_folder
from mirror.core.locks import ParityLock
from mirror.parity.compare import compare
from mirror.parity.html import Second, page
from mirror.parity.report import Difference, ParityReport, Status
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema, statement
from mirror.postgres.sessions import connect
from mirror.sidecar.parity_runs import derived, record

#: Seconds that a repair may take: it sends all rows of a table that differs.
REPAIR_SECONDS = 3600.0
#: Characters: from this width on a terminal has room for positions and the first characters of digests.
_WIDE, _DIGEST = 120, 8
_COLOURS: dict[Status, str] = {"equal": "green", "different": "red", "not checked": "yellow"}


@click.command(
    short_help="Compare every value of every row.",
    epilog=help_end(
        "mirror parity memory.db",
        "mirror parity memory.db --table notes --html report.html",
        "mirror parity memory.db --repair",
        "mirror parity memory.db --repair --replace-rows",
        codes={0: "equal", 1: "different", 2: "could not compare all: the reason is shown"},
    ),
)
@common
@json_option
@click.option("--table", "tables", multiple=True, help="Compare only this table (may be repeated).")
@click.option("--html", "html_file", metavar="FILE", help="Also write the report to FILE, as one page for a browser.")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Compare only about N rows of each table: quick, but no proof.",
)
@click.option("--repair", is_flag=True, help="Write rows that differ to Postgres again, and then compare once more.")
@click.option("--running", is_flag=True, help="Only beside a running mirror: start none for the comparison.")
@replace_rows
def parity(
    settings: Settings,
    debug: bool,
    as_json: bool,
    tables: tuple[str, ...],
    html_file: str | None,
    sample: int | None,
    repair: bool,
    running: bool,
    replace_rows: bool,
) -> None:
    """Compare every value of every row in SQLite with Postgres, while programs go on writing.

    The mirror may be running or not; the source must have been mirrored before. Each comparison is also recorded in
    the table mirror.parity_runs. Of a source that was moved to Postgres, the running mirror compares the file with it,
    and that is not recorded.
    """
    if sample is not None and repair:
        raise click.UsageError("--repair needs a comparison of all rows: leave --sample out")
    if replace_rows and not repair:
        raise click.UsageError("--replace-rows belongs to --repair")
    chosen = settings.known()
    reports: list[ParityReport] = []
    errors: dict[str, MirrorError] = {}
    with postgres_of(settings) as dsn:
        for source in chosen:
            try:
                schema = schema_of(settings, source)
                if not repair and moved.is_open(source, dsn, schema):
                    if tables or sample is not None:
                        raise moved.all_or_nothing(source)
                    report = moved.compared_back(source, dsn, schema, settings.state_dir)
                else:
                    report = _compare(
                        source, dsn, settings, tables, sample, repair=repair, running=running, replace_rows=replace_rows
                    )
            except MirrorError as error:
                if isinstance(error, OthersWroteError):
                    named = "".join(f" --table {shlex.quote(table)}" for table in tables)
                    again = f"mirror parity {shlex.quote(str(source))}{settings.options}{named} --repair --replace-rows"
                    advise_replacing(error, again)
                # The other sources are still compared, and a difference found there counts.
                if debug:
                    raise
                click.secho(f"mirror: {error}", fg="red", err=True)
                report = ParityReport(str(source), (), "not checked", str(error), 0.0, 0, 0.0)
                errors[report.source] = error
            else:
                if not as_json:
                    render(report, _console())
            reports.append(report)
    if html_file is not None:
        _write_page(Path(html_file), [(report, _history(Path(report.source), settings)) for report in reports])
    if as_json:
        shown = [report.to_dict() for report in reports]
        for each in shown:
            if (problem := errors.get(each["source"])) is not None:
                each["error"] = problem.to_dict()
        click.echo(json.dumps({"version": 1, "reports": shown}, indent=2))
    codes = {report.exit_code for report in reports}
    sys.exit(1 if 1 in codes else max(codes))


def _console() -> Console:
    """Standard output; wide enough for all columns where it is not a terminal, because its width is then not known."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _history(source: Path, settings: Settings) -> list[Second]:
    """What the running mirror of a source did in the last minutes; empty if none is running."""
    try:
        with ControlClient(source_folder(settings.state_dir, source)) as client:
            return [Second(*second) for second in client.history()]
    except ControlError:
        return []


def _write_page(path: Path, reports: list[tuple[ParityReport, list[Second]]]) -> None:
    try:
        path.write_text(page(reports), encoding="utf-8")
    except OSError as error:
        raise MirrorError("write the report", str(path), error.strerror or "", next_step="name another file") from error
    click.echo(f"report written to {path}", err=True)


def _compare(
    source: Path,
    dsn: str,
    settings: Settings,
    tables: tuple[str, ...],
    sample: int | None,
    *,
    repair: bool,
    running: bool,
    replace_rows: bool,
) -> ParityReport:
    """Compare and record the outcome; with ``repair``, repair what differs, then compare and record again.

    ``running``: only beside a running mirror.
    """
    schema = schema_of(settings, source)
    own_schema = own_schema_command(settings, source, schema)
    with (
        _connect(dsn) as connection,
        gate_of(source, dsn, settings.state_dir, schema, settings.options, settings.rules, start=not running) as gate,
        closing(ParityLock(source_folder(settings.state_dir, source))) as lock,
    ):
        if not lock.take(wait=False):  # a comparison in the background keeps it for a moment only
            time.sleep(0.2)
            if not lock.take(wait=False):
                click.echo(f"{source.name}: waiting for another comparison to end", err=True)
                lock.take(wait=True)
        folder = source_folder(settings.state_dir, source)

        def compare_and_keep(*, repaired: bool = False) -> ParityReport:
            with _Bar(connection, source, schema, counted=sample is None and not tables) as bar:
                report = compare(
                    source,
                    connection,
                    schema,
                    gate,
                    tables=tables or None,
                    sample=sample,
                    progress=bar.show,
                    derived=derived(connection, source, schema),
                )
            report = replace(report, repaired=repaired, options=settings.options, own_schema=own_schema)
            if not report.reason:  # otherwise Postgres may be unreachable
                record(connection, source, schema, report, folder, whole=not tables and sample is None)
            return report

        report = compare_and_keep()
        wrong = [table.table for table in report.tables if table.status == "different"]
        if repair:
            status = gate.status()
            wider = (*status.widened, *status.escaped)
            wrong += [t.table for t in report.tables if t.status == "equal" and _of(t.table, wider)]
        if not repair or not wrong:
            return report
        for table, done in gate.repair(wrong, REPAIR_SECONDS, replace=replace_rows).items():
            click.echo(f"{source.name}: repaired {table}: {done}", err=True)
        return compare_and_keep(repaired=True)


def _of(table: str, columns: tuple[str, ...]) -> bool:
    """Whether one of the columns, each written ``table.column``, may be the table's."""
    return any(column.startswith(f"{table}.") for column in columns)


class _Bar:
    """A progress bar for a comparison, on a terminal; nothing elsewhere."""

    def __init__(self, connection: psycopg.Connection[Any], source: Path, schema: str, *, counted: bool) -> None:
        """``counted``: all rows are compared, so Postgres' own estimate of the number of rows is the total."""
        console = Console(stderr=True)
        self._progress = Progress(
            Words(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        total = None
        if console.is_terminal and counted:
            with translated("look at Postgres", str(source)):
                row = connection.execute(statement("parity_rows"), {"path": str(source), "schema": schema}).fetchone()
                connection.rollback()
            total = None if row is None else int(row[0])
        self._task = self._progress.add_task(f"comparing {source.name}", total=total)
        self._rows: dict[str, int] = {}

    def show(self, table: str, rows: int) -> None:
        """Show that so many rows of a table are compared."""
        self._rows[table] = rows
        self._progress.update(self._task, completed=sum(self._rows.values()), description=f"comparing {table}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _connect(dsn: str) -> psycopg.Connection[Any]:
    connection = connect(dsn, autocommit=False)
    with translated("look at Postgres"):
        require_known_schema(connection)
        connection.rollback()
    return connection


def render(report: ParityReport, console: Console) -> None:
    """Print a report for a person."""
    # Columns of nothing but zeros are left out, so that names fit into 80 characters.
    counts = [
        name
        for name in ("missing", "extra", "different", "rejected")
        if any(getattr(table, name) for table in report.tables)
    ]
    # Positions and digests only where there is room; the JSON form always has them.
    wide = console.width >= _WIDE
    grid = Table(title=text(f"parity of {report.source}"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("table", overflow="fold")
    grid.add_column("status", no_wrap=True)
    for heading in ("source", "Postgres", *counts, "s", *(("at", "digests") if wide else ())):
        grid.add_column(heading, justify="right", no_wrap=True)
    for table in report.tables:
        digests = dict.fromkeys((table.source_digest[:_DIGEST], table.target_digest[:_DIGEST]))
        room = ["" if table.last_lsn is None else str(table.last_lsn), " ≠ ".join(digests)]
        grid.add_row(
            text(table.table),
            text(table.status, _COLOURS[table.status]),
            _optional(table.source_rows),
            _optional(table.target_rows),
            *(f"{getattr(table, name):,}" for name in counts),
            f"{table.seconds:.2f}",
            *(room if wide else ()),
        )
    print_table(console, grid)
    for table in report.tables:
        if table.reason:
            print_line(console, f"  {table.table}: {table.status}: {table.reason}")
    for table in report.tables:
        for example in table.examples:
            print_line(console, _described(table.table, example))
    print_line(console, report.headline, style=f"bold {_COLOURS[report.verdict]}")
    for step in report.next_steps:
        print_line(console, f"next: {step}")


def _optional(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _described(table: str, example: Difference) -> str:
    shown = f"  {example.kind:9} {table} {example.key}"
    if example.column is None:
        return shown
    return f"{shown} {example.column}: source {example.source_value}, Postgres {example.target_value}"
