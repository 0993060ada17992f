"""A program's end of the control socket: questions to the running mirror of one source.

The requests are in :mod:`mirror.control`. Imported by programs whose files are mirrored, so it loads next to nothing.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mirror.errors import ControlError
from mirror.model import Lsn, Salts
from mirror.statedir import control_path

#: Seconds that a running mirror may take to answer what it can answer at once.
ANSWER_SECONDS = 30.0


class ControlClient:
    """A conversation with the running mirror of one source. Also a parity gate."""

    def __init__(self, folder: Path, timeout: float | None = None) -> None:
        """Connect; raises ``ControlError`` (retryable) if no mirror of the source is running.

        ``timeout``: seconds that connecting, and each answer, may take.
        """
        self._path = control_path(folder)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(self._path))
        except TimeoutError as error:
            self._socket.close()
            raise ControlError("reach the mirror", str(self._path), "it does not answer", retryable=True) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise ControlError(
                "reach the mirror",
                str(self._path),
                "no mirror of this source is running",
                next_step="start it with `mirror up`",
                retryable=True,
            ) from error
        self._file = self._socket.makefile("rb")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; raises ``ControlError`` for a refusal."""
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise ControlError("ask the mirror", str(self._path), str(error), retryable=True) from error
        if not line:
            step = "start `mirror up` again, and then do this once more"
            raise ControlError("ask the mirror", str(self._path), "it has ended", next_step=step, retryable=True)
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise ControlError("ask the mirror", str(self._path), str(answer["error"]), retryable=True)
        return answer

    def status(self) -> dict[str, Any]:
        """The source's status report."""
        report: dict[str, Any] = self.ask(op="status")["status"]
        return report

    def history(self) -> list[tuple[int, float, int]]:
        """Seconds of the last minutes in which something was applied: when, the worst lag, transactions."""
        return [(int(at), float(lag), int(number)) for at, lag, number in self.ask(op="history")["seconds"]]

    def wait(self, timeout: float, slack: float = 5.0) -> bool:
        """Wait until all that was committed at the call is applied; False after ``timeout`` seconds.

        Raises ``ControlError`` if the mirror does not even say so within ``slack`` seconds more.
        """
        deadline = time.monotonic() + timeout
        self._socket.settimeout(timeout + slack)
        # Answered between two batches: a large one may take its time.
        lsn = self.ask(op="mark", timeout=timeout)["lsn"]
        if lsn is None:
            return False
        return bool(self.ask(op="applied", lsn=lsn, timeout=max(0.0, deadline - time.monotonic()))["applied"])

    def settle(self) -> Lsn:
        """Have all that is committed now applied; returns its position."""
        lsn = self.ask(op="mark", timeout=ANSWER_SECONDS)["lsn"]
        if lsn is None or not self.ask(op="applied", lsn=lsn, timeout=ANSWER_SECONDS)["applied"]:
            raise ControlError("ask the mirror", str(self._path), "the source is not settled", retryable=True)
        return Lsn.parse(lsn)

    def hold(self) -> None:
        """Have the mirror apply nothing more."""
        self.ask(op="hold")

    def reach(self, salts: Salts, frame: int) -> Lsn:
        """Have the mirror apply up to exactly this commit; returns the position Postgres then shows."""
        return Lsn.parse(self.ask(op="reach", salts=list(salts), frame=frame)["lsn"])

    def retry(self, timeout: float) -> None:
        """Have the mirror try again what Postgres refused or could not hold."""
        self._socket.settimeout(timeout + 5.0)
        self.ask(op="retry", timeout=timeout)

    def repair(self, tables: Collection[str], timeout: float) -> dict[str, str]:
        """Have the mirror make tables equal to the source again; returns what was done with each."""
        self._socket.settimeout(timeout + 5.0)
        return dict(self.ask(op="repair", tables=sorted(tables), timeout=timeout)["outcome"])

    def release(self) -> None:
        """Let the mirror go on."""
        self.ask(op="release")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_for_mirror(folder: Path, timeout: float, alive: Callable[[], bool] = lambda: True) -> ControlClient:
    """Connect to a mirror that may only just be starting; raises ``ControlError`` after ``timeout``."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ControlClient(folder)
        except ControlError:
            if time.monotonic() > deadline or not alive():
                raise
            time.sleep(0.02)
