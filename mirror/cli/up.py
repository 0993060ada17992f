"""``mirror up``: run the sidecar in the foreground."""

from __future__ import annotations

import dataclasses
import os
import resource
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import click
from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn
from rich.text import Text

from mirror.cli.changes import changes_of
from mirror.cli.logs import announce, colour_of, complain, is_for_machines, log_to, start_log
from mirror.cli.options import (
    Patience,
    advise_replacing,
    agent_and_profile,
    common,
    help_end,
    named_schema,
    own_schema_command,
    postgres_of,
    replace_rows,
)
from mirror.cli.output import GOOD, Words, print_line
from mirror.cli.rereading import Rereading
from mirror.cli.serving import report_of, serving, watching
from mirror.core.beginnings import Beginning
from mirror.core.config.log_settings import LogSettings
from mirror.core.config.settings import Settings, require_file
from mirror.core.dsn import hide_password
from mirror.core.errors import ConfigError, MirrorError, OthersWroteError, SealedError, SourceError
from mirror.core.notify import Notifier
from mirror.core.place import was_touched
from mirror.core.positions import Lsn
from mirror.core.signals import Signals
from mirror.core.status import Phase, StatusReport, moved_text
from mirror.replica.filesystem import host_folder, mounts, shared_with_host
from mirror.replica.source_connection import OpenSource
from mirror.replica.unmerged import commits_stay_in_log
from mirror.sidecar.parity_watch import ParityWatch
from mirror.sidecar.periodic import PeriodicLine
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.refused import causes
from mirror.sidecar.service import Service
from mirror.sidecar.supervisor import Supervisor, SupervisorSettings

#: What is followed closely: there is something to show, or to say soon.
_BEGINNING = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP))
#: Seconds between two looks then, and where all are followed.
_CLOSELY, _NOW_AND_THEN = 0.05, 2.0


@click.command(
    short_help="Mirror SQLite files into Postgres.",
    epilog=help_end(
        "mirror up memory.db",
        "mirror up memory.db dashboard.db --postgres postgresql://localhost/app",
        "mirror up memory.db --once",
        codes={
            0: "stopped (Ctrl-C, SIGTERM) or finalized; with --once: all is in Postgres",
            2: "an error; with --once also: Postgres refuses a table",
        },
    ),
)
@common
@click.option("--once", is_flag=True, help="Copy the sources, wait until Postgres has all that is committed, and exit.")
@click.option(
    "--until-eof",
    is_flag=True,
    help="Run until standard input ends (the program that keeps it open exits), then do as with --once.",
)
@click.option(
    "--discard-writes",
    is_flag=True,
    help="Make Postgres equal to the files again where programs have written to Postgres alone since the last mirror"
    " (storage.backend: postgres). It includes --replace-rows.",
)
@click.option(
    "--http",
    metavar="[HOST:]PORT",
    help="Serve a status page, /metrics, /healthz and /readyz there; without HOST for this machine alone.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    is_eager=True,
    callback=lambda context, option, value: _log_at_once(value),
    help="text: lines for people. json: all that it has to say, one object a line.  [default: what mirror.json says, "
    "or text]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The least that is logged.  [default: what mirror.json says, or info]",
)
@replace_rows
@agent_and_profile
def up(
    settings: Settings,
    debug: bool,
    once: bool,
    until_eof: bool,
    discard_writes: bool,
    http: str | None,
    log_format: str | None,
    log_level: str | None,
    replace_rows: bool,
    agent: str | None,
    profile: str | None,
) -> None:
    """Mirror SQLite files into Postgres while other programs write them.

    Copies each file, then follows every commit until Ctrl-C or SIGTERM. Started again, it goes on where it stopped.
    A file that is not there yet, or is empty, is waited for, but not with --once.
    Without --postgres and its variables it starts a Postgres of its own. Without SOURCE it mirrors the sources that
    mirror.json lists.
    """
    start_log(LogSettings(log_format or settings.log.format, log_level or settings.log.level))
    if not settings.sources:
        raise ConfigError("start the mirror", detail="no source is named", next_step="mirror up FILE.db")
    if http is not None:
        settings = dataclasses.replace(settings, http=http)
    _require_one(settings.sources, once=once)
    _warn_of_host_folders(settings.sources)
    _allow_many_files()
    ending = threading.Event()
    if once:
        ending.set()
    if until_eof:
        threading.Thread(target=_set_at_eof, args=(ending,), daemon=True).start()
    gave_up: list[MirrorError] = []
    notifier = Notifier()
    # Without a manager it is what a terminal sends when it is closed, and ends the command.
    reload = signal.SIGHUP if notifier.is_heard else None
    with (
        Signals(signal.SIGTERM, signal.SIGINT, reload=reload) as signals,
        Beginning(settings.state_dir, settings.sources) as beginning,
        postgres_of(settings) as dsn,
        changes_of(settings, dsn) as changes,
    ):
        announce(f"Postgres: {hide_password(dsn)}")
        agents = settings.agents if agent is None else dict.fromkeys(settings.sources, agent)
        profiles = settings.profiles if profile is None else dict.fromkeys(settings.sources, profile)
        mirror = Supervisor(
            SupervisorSettings(
                settings.sources,
                dsn,
                settings.state_dir,
                agents=agents,
                links=settings.links,
                schema_of=partial(named_schema, settings),
                options=settings.options,
                profiles=profiles,
                rules=settings.rules,
                restarts=not once,
                discard_writes=discard_writes,
                replace_rows=replace_rows,
                changes=None if changes is None else changes.feed,
            )
        )
        beginning.end()
        verifier = ParityWatch(mirror.schemas, dsn, settings.state_dir)
        service = Service(notifier, mirror)
        line = PeriodicLine(mirror, partial(report_of, settings))
        rereading = Rereading(settings, click.get_current_context().params, mirror)
        try:
            with serving(settings, mirror, changes) as page, ExitStack() as beside:
                if page is not None:
                    announce(f"Status page: {page.url}")
                mirror.start()
                if not once:
                    verifier.start()
                    beside.enter_context(watching(settings, mirror))
                seconds = min(_NOW_AND_THEN, service.seconds)
                gave_up = _run(mirror, signals, ending, partial(_serve, service, line, signals, rereading), seconds)
        finally:
            service.stops()
            verifier.stop()
            ended = mirror.stop()
    if ended:
        _say_what_stays_in_logs(mirror)
    _report(mirror, settings, gave_up, once)
    if not ended:
        # A statement in Postgres did not end in time. The next start recovers, as after a kill.
        os._exit(0)


