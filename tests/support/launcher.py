"""Starts mirrors by forking them from one process, see :mod:`tests.support.launcher_process`."""

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
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from tests.support.waiting import LIMIT

_PROGRAM = Path(__file__).with_name("launcher_process.py")
_SIDECAR = Path(__file__).with_name("sidecar_process.py")


class Launched:
    """A mirror that was started so; used as a :class:`subprocess.Popen`."""

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

    def launch(self, arguments: Sequence[str], environment: Mapping[str, str], stderr: int) -> Launched:
        request = {"arguments": list(arguments), "environment": dict(environment)}
        line = json.dumps(request).encode() + b"\n"
        with self._guard:
            sent = socket.send_fds(self._talk, [line], [stderr])
            self._talk.sendall(line[sent:])
            return self._started.get(timeout=LIMIT)


@cache
def _launcher() -> _Launcher:
    return _Launcher()


def launch(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path | None = None
) -> Launched | subprocess.Popen[bytes]:
    """Start ``sidecar_process.py`` with these arguments and this environment.

    What it says on stderr is added to ``log``, or goes where the caller's goes at this moment.
    """
    with open(log, "ab") if log is not None else nullcontext() as file:
        stderr = 2 if file is None else file.fileno()
        if sys.platform == "linux":
            return _launcher().launch(arguments, environment, stderr)
        # Elsewhere what libraries of the system do in a fork is not safe.
        command = [sys.executable, str(_SIDECAR), *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, env=environment)
