"""The control socket of a running mirror: the server of the protocol in :mod:`mirror.core.messages`.

The socket has mode 0600 and is in a directory that only our user can open; a client must be our user, or root. One
thread accepts for all sources; each connection has a thread. What a client sends is data: it is answered, or the
connection ends, and the other connections go on.
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger

from mirror.core.control import BATCH_SECONDS
from mirror.core.errors import ControlError, MirrorError, RequestError, StateError
from mirror.core.messages import (
    MOST_REQUEST_BYTES,
    Add,
    Agree,
    Agreed,
    Answer,
    AnyRequest,
    Applied,
    Around,
    AroundAnswer,
    BeginMove,
    Done,
    End,
    EndMove,
    Held,
    History,
    HistoryAnswer,
    Hold,
    Hook,
    Load,
    LoadAnswer,
    Mark,
    Marked,
    Pause,
    Reach,
    Reached,
    Reads,
    Refused,
    Release,
    Remove,
    Repair,
    Repaired,
    Resume,
    Retry,
    Status,
    StatusAnswer,
    WasApplied,
    line_of,
    request_in,
)
from mirror.core.peer import is_trusted, peer_user
from mirror.core.positions import Lsn, Salts
from mirror.core.sockets import make_control_path
from mirror.core.status import AroundReport
from mirror.sidecar.mailbox import ended
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.serve.accepting import ACCEPTOR, AcceptedServer

#: Seconds in which the rest of a request must come once it has begun, and in which a client must read an answer.
REQUEST_SECONDS, READ_SECONDS = 10.0, 60.0
#: Seconds more for a request that was begun just when its time was up: its result, such as a hold, must not be lost.
_MOMENT = 1.0

T = TypeVar("T")


class ControlServer:
    """Serves one pipeline on its source's control socket.

    Thread: that of :data:`~mirror.sidecar.serve.accepting.ACCEPTOR`, and one for each connection.
    """

    def __init__(self, folder: Path, pipeline: Pipeline, around: Callable[[], AroundReport] = AroundReport) -> None:
        """Start serving; the source's folder must be locked. Raises ``StateError`` if the socket cannot be made.

        ``around``: what is around the mirrors of this process.
        """
        self._path = make_control_path(folder)
        try:
            self._path.unlink(missing_ok=True)  # of a mirror that was killed: we hold its lock now
            self._server = _Server(self._path, pipeline, around)
            self._inode = self._path.stat().st_ino
        except OSError as error:
            step = "remove what is there, or choose another --state-dir"
            detail = error.strerror or str(error)
            raise StateError("make the control socket", str(self._path), detail, next_step=step) from error
        ACCEPTOR.add(self._server)

    def close(self) -> None:
        """Stop serving, and remove the socket, unless another is in its place.

        If the pipeline has ended, each connection ends after the answer in progress; else connections go on.
        """
        ACCEPTOR.remove(self._server)
        self._server.server_close()
        if self._server.pipeline.requests.ended:
            self._server.end_connections()
        if self.intact:
            self._path.unlink(missing_ok=True)

    @property
    def intact(self) -> bool:
        """Whether the socket is still where it was made."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False


