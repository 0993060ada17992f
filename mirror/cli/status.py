"""``mirror wait`` and ``mirror status``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mirror.cli.around import around_lines, around_of, reads_text
from mirror.cli.options import (
    common,
    common_even_if_broken,
    help_end,
    json_option,
    own_schema_command,
    postgres_of,
    schema_of,
)
from mirror.cli.output import print_line, print_table, text
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import ControlError, MirrorError, NotRunningError, SealedError, StateError
from mirror.core.folders import source_folder
from mirror.core.status import (
    Phase,
    StatusDocument,
    StatusReport,
    encode,
    kept_text,
    moved_text,
)
from mirror.core.words import names_apart
from mirror.parity.proof import described
from mirror.sidecar.refused import causes
from mirror.sidecar.status import kept_report, next_steps

#: Mirrors that are asked at the same time.
_AT_ONCE = 256
#: Seconds for which a mirror that has only begun to follow is waited for, and between two questions.
MEASURE_SECONDS, MEASURE_PAUSE = 30.0, 0.1


@click.command(
    short_help="Wait until all commits are in Postgres.",
    epilog=help_end(
        "mirror wait memory.db --timeout 60",
        codes={
            0: "everything is in Postgres",
            1: "not in time, also if no mirror runs; or Postgres refuses a table",
        },
    ),
)
@common
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait, for all sources together.")
def wait(settings: Settings, debug: bool, timeout: float) -> None:
    """Wait until Postgres has everything that was committed to SQLite before this command began.

    Of a source that was moved to Postgres: until the file has everything that was committed there.

    Prints nothing if that succeeds. Without SOURCE it waits for the sources that
    mirror.json lists, or else for all that the state directory knows.
    """
    deadline = time.monotonic() + timeout
    refused = False
    for source in settings.known():
        moved_to = "Postgres"
        try:
            with wait_for_mirror(source_folder(settings.state_dir, source), deadline - time.monotonic()) as client:
                try:
                    applied = client.wait(max(0.0, deadline - time.monotonic()))
                    report = client.status() if applied else None
                except SealedError:
                    from mirror.cli.moved import wait_for_file  # needs Postgres' driver, which loads slowly

                    with postgres_of(settings) as dsn:
                        moved_to, report = "the file", None
                        applied = wait_for_file(source, dsn, schema_of(settings, source), deadline)
        except ControlError as error:
            if isinstance(error, NotRunningError) and settings.dsn is not None:
                from mirror.cli.moved import require_way_back

                require_way_back("wait", source, settings.dsn, schema_of(settings, source))
            # What could still have come right, had there been more time, is the answer no; the rest are errors.
            if not error.retryable or time.monotonic() < deadline:
                raise
            click.secho(f"mirror: {error}", fg="red", err=True)
            sys.exit(1)
        if not applied:
            click.secho(
                f"mirror: {source}: {moved_to} does not have everything after {timeout:g} seconds", fg="red", err=True
            )
            sys.exit(1)
        for cause in () if report is None else causes(report.refusals, report.schema):
            click.secho(f"mirror: {source}: Postgres refuses {cause.named}: {cause.reason}", fg="red", err=True)
            refused = True
    if refused:
        sys.exit(1)


@click.command(
    short_help="Show what the mirror of each source does.",
    epilog=help_end(
        "mirror status",
        "mirror status memory.db --json",
        codes={0: "it was shown, also if the mirror has failed or is stopped"},
    ),
)
@common_even_if_broken
@json_option
def status(settings: Settings, debug: bool, as_json: bool) -> None:
    """Show what the mirror of each source is doing, what is wrong, and what to do next.

    Without SOURCE it shows the sources that mirror.json lists, or else all that the state directory knows.

    lag: how old the oldest commit is that Postgres does
    not have yet. fresh: how old the newest commit is that Postgres has. captured, applied: positions in the source's
    log, generation:frame. gaps: how often the log was not complete, so that pages were compared.
    """
    sources = settings.known()
    # All at once: a mirror that does not answer takes seconds, for each of its sources.
    with ThreadPoolExecutor(min(len(sources), _AT_ONCE)) as asking:
        reports = list(asking.map(partial(status_of, settings=settings), sources))
    around = around_of(reports, settings)
    if as_json:
        document = encode(StatusDocument(sources=reports, redis=around.redis, alerts=around.alerts))
        click.echo(msgspec.json.format(document, indent=2).decode())
        return
    console = Console()
    if settings.problem is not None:
        print_line(console, f"configuration: {settings.problem}", style="red")
        print_line(console, "configuration: programs that follow it go on with what it said before")
    headings = ("phase", "lag", "fresh", "captured", "applied", "commits", "rejects", "gaps")
    table = Table(Column("source", overflow="fold"), *headings, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    names = names_apart(report.source for report in reports)
    for report in reports:
        fresh, lag = report.freshness_seconds, report.lag_seconds
        table.add_row(
            text(names[report.source]),
            report.phase.value,
            "?" if lag is None else f"{lag * 1000:.0f} ms",
            "-" if fresh is None else f"{fresh:,.1f} s",
            report.captured or "-",
            report.applied or "-",
            f"{report.commits:,}",
            str(report.rejects + (0 if report.reverse is None or report.reverse.ended else report.reverse.rejects)),
            str(len(report.gaps)),
        )
    print_table(console, table)
    for report in reports:
        _render_notes(names[report.source], report, console)
    for line, well in around_lines(around):
        print_line(console, line, style="" if well else "red")


def _render_notes(name: str, report: StatusReport, console: Console) -> None:
    """What does not fit into a table; ``name``: the source's in the table."""
    if report.capture == "pages":
        print_line(
            console, f"{name}: not in WAL mode: after each change all pages of the file are compared, which is slower"
        )
    if report.reverse is not None:
        print_line(console, f"{name}: {moved_text(report)}")
    if report.reverse is not None and report.reverse.until is not None and not report.reverse.ended:
        until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.reverse.until))
        print_line(console, f"{name}: reverse window until {until}: then the way back ends by itself")
    parity = report.parity
    age = "" if parity.age_seconds is None else f", {parity.age_seconds / 3600:.1f} hours ago"
    print_line(console, f"{name}: parity: {parity.proof}{age}")
    if report.agent:
        print_line(console, f"{name}: agent: {report.agent} (profile {report.profile})")
    if report.indexing:
        print_line(console, f"{name}: building a vector index: {report.indexing}")
    if report.escaped:
        kept = ", ".join(report.escaped)
        print_line(console, f"{name}: shown without NUL and invalid bytes, and kept whole in _original: {kept}")
    if report.widened:
        print_line(console, f"{name}: jsonb because of values that do not fit: {', '.join(report.widened)}")
    if report.left_out:
        left_out = ", ".join(report.left_out)
        print_line(console, f"{name}: left out: {left_out}: virtual columns that only the program itself can compute")
    if report.omitted:
        print_line(console, f"{name}: left out by a rule in mirror.json: {', '.join(report.omitted)}")
    for note in report.rules:
        print_line(console, f"{name}: mirror.json: {note.rule}: {note.detail}", style="yellow")
    for table in report.kept:
        print_line(console, f"{name}: {kept_text(table)}", style="yellow")
    if report.by_version:
        computed = ", ".join(report.by_version)
        print_line(
            console,
            f"{name}: computed by the mirror's SQLite: {computed}: virtual columns that the program's version of SQLite"
            " may compute otherwise; STORED ones are kept as the program wrote them",
        )
    if report.phase is Phase.FOLLOWING and not report.tables:
        print_line(console, f"{name}: it has no table yet: its program has made none")
    if report.virtual:
        virtual = ", ".join(report.virtual)
        print_line(console, f"{name}: left out: {virtual}: virtual tables; their data is not in Postgres", style="red")
    for gap in report.gaps[-3:]:
        print_line(console, f"{name}: gap: {gap.reason} ({gap.at})")
    if report.reads:
        print_line(console, f"{name}: reads of programs: {reads_text(report)}")
    if report.read_differences:
        found = f"{report.read_differences:,} reads answered differently by SQLite and Postgres"
        print_line(console, f"{name}: {found}", style="red")
    if report.others_wrote:
        found = "in Postgres, others than the mirror have written"
        print_line(console, f"{name}: {found} {report.others_wrote:,} rows", style="yellow")
    if report.overwritten:
        found = f"{report.overwritten:,} rows that others had written in Postgres were replaced, and are kept"
        print_line(console, f"{name}: {found}", style="yellow")
    for cause in causes(report.refusals, report.schema):
        print_line(console, f"{name}: refused: {cause.named}: {cause.reason}", style="red")
    if report.last_error:
        print_line(console, f"{name}: last error: {report.last_error}", style="red")
    for step in report.next_steps:
        print_line(console, f"{name}: next: {step}", style="yellow")


