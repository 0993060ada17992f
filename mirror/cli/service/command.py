"""``mirror service``: the mirror as a service of systemd or launchd, and servers that were made for it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import click
import psutil
from rich.console import Console

from mirror.cli.groups import Commands
from mirror.cli.options import agent_and_profile, common, help_end, json_option
from mirror.cli.output import BAD, GOOD, print_line
from mirror.cli.service.job import (
    Job,
    Name,
    data_of,
    environment,
    environment_file,
    environment_file_of,
    is_private,
    mirror_job,
    owner_of,
    server_job,
    user_of,
)
from mirror.cli.service.managers import Shell, Systemd, manager
from mirror.cli.service.render import command_in
from mirror.core.config.settings import Settings
from mirror.core.errors import ConfigError, MirrorError

#: Seconds that a server may take to end before the manager starts it.
_END_SECONDS = 60.0

_server = click.option(
    "--server",
    type=click.Choice(["redis", "postgres"]),
    help="Instead of the mirror: the server that scripts/setup-redis.sh or, on macOS, scripts/setup-postgres.sh made.",
)
_system = click.option(
    "--system", is_flag=True, help="A service of the system, which starts with the machine.  [default: of this user]"
)
_dry_run = click.option("--dry-run", is_flag=True, help="Print files and commands, and do nothing.")
_debug = click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")


@click.group(
    cls=Commands,
    short_help="Run the mirror as a service.",
    epilog=help_end("mirror service install memory.db --dry-run", "mirror service status", "mirror service logs"),
)
def service() -> None:
    """Have systemd (Linux) or launchd (macOS) run the mirror, and start it again when it fails."""


@service.command(
    short_help="Have the mirror run as a service.",
    epilog=help_end(
        "mirror service install memory.db --dry-run",
        "mirror service install --config mirror.json",
        "mirror service install --server redis",
        codes={0: "it is installed, and is being started"},
    ),
)
@common
@agent_and_profile
@_server
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where that server keeps its files.  [default: where its script does]",
)
@_system
@_dry_run
def install(
    settings: Settings,
    debug: bool,
    agent: str | None,
    profile: str | None,
    server: Name | None,
    data: Path | None,
    system: bool,
    dry_run: bool,
) -> None:
    """Have the mirror run as a service, with the Python that runs this and with the options given here.

    Without SOURCE it mirrors what mirror.json lists whenever it starts. The service's file holds no password. Variables
    that name Postgres or its passwords are written to a file that only its owner can read (service.env in the state
    directory, with --system /etc/argent-mirror.env), if there is none yet; each start reads that file.

    Run it again after a change of the options: it replaces the file and restarts the service. With --system it runs as
    the user whose the first source is.
    """
    shell = Shell(dry_run)
    found = manager(shell, system=system)
    home = Path(os.environ.get("HOME") or "~").expanduser()
    if server is not None:
        job = server_job(server, data_of(server, data, home, system=system))
        assert job.data is not None
        user = user_of(job.data) if system else None
    else:
        more = [
            word for name, value in (("agent", agent), ("profile", profile)) if value for word in (f"--{name}", value)
        ]
        job = mirror_job(settings, environment_file(settings, system=system), more)
        user = owner_of(settings) if system else None
    path = found.path(job.name)
    _require_ours(path, job, system)
    content = found.rendered(job, user)
    changed = not path.exists() or path.read_bytes() != content
    if job.environment_file is not None:
        _keep_variables(shell, job.environment_file, user)
    if job.data is not None and not found.is_loaded(job.name):
        _end(shell, job)
    if changed:
        shell.write(path, content, 0o644)
    found.start(job.name, changed=changed)
    if dry_run:
        click.echo("Nothing was done (--dry-run).")
        return
    click.echo(f"{path} {'is new' if changed else 'is as it was'}, and the service is being started.")
    if isinstance(found, Systemd) and not system:
        click.echo("It ends when you log out for the last time, unless you run once: loginctl enable-linger")
    click.echo(f"Next: `mirror service status{_options(server, system)}`.")


@service.command(
    short_help="End the service, and remove its file.",
    epilog=help_end("mirror service uninstall", codes={0: "it is gone; also if there was none"}),
)
@_server
@_system
@_dry_run
@_debug
def uninstall(server: Name | None, system: bool, dry_run: bool, debug: bool) -> None:
    """End the service, and remove its file. Postgres, state directory and server keep all that they hold."""
    shell = Shell(dry_run)
    found, name = manager(shell, system=system), server or "mirror"
    path = found.path(name)
    if not path.exists() and not found.is_loaded(name):
        click.echo(f"It is not installed: there is no {path}.")
        return
    variables = environment_file_of(command_in(path), system=system) if path.exists() else None
    found.stop(name)
    shell.remove(path)
    found.forget(name)
    if variables is not None and variables.exists():
        click.echo(f"{variables} is left, with the variables of the service.")
    click.echo("Nothing was done (--dry-run)." if dry_run else f"{path} is removed, and the service has ended.")


@service.command(
    short_help="Show how the service is.",
    epilog=help_end("mirror service status --json", codes={0: "it runs", 1: "it does not, or is not installed"}),
)
@_server
@_system
@json_option
@_debug
def status(server: Name | None, system: bool, as_json: bool, debug: bool) -> None:
    """Show how the service is: what its manager knows of it, and what it says of itself.

    `mirror status` tells more of the sources.
    """
    found, name = manager(Shell(), system=system), server or "mirror"
    state, path = found.state(name), found.path(name)
    command = command_in(path) if path.exists() else []
    if as_json:
        values = {"installed": state.installed, "active": state.active, "text": state.text, "pid": state.pid}
        click.echo(json.dumps({"version": 1, **values, "file": str(path), "command": command}, indent=2))
    else:
        console = Console()
        pid = f", process {state.pid}" if state.pid else ""
        print_line(console, GOOD if state.active else BAD, f" {path.name}: {state.text}{pid}")
        if command:
            print_line(console, f"  runs: {shlex.join(command)}")
        if not state.installed:
            print_line(console, f"  next: mirror service install{_options(server, system)}", style="yellow")
        elif not state.active:
            print_line(console, f"  next: mirror service logs{_options(server, system)}", style="yellow")
    sys.exit(0 if state.active else 1)


@service.command(
    short_help="Show what the service has printed.",
    epilog=help_end("mirror service logs --lines 200", "mirror service logs --follow", codes={0: "it was shown"}),
)
@_server
@_system
@click.option(
    "--lines", metavar="N", default=50, show_default=True, type=click.IntRange(1), help="How many of the last lines."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what it prints from now on, until Ctrl-C.")
@_debug
def logs(server: Name | None, system: bool, lines: int, follow: bool, debug: bool) -> None:
    """Show what the service has printed: from systemd's journal, or from its log file under launchd."""
    command = manager(Shell(), system=system).logs(server or "mirror", lines, follow=follow)
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argument list
    except OSError as error:
        raise MirrorError("show the log", command[0], error.strerror or str(error)) from error


