"""systemd and launchd: each keeps jobs running, and is spoken to by its own command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click

from mirror.cli.service.job import Job
from mirror.cli.service.render import label, plist, unit, unit_name
from mirror.core.errors import ConfigError, MirrorError
from mirror.core.files import write_atomically

#: Seconds that launchd may take to let go of a job, and between two looks.
_GONE_SECONDS, _LOOK_SECONDS = 60.0, 0.1


@dataclass(frozen=True, slots=True)
class State:
    """How a job is."""

    installed: bool
    active: bool
    text: str
    """For people, in one line."""
    pid: int | None = None


class Manager(Protocol):
    """What keeps jobs running."""

    def path(self, name: str) -> Path:
        """The file of a job."""

    def rendered(self, job: Job, user: str | None) -> bytes:
        """What is to be in it."""

    def start(self, name: str, *, changed: bool) -> None:
        """Have a job run whose file is in its place; ``changed``: it is new, or another than before."""

    def stop(self, name: str) -> None:
        """Have a job end, and not be started again."""

    def forget(self, name: str) -> None:
        """The file of a job that was stopped is gone."""

    def is_loaded(self, name: str) -> bool:
        """Whether the manager runs the job."""

    def state(self, name: str) -> State:
        """How a job is."""

    def logs(self, name: str, lines: int, *, follow: bool) -> list[str]:
        """The command that shows what a job has printed."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands; in a dry run it prints those that change something, and does not run them."""

    dry_run: bool = False

    def change(self, *command: str, allowed: Sequence[int] = (0,)) -> None:
        """Run a command that changes something. Raises ``MirrorError`` if it ends with another code."""
        if self.dry_run:
            click.echo(f"+ {shlex.join(command)}")
            return
        done = self._run(command)
        if done.returncode not in allowed:
            said = " ".join((done.stderr or done.stdout).split())
            raise MirrorError("change the service", shlex.join(command), said or f"exit code {done.returncode}")

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that changes nothing. Raises ``MirrorError`` if it cannot be started."""
        return self._run(command)

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        except OSError as error:
            raise MirrorError("change the service", command[0], error.strerror or str(error)) from error

    def write(self, path: Path, content: bytes, mode: int) -> None:
        """Make or replace a file, whole or not at all."""
        if self.dry_run:
            click.echo(f"+ write {path} ({mode:o}):")
            click.echo("".join(f"|   {line}\n" for line in content.decode().splitlines()), nl=False)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, durable=True)
        path.chmod(mode)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        if self.dry_run:
            click.echo(f"+ rm {path}")
        else:
            path.unlink(missing_ok=True)


class Systemd:
    """systemd: the system's, or this user's."""

    def __init__(self, shell: Shell, *, system: bool, environment: Mapping[str, str] = os.environ) -> None:
        self._shell = shell
        self._systemctl = ("systemctl",) if system else ("systemctl", "--user")
        self._journalctl = ("journalctl",) if system else ("journalctl", "--user")
        self._folder = self.folder(environment, system=system)

    @staticmethod
    def folder(environment: Mapping[str, str], *, system: bool) -> Path:
        """Where units are."""
        own = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME') or '~'}/.config"
        return Path("/etc/systemd/system") if system else Path(own).expanduser() / "systemd/user"

    def path(self, name: str) -> Path:
        """The unit's file."""
        return self._folder / unit_name(name)

    def rendered(self, job: Job, user: str | None) -> bytes:
        """The unit, for this version of systemd."""
        if job.name == "postgres":
            detail, step = "the system starts a cluster that setup-postgres.sh has made by itself", "pg_lsclusters"
            raise ConfigError("install the service", "--server postgres", detail, next_step=step)
        found = re.match(r"systemd (\d+)", self._shell.ask("systemctl", "--version").stdout)
        return unit(job, user, int(found[1]) if found else 0).encode()

    def start(self, name: str, *, changed: bool) -> None:
        """Does not wait until it is ready: a first copy may take long."""
        self._shell.change(*self._systemctl, "daemon-reload")
        self._shell.change(*self._systemctl, "enable", unit_name(name))
        self._shell.change(*self._systemctl, "--no-block", "restart" if changed else "start", unit_name(name))

    def stop(self, name: str) -> None:
        """Waits for its end."""
        self._shell.change(*self._systemctl, "disable", "--now", unit_name(name))

    def forget(self, name: str) -> None:
        """Also that it has failed, if it has."""
        self._shell.change(*self._systemctl, "daemon-reload")
        self._shell.change(*self._systemctl, "reset-failed", unit_name(name), allowed=(0, 1, 5))

    def is_loaded(self, name: str) -> bool:
        """Whether it runs, or is about to."""
        return self._shell.ask(*self._systemctl, "is-active", "--quiet", unit_name(name)).returncode == 0

    def state(self, name: str) -> State:
        """As ``systemctl show`` has it, with the service's own words (``STATUS``)."""
        names = ("ActiveState", "SubState", "Result", "MainPID", "NRestarts", "StatusText")
        done = self._shell.ask(*self._systemctl, "show", f"--property={','.join(names)}", unit_name(name))
        if done.returncode:
            raise MirrorError("ask for the service", shlex.join(self._systemctl), " ".join(done.stderr.split()))
        has = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        active = has.get("ActiveState", "unknown")
        parts = [f"{active} ({has.get('SubState', '')})"]
        if has.get("Result", "success") != "success":
            parts.append(f"ended by: {has['Result']}")
        if has.get("NRestarts", "0") != "0":
            parts.append(f"started again {has['NRestarts']} times")
        if has.get("StatusText"):
            parts.append(has["StatusText"])
        pid = int(has.get("MainPID") or 0) or None
        running = active in ("active", "activating", "reloading")
        return State(self.path(name).exists(), running, "; ".join(parts), pid)

    def logs(self, name: str, lines: int, *, follow: bool) -> list[str]:
        """From the journal."""
        end = ["--follow"] if follow else ["--no-pager"]
        return [*self._journalctl, "--unit", unit_name(name), "--lines", str(lines), *end]


