"""Starts mirrors and commands by forking them from one process, see :mod:`tests.support.launcher_process`."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from tests.support.waiting import LIMIT

_PROGRAM = Path(__file__).with_name("launcher_process.py")
_SIDECAR = Path(__file__).with_name("sidecar_process.py")


class Launched:
    """A program that was started so; used as a :class:`subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"mirror {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Launcher:
    def __init__(self) -> None:
        self._talk, theirs = socket.socketpair()
        # One thread: of a process with more, a fork has only one.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
        )
        theirs.close()
        self._running: dict[int, Launched] = {}
        self._started: queue.SimpleQueue[Launched] = queue.SimpleQueue()
        self._guard = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with self._talk.makefile("rb") as lines:
            for line in lines:
                report = json.loads(line)
                if "started" in report:
                    launched = self._running[report["started"]] = Launched(report["started"])
                    self._started.put(launched)
                else:
                    launched = self._running.pop(report["ended"])
                    launched.returncode = report["code"]
                    launched.ended.set()

    def launch(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        stdout: int,
        stderr: int,
    ) -> Launched:
        request = {
            "program": program,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
        }
        line = json.dumps(request).encode() + b"\n"
        with self._guard:
            sent = socket.send_fds(self._talk, [line], [stdout, stderr])
            self._talk.sendall(line[sent:])
            return self._started.get(timeout=LIMIT)


@cache
def _launcher() -> _Launcher:
    return _Launcher()


#: Elsewhere what libraries of the system do in a fork is not safe.
CAN_FORK = sys.platform == "linux"


def launch(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path | None = None
) -> Launched | subprocess.Popen[bytes]:
    """Start ``sidecar_process.py`` with these arguments and this environment.

    What it says on stderr is added to ``log``, or goes where the caller's goes at this moment.
    """
    with open(log, "ab") if log is not None else nullcontext() as file:
        stderr = 2 if file is None else file.fileno()
        if CAN_FORK:
            return _launcher().launch("sidecar", arguments, environment, Path.cwd(), 1, stderr)
        command = [sys.executable, str(_SIDECAR), *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, env=environment)


def run(
    program: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> tuple[int, str, str]:
    """Run one of ``launcher_process.PROGRAMS`` to its end: its code, stdout and stderr. Killed if it takes longer.

    Raises ``subprocess.TimeoutExpired``.
    """
    with ThreadPoolExecutor(2) as readers:
        (out, its_out), (err, its_err) = os.pipe(), os.pipe()
        try:
            launched = _launcher().launch(program, arguments, environment, folder, its_out, its_err)
        finally:
            os.close(its_out)
            os.close(its_err)
            said = [readers.submit(_read, descriptor) for descriptor in (out, err)]
        try:
            code = launched.wait(timeout)
        finally:
            launched.kill()
        return code, *(one.result() for one in said)


def start(program: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Launched:
    """Start one of ``launcher_process.PROGRAMS``; what it says is not kept."""
    with open(os.devnull, "wb") as nowhere:
        return _launcher().launch(program, arguments, environment, folder, nowhere.fileno(), nowhere.fileno())


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8") as file:
        return file.read()
