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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.text import Text

from mirror.cli import moved
from mirror.cli.dry_repair import of_table, planned
from mirror.cli.logs import colour_of, complain, is_for_machines, log_to, start_log
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
from mirror.cli.output import print_line
from mirror.cli.parity_view import Words, render
from mirror.cli.running import gate_of
from mirror.core.commands import complete
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, MirrorError, OthersWroteError
from mirror.core.folders import source_folder
from mirror.core.locks import ParityLock
from mirror.parity.compare import compare
from mirror.parity.html import Second, page
from mirror.parity.report import JSON_VERSION, ParityReport, exit_code_of
from mirror.postgres.failures import translated
from mirror.postgres.migrate import require_known_schema, statement
from mirror.postgres.sessions import connect
from mirror.sidecar.parity_runs import derived, record

#: Seconds that a repair may take: it sends all rows of a table that differs.
REPAIR_SECONDS = 3600.0
#: Characters beside a table's name in the line of the bar, and of the name at least.
_BESIDE_NAME, _LEAST_NAME = 60, 12
#: What the exit codes mean; of several sources that of the verdict which counts most.
_CODES = {
    0: "equal",
    1: "different, or not mirrored",
    2: "could not compare all: the reason is shown",
    4: "equal, but for rows that Postgres cannot hold (mirror.rejects)",
}


@click.command(
    short_help="Compare every value of every row.",
    epilog=help_end(
        "mirror parity memory.db",
        "mirror parity memory.db --table notes --html report.html",
        "mirror parity memory.db --repair --dry-run",
        "mirror parity memory.db --repair",
        "mirror parity memory.db --repair --replace-rows",
        codes=_CODES,
    ),
)
@common
@json_option
@click.option("--table", "tables", metavar="NAME", multiple=True, help="Compare only this table (may be repeated).")
@click.option("--html", "html_file", metavar="FILE", help="Also write the report to FILE, as one page for a browser.")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Compare only about N rows of each table: quick, but no proof.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Write rows that differ to Postgres again, and then compare once more. Each row is kept as it was and as it is"
    " then, in the table mirror.repairs.",
)
@click.option("--dry-run", is_flag=True, help="With --repair: say what it would write, and write nothing.")
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
    dry_run: bool,
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
    for option, given in (("--replace-rows", replace_rows), ("--dry-run", dry_run)):
        if given and not repair:
            raise click.UsageError(f"{option} belongs to --repair")
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
                        source, dsn, settings, tables, sample,
                        repair=repair, dry_run=dry_run, running=running, replace_rows=replace_rows,
                    )  # fmt: skip
            except MirrorError as error:
                if isinstance(error, OthersWroteError):
                    named = "".join(f" --table {shlex.quote(table)}" for table in tables)
                    again = f"mirror parity {shlex.quote(str(source))}{settings.options}{named} --repair --replace-rows"
                    advise_replacing(error, again)
                # The other sources are still compared, and a difference found there counts.
                if debug:
                    raise
                complete(error, str(source), settings.options)
                complain(str(error), error)
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
        click.echo(json.dumps({"version": JSON_VERSION, "reports": shown}, indent=2))
    sys.exit(exit_code_of(report.verdict for report in reports))


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
    dry_run: bool,
    running: bool,
    replace_rows: bool,
) -> ParityReport:
    """Compare and record the outcome; with ``repair``, repair what differs, then compare and record again.

    ``dry_run``: the report says instead what a repair would write. ``running``: only beside a running mirror.
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
            others = not report.reason and gate.status().others_wrote > 0
            report = replace(
                report, repaired=repaired, options=settings.options, own_schema=own_schema, others_wrote=others
            )
            if not report.reason:  # otherwise Postgres may be unreachable
                record(connection, source, schema, report, folder, whole=not tables and sample is None)
            return report

        report = compare_and_keep()
        wrong = [table.table for table in report.tables if table.status in ("different", "not mirrored")]
        if not repair or (dry_run and report.reason):
            return report
        status = gate.status()
        wider = (*status.widened, *status.escaped)
        wrong += [t.table for t in report.tables if t.status.startswith("equal") and of_table(t.table, wider)]
        if dry_run:
            return replace(report, planned=planned(report, dsn, schema, wrong, wider, replaces=replace_rows))
        if not wrong:
            return report
        for table, done in gate.repair(wrong, REPAIR_SECONDS, replace=replace_rows).items():
            click.echo(f"{source.name}: repaired {table}: {done}", err=True)
        return compare_and_keep(repaired=True)


class _Bar:
    """A progress bar for a comparison, on a terminal; nothing elsewhere."""

    def __init__(self, connection: psycopg.Connection[Any], source: Path, schema: str, *, counted: bool) -> None:
        """``counted``: all rows are compared, so Postgres' own estimate of the number of rows is the total."""
        console = Console(stderr=True)
        self._shown = console.is_terminal and not is_for_machines()
        self._progress = Progress(
            Words(), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, disable=not self._shown, transient=True,
        )  # fmt: skip
        total = None
        if self._shown and counted:
            with translated("look at Postgres", str(source)):
                row = connection.execute(statement("parity_rows"), {"path": str(source), "schema": schema}).fetchone()
                connection.rollback()
            total = None if row is None else int(row[0])
        self._total = total
        self._task = self._progress.add_task(f"comparing {source.name}", total=total)
        self._rows: dict[str, int] = {}

    def show(self, table: str, rows: int) -> None:
        """Show that so many rows of a table are compared."""
        self._rows[table] = rows
        room = max(_LEAST_NAME, self._progress.console.width - _BESIDE_NAME)
        name = table if len(table) <= room else f"…{table[1 - room :]}"  # else the bar is broken into lines
        done = sum(self._rows.values())
        # Rows come while they are compared, and the total was an estimate.
        self._total = None if self._total is None else max(self._total, done)
        self._progress.update(self._task, completed=done, total=self._total, description=f"comparing {name}")

    def __enter__(self) -> Self:
        self._progress.start()
        if self._shown:  # above the bar, not through it
            log_to(self._log, colour=colour_of(sys.stderr))
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._shown:
            start_log()

    def _log(self, message: str) -> None:
        for line in message.rstrip().split("\n"):
            print_line(self._progress.console, Text.from_ansi(line))


def _connect(dsn: str) -> psycopg.Connection[Any]:
    connection = connect(dsn, autocommit=False)
    with translated("look at Postgres"):
        require_known_schema(connection)
        connection.rollback()
    return connection