def status_of(source: Path, settings: Settings) -> StatusReport:
    """The status that the mirror of a source reports, or saved last; with the last comparison and the next steps."""
    folder, options = source_folder(settings.state_dir, source), settings.options
    silent: MirrorError | None = None
    unknown: MirrorError | None = None
    try:
        with ControlClient(folder) as client:
            report = client.status()
    except NotRunningError:
        report, unknown = _kept(source, settings, folder)
    except MirrorError as error:
        # It may well be running: only what it saved last is known.
        report, _ = _kept(source, settings, folder)
        report = replace(report, phase=Phase.SILENT, last_error=str(error), error=error.to_dict())
        silent = error
    if unknown is not None:
        report = replace(report, phase=Phase.FAILED, last_error=str(unknown), error=unknown.to_dict())
        steps = [unknown.next_step] if unknown.next_step else []
    elif silent is None:
        steps = next_steps(report, options, own_schema_command(settings, source, report.schema))
    else:
        steps = [silent.next_step] if silent.next_step else []
    return with_proof(replace(report, configuration=settings.problem), folder, settings, steps)


def measured_status_of(source: Path, settings: Settings) -> StatusReport:
    """The status, with a lag where the mirror follows: just started, it is waited for until it has caught up once.

    Without one after ``MEASURE_SECONDS``.
    """
    deadline = time.monotonic() + MEASURE_SECONDS
    while True:
        report = status_of(source, settings)
        known = report.phase is not Phase.FOLLOWING or report.worst_lag_seconds is not None
        if known or time.monotonic() > deadline:
            return report
        time.sleep(MEASURE_PAUSE)


