"""``mirror down``: end the mirror that runs, also one that a program has started by ``enable_mirror()``."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from rich.console import Console

from mirror.cli.options import common, help_end, json_option
from mirror.cli.output import NOTE, print_line, text
from mirror.cli.service.managers import Shell, manager
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ConfigError, ControlError, MirrorError, NotRunningError
from mirror.core.folders import holder, known_sources, source_folder
from mirror.core.words import counted, names_apart

#: Seconds in which a mirror must have ended, with its embedded Postgres; and between two looks.
END_SECONDS, _LOOK_SECONDS = 60.0, 0.05
#: How the command line of a sidecar begins that a program has started (:mod:`mirror.hook.child`), after Python's name.
_STARTED = ("-P", "-m", "mirror", "up")

#: What starts a service in the same way.
_MANAGERS = ("systemd", "launchd")
_AGAIN = "has called enable_mirror(), which starts a mirror again as long as the program runs: end that first"


@dataclass(eq=False)
class Running:
    """A process that mirrors sources of the state directory."""

    pid: int | None
    """None: it is in another namespace of process ids."""
    sources: list[Path] = field(default_factory=list)
    programs: set[str] = field(default_factory=set)
    """Programs with hooks, that are connected."""
    process: psutil.Process | None = None
    notes: list[str] = field(default_factory=list)
    """What may start it again."""

    def __str__(self) -> str:
        return "the mirror" if self.pid is None else f"the mirror (pid {self.pid})"


@click.command(
    short_help="End the mirror that runs.",
    epilog=help_end(
        "mirror down",
        "mirror down shop.db",
        codes={0: "it has ended", 2: "it has not: one line on stderr says why", 3: "no mirror runs here"},
    ),
)
@common
@json_option
def down(settings: Settings, debug: bool, as_json: bool) -> None:
    """End the mirror that runs, in order, and wait until it has ended.

    Without SOURCE: every mirror that runs with this state directory, also one that a program has started by
    enable_mirror(). With SOURCE: the one that mirrors it; if that mirrors other sources as well, name them, too, or
    end the mirror of one by `mirror remove` or `mirror pause`.

    Nothing is lost: `mirror up` goes on from there. The embedded Postgres stops with the last one that uses it.
    """
    named = settings.sources if settings.origins.get("sources") == "arguments" else ()
    found = running_mirrors(settings, {*known_sources(settings.state_dir), *settings.sources})
    wanted = [each for each in found if not named or not set(named).isdisjoint(each.sources)]
    if not wanted:
        place = str(settings.state_dir) if not named else ", ".join(map(str, named))
        step = f"`mirror status{settings.options}` shows the sources"
        raise NotRunningError("end the mirror", place, "no mirror runs", next_step=step)
    for each in wanted:
        _require_all(each, named, settings)
    had_server = _server_runs(settings)
    for each in wanted:
        each.notes = list(_starters(each))
        _end(each, settings)
    _await_end(wanted, settings)
    stopped = had_server and not _server_runs(settings)
    if as_json:
        ended = [{"pid": each.pid, "sources": [*map(str, each.sources)], "notes": each.notes} for each in wanted]
        click.echo(json.dumps({"version": 1, "ended": ended, "postgres_stopped": stopped}, indent=2))
        return
    _say(wanted, settings, had_server=had_server, stopped=stopped)
    idle = [source for source in named if all(source not in each.sources for each in wanted)]
    for source in idle:
        print_line(Console(), NOTE, f" {source.name}: no mirror of it was running")


def running_mirrors(settings: Settings, sources: Iterable[Path]) -> list[Running]:
    """The processes that mirror sources. Raises ``ControlError`` for one that does not answer."""
    found: dict[int | None, Running] = {}
    for source in sorted(sources):
        folder = source_folder(settings.state_dir, source)
        try:
            with ControlClient(folder) as client:
                programs = client.status().hook.writers
                # By what it wrote itself: that is one number also where it has none here.
                each = found.setdefault(holder(folder), Running(client.process))
        except NotRunningError:
            continue
        each.sources.append(source)
        each.programs.update(programs)
    for each in found.values():
        if each.pid is not None:
            with suppress(psutil.Error):
                each.process = psutil.Process(each.pid)
    return [*found.values()]


def _require_all(running: Running, named: Sequence[Path], settings: Settings) -> None:
    """Raise ``ConfigError`` if the process mirrors sources that were not named, where any were."""
    others = [source for source in running.sources if source not in named]
    if not named or not others:
        return
    first = shlex.quote(str(next(source for source in named if source in running.sources)))
    shown = ", ".join(source.name for source in others[:3]) + (f" and {len(others) - 3} more" if others[3:] else "")
    raise ConfigError(
        "end the mirror",
        first,
        f"{running} mirrors {shown} as well",
        next_step=f"`mirror remove {first}{settings.options}` ends it for this source, `mirror pause"
        f" {first}{settings.options}` for a while; `mirror down{settings.options}` ends it for all",
    )


def _end(running: Running, settings: Settings) -> None:
    """Ask a process to end; one that has just ended is no error."""
    for source in running.sources:
        try:
            with ControlClient(source_folder(settings.state_dir, source)) as client:
                client.end()
                return
        except NotRunningError:
            continue


def _await_end(running: Sequence[Running], settings: Settings) -> None:
    """Wait until all have ended. Raises ``ControlError`` after :data:`END_SECONDS`."""
    deadline = time.monotonic() + END_SECONDS
    with _progress(", ".join(map(str, running))):
        for each in running:
            while _lives(each, settings):
                if time.monotonic() > deadline:
                    step = f"look at its log; if it hangs, kill -9 {each.pid}: the next start recovers"
                    raise ControlError(
                        "end the mirror",
                        ", ".join(map(str, each.sources)),
                        f"{each} has not ended within {END_SECONDS:.0f} s",
                        next_step=step if each.pid else "look at its log",
                        retryable=True,
                    )
                time.sleep(_LOOK_SECONDS)


def _lives(running: Running, settings: Settings) -> bool:
    if running.process is not None:
        try:
            # Ended, and not yet waited for by who has started it.
            return running.process.is_running() and bool(running.process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
    if running.pid is not None:
        return False  # it was gone when we looked
    for source in running.sources:
        try:
            ControlClient(source_folder(settings.state_dir, source)).close()
            return True
        except NotRunningError:
            continue
        except ControlError:
            return True
    return False


@contextmanager
def _progress(what: str) -> Iterator[None]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text(f"{what} ends …")):
        yield


# -- what starts it again --------------------------------------------------------------------------------


def _starters(running: Running) -> Iterator[str]:
    """What will, or may, start a mirror again that ends now."""
    for program in sorted(running.programs):
        yield f"{program} {_AGAIN}"
    process = running.process
    if process is None:
        return
    if process.pid == 1:
        yield "it is the first process of its container, which ends with it, and may be started again by its manager"
        return
    for system in (False, True):
        if _is_service(process.pid, system=system):
            words = " --system" if system else ""
            when = "when this machine starts" if system else "when you log in"
            yield (
                f"it is a service, which starts again {when}: `mirror service uninstall{words}` ends that, too;"
                f" `mirror service install{words}`, with its options, starts it now"
            )
            return
    with suppress(psutil.Error):
        parent, command = process.parent(), process.cmdline()[1:]
        is_sidecar = parent is not None and parent.pid != 1 and tuple(command[: len(_STARTED)]) == _STARTED
        if parent is None or not is_sidecar or parent.name() in _MANAGERS:
            return
        if not any(f"pid {parent.pid})" in each for each in running.programs):
            yield f"{parent.name()} (pid {parent.pid}) {_AGAIN}"


def _is_service(pid: int, *, system: bool) -> bool:
    """Whether a process is the service that ``mirror service install`` has made."""
    try:
        found = manager(Shell(), system=system)
        return found.path("mirror").exists() and found.state("mirror").pid == pid
    except MirrorError:  # there is no manager here, or it does not answer: then this is none of its jobs
        return False


# -- output ----------------------------------------------------------------------------------------------


def _server_runs(settings: Settings) -> bool:
    """Whether the embedded server of the state directory is up, as far as its file says."""
    return (settings.state_dir / "postgres" / "postmaster.pid").exists()


def _say(ended: Sequence[Running], settings: Settings, *, had_server: bool, stopped: bool) -> None:
    console = Console()
    names = names_apart(str(source) for each in ended for source in each.sources)
    for each in ended:
        shown = [names[str(source)] for source in each.sources]
        listed = ", ".join(shown) if len(shown) <= 5 else counted(len(shown), "source")
        print_line(console, f"{each} of {listed} has ended")
    data = settings.state_dir / "postgres"
    if stopped:
        print_line(console, f"the embedded Postgres has stopped, too; its data stays in {data}")
        print_line(console, f"to look at it: `mirror psql{settings.options}` starts it for as long as you look")
    elif had_server:
        print_line(console, f"the embedded Postgres in {data} runs on: another process uses it")
    else:
        print_line(console, "the tables in Postgres stay as they are")
    for note in dict.fromkeys(note for each in ended for note in each.notes):
        print_line(console, NOTE, f" {note}")
    sources = " ".join(shlex.quote(str(source)) for each in ended for source in each.sources)
    print_line(console, f"next: `mirror up {sources}{settings.options}` goes on from here")
