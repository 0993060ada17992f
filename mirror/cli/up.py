"""``mirror up``: run the sidecar in the foreground."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import click
from loguru import logger
from msgspec import structs

from mirror.cli.changes import changes_of
from mirror.cli.gone import require_unmoved
from mirror.cli.logs import announce, start_log
from mirror.cli.options import (
    Patience,
    agent_and_profile,
    common,
    help_end,
    named_schema,
    postgres_of,
    replace_rows,
)
from mirror.cli.remembering import Remembering
from mirror.cli.rereading import Rereading
from mirror.cli.serving import report_of, serving, watching
from mirror.cli.up_end import MOST_ANNOUNCED, Given, Refusals, report_end, tell_postgres
from mirror.cli.up_view import UpView, view_of
from mirror.core.beginnings import Beginning
from mirror.core.config.log_settings import LogSettings
from mirror.core.config.settings import Settings, require_file
from mirror.core.errors import ConfigError, MirrorError, SourceError
from mirror.core.notify import Notifier
from mirror.core.place import was_touched
from mirror.core.positions import Lsn
from mirror.core.published import mirrored_sources
from mirror.core.signals import Signals
from mirror.core.status import Phase
from mirror.core.words import counted
from mirror.replica.filesystem import host_folder, mounts, shared_with_host
from mirror.replica.source_connection import OpenSource
from mirror.replica.unmerged import commits_stay_in_log
from mirror.sidecar.parity_watch import ParityWatch
from mirror.sidecar.periodic import PeriodicLine
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.service import Service
from mirror.sidecar.supervisor import Supervisor, SupervisorSettings

#: What is followed closely: there is something to show, or to say soon.
_BEGINNING = frozenset((Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP))
#: Seconds between two looks then, and where all are followed.
_CLOSELY, _NOW_AND_THEN = 0.05, 2.0
#: Seconds between two pictures of a live line.
_WATCHED = 0.5


@click.command(
    short_help="Mirror SQLite files into Postgres.",
    epilog=help_end(
        "mirror up memory.db",
        "mirror up memory.db dashboard.db --postgres postgresql://localhost/app",
        "mirror up memory.db --once",
        codes={
            0: "stopped (Ctrl-C, SIGTERM) or finalized; with --once: all is in Postgres",
            2: "an error, or all tables of a source are refused; with --once: any table",
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
    help="text: lines for people, each record with date and zone. json: all that it has to say, one "
    "object a line.  [default: what mirror.json says, or text]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The least that is logged.  [default: what mirror.json says, or info]",
)
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors alone, and no progress: --log-level warning.")
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
    quiet: bool,
    replace_rows: bool,
    agent: str | None,
    profile: str | None,
) -> None:
    """Mirror SQLite files into Postgres while other programs write them.

    Copies each file, then follows every commit until Ctrl-C or SIGTERM. Started again, it goes on where it stopped.
    A file that is not there yet, or is empty, is waited for, but not with --once.
    Without --postgres and its variables it starts a Postgres of its own. Without SOURCE it mirrors the sources that
    mirror.json lists; without these, those that it has mirrored with this state directory.
    """
    if quiet and log_level in ("debug", "info"):
        raise click.UsageError(f"-q leaves out what --log-level {log_level} asks for: give one of them.")
    least = log_level or ("warning" if quiet else settings.log.level)
    start_log(LogSettings(log_format or settings.log.format, least))
    if not settings.sources:
        origins = {**settings.origins, "sources": "default"}
        settings = structs.replace(settings, sources=_mirrored_before(settings), origins=origins)
    if http is not None:
        settings = structs.replace(settings, http=http)
    _require_one(settings.sources, once=once)
    _warn_of_host_folders(settings.sources)
    _allow_many_files()
    ending = threading.Event()
    if once:
        ending.set()
    if until_eof:
        threading.Thread(target=_set_at_eof, args=(ending,), daemon=True).start()
    early: Beginning | None = click.get_current_context().obj
    gave_up: list[MirrorError] = []
    notifier = Notifier()
    # Without a manager it is what a terminal sends when it is closed, and ends the command.
    reload = signal.SIGHUP if notifier.is_heard else None
    with (
        Signals(signal.SIGTERM, signal.SIGINT, reload=reload) as signals,
        Beginning(settings.state_dir, settings.sources) as beginning,
        postgres_of(settings, _say_that_it_is_made) as dsn,
        changes_of(settings, dsn) as changes,
    ):
        tell_postgres(settings, dsn)
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
                require_unmoved=partial(require_unmoved, settings),
                options=settings.options,
                embedded=settings.dsn is None,
                profiles=profiles,
                rules=settings.rules,
                restarts=not once,
                discard_writes=discard_writes,
                replace_rows=replace_rows,
                changes=None if changes is None else changes.feed,
                begun=Remembering(settings),
            )
        )
        beginning.end()
        if early is not None:
            early.end()
        verifier = ParityWatch(mirror.schemas, dsn, settings.state_dir, settings.options)
        service = Service(notifier, mirror)
        line = PeriodicLine(mirror, partial(report_of, settings), options=settings.options)
        refusals = Refusals(settings)
        view = view_of(lambda: [name for name, _ in mirror.not_begun])
        rereading = Rereading(settings, click.get_current_context().params, mirror)
        try:
            with serving(settings, mirror, changes) as page, ExitStack() as beside:
                if page is not None:
                    announce(f"Status page: {page.url}")
                mirror.start()
                if not once:
                    verifier.start()
                    beside.enter_context(watching(settings, mirror))
                seconds = min(_WATCHED if view.shown else _NOW_AND_THEN, service.seconds)
                meanwhile = partial(_serve, service, None if view.shown else line, signals, rereading)
                gave_up = _run(mirror, signals, ending, meanwhile, seconds, view, None if once else refusals)
        finally:
            service.stops()
            verifier.stop()
            ended = mirror.stop()
    if ended:
        _say_what_stays_in_logs(mirror)
    report_end(mirror, settings, gave_up, refusals, Given.of(click.get_current_context().params, settings.sources))
    if not ended:
        # A statement in Postgres did not end in time. The next start recovers, as after a kill.
        os._exit(0)


def _mirrored_before(settings: Settings) -> tuple[Path, ...]:
    """The sources that were mirrored with the state directory. Raises ``ConfigError`` if none was."""
    mirrored = tuple(mirrored_sources(settings.state_dir))
    if not mirrored:
        step = f"mirror up FILE.db{settings.options}"
        raise ConfigError("start the mirror", detail="no source is named", next_step=step)
    return mirrored


def _say_that_it_is_made(data: Path) -> None:
    announce(f"Making a Postgres in {data}, which takes some seconds")


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
    start_log(LogSettings(form or "text"))
    return form


def _serve(service: Service, line: PeriodicLine | None, signals: Signals, rereading: Rereading) -> None:
    """Tell the service manager and the log what is new; read the configuration again if that is asked for, or due.

    ``line``: None where a line on the terminal says it all the time.
    """
    service.turn()
    if line is not None and not click.get_current_context().params["once"]:
        line.turn()
    if signals.takes_reload():
        service.reloads()
        rereading.read(asked=True)
        service.has_reloaded()
    elif rereading.is_due():
        rereading.read(asked=False)


def _run(
    supervisor: Supervisor,
    signals: Signals,
    ending: threading.Event,
    meanwhile: Callable[[], None],
    longest: float,
    view: UpView,
    refusals: Refusals | None,
) -> list[MirrorError]:
    """Show progress until every source has ended, a signal came, or, once ``ending`` is set, everything is applied.

    ``meanwhile``: called again and again, within ``longest`` seconds. ``refusals``: tells those that come; None: they
    are told at the end.
    Returns the errors of sources that still run, but make no progress and were given up.
    """
    waiting: dict[Pipeline, None] = {}
    begun = False
    targets: dict[Pipeline, Future[Lsn]] = {}
    patience = Patience()
    gave_up: list[MirrorError] = []
    announced = _Announced(view)
    with view:
        seconds = _CLOSELY
        while supervisor.running and not signals.wait(seconds):
            meanwhile()
            news = False
            if ending.is_set() and not begun:
                supervisor.restart_no_more()
                waiting, begun = dict.fromkeys(supervisor.pipelines), True
            view.turn(supervisor.pipelines)
            for pipeline in supervisor.pipelines:
                if refusals is not None:
                    refusals.tell(pipeline, view)
                news |= pipeline.status.phase in _BEGINNING
                if pipeline in waiting and (problem := _given_up(pipeline, patience)) is not None:
                    gave_up.append(problem)
                    del waiting[pipeline]
                elif pipeline in waiting and pipeline.status.phase in (Phase.REVERSE, Phase.PAUSED):
                    del waiting[pipeline]  # what is not carried back yet stays in Postgres, for the next mirror
                if pipeline.status.caught_up_at is None:
                    continue
                announced.turn(pipeline, len(supervisor.sources))
                if pipeline in waiting and _is_drained(pipeline, targets):
                    del waiting[pipeline]
            announced.all(supervisor.pipelines, len(supervisor.sources))
            seconds = _CLOSELY if news or begun else longest
            if begun and all(pipeline.error is not None for pipeline in waiting):
                break
    return gave_up


class _Announced:
    """Says once that a source is followed, and once more when the first table of one that had none is there."""

    def __init__(self, view: UpView) -> None:
        self._view = view
        self._had: dict[Pipeline, bool] = {}
        """Whether each source had a table then."""
        self._said_all = False

    def turn(self, pipeline: Pipeline, sources: int) -> None:
        """Look at a source that was followed. ``sources``: how many there are."""
        state, had = pipeline.status, self._had.get(pipeline)
        mirrored = state.tables - len(state.refusals)
        if had or (had is not None and mirrored <= 0):
            return
        self._had[pipeline] = mirrored > 0
        if state.tables and mirrored <= 0:
            return  # what keeps it from that is told in place of it
        if sources > MOST_ANNOUNCED:
            return
        tables = f"{counted(mirrored, 'table')} in Postgres"
        if mirrored <= 0:
            tables = "it has no table yet, and the mirror waits for one"
        self._view.say(f"{pipeline.task.name}: {tables}, following every commit")

    def all(self, pipelines: Sequence[Pipeline], sources: int) -> None:
        """Say that all are, where they are too many to be said one by one."""
        if sources <= MOST_ANNOUNCED or self._said_all or len(self._had) < sources:
            return
        self._said_all = True
        tables = sum(max(0, each.status.tables - len(each.status.refusals)) for each in pipelines)
        self._view.say(f"{counted(sources, 'source')}: {counted(tables, 'table')} in Postgres, following every commit")


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
