"""``mirror wait`` and ``mirror status``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mirror.cli.options import common
from mirror.client import ControlClient, wait_for_mirror
from mirror.config import Settings
from mirror.errors import ControlError
from mirror.statedir import source_folder
from mirror.status import stopped_status
from mirror.verified import described


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
        except ControlError as error:
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
    reports = [status_of(source, settings.state_dir, settings.schema, settings.options) for source in settings.known()]
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": reports}, indent=2))
        return
    console = Console()
    headings = ("phase", "lag", "fresh", "captured", "applied", "commits", "rejects", "gaps")
    table = Table(Column("source", overflow="fold"), *headings, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for report in reports:
        fresh = report["freshness_seconds"]
        table.add_row(
            Path(report["source"]).name,
            report["phase"],
            f"{report['lag_seconds'] * 1000:.0f} ms",
            "-" if fresh is None else f"{fresh:,.1f} s",
            report["captured"] or "-",
            report["applied"] or "-",
            f"{report['commits']:,}",
            str(report["rejects"]),
            str(len(report["gaps"])),
        )
    console.print(table)
    for report in reports:
        name = Path(report["source"]).name
        if report["capture"] == "pages":
            console.print(
                f"{name}: not in WAL mode: after each change all its pages are compared, which is slower",
                highlight=False,
            )
        parity = report["parity"]
        age = "" if parity["age_seconds"] is None else f", {parity['age_seconds'] / 3600:.1f} hours ago"
        console.print(f"{name}: parity: {parity['proof']}{age}", highlight=False, markup=False)
        if report["agent"]:
            console.print(
                f"{name}: of the agent {report['agent']} ({report['profile']})", highlight=False, markup=False
            )
        if report["indexing"]:
            console.print(f"{name}: building a vector index: {report['indexing']}", highlight=False, markup=False)
        if report["left_out"]:
            console.print(
                f"{name}: left out: {', '.join(report['left_out'])}: virtual columns that only the program can compute",
                highlight=False,
                markup=False,
            )
        for gap in report["gaps"][-3:]:
            console.print(f"{name}: gap: {gap['reason']} ({gap['at']})", highlight=False)
        for refusal in report["refusals"]:
            console.print(
                f"{name}: refused: {refusal['table']}: {refusal['reason']}", style="red", highlight=False, markup=False
            )
        if report["last_error"]:
            console.print(f"{name}: last error: {report['last_error']}", style="red", highlight=False, markup=False)
        for step in report["next_steps"]:
            console.print(f"{name}: next: {step}", style="yellow", highlight=False, markup=False)


def status_of(source: Path, state_dir: Path, schema: str, options: str = "") -> dict[str, Any]:
    """What the mirror of a source says, or wrote down last; and how good the last comparison is as a proof."""
    folder = source_folder(state_dir, source)
    try:
        with ControlClient(folder) as client:
            report = client.status()
    except ControlError:
        report = stopped_status(source, schema, folder).report(options)
    report["parity"] = described(folder)
    steps = {
        "different": f"mirror parity {source}{options} --repair",
        "not checked": f"mirror parity {source}{options}  (the last comparison could not check all)",
        "stale": f"mirror parity {source}{options}  (the last comparison is more than a day old)",
    }
    if step := steps.get(report["parity"]["proof"]):
        report["next_steps"].append(step)
    return report