def with_proof(report: StatusReport, folder: Path, settings: Settings, steps: Sequence[str]) -> StatusReport:
    """The report with the last comparison, and with these next steps and what that one advises.

    ``folder``: the source's.
    """
    proof, steps = described(folder), [*steps]
    parity = f"mirror parity {shlex.quote(report.source)}{settings.options}"
    # A repair does not help against what Postgres refuses: the step for that is among the others.
    if report.reverse is not None:
        pass  # it is refused: Postgres is the original
    elif proof.proof == "different" and proof.repairable:
        steps.append(f"{parity} --repair")
    elif proof.proof == "not checked":
        steps.append(f"{parity}  # the last comparison could not check all")
    elif proof.proof == "stale":
        steps.append(f"{parity}  # the last comparison is more than a day old")
    return replace(report, parity=proof, next_steps=steps)


def _kept(source: Path, settings: Settings, folder: Path) -> tuple[StatusReport, MirrorError | None]:
    """What was saved last of a source; and, if that cannot be read, why."""
    problem: MirrorError
    schema = settings.schema or settings.schemas.get(source) or DEFAULT_SCHEMA
    try:
        schema = schema_of(settings, source)
        return kept_report(source, schema, folder), None
    except MirrorError as error:
        problem = error
    except OSError as error:
        step = "run it as the user that runs the mirror, or let this user read the file"
        place, detail = str(error.filename or folder), error.strerror or str(error)
        problem = StateError("read the saved status", place, detail, next_step=step)
    try:
        return kept_report(source, schema, folder), problem
    except OSError:
        return StatusReport(source=str(source), schema=schema), problem
