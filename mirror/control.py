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
``{"op": "repair", "tables", "timeout"}`` ``{"ok": true, "outcome": {table: text}}``: these were made equal again
``{"op": "hook", "pid", "program"}``      ``{"ok": true}``; what follows is in :mod:`mirror.hook.outbox`
========================================  =====================================================

A refusal is ``{"ok": false, "error": text}``. The socket has mode 0600.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from mirror.client import ANSWER_SECONDS
from mirror.errors import MirrorError
from mirror.model import Lsn, Salts
from mirror.pipeline import Pipeline
from mirror.statedir import control_path


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
                if request.get("op") == "hook":
                    self.wfile.write(b'{"ok": true}\n')
                    self.server.pipeline.hooks.hooked.listen(self.rfile, request)
                    return
                holding = (holding or request.get("op") == "hold") and request.get("op") != "release"
                self.wfile.write(json.dumps(self._answer(request)).encode() + b"\n")
                self.wfile.flush()
        except (ConnectionError, ValueError, KeyError):
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
                    pipeline.hold().result(ANSWER_SECONDS)
                    return {"ok": True}
                case {"op": "reach", "salts": [int(salt1), int(salt2)], "frame": int(frame)}:
                    position = pipeline.reach(Salts(salt1, salt2), frame).result(ANSWER_SECONDS)
                    return {"ok": True, "lsn": str(position.lsn)}
                case {"op": "retry", "timeout": int() | float() as timeout}:
                    pipeline.retry().result(timeout)
                    return {"ok": True}
                case {"op": "repair", "tables": list(tables), "timeout": int() | float() as timeout}:
                    return {"ok": True, "outcome": pipeline.retry([str(table) for table in tables]).result(timeout)}
                case {"op": "release"}:
                    pipeline.release()
                    return {"ok": True}
        except (MirrorError, TimeoutError, CancelledError) as error:
            return {"ok": False, "error": str(error) or "the mirror is busy; try again"}
        return {"ok": False, "error": f"unknown request {request!r}"}