class _Server(AcceptedServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path, pipeline: Pipeline, around: Callable[[], AroundReport]) -> None:
        self.pipeline, self.around = pipeline, around
        self._guard = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._strangers: set[int] = set()
        super().__init__(str(path), _Connection, bind_and_activate=False)
        try:
            self.server_bind()
            path.chmod(0o600)  # before anybody can connect
            self.server_activate()
        except BaseException:
            self.server_close()
            raise

    def verify_request(self, request: Any, client_address: object) -> bool:
        """Accept only our user, and root."""
        try:
            user = peer_user(request)
        except OSError:  # the client has gone already
            return False
        if not is_trusted(user) and user not in self._strangers:
            self._strangers.add(user)
            logger.warning("{}: another user (uid {}) was turned away", self.server_address, user)
        return is_trusted(user)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        with self._guard:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection has ended."""
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Shut down the input of each connection, so that it ends."""
        with self._guard:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # the other end has hung up

    def handle_error(self, request: object, client_address: object) -> None:
        """A bug, or no more threads: one line in the log, and the others go on."""
        logger.exception("a connection on the control socket failed")


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    rfile: BufferedReader

    def handle(self) -> None:
        self._hold: str | None = None
        self._moves = False
        try:
            while True:
                try:
                    line = self._line()
                except RequestError as error:
                    self._send(_refused(error))
                    return
                if not line:
                    return
                answer, hook = self._answer(line)
                self._send(answer)
                if hook is not None:
                    self._listen(hook)
                    return
        except OSError:
            pass  # the client has gone: its hold ends below
        finally:
            if self._hold is not None:
                self.server.pipeline.requests.release(self._hold)
            if self._moves:
                self.server.pipeline.requests.end_move()

    def _line(self) -> bytes:
        """The next line, for which no limit of time holds until it begins; empty when the client has hung up.

        Raises ``RequestError`` when it is too long or its rest does not come in time, ``OSError``.
        """
        line = bytearray()
        deadline: float | None = None
        try:
            # What is buffered is returned at once; else it waits for more.
            while not line.endswith(b"\n") and (buffered := self.rfile.peek()):
                deadline = deadline or time.monotonic() + REQUEST_SECONDS
                line += self.rfile.read(buffered.find(b"\n") + 1 or len(buffered))
                if len(line) > MOST_REQUEST_BYTES:
                    detail = f"a line of more than {MOST_REQUEST_BYTES} bytes"
                    raise RequestError("understand a request", detail=detail)
                self.connection.settimeout(max(deadline - time.monotonic(), 0.001))
        except TimeoutError as error:
            detail = f"its rest did not come within {REQUEST_SECONDS:g} s"
            raise RequestError("understand a request", detail=detail) from error
        finally:
            self.connection.settimeout(None)
        return bytes(line)

    def _send(self, answer: Answer) -> None:
        self.connection.settimeout(READ_SECONDS)
        self.wfile.write(line_of(answer))
        self.connection.settimeout(None)

    def _listen(self, hook: Hook) -> None:
        try:
            self.server.pipeline.hooks.hooked.listen(self.rfile, hook)
        except ValueError as error:
            # The program connects again; capture finds in the source's files what is lost here.
            logger.warning("{} (pid {}): its hook sent an invalid message: {}", hook.program[:200], hook.pid, error)

    def _answer(self, line: bytes) -> tuple[Answer, Hook | None]:
        try:
            request = request_in(line)
            return self._answer_to(request), request if isinstance(request, Hook) else None
        except MirrorError as error:
            return _refused(error), None
        except (TimeoutError, CancelledError):
            busy = ControlError("ask the mirror", detail="it is busy with something else", retryable=True)
            return _refused(busy), None
        except Exception as error:
            logger.exception("a request on the control socket failed")  # a bug
            return _refused(MirrorError("answer a request", detail=f"{type(error).__name__}: {error}")), None

    def _answer_to(self, request: AnyRequest) -> Answer:
        pipeline, requests = self.server.pipeline, self.server.pipeline.requests
        match request:
            case Status():
                requests.refresh()
                return StatusAnswer(pipeline.status.report())
            case History():
                return HistoryAnswer(pipeline.status.history())
            case Load():
                return LoadAnswer(pipeline.status.load.recorded(time.time()))
            case Mark(timeout):
                try:
                    return Marked(str(requests.mark().result(timeout)))
                except TimeoutError:
                    return Marked(None)
            case Applied(lsn, timeout):
                applied = requests.wait_applied(Lsn.parse(lsn), timeout)
                if not applied and requests.ended:
                    raise ended()
                if not applied and (sealed := requests.sealed) is not None:
                    raise sealed
                return WasApplied(applied)
            case Hold():
                self._hold = _result(requests.hold(self._hold), BATCH_SECONDS)
                return Held(self._hold)
            case Reach(hold, (salt1, salt2), frame):
                position = requests.reach(hold, Salts(salt1, salt2), frame).result(BATCH_SECONDS)
                return Reached(str(position.lsn))
            case Release(hold):
                requests.release(hold)
                if hold == self._hold:
                    self._hold = None
                return Done()
            case Retry(timeout, replace):
                _result(requests.retry(replace=replace), timeout)
                return Done()
            case Repair(tables, timeout, replace):
                return Repaired(_result(requests.retry(tables, replace=replace), timeout))
            case BeginMove():
                _result(requests.begin_move(), BATCH_SECONDS)
                self._moves = True
                return Done()
            case EndMove():
                requests.end_move()
                self._moves = False
                return Done()
            case Agree(since, timeout, touched, after):
                return Agreed(_result(requests.agree(since, touched, after), timeout))
            case Pause():
                requests.fleet.pause(pipeline.task.database)
                return Done()
            case Resume():
                requests.fleet.resume(pipeline.task.database)
                return Done()
            case Remove():
                requests.fleet.remove(pipeline.task.database)
                return Done()
            case End():
                requests.fleet.end()
                return Done()
            case Add():
                requests.fleet.add(request)
                return Done()
            case Reads():
                pipeline.status.reads.add(request)
                return Done()
            case Around():
                return AroundAnswer(self.server.around())
            case Hook():
                return Done()


def _result(future: Future[T], timeout: float) -> T:
    """Wait ``timeout`` seconds for a result; a request that has not begun by then is cancelled.

    Raises ``TimeoutError``, and the error that is the answer.
    """
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.cancel():
            raise
        return future.result(_MOMENT)


def _refused(error: MirrorError) -> Refused:
    return Refused(error.to_dict())
