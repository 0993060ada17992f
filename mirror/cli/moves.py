"""``mirror cutover advance``, ``rollback``, ``finalize`` and ``status``."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
from loguru import logger
from rich.console import Console

from mirror.cli import rehearse as rehearse
from mirror.cli.adapters import EMBEDDED, judge_adapters
from mirror.cli.cutover import _acknowledge, _dry_run, cutover
from mirror.cli.durations import duration
from mirror.cli.options import common, help_end, json_option, postgres_of, schema_of
from mirror.cli.output import BAD, GOOD, NOTE, print_line
from mirror.cli.running import gate_of
from mirror.cli.status import measured_status_of
from mirror.cli.strays import strays
from mirror.cli.waiting import Terminal
from mirror.core.config.settings import Settings
from mirror.core.errors import FencedError, MirrorError, SinkError, UnknownSourceError
from mirror.core.faults import no_fault
from mirror.core.folders import source_folder
from mirror.cutover import flags, sequences, statistics, vector_indexes, waiting
from mirror.cutover.constraints import judge_constraints
from mirror.cutover.mirrored import targets_of
from mirror.cutover.move import Move
from mirror.cutover.narrowing import AtCommit
from mirror.cutover.rails import plan as judge
from mirror.cutover.readiness import Readiness
from mirror.cutover.steps import Step, run, undo
from mirror.cutover.ways import FINALIZE, TIDY, left_over, waits, ways
from mirror.parity.compare import compare
from mirror.parity.views import open_source
from mirror.postgres import moving
from mirror.postgres.failures import translated
from mirror.postgres.phase import Event, Phase
from mirror.postgres.sessions import Session, connect
from mirror.replica.declared import read_declarations
from mirror.reverse import capture, ending
from mirror.reverse.proof import differences
from mirror.sidecar.parity_runs import derived, record

cutover.add_command(strays)
#: Guard rails that a step of the move itself sees to, which raises an error where it cannot.
_SEEN_TO = frozenset({statistics.NAME, vector_indexes.NAME})
#: Those that are no matter while programs only read.
_OF_WRITES = frozenset({"foreign keys", "unique indexes", "not null", "sequences"})
_MARKS = {"done": GOOD, "journal": GOOD, "undone": NOTE, "failed": BAD}


@cutover.command(
    short_help="Move programs one phase forward.",
    epilog=help_end(
        "mirror cutover advance memory.db --dry-run",
        "mirror cutover advance memory.db --acknowledge backups",
        "mirror cutover advance memory.db --acknowledge backups --wait",
        "mirror cutover advance memory.db --acknowledge backups --reverse-window 7d",
        codes={0: "moved"},
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
def advance(
    settings: Settings,
    debug: bool,
    as_json: bool,
    acknowledged: tuple[str, ...],
    dry_run: bool,
    fence: str,
    reverse_window: timedelta | None,
    wait: bool,
) -> None:
    """Move programs one phase forward, from SQLite towards Postgres.

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
    )


@cutover.command(
    short_help="Have a move that waits go on.",
    epilog=help_end("mirror cutover go memory.db", codes={0: "it goes on"}),
)
@common
@json_option
def go(settings: Settings, debug: bool, as_json: bool) -> None:
    """Have a move go on that `mirror cutover advance --wait` has prepared.

    It ends when the other command switches, which is when a comparison that has begun before the first proof is over.
    It is an error if none waits, or if a guard rail does not hold. Of many sources, those that wait go on.
    """
    gone = []
    with postgres_of(settings) as dsn:
        known = settings.known()
        for source in known:
            with _opened(source, dsn, settings, ()) as move:
                if len(known) == 1 or waiting.state(move) is not None:
                    waiting.go(move)
                    gone.append(str(source))
    if not gone:
        detail = "no `mirror cutover advance --wait` waits for one of the sources"
        raise MirrorError("go on", detail=detail, next_step="`mirror cutover status` shows where they are")
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": [{"source": source} for source in gone]}, indent=2))
        return
    for name in gone:
        print_line(Console(), GOOD, f" {name}: it goes on")


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
                with _opened(source, dsn, settings, ()) as move:
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
        print_line(Console(stderr=True), NOTE, f" {error.place}: {error.detail}; next: {error.next_step}")
    for each in found:
        print_line(console, f"{each['source']}: phase {each['phase']}", style="bold")
        names = ("moving_to", "sealed_at", "reverse_window_until", "way_back_lost", "finalized_at", "finalized_because")
        for name in (*names, "strays", "rejects", "configuration"):
            if each[name]:
                print_line(console, f"  {name.replace('_', ' ')}: {each[name]}")
        if each["left"]:
            print_line(
                console, "  the command that moves it has ended: the next one completes what is left, or undoes it"
            )
        if (waits_ := each["waiting"]) is not None:
            how = waits_["reason"] or "`mirror cutover go` has it switch"
            print_line(console, f"  waiting since: {waits_['since']}: {how}")
        for line in each["log"]:
            print_line(console, f"  {line['at']} {line['event']:8} {line['step']} {line['detail']}".rstrip())


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
        "log": [dict(zip(("at", "step", "event", "detail"), row, strict=True)) for row in rows],
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
) -> None:
    console = Console()
    outcome: list[dict[str, Any]] = []
    with postgres_of(settings) as dsn:
        known = settings.known()
        chosen = _in_turn(known, dsn, settings, back=back, final=final)
        for source in known:
            events: list[dict[str, str]] = []
            if source not in chosen:
                print_line(Console(stderr=True), NOTE, f" {source}: in another phase, or not mirrored: not moved now")
                continue

            def say(step: Step[Move], event: Event, detail: str, events: list[dict[str, str]] = events) -> None:
                events.append({"step": step.words, "event": event, "detail": detail})
                if not as_json and event != "begun":
                    print_line(console, _MARKS[event], f" {step.words}" + (f": {detail}" if detail else ""))

            if len(known) > 1 and not as_json:
                print_line(console, str(source), style="bold")
            with _opened(source, dsn, settings, acknowledged, fence) as move:
                move.reverse_window = reverse_window
                move.ending.acknowledged = final and ending.ACKNOWLEDGED in acknowledged
                if wait:
                    command = f"mirror cutover go {shlex.quote(str(source))}{settings.options}"
                    move.operator = Terminal(source, dsn, settings, command)
                if dry_run:
                    for step in _way(move, back=back, final=final)[1]:
                        print_line(console, f"{'→ ' if step.final else '  '}{step.words}")
                    continue
                number = _carry_out(move, say, back=back, final=final)
            if number == 3 and settings.dsn is None and not as_json:
                print_line(console, NOTE, f" Postgres: {EMBEDDED}")
            outcome.append({"source": str(source), "phase": number, "steps": events})
    if as_json:
        click.echo(json.dumps({"version": 1, "sources": outcome}, indent=2))


