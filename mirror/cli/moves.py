"""``mirror cutover advance``, ``rollback``, ``finalize`` and ``status``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from loguru import logger
from rich.console import Console

from mirror.cli import rehearse as rehearse
from mirror.cli.adapters import EMBEDDED
from mirror.cli.cutover import _acknowledge, _dry_run, cutover
from mirror.cli.durations import duration
from mirror.cli.opened import opened
from mirror.cli.options import common, help_end, json_option, postgres_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line
from mirror.cli.slow_steps import SlowSteps
from mirror.cli.strays import strays
from mirror.cli.waiting import Terminal
from mirror.core.commands import command, completed
from mirror.core.config.settings import Settings
from mirror.core.errors import FencedError, MirrorError, UnknownSourceError
from mirror.core.faults import no_fault
from mirror.cutover import flags, waiting
from mirror.cutover.move import Move
from mirror.cutover.onward import finalized, onward
from mirror.cutover.readiness import Readiness
from mirror.cutover.steps import Step, run, undo
from mirror.cutover.ways import FINALIZE, TIDY, WAIT, left_over, waits, ways
from mirror.postgres import moving
from mirror.postgres.failures import translated
from mirror.postgres.phase import Event, Phase
from mirror.reverse import capture, ending

cutover.add_command(strays)
_MARKS = {"done": GOOD, "journal": GOOD, "undone": NOTE, "failed": BAD}


@cutover.command(
    short_help="Move programs one phase forward.",
    epilog=help_end(
        "mirror cutover advance memory.db --dry-run",
        "mirror cutover advance memory.db --acknowledge backups",
        "mirror cutover advance memory.db --acknowledge backups --wait",
        "mirror cutover advance memory.db --acknowledge backups --reverse-window 7d",
        codes={0: "moved", 1: "NOT READY: a guard rail does not hold, and nothing was changed"},
    ),
)
@common
@json_option
@_acknowledge
@_dry_run
@click.option(
    "--wait",
    is_flag=True,
    help="Prepare, and switch when `mirror cutover go` is called, or Enter is pressed. Until then all rows are "
    "compared every five minutes: a difference ends it, and nothing is switched.",
)
@click.option(
    "--fence",
    type=click.Choice(("hold", "rename", "abort", "watch")),
    default="hold",
    show_default=True,
    help="In phase 3: hold the file's write lock while the mirror runs, so that no program can write to it; rename: and"
    " give the file another name, so that no program finds it, to read or to write (rollback gives it its own back);"
    " abort: put triggers into the file that refuse writes (the only choice that changes the file; rollback removes"
    " them); or only watch. What programs write all the same is kept: `mirror cutover strays`.",
)
@click.option(
    "--reverse-window",
    callback=duration,
    metavar="TIME",
    help="In phase 3: have the way back end by itself after this time (90s, 30m, 12h, 7d), as by `mirror cutover"
    " finalize`. It stays open while rows are in the file alone, or in Postgres alone. Without a window it is open"
    " until you end it.",
)
@click.option(
    "--reads",
    is_flag=True,
    help="To phase 2 and no further: of an adopted source, whose programs read by a read router.",
)
def advance(
    settings: Settings,
    debug: bool,
    as_json: bool,
    acknowledged: tuple[str, ...],
    dry_run: bool,
    fence: str,
    reverse_window: timedelta | None,
    wait: bool,
    reads: bool,
) -> None:
    """Move programs one phase forward, from SQLite towards Postgres.

    A source that was adopted (`mirror adopt`) goes from phase 1 to 3 at once: the application that reads in Postgres is
    the one that writes there. `--reads` moves only reads, to phase 2.

    It needs a running mirror (`mirror up`), and passes the guard rails of `mirror cutover plan` first. Any error before
    the point of no return undoes everything; a command that was killed is completed by the next one.
    """
    _move(
        settings,
        acknowledged,
        fence,
        reverse_window,
        back=False,
        final=False,
        dry_run=dry_run,
        as_json=as_json,
        wait=wait,
        reads=reads,
    )


@cutover.command(
    short_help="Have a move that waits go on.",
    epilog=help_end("mirror cutover go memory.db", codes={0: "moved"}),
)
@common
@json_option
def go(settings: Settings, debug: bool, as_json: bool) -> None:
    """Have a move go on that `mirror cutover advance --wait` has prepared.

    It ends when the other command has moved the programs; the first comparison of all rows comes to its end before.
    It is an error if none waits, if a guard rail does not hold, or if the move fails. Of many sources, those that wait
    go on.
    """
    gone: list[dict[str, Any]] = []
    console = Console()
    with postgres_of(settings) as dsn:
        known = settings.known()
        for source in known:
            with opened(source, dsn, settings, ()) as move:
                if len(known) > 1 and waiting.state(move) is None:
                    continue
                with SlowSteps(source.name, quiet=as_json) as slow:
                    slow.begin("the move goes on")
                    number = waiting.go(move)
                steps = onward(number, str(source), settings.options, adopted=move.adopted)
            gone.append({"source": str(source), "phase": number, "next_steps": steps})
            if not as_json:
                print_line(console, GOOD, f" {source}: phase {number}")
                _print_next(console, steps)
    if not gone:
        detail = "no `mirror cutover advance --wait` waits for one of the sources"
        raise MirrorError("go on", detail=detail, next_step="`mirror cutover status` shows where they are")
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": gone}, indent=2))


def _print_next(console: Console, steps: Sequence[str]) -> None:
    for step in steps:
        print_line(console, f"Next: {step}")


@cutover.command(
    short_help="Move programs one phase back.",
    epilog=help_end("mirror cutover rollback memory.db", codes={0: "moved"}),
)
@common
@json_option
@_dry_run
def rollback(settings: Settings, debug: bool, as_json: bool, dry_run: bool) -> None:
    """Move programs one phase back, from Postgres towards SQLite.

    From phase 3, what was written in Postgres is in the file before programs use it again.
    """
    _move(settings, (), back=True, final=False, dry_run=dry_run, as_json=as_json)


@cutover.command(
    short_help="End the way back: Postgres it stays.",
    epilog=help_end(
        "mirror cutover finalize memory.db",
        f"mirror cutover finalize memory.db --acknowledge '{ending.ACKNOWLEDGED}'",
        codes={0: "finalized"},
    ),
)
@common
@json_option
@_dry_run
@click.option(
    "--acknowledge",
    "acknowledged",
    type=click.Choice((ending.ACKNOWLEDGED,)),
    multiple=True,
    metavar="NAME",
    help=f"{ending.ACKNOWLEDGED}: the file need not have what Postgres has, or is gone. Nothing is compared then.",
)
def finalize(settings: Settings, debug: bool, as_json: bool, dry_run: bool, acknowledged: tuple[str, ...]) -> None:
    """End the way back of a source in phase 3: what is written in Postgres is not carried into the file any more.

    Before that the file gets what is in Postgres, and all rows are compared, while programs write. It is refused where
    the file differs in rows that were not known; rows that are in the file alone are counted. It needs no running
    mirror. A way back that is lost is ended without a comparison.
    """
    _move(settings, acknowledged, back=False, final=True, dry_run=dry_run, as_json=as_json)


@cutover.command(
    "status",
    short_help="Show phases and the last steps.",
    epilog=help_end("mirror cutover status memory.db", codes={0: "shown"}),
)
@common
@json_option
def status_command(settings: Settings, debug: bool, as_json: bool) -> None:
    """Show the phase of each source, what the configuration says otherwise, and the last steps of its moves."""
    found, missing = [], list[UnknownSourceError]()
    with postgres_of(settings) as dsn:
        for source in settings.known():
            try:
                with opened(source, dsn, settings, ()) as move:
                    found.append(_described(move))
            except UnknownSourceError as unknown:
                missing.append(unknown)
    if missing and not found:
        raise missing[0]
    if as_json:
        others = [{"source": error.place, "error": error.to_dict()} for error in missing]
        click.echo(json.dumps({"version": 1, "sources": found, "not_mirrored": others}, indent=2))
        return
    console = Console()
    for error in missing:
        step = completed(error.next_step, error.place, settings.options)
        print_line(Console(stderr=True), NOTE, f" {error.place}: {error.detail}; next: {step}")
    for each in found:
        _show(each, console)


def _show(found: dict[str, Any], console: Console) -> None:
    """One source in `mirror cutover status`."""
    print_line(console, f"{found['source']}: phase {found['phase']}", style="bold")
    names = ("moving_to", "sealed_at", "reverse_window_until", "way_back_lost", "finalized_at", "finalized_because")
    for name in (*names, "strays", "rejects", "configuration"):
        if found[name]:
            print_line(console, f"  {name.replace('_', ' ')}: {found[name]}")
    if found["left"]:
        print_line(console, "  the command that moves it has ended: the next one completes what is left, or undoes it")
    if (waits_ := found["waiting"]) is not None:
        print_line(console, f"  waiting since: {waits_['since']}{waits_['reason'] and ': '}{waits_['reason']}")
    for line in found["log"]:
        print_line(console, f"  {line['at']} {line['event']:8} {line['step']} {line['detail']}".rstrip())
    _print_next(console, found["next_steps"])


def _steps_now(move: Move, phase: Phase) -> list[str]:
    """The commands that go on from where a source is, and back."""
    source, options = str(move.source), move.settings.options
    if phase.finalized_at is not None:
        return []
    if phase.moving_to is not None and moving.is_moved(move.conn, move.source_id):
        if waiting.state(move) is None:
            return [f"{command('cutover status', source, options)}  # a command moves it: this shows how far it is"]
        return [f"{command('cutover go', source, options)}  # have the command that waits switch"]
    if phase.moving_to is not None:
        back = phase.moving_to < left_over(phase)[0]
        what = "cutover rollback" if back else "cutover advance"
        return [f"{command(what, source, options)}  # complete the move that was cut off, or begin it again"]
    return _next_steps(move, ())


def _described(move: Move) -> dict[str, Any]:
    phase = move.phase
    with translated("read the log of the moves", str(move.source)):
        rows = move.conn.execute(
            "SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), step, event, detail FROM ("
            "SELECT * FROM mirror.cutover_log WHERE source_id = $1::bigint ORDER BY log_id DESC LIMIT 20) l"
            " ORDER BY log_id",
            (str(move.source_id),),
        ).fetchall()
        way = ending.state(move.conn, move.source_id)
    return {
        "source": str(move.source),
        "phase": phase.number,
        "moving_to": phase.moving_to,
        "left": phase.moving_to is not None and not moving.is_moved(move.conn, move.source_id),
        "waiting": None if (found := waiting.state(move)) is None else found._asdict(),
        "sealed_at": _time(phase.sealed_at),
        "reverse_window_until": _time(phase.reverse_until),
        "finalized_at": _time(phase.finalized_at),
        "finalized_because": phase.finalized_why or None,
        "way_back_lost": None if phase.sealed_at is None else way.lost,
        "strays": way.strays,
        "rejects": 0 if phase.sealed_at is None else way.rejects,
        "configuration": flags.disagreement(move.settings, move.configured(phase.number)),
        # As they were said then: what they name as a way back need not be one any more.
        "log": [dict(zip(("at", "step", "event", "detail"), row, strict=True)) for row in rows],
        "next_steps": _steps_now(move, phase),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _move(
    settings: Settings,
    acknowledged: Sequence[str],
    fence: str = "hold",
    reverse_window: timedelta | None = None,
    *,
    back: bool,
    final: bool,
    dry_run: bool,
    as_json: bool,
    wait: bool = False,
    reads: bool = False,
) -> None:
    console = Console()
    outcome: list[dict[str, Any]] = []
    with postgres_of(settings) as dsn:
        known = settings.known()
        chosen = _in_turn(known, dsn, settings, back=back, final=final)
        for source in known:
            events: list[dict[str, str]] = []
            if source not in chosen:
                if not as_json:
                    note = f" {source}: in another phase, or not mirrored: not moved now"
                    print_line(Console(stderr=True), NOTE, note)
                continue

            if len(known) > 1 and not as_json:
                print_line(console, str(source), style="bold")
            with opened(source, dsn, settings, acknowledged, fence) as move:
                move.reverse_window, move.only_reads = reverse_window, reads
                move.ending.acknowledged = final and ending.ACKNOWLEDGED in acknowledged
                if wait:
                    move.operator = Terminal(
                        source, dsn, settings, command("cutover go", str(source), settings.options)
                    )
                if dry_run:
                    planned = _way(move, back=back, final=final)[1]
                    for step in () if as_json else planned:
                        print_line(console, f"{'→ ' if step.final else '  '}{step.words}")
                    number = 3 if move.phase.sealed_at is not None else min(move.phase.number, 2)
                    told = [{"step": step.words, "event": "planned", "detail": ""} for step in planned]
                    outcome.append({"source": str(source), "phase": number, "steps": told, "next_steps": []})
                    continue
                with SlowSteps(source.name, _how_far(move), quiet=as_json) as slow:
                    say = _say(move, events, None if as_json else console, slow)
                    number = _carry_out(move, say, back=back, final=final)
                move.read()
                steps = _next_steps(move, acknowledged)
            if not as_json:
                if number == 3 and settings.dsn is None:
                    print_line(console, NOTE, f" Postgres: {EMBEDDED}")
                if final:
                    print_line(console, f"Next: {finalized(str(source), settings.options)}")
                _print_next(console, steps)
            outcome.append({"source": str(source), "phase": number, "steps": events, "next_steps": steps})
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": outcome}, indent=2))


def _how_far(move: Move) -> Callable[[], str]:
    return lambda: move.doing


def _say(
    move: Move, events: list[dict[str, str]], console: Console | None, slow: SlowSteps
) -> Callable[[Step[Move], Event, str], None]:
    """What is told of each event of a step; ``console``: None for a script, which gets all at the end."""

    source, options = str(move.source), move.settings.options

    def say(step: Step[Move], event: Event, detail: str) -> None:
        detail = completed(detail, source, options)
        events.append({"step": step.words, "event": event, "detail": detail})
        if event == "begun":
            if step.name != WAIT.name:  # it says itself what it waits for
                slow.begin(step.words)
            return
        slow.end()
        if console is not None:
            print_line(console, _MARKS[event], f" {step.words}" + (f": {detail}" if detail else ""))

    return say


def _next_steps(move: Move, acknowledged: Sequence[str]) -> list[str]:
    """After a move: the commands that go on, with what was acknowledged for it, and back."""
    if move.phase.finalized_at is not None:
        return []
    number = 3 if move.phase.sealed_at is not None else min(move.phase.number, 2)
    known = Readiness(str(move.source), move.settings.options, acknowledged).acknowledging()
    return onward(number, str(move.source), move.settings.options, known, adopted=move.adopted)


def _in_turn(known: Sequence[Path], dsn: str, settings: Settings, *, back: bool, final: bool) -> Sequence[Path]:
    """Of many sources, those that a command is for: forward those that are furthest behind, back those furthest ahead.

    So a command that failed at one source is called again, and goes on with that.
    """
    if len(known) == 1:
        return known
    at: dict[Path, int] = {}
    for source in known:
        try:
            with opened(source, dsn, settings, ()) as move:
                found = move.phase
        except UnknownSourceError:
            continue
        if found.moving_to is not None:
            at[source] = left_over(found)[0]
        elif found.finalized_at is None:
            at[source] = 3 if found.sealed_at is not None else min(found.number, 2)
    if final:
        return [source for source, number in at.items() if number == 3] or known
    wanted = max(at.values(), default=0) if back else min(at.values(), default=0)
    return [source for source, number in at.items() if number == wanted] or known


def _way(move: Move, *, back: bool, final: bool) -> tuple[int, Sequence[Step[Move]]]:
    if final:
        if move.phase.finalized_at is not None and capture.triggers(move.conn, move.source_id):
            return 3, (TIDY,)
        if move.phase.sealed_at is None or move.phase.finalized_at is not None:
            detail = "it is not in phase 3" if move.phase.sealed_at is None else "that was done"
            raise MirrorError("finalize a move", str(move.source), detail, next_step="`mirror cutover status` shows it")
        return 3, FINALIZE
    number, steps = ways(move.phase, back, adopted=move.adopted, reads=move.only_reads)
    return number, steps if move.operator is None else waits(steps)


def _carry_out(move: Move, say: Callable[[Step[Move], Event, str], None], *, back: bool, final: bool) -> int:
    """First do what a command that was killed has left, then the steps; returns the phase."""
    steps: Sequence[Step[Move]]
    meant = move.phase
    move.begin_alone()
    move.read()
    if move.phase.moving_to is None and _stands(move.phase) != _stands(meant):
        where = f"phase {move.phase.number}" + (", finalized" if move.phase.finalized_at is not None else "")
        detail = f"another command has moved it meanwhile: {where}"
        raise FencedError("move a source", str(move.source), detail, next_step="`mirror cutover status` shows it")
    if move.phase.moving_to is not None:
        target = move.phase.moving_to
        before, steps, resumed = left_over(move.phase)
        known = move.begun()
        move.take(target)
        if resumed:
            run(steps, move, say, no_fault, resumed=True)
        else:
            undo(steps, move, say, known)  # all: a line of the log may be lost with a server that crashed
            move.change("moving_to = NULL")
        move.read()
        if resumed and not final and (target > before) is not back:
            return target  # which is what this command was to do
    number, steps = _way(move, back=back, final=final)
    if move.phase.finalized_at is None:
        move.take(None if final else number)  # what ends the way back leaves nothing that is to be completed
    try:
        run(steps, move, say, no_fault, resumed=False)
    except BaseException:
        if _still(move):
            move.change("moving_to = NULL")
        else:
            text = "{}: the point of no return is behind, and steps are left: the same command completes them"
            logger.warning(text, move.source.name)
        raise
    return number


def _stands(phase: Phase) -> tuple[object, ...]:
    return phase.number, phase.sealed_at, phase.finalized_at


def _still(move: Move) -> bool:
    """Whether the phase is what it was before."""
    from mirror.postgres import phase

    with translated("read the phase", str(move.source)):
        now = phase.read(move.conn, move.source_id)
    return (now.number, now.sealed_at) == (move.phase.number, move.phase.sealed_at)