def _warn_of_host_folders(sources: Sequence[Path]) -> None:
    mounted = mounts()
    for source in sources:
        if kind := shared_with_host(source, mounted):
            logger.warning("{}: {}: {}", source, *host_folder(kind))


def _allow_many_files() -> None:
    """Raise the limit of open files: a source needs a dozen, and some hundred more while Postgres is unreachable."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a system that does not allow it works as well, with fewer sources
        if allowed != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _set_at_eof(ending: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    ending.set()


def _require_one(sources: Sequence[Path], *, once: bool) -> None:
    """Raise the last ``MirrorError`` if none of the sources can be followed, before anything is started.

    If only some cannot be followed, the others are mirrored. Unless ``once`` is set, a file that is missing or empty
    is waited for.
    """
    problem: MirrorError | None = None
    for source in sources:
        if was_touched(source):  # programs were moved: it is carried back
            return
        if not once and (not source.exists() or (source.is_file() and source.stat().st_size == 0)):
            return
        try:
            require_file(source, "start the mirror")
            OpenSource(source).close()
        except MirrorError as error:
            if error.retryable:
                return
            problem = error
        else:
            return
    if problem is not None:
        raise problem


def _log_at_once(form: str | None) -> str | None:
    """Log in the form that was given from the start: that the settings cannot be used, too."""
    if form is not None:
        start_log(LogSettings(form))
    return form


def _serve(service: Service, line: PeriodicLine, signals: Signals, rereading: Rereading) -> None:
    """Tell the service manager and the log what is new; read the configuration again if that is asked for, or due."""
    service.turn()
    if not click.get_current_context().params["once"]:
        line.turn()
    if signals.takes_reload():
        service.reloads()
        rereading.read(asked=True)
        service.has_reloaded()
    elif rereading.is_due():
        rereading.read(asked=False)


def _run(
    supervisor: Supervisor, signals: Signals, ending: threading.Event, meanwhile: Callable[[], None], longest: float
) -> list[MirrorError]:
    """Show progress until every source has ended, a signal came, or, once ``ending`` is set, everything is applied.

    ``meanwhile``: called again and again, within ``longest`` seconds.
    Returns the errors of sources that still run, but make no progress and were given up.
    """
    console = Console(stderr=True)
    waiting: dict[Pipeline, None] = {}
    begun = False
    targets: dict[Pipeline, Future[Lsn]] = {}
    patience = Patience()
    gave_up: list[MirrorError] = []
    announced: dict[Pipeline, bool] = {}
    with _Bars(console) as bars:
        seconds = _CLOSELY
        while supervisor.running and not signals.wait(seconds):
            meanwhile()
            news = False
            if ending.is_set() and not begun:
                supervisor.restart_no_more()
                waiting, begun = dict.fromkeys(supervisor.pipelines), True
            for pipeline in supervisor.pipelines:
                bars.show(pipeline)
                news |= pipeline.status.phase in _BEGINNING
                if pipeline in waiting and (problem := _given_up(pipeline, patience)) is not None:
                    gave_up.append(problem)
                    del waiting[pipeline]
                elif pipeline in waiting and pipeline.status.phase in (Phase.REVERSE, Phase.PAUSED):
                    del waiting[pipeline]  # what is not carried back yet stays in Postgres, for the next mirror
                if pipeline.status.caught_up_at is None:
                    continue
                _announce(pipeline, announced, bars)
                if pipeline in waiting and _is_drained(pipeline, targets):
                    del waiting[pipeline]
            seconds = _CLOSELY if news or begun else longest
            if begun and all(pipeline.error is not None for pipeline in waiting):
                break
    return gave_up


def _announce(pipeline: Pipeline, announced: dict[Pipeline, bool], bars: _Bars) -> None:
    """Say once that a source is followed, and once more when the first table of one that had none is there.

    ``announced``: whether each source had a table then.
    """
    state, had = pipeline.status, announced.get(pipeline)
    if had or (had is not None and not state.tables):
        return
    announced[pipeline] = state.tables > 0
    mirrored = state.tables - len(state.refusals)
    tables = f"{mirrored} tables in Postgres" if state.tables else "it has no table yet, and the mirror waits for one"
    bars.say(f"{Path(state.source).name}: {tables}, following every commit")


def _given_up(pipeline: Pipeline, patience: Patience) -> MirrorError | None:
    """The error of a source that makes no progress while all of it is to be applied; None if it does."""
    try:
        patience.check(pipeline)
    except MirrorError as error:
        return error
    return None


def _is_drained(pipeline: Pipeline, targets: dict[Pipeline, Future[Lsn]]) -> bool:
    """Whether Postgres has all that was committed at the first call, and its indexes."""
    if pipeline not in targets:
        if pipeline.error is not None:
            return False
        with suppress(SourceError):  # it has just ended, and says why
            targets[pipeline] = pipeline.requests.mark()
        return False
    target = targets[pipeline]
    known = target.done() and target.exception() is None
    return known and pipeline.status.indexing is None and pipeline.requests.wait_applied(target.result(), 0.0)


def _say_what_stays_in_logs(supervisor: Supervisor) -> None:
    """Of sources that nobody has open any more: a copy of the file alone would lack what is in its log.

    Only when the supervisor has ended, and with it every connection of this process to a source.
    """
    for pipeline in supervisor.pipelines:
        source = Path(pipeline.status.source)
        if commits_stay_in_log(source):
            merge = f"sqlite3 {shlex.quote(str(source))} 'PRAGMA wal_checkpoint(TRUNCATE)'"
            announce(
                f"{source.name}: {source.name}-wal still holds commits that {source.name} alone lacks: back up or copy "
                f"both files together. The next program that closes the database puts them into it; so does `{merge}`"
            )


def _again(settings: Settings, source: Path) -> str:
    """The command that was given, for one source and with ``--replace-rows``."""
    given = click.get_current_context().params
    flags = "".join(f" --{name.replace('_', '-')}" for name in ("once", "until_eof") if given[name])
    named = "".join(
        f" --{name} {shlex.quote(given[name])}"
        for name in ("agent", "profile")
        if given.get(name) not in (None, "auto")
    )
    return f"mirror up {shlex.quote(str(source))}{settings.options}{flags}{named} --replace-rows"


def _report(supervisor: Supervisor, settings: Settings, gave_up: Sequence[MirrorError], once: bool) -> None:
    failed = [*gave_up, *supervisor.errors]
    if len(supervisor.pipelines) > sum(isinstance(error, SealedError) for error in failed):
        # Finalized before it began, beside others that are mirrored: that is all that there is to do.
        failed = [error for error in failed if not isinstance(error, SealedError)]
    for error in failed:
        if isinstance(error, OthersWroteError):
            advise_replacing(error, _again(settings, Path(error.place)))
    for pipeline in supervisor.pipelines:
        state = pipeline.status
        if state.reverse is not None and pipeline.error not in failed:
            announce(f"{Path(state.source).name}: {_moved(state.report())}")
        elif pipeline.error is None:
            rejects = f", {state.rejects} rows that Postgres cannot hold" if state.rejects else ""
            where = f"is at {state.applied}" if state.applied else "has nothing yet"
            announce(f"{Path(state.source).name}: Postgres {where}{rejects}")
        for cause in causes(state.refusals, state.schema):
            advice = cause.next_step
            if cause.own_schema:
                advice = own_schema_command(settings, Path(state.source), state.schema)
            step = f" -- {advice}" if advice else ""
            complain(f"{Path(state.source).name}: Postgres refuses {cause.named}: {cause.reason}{step}")
    for error in failed[:-1]:
        complain(str(error), error)
    if failed:
        raise failed[-1]
    if once and any(pipeline.status.refusals for pipeline in supervisor.pipelines):
        sys.exit(2)
    reports = [pipeline.status.report() for pipeline in supervisor.pipelines]
    if settings.dsn is None and any(report.reverse is not None for report in reports):
        announce("The embedded Postgres ends with this command, and programs that were moved need it.")
    _say_next(reports, settings)


def _moved(report: StatusReport) -> str:
    """What a mirror that ends leaves of a source that was moved to Postgres."""
    assert report.reverse is not None
    rejects = report.reverse.rejects
    if report.reverse.ended:
        return f"{moved_text(report)}; there is nothing left to do for the mirror"
    return moved_text(report) + (f"; the file does not take {rejects:,} rows of Postgres" if rejects else "")


def _say_next(reports: Sequence[StatusReport], settings: Settings) -> None:
    """For the first source that is mirrored; else for the first that is carried back."""
    options = settings.options
    for report in reports:
        if report.reverse is None:
            announce(f"Next: `mirror parity {shlex.quote(report.source)}{options}` compares every value.")
            return
    for report in reports:
        if report.reverse is not None and not report.reverse.ended:
            source = shlex.quote(report.source)
            back = f"`mirror cutover rollback {source}{options}` goes back to the file"
            announce(f"Next: `mirror up {source}{options}` carries on; {back}.")
            return


class _Bars:
    """A progress bar for each step of a snapshot, on a terminal; nothing elsewhere, or beside a log for machines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = console.is_terminal and not is_for_machines()
        self._progress = Progress(
            Words(),
            BarColumn(),
            MofNCompleteColumn(),
            Words("rate"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._shown,
            transient=True,
        )
        self._tasks: dict[tuple[str, str], tuple[TaskID, float]] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        if self._shown:  # above the bars, not through them
            log_to(self._log, colour=colour_of(sys.stderr))
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        start_log()

    def _log(self, message: str) -> None:
        for line in message.rstrip().split("\n"):
            print_line(self._console, Text.from_ansi(line))

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        if self._shown:
            print_line(self._console, GOOD, " ", line)
        else:
            announce(line)

    def show(self, pipeline: Pipeline) -> None:
        """Update the bar of the step that the pipeline's snapshot is at."""
        progress = pipeline.status.progress
        if progress is None or not self._shown:
            return
        key = (pipeline.status.source, progress.what)
        if key not in self._tasks:
            description = f"{Path(key[0]).name}: {key[1]}"
            self._tasks[key] = self._progress.add_task(description, rate=""), time.monotonic()
        task, begun = self._tasks[key]
        rate = progress.done / max(time.monotonic() - begun, 0.001)
        self._progress.update(
            task, completed=progress.done, total=progress.total, rate=f"{rate:,.0f} {progress.unit}/s"
        )