def _in_turn(known: Sequence[Path], dsn: str, settings: Settings, *, back: bool, final: bool) -> Sequence[Path]:
    """Of many sources, those that a command is for: forward those that are furthest behind, back those furthest ahead.

    So a command that failed at one source is called again, and goes on with that.
    """
    if len(known) == 1:
        return known
    at: dict[Path, int] = {}
    for source in known:
        try:
            with _opened(source, dsn, settings, ()) as move:
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
    number, steps = ways(move.phase, back)
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


def _opened(source: Path, dsn: str, settings: Settings, acknowledged: Sequence[str], fence: str = "hold") -> Move:
    folder, schema = source_folder(settings.state_dir, source), schema_of(settings, source)

    def rails(number: int) -> str:
        known = {*acknowledged, *_SEEN_TO, *(_OF_WRITES if number < 3 else ())}
        now = measured_status_of(source, settings)
        verdict = judge(source, now, folder, dsn, schema, known, settings.options, settings.sequences)
        if verdict.reached:
            judge_adapters(verdict, source, settings, dsn, schema)
        if not verdict.ready:
            wrong = [rail for rail in verdict.rails if not rail.passed]
            detail = "; ".join(f"{rail.name}: {rail.detail}" for rail in wrong)
            step = f"`{verdict.command('cutover plan')}` says what to do"
            raise MirrorError("move a source", str(source), f"NOT READY: {detail}", next_step=step)
        return f"{len(verdict.rails):,} passed"

    def verify() -> str:
        with (
            connect(dsn, autocommit=False) as connection,
            gate_of(source, dsn, settings.state_dir, schema, settings.options, settings.rules) as gate,
        ):
            report = compare(source, connection, schema, gate, derived=derived(connection, source, schema))
            if not report.reason:
                record(connection, source, schema, report, folder, whole=True)
        if report.agreement != "equal":
            wrong = ", ".join(table.table for table in report.tables if table.status in ("different", "not mirrored"))
            detail = report.reason or report.headline + (f" ({wrong})" if wrong else "")
            step = f"`mirror parity {shlex.quote(str(source))}{settings.options}` shows the rows"
            raise SinkError("compare with Postgres", str(source), detail, next_step=step)
        return report.headline

    def constrain(connection: psycopg.Connection[Any], agent: str | None) -> str:
        declared = read_declarations(source)
        found = Readiness(str(source), settings.options, acknowledged)
        judge_constraints(found, connection, source, schema, agent, sequences.HEADROOM, declared)
        for text in found.statements:
            connection.execute(text.encode(), prepare=False)
        after = Readiness(str(source), settings.options, acknowledged)
        judge_constraints(after, connection, source, schema, agent, declared=declared, made=True)
        if wrong := [rail for rail in after.rails if not rail.passed]:
            detail = "; ".join(f"{rail.name}: {rail.detail}" for rail in wrong)
            step = f"`{after.command('cutover plan')}` says what to do, or add --acknowledge"
            raise MirrorError("make constraints", str(source), detail, next_step=step)
        return f"{len(found.statements):,} statements for what SQLite enforces"

    def verify_again(connection: Session, since: str) -> str:
        return _equal(*differences(connection, source, schema, since))

    @contextmanager
    def commits() -> Iterator[AtCommit]:
        with (
            gate_of(source, dsn, settings.state_dir, schema, settings.options, settings.rules) as gate,
            closing(open_source(source)) as opened,
        ):
            yield lambda begin, read: opened.at_commit(gate, begin, lambda: read(opened.connection))

    def verify_back(connection: Session) -> str:
        return _equal(*differences(connection, source, schema))

    def _equal(count: int, found: list[str]) -> str:
        if found:
            raise SinkError("compare with the file", str(source), "; ".join(found[:3]))
        return f"{count:,} rows are equal"

    def prepare() -> str:
        found = Readiness(str(source), settings.options, acknowledged)
        with (
            connect(dsn, name="mirror cutover", raw=True) as connection,
            translated("prepare a move", str(source)),
        ):
            targets = targets_of(connection, source, schema)
            said = [
                statistics.analyze(connection, targets, found),
                vector_indexes.warm_all(connection, targets, acknowledged, found),
                f"sequences: {sequences.set_all(connection, source, targets, settings.sequences, sequences.AHEAD)}",
            ]
        return "; ".join(filter(None, said))

    return Move(
        source, folder, dsn, schema, settings, fence, rails, verify, constrain, verify_again, commits, verify_back,
        prepare,
        faults=no_fault,
    )  # fmt: skip
