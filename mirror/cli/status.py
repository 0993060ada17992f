"""``mirror wait`` and ``mirror status``."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mirror.cli.options import common, own_schema_command, schema_of
from mirror.cli.output import print_line, print_table, text
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import MirrorError, NotRunningError
from mirror.core.folders import source_folder
from mirror.core.status import Phase, StatusDocument, StatusReport, encode
from mirror.parity.proof import described
from mirror.sidecar.status import kept_report, next_steps


@click.command()
@common
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait at most.")
def wait(settings: Settings, debug: bool, timeout: float) -> None:
    """Wait until all that was committed at the call is in Postgres (exit code 1: not in time)."""
    deadline = time.monotonic() + timeout
    for source in settings.known():
        try:
            with wait_for_mirror(source_folder(settings.state_dir, source), deadline - time.monotonic()) as client:
                applied = client.wait(max(0.0, deadline - time.monotonic()))
        except MirrorError as error:
            click.secho(f"mirror: {error}", fg="red", err=True)
            sys.exit(1)
        if not applied:
            click.secho(f"mirror: {source}: not applied within {timeout:g} seconds", fg="red", err=True)
            sys.exit(1)


@click.command()
@common
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(settings: Settings, debug: bool, as_json: bool) -> None:
    """Show what the mirror of each source is doing."""
    reports = [status_of(source, settings) for source in settings.known()]
    if as_json:
        document = encode(StatusDocument(sources=reports))
        click.echo(msgspec.json.format(document, indent=2).decode())
        return
    console = Console()
    headings = ("phase", "lag", "fresh", "captured", "applied", "commits", "rejects", "gaps")
    table = Table(Column("source", overflow="fold"), *headings, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for report in reports:
        fresh, lag = report.freshness_seconds, report.lag_seconds
        table.add_row(
            text(Path(report.source).name),
            report.phase.value,
            "-" if lag is None else f"{lag * 1000:.0f} ms",
            "-" if fresh is None else f"{fresh:,.1f} s",
            report.captured or "-",
            report.applied or "-",
            f"{report.commits:,}",
            str(report.rejects),
            str(len(report.gaps)),
        )
    print_table(console, table)
    for report in reports:
        _render_notes(report, console)


def _render_notes(report: StatusReport, console: Console) -> None:
    """What does not fit into a table."""
    name = Path(report.source).name
    if report.capture == "pages":
        print_line(console, f"{name}: not in WAL mode: after each change all its pages are compared, which is slower")
    parity = report.parity
    age = "" if parity.age_seconds is None else f", {parity.age_seconds / 3600:.1f} hours ago"
    print_line(console, f"{name}: parity: {parity.proof}{age}")
    if report.agent:
        print_line(console, f"{name}: of the agent {report.agent} ({report.profile})")
    if report.indexing:
        print_line(console, f"{name}: building a vector index: {report.indexing}")
    if report.left_out:
        left_out = ", ".join(report.left_out)
        print_line(console, f"{name}: left out: {left_out}: virtual columns that only the program can compute")
    for gap in report.gaps[-3:]:
        print_line(console, f"{name}: gap: {gap.reason} ({gap.at})")
    for refusal in report.refusals:
        print_line(console, f"{name}: refused: {refusal.table}: {refusal.reason}", style="red")
    if report.last_error:
        print_line(console, f"{name}: last error: {report.last_error}", style="red")
    for step in report.next_steps:
        print_line(console, f"{name}: next: {step}", style="yellow")


def status_of(source: Path, settings: Settings) -> StatusReport:
    """What the mirror of a source says, or wrote down last; and how good the last comparison is as a proof."""
    folder, options = source_folder(settings.state_dir, source), settings.options
    silent: MirrorError | None = None
    try:
        with ControlClient(folder) as client:
            report = client.status()
    except NotRunningError:
        report = kept_report(source, schema_of(settings, source), folder)
    except MirrorError as error:
        # It may well be running: what it wrote down last is all that is known.
        report = kept_report(source, schema_of(settings, source), folder)
        report = replace(report, phase=Phase.SILENT, last_error=str(error), error=error.to_dict())
        silent = error
    if silent is None:
        steps = next_steps(report, options, own_schema_command(settings, source, report.schema))
    else:
        steps = [silent.next_step] if silent.next_step else []
    proof = described(folder)
    parity = f"mirror parity {shlex.quote(str(source))}{options}"
    # What Postgres refuses no repair helps: the step for that is among the others.
    if proof.proof == "different" and proof.repairable:
        steps.append(f"{parity} --repair")
    elif proof.proof == "not checked":
        steps.append(f"{parity}  # the last comparison could not check all")
    elif proof.proof == "stale":
        steps.append(f"{parity}  # the last comparison is more than a day old")
    return replace(report, parity=proof, next_steps=steps)