class Launchd:
    """launchd: a daemon of the system, or an agent of this user.

    An agent belongs to the user's desktop (``gui/UID``), or, where there is none, as over ssh, to the user
    (``user/UID``). ``load`` and ``unload`` are not used: they leave jobs half loaded.
    """

    def __init__(self, shell: Shell, *, system: bool, environment: Mapping[str, str] = os.environ) -> None:
        self._shell = shell
        self._folder = self.folder(environment, system=system)
        self._logs = self._folder.parent / "Logs"
        self._domain = "system"
        if not system:
            gui = shell.ask("launchctl", "print", f"gui/{os.getuid()}").returncode == 0
            self._domain = f"{'gui' if gui else 'user'}/{os.getuid()}"

    @staticmethod
    def folder(environment: Mapping[str, str], *, system: bool) -> Path:
        """Where property lists are."""
        home = Path(environment.get("HOME") or "~").expanduser()
        return Path("/Library/LaunchDaemons") if system else home / "Library/LaunchAgents"

    def path(self, name: str) -> Path:
        """The property list's file."""
        return self._folder / f"{label(name)}.plist"

    def rendered(self, job: Job, user: str | None) -> bytes:
        """The property list."""
        return plist(job, user, self._log(job.name))

    def start(self, name: str, *, changed: bool) -> None:
        """A job whose file has changed is let go of first: launchd does not look at the file again."""
        target = f"{self._domain}/{label(name)}"
        loaded = self.is_loaded(name)
        if loaded and changed:
            self.stop(name)
            loaded = False
        self._shell.change("launchctl", "enable", target)
        if not loaded:
            self._shell.change("launchctl", "bootstrap", self._domain, str(self.path(name)))
        self._shell.change("launchctl", "kickstart", target)

    def stop(self, name: str) -> None:
        """Waits until launchd has let go of it: before that, it cannot be started again."""
        if not self.is_loaded(name):
            return
        self._shell.change("launchctl", "bootout", f"{self._domain}/{label(name)}", allowed=(0, 36))
        deadline = time.monotonic() + _GONE_SECONDS
        while not self._shell.dry_run and self.is_loaded(name):
            if time.monotonic() > deadline:
                detail = f"launchd still has it after {_GONE_SECONDS:.0f} s"
                raise MirrorError("end the service", label(name), detail, retryable=True)
            time.sleep(_LOOK_SECONDS)

    def forget(self, name: str) -> None:
        """Nothing is left of it."""

    def is_loaded(self, name: str) -> bool:
        """Whether launchd has it."""
        return self._shell.ask("launchctl", "print", f"{self._domain}/{label(name)}").returncode == 0

    def state(self, name: str) -> State:
        """As ``launchctl print`` has it, whose lines are made for people."""
        done = self._shell.ask("launchctl", "print", f"{self._domain}/{label(name)}")
        installed = self.path(name).exists()
        if done.returncode:
            return State(installed, False, "not loaded" if installed else "not installed")
        has = dict(re.findall(r"^\s*(state|pid|last exit code|runs) = (.+)$", done.stdout, re.MULTILINE))
        text = "; ".join(f"{key} {has[key]}" for key in ("state", "runs", "last exit code") if key in has)
        pid = int(has["pid"]) if has.get("pid", "").isdecimal() else None
        return State(installed, pid is not None, text or "loaded", pid)

    def logs(self, name: str, lines: int, *, follow: bool) -> list[str]:
        """From its log file."""
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(self._log(name))]

    def _log(self, name: str) -> Path:
        return self._logs / f"{unit_name(name).removesuffix('.service')}.log"


def manager(shell: Shell, *, system: bool) -> Manager:
    """The manager of this machine; raises ``ConfigError`` if there is none that is known."""
    if shutil.which("launchctl"):
        return Launchd(shell, system=system)
    if shutil.which("systemctl"):
        return Systemd(shell, system=system)
    step = f"have it started by what starts services here: {sys.executable} -m mirror up"
    raise ConfigError("find the manager of services", detail="neither systemd nor launchd is here", next_step=step)
