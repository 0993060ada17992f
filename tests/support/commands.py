"""The ``mirror`` command in tests: run as a person runs it, in an environment of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from mirror.core.folders import resolve, source_folder
from tests.support import launcher
from tests.support.launcher import CAN_FORK, Launched
from tests.support.waiting import LIMIT

MIRROR = (sys.executable, "-m", "mirror")
#: In place of it for `mirror cutover`, which else would judge how fast this machine is while tests run.
_PATIENT = Path(__file__).with_name("patient_command.py")
#: A server that does not exist: nothing listens on port 1 of this machine.
UNREACHABLE = "host=127.0.0.1 port=1 user=nobody dbname=nothing connect_timeout=2"
#: Settings of the person who runs the tests, which would change what the commands do.
_FOREIGN = ("PG_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONPATH")
_FOREIGN_PREFIXES = ("ARGENT_", "CLAWDBOT_", "MIRROR_")


#: A record of the log where stderr is no terminal: its level, and what it says.
_RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) +(.*)")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr of a command that failed as promised: exit code 2, no traceback.

        Of `mirror up`, which logs: the one record of an error, without its time.
        """
        assert self.code == 2, self
        assert "Traceback" not in self.err, self.err
        lines = self.err.splitlines()
        if lines and (logged := [_RECORD.fullmatch(line) for line in lines])[-1] is not None:
            assert all(logged), lines
            (line,) = (found[2] for found in logged if found is not None and found[1] == "ERROR")
            return line
        (line,) = lines
        assert line.startswith("mirror: "), line
        return line.removeprefix("mirror: ")


@dataclass
class CommandLine:
    """Runs ``mirror`` with ``folder`` as home and working directory."""

    folder: Path
    dsn: str | None = None
    """Given to the commands as ``ARGENT_PG_URL``."""
    command: Sequence[str] = MIRROR

    @property
    def state_dir(self) -> Path:
        """Where the commands keep their state by default."""
        return resolve(self.folder) / "argent" / "mirror"

    def source_folder(self, source: Path) -> Path:
        """The state of one source."""
        return source_folder(self.state_dir, resolve(source))

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the commands: nothing of the tests' own configuration."""
        values = {
            name: value
            for name, value in os.environ.items()
            if name not in _FOREIGN and not name.startswith(_FOREIGN_PREFIXES)
        }
        values |= {"HOME": str(self.folder), "ARGENT_STATE_DIR": str(self.folder / "argent")}
        if self.dsn is not None:
            values["ARGENT_PG_URL"] = self.dsn
        return values | dict(more or {})

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command; ``options`` go to ``Popen``, ``env`` adds to the environment."""
        environment = self.environment(options.pop("env", None))
        defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = self.command
        if command == MIRROR and arguments[:1] == ("cutover",):
            command = (sys.executable, str(_PATIENT))
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            **{"cwd": self.folder, **defaults, **options},
            env=environment,
            text=True,
        )

    def run(self, *arguments: object, env: Mapping[str, str] | None = None, timeout: float = LIMIT) -> Done:
        """Run a command to its end: forked, which saves its imports, unless ``env`` adds to the environment."""
        if CAN_FORK and env is None and self.command == MIRROR:
            return Done(
                *launcher.run(
                    self._program(arguments), [*map(str, arguments)], self.environment(), self.folder, timeout
                )
            )
        process = self.start(*arguments, env=env)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        return Done(process.returncode, out, err)

    def _program(self, arguments: Sequence[object]) -> str:
        return "patient command" if arguments[:1] == ("cutover",) else "command"

    def _start_up(self, *arguments: object) -> subprocess.Popen[str] | Launched:
        if CAN_FORK and self.command == MIRROR:
            return launcher.start("command", ["up", *map(str, arguments)], self.environment(), self.folder)
        return self.start("up", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @contextmanager
    def up(self, *arguments: object, wait: bool = True) -> Iterator[subprocess.Popen[str] | Launched]:
        """``mirror up`` in the background, ended with the block.

        ``wait``: until all that is committed now is applied.
        """
        process = self._start_up(*arguments)
        try:
            if wait:
                named = [argument for argument in arguments if isinstance(argument, Path)]
                done = self.run("wait", *named, "--timeout", LIMIT)
                assert done.code == 0, done
            yield process
        finally:
            if process.poll() is None:
                stop(process)


def stop(
    process: subprocess.Popen[str] | Launched, number: signal.Signals = signal.SIGTERM, seconds: float = LIMIT
) -> int:
    """End a process with a signal; its exit code. Fails if it takes longer."""
    process.send_signal(number)
    try:
        return process.wait(seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def processes_about(folder: Path, *others: int) -> list[str]:
    """The command lines of running processes that name a folder, or work in it; ``others``: ids to leave out."""
    found = []
    for process in psutil.process_iter():
        if process.pid in others:
            continue
        try:
            line = " ".join(process.cmdline())
            if str(folder) in line or str(process.cwd()).startswith(str(folder)):
                found.append(line)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return found
