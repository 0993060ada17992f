"""``mirror cutover rehearse``."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mirror.cli.cutover import _acknowledge, cutover
from mirror.cli.options import common, help_end, json_option, postgres_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line, text
from mirror.core.commands import command
from mirror.core.config.settings import Settings
from mirror.core.words import counted
from mirror.cutover.readiness import Readiness

if TYPE_CHECKING:
    from mirror.cli.rehearsal import Outcome
    from mirror.cutover.rehearsal.pause import Pause

_MARKS = {"begun": NOTE, "done": GOOD, "journal": GOOD, "undone": NOTE, "failed": BAD}


@cutover.command(
    short_help="Try the whole way and back on a clone.",
    epilog=help_end(
        "mirror cutover rehearse memory.db",
        "mirror cutover rehearse --clean  # what a rehearsal that was killed has left",
        codes={0: "it would work", 1: "something would fail", 2: "it could not be rehearsed: one line says why"},
    ),
)
@common
@json_option
@_acknowledge
@click.option("--clean", "only_clean", is_flag=True, help="Only remove what rehearsals that were killed have left.")
def rehearse(settings: Settings, debug: bool, as_json: bool, acknowledged: tuple[str, ...], only_clean: bool) -> None:
    """Go the whole way to Postgres and back on a clone, under load, and say how long programs would have to wait.

    The file is copied, and mirrored into a schema of its own; a writer repeats what programs have written in the last
    minutes; the clone goes through all phases and back. The source, its mirror and its tables are only read. The pause
    is what a program sees that commits at any moment around a switch. Nothing is left of it at the end.
    """
    # Not above: the other commands of `mirror cutover` need none of it.
    from mirror.cli.rehearsal import Rehearsal
    from mirror.cutover.rehearsal.place import clean

    signal.signal(signal.SIGTERM, _end)
    console = Console()
    with postgres_of(settings) as dsn:
        cleaned = clean(settings.state_dir, dsn)
        if only_clean:
            _say_cleaned(cleaned, console, as_json=as_json)
            return
        outcomes = []
        for source in settings.known():
            if not as_json:
                print_line(console, str(source), style="bold")

            def say(event: str, words: str, detail: str) -> None:
                if not as_json:
                    print_line(console, _MARKS[event], f" {words}" + (f": {detail}" if detail else ""))

            outcomes.append(Rehearsal(source, settings, dsn, acknowledged, say).run())
            if not as_json:
                _render(outcomes[-1], console)
                print_line(console, f"Next: {_next_step(outcomes[-1], settings, acknowledged)}")
    works = all(outcome.works for outcome in outcomes)
    if as_json:
        click.echo(json.dumps({"version": 1, "works": works, "sources": [_as_json(one) for one in outcomes]}, indent=2))
    sys.exit(0 if works else 1)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as an exception: what was made is removed


def _say_cleaned(cleaned: list[str], console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"version": 1, "cleaned": cleaned}, indent=2))
    else:
        print_line(console, f"removed: {', '.join(cleaned)}" if cleaned else "nothing is left of any rehearsal")


def _render(outcome: Outcome, console: Console) -> None:
    for problem in outcome.problems:
        print_line(console, BAD, f" {problem.where}: {problem.what}: {problem.detail}")
        if problem.next_step:
            print_line(console, f"  next: {problem.next_step}", style="yellow")
    print_line(console, _sentence(outcome))
    if outcome.parity_back:
        print_line(console, f"equal at the end: forward: {outcome.parity}; back: {outcome.parity_back}")
    print_line(
        console,
        text("IT WOULD WORK", "bold green") if outcome.works else text("SOMETHING WOULD FAIL", "bold red"),
        f": {outcome.source}",
    )


def _next_step(outcome: Outcome, settings: Settings, acknowledged: Sequence[str]) -> str:
    """The command that goes on: the move, or another rehearsal once all is seen to."""
    source, options = str(outcome.source), settings.options
    known = Readiness(source, options, acknowledged).acknowledging()
    if outcome.works:
        return f"{command('cutover plan', source, options, known)}  # READY or not; it names the command that moves"
    return f"{command('cutover rehearse', source, options, known)}  # again, once what would fail is seen to"


def _sentence(outcome: Outcome) -> str:
    rest = f"{counted(outcome.rows, 'row')}, at {outcome.rate:,.0f} commits/s"
    if outcome.there is None:
        return f"no pause was measured; {rest}"
    there = f"the pause {'would be' if outcome.moved else 'before it failed was'} {_short(outcome.there)}"
    if outcome.back is None:
        return f"{there}; {rest}"
    return f"{there}; the way back {_short(outcome.back)}; {rest}"


def _short(pause: Pause) -> str:
    return f"{pause.worst * 1000:,.0f} ms (p50 {pause.p50 * 1000:,.1f} ms, p99 {pause.p99 * 1000:,.1f} ms)"


def _pause(pause: Pause | None) -> dict[str, float] | None:
    if pause is None:
        return None
    return {
        "p50_ms": round(pause.p50 * 1000, 3),
        "p99_ms": round(pause.p99 * 1000, 3),
        "worst_ms": round(pause.worst * 1000, 3),
    }


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "source": str(outcome.source),
        "works": outcome.works,
        "to_postgres": _pause(outcome.there),
        "to_sqlite": _pause(outcome.back),
        "rows": outcome.rows,
        "load": {
            "recorded": outcome.load is not None and outcome.load.recorded,
            "commits_per_second": None if outcome.load is None else outcome.load.rate,
            "reached_commits_per_second": round(outcome.rate, 1),
            "rows_per_commit": round(outcome.rows_per_commit, 2),
            "note": None if outcome.load is None else outcome.load.note,
        },
        "calls": outcome.calls,
        "failed_calls": outcome.failed,
        "parity": {"forward": outcome.parity, "back": outcome.parity_back},
        "problems": [
            {"where": each.where, "what": each.what, "detail": each.detail, "next_step": each.next_step}
            for each in outcome.problems
        ],
        "steps": outcome.steps,
    }