def _options(server: str | None, system: bool) -> str:
    return (f" --server {server}" if server else "") + (" --system" if system else "")


def _require_ours(path: Path, job: Job, system: bool) -> None:
    """Raise ``ConfigError`` if the file is another installation's that is still there."""
    try:
        has = command_in(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ConfigError(
            "install the service", str(path), f"it cannot be read: {error}", next_step="remove it"
        ) from error
    if has and has[0] != job.command[0] and Path(has[0]).exists():
        server = None if job.name == "mirror" else job.name
        step = f"`mirror service uninstall{_options(server, system)}` ends that one; then install this"
        raise ConfigError("install the service", str(path), f"it runs another installation: {has[0]}", next_step=step)


def _keep_variables(shell: Shell, path: Path, user: str | None) -> None:
    """Write the variables that mean something to the mirror, unless there is such a file."""
    if not is_private(path):
        detail = "other users can read it, and it may hold a password"
        raise ConfigError("install the service", str(path), detail, next_step=f"chmod 600 {shlex.quote(str(path))}")
    content = environment(os.environ).encode()
    if path.exists():
        if content and path.read_bytes() != content:
            click.echo(f"{path} is left as it is, though the variables here are others.")
        return
    if not content:
        return
    names = ", ".join(line.partition("=")[0] for line in content.decode().splitlines())
    if shell.dry_run:
        click.echo(f"+ write {path} (600), with the values here of {names}")
        return
    shell.write(path, content, 0o600)
    if user is not None:
        shutil.chown(path, user)
    click.echo(f"{path} has the variables {names}; only its owner can read it.")


def _end(shell: Shell, job: Job) -> None:
    """End the server that its script has started, so that the manager can."""
    server = _running(job)
    if server is None:
        return
    # Postgres: connections are ended, and it stops in order. Redis writes what is not written yet.
    number = signal.SIGINT if job.name == "postgres" else signal.SIGTERM
    if shell.dry_run:
        click.echo(f"+ kill -{number.name.removeprefix('SIG')} {server.pid}")
        return
    server.send_signal(number)
    deadline = time.monotonic() + _END_SECONDS
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            detail = f"process {server.pid} has not ended within {_END_SECONDS:.0f} s"
            raise MirrorError("end the server", str(job.data), detail, retryable=True)
        time.sleep(0.05)


def _running(job: Job) -> psutil.Process | None:
    """The server that runs in a directory: an old file of a process id may name another process by now."""
    assert job.data is not None
    file = job.data / ("postmaster.pid" if job.name == "postgres" else "redis.pid")
    try:
        server = psutil.Process(int(file.read_text().split()[0]))
        return server if Path(server.cwd()) == job.data.resolve() else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
