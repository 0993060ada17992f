"""Starts mirrors by forking them from one process, see :mod:`tests.support.launcher_process`."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support.waiting import LIMIT

_PROGRAM = Path(__file__).with_name("launcher_process.py")


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
        theirs, self._requests = os.pipe()
        reports, also_theirs = os.pipe()
        # One thread: of a process with more, a fork has only one.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), str(theirs), str(also_theirs)],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs, also_theirs),
            env=environment,
        )
        os.close(theirs)
        os.close(also_theirs)
        self._running: dict[int, Launched] = {}
        self._started: queue.SimpleQueue[Launched] = queue.SimpleQueue()
        self._guard = threading.Lock()
        threading.Thread(target=self._listen, args=(reports,), daemon=True).start()

    def _listen(self, reports: int) -> None:
        with os.fdopen(reports, "rb") as lines:
            for line in lines:
                report = json.loads(line)
                if "started" in report:
                    launched = self._running[report["started"]] = Launched(report["started"])
                    self._started.put(launched)
                else:
                    launched = self._running.pop(report["ended"])
                    launched.returncode = report["code"]
                    launched.ended.set()

    def launch(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path | None) -> Launched:
        where = None if log is None else str(log)
        request = {"arguments": list(arguments), "environment": dict(environment), "log": where}
        with self._guard:
            os.write(self._requests, json.dumps(request).encode() + b"\n")
            return self._started.get(timeout=LIMIT)


@cache
def _launcher() -> _Launcher:
    return _Launcher()


def launch(arguments: Sequence[str], environment: Mapping[str, str], log: Path | None = None) -> Launched:
    """Start ``sidecar_process.py`` with these arguments and this environment; ``log``: a file for its output."""
    return _launcher().launch(arguments, environment, log)
