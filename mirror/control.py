"""The control socket of a running mirror: one JSON object a line, each way.

========================================  =====================================================
request                                   answer
========================================  =====================================================
``{"op": "status"}``                      ``{"ok": true, "status": {...}}``
``{"op": "mark", "timeout"}``             ``{"ok": true, "lsn": "g:f" or null}``: all that is committed now
``{"op": "applied", "lsn", "timeout"}``   ``{"ok": true, "applied": bool}``
``{"op": "hold"}``                        ``{"ok": true}``; ends with ``release`` or the connection
``{"op": "reach", "salts", "frame"}``     ``{"ok": true, "lsn": "g:f"}``: Postgres is exactly there
``{"op": "release"}``                     ``{"ok": true}``
``{"op": "retry", "timeout"}``            ``{"ok": true}``: rejects and refused tables were tried again
``{"op": "history"}``                     ``{"ok": true, "seconds": [[second, worst lag, transactions], ...]}``
``{"op": "repair", "tables", "timeout"}`` ``{"ok": true}``: these tables were made equal again
========================================  =====================================================

A refusal is ``{"ok": false, "error": text}``. The socket has mode 0600.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mirror.errors import ControlError, MirrorError
from mirror.model import Lsn, Salts
from mirror.pipeline import Pipeline
from mirror.statedir import control_path

#: Seconds that a running mirror may take to answer what it can answer at once.
_ANSWER_SECONDS = 30.0


class ControlServer:
    """Serves one pipeline on its source's control socket, one thread a connection."""

    def __init__(self, folder: Path, pipeline: Pipeline) -> None:
        self._path = control_path(folder)
        self._path.unlink(missing_ok=True)  # of a mirror that was killed: we hold its lock now
        previous = os.umask(0o177)
        try:
            self._server = _Server(str(self._path), pipeline)
        finally:
            os.umask(previous)
        self._inode = os.stat(self._path).st_ino
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name=f"control {folder.name}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and remove the socket, unless another lies in its place."""
        self._server.shutdown()
        self._server.server_close()
        if self.intact:
            self._path.unlink()

    @property
    def intact(self) -> bool:
        """Whether the socket still lies where it was made."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        super().__init__(path, _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        holding = False
        try:
            for line in self.rfile:
                request = json.loads(line)
                holding = (holding or request.get("op") == "hold") and request.get("op") != "release"
                self.wfile.write(json.dumps(self._answer(request)).encode() + b"\n")
                self.wfile.flush()
        except (ConnectionError, ValueError):
            pass  # the other side has gone, or speaks something else: the hold ends below
        finally:
            if holding:
                self.server.pipeline.release()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        pipeline = self.server.pipeline
        try:
            match request:
                case {"op": "status"}:
                    return {"ok": True, "status": pipeline.status.report()}
                case {"op": "history"}:
                    return {"ok": True, "seconds": pipeline.status.history()}
                case {"op": "mark", "timeout": int() | float() as timeout}:
                    try:
                        return {"ok": True, "lsn": str(pipeline.mark().result(timeout))}
                    except TimeoutError:
                        return {"ok": True, "lsn": None}
                case {"op": "applied", "lsn": str(lsn), "timeout": int() | float() as timeout}:
                    return {"ok": True, "applied": pipeline.wait_applied(Lsn.parse(lsn), timeout)}
                case {"op": "hold"}:
                    pipeline.hold().result(_ANSWER_SECONDS)
                    return {"ok": True}
                case {"op": "reach", "salts": [int(salt1), int(salt2)], "frame": int(frame)}:
                    position = pipeline.reach(Salts(salt1, salt2), frame).result(_ANSWER_SECONDS)
                    return {"ok": True, "lsn": str(position.lsn)}
                case {"op": "retry", "timeout": int() | float() as timeout}:
                    pipeline.retry().result(timeout)
                    return {"ok": True}
                case {"op": "repair", "tables": list(tables), "timeout": int() | float() as timeout}:
                    pipeline.retry([str(table) for table in tables]).result(timeout)
                    return {"ok": True}
                case {"op": "release"}:
                    pipeline.release()
                    return {"ok": True}
        except (MirrorError, TimeoutError, CancelledError) as error:
            return {"ok": False, "error": str(error) or "the mirror is busy; try again"}
        return {"ok": False, "error": f"unknown request {request!r}"}


class ControlClient:
    """A conversation with the running mirror of one source. Also a parity gate."""

    def __init__(self, folder: Path) -> None:
        """Connect; raises ``ControlError`` (retryable) if no mirror of the source is running."""
        self._path = control_path(folder)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(self._path))
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
            raise ControlError("ask the mirror", str(self._path), "it has ended", retryable=True)
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

    def wait(self, timeout: float) -> bool:
        """Wait until all that was committed at the call is applied; False after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._socket.settimeout(timeout + 5.0)
        # Answered between two batches: a large one may take its time.
        lsn = self.ask(op="mark", timeout=timeout)["lsn"]
        if lsn is None:
            return False
        return bool(self.ask(op="applied", lsn=lsn, timeout=max(0.0, deadline - time.monotonic()))["applied"])

    def settle(self) -> Lsn:
        """Have all that is committed now applied; returns its position."""
        lsn = self.ask(op="mark", timeout=_ANSWER_SECONDS)["lsn"]
        if lsn is None or not self.ask(op="applied", lsn=lsn, timeout=_ANSWER_SECONDS)["applied"]:
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

    def repair(self, tables: Collection[str], timeout: float) -> None:
        """Have the mirror make tables equal to the source again."""
        self._socket.settimeout(timeout + 5.0)
        self.ask(op="repair", tables=sorted(tables), timeout=timeout)

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
