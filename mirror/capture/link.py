"""The mirror's end of the capture process: start it, talk to it, notice its death.

One process follows all sources, each in a conversation of its own, which the mirror begins and ends at any time. The
messages are listed in :mod:`mirror.capture.process`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from mirror.capture.spool import SpoolPlace
from mirror.core.errors import SourceError
from mirror.core.positions import Lsn, Salts
from mirror.core.state_errors import NO_DESCRIPTORS

#: The module that runs in the capture process.
CAPTURE_MODULE = "mirror.capture.process"
#: How the line begins that says how far the spool is.
_PROGRESS = b"c "


@dataclass(frozen=True, slots=True)
class Captured:
    """Frames up to this position are in the spool, up to this place."""

    lsn: Lsn
    place: SpoolPlace


@dataclass(frozen=True, slots=True)
class Attached:
    """Capture follows the WAL; ``gap``: why it does not continue what was spooled, None if it does."""

    gap: str | None
    place: SpoolPlace
    lsn: Lsn
    salts: Salts


@dataclass(frozen=True, slots=True)
class Marked:
    """The answer to a mark or a locate."""

    mark: int
    lsn: Lsn
    place: SpoolPlace


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer to a locate that cannot be answered."""

    mark: int
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Following failed.

    ``retryable``: capture goes on trying; otherwise the conversation ends, because of a bug. ``replaced``: it fails
    until the mirror has attached again. ``private``: by a program with a WAL index of its own.
    """

    text: str
    retryable: bool
    replaced: bool
    private: bool = False


@dataclass(frozen=True, slots=True)
class Behind:
    """Commits cannot be seen: a file without a WAL does not stand still; ``text`` None: it does again."""

    text: str | None
    since: float
    """Unix time."""


Message = Captured | Attached | Marked | Unknown | Failed | Behind


class CaptureLink:
    """One source's conversation with the capture process.

    ``fileno()`` makes it usable with :mod:`selectors`. That capture has ended is noticed by :meth:`read` only. Thread:
    the source's own; not thread-safe.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self._input = b""
        self._output = bytearray()
        self._marks = 0

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self._socket.fileno()

    def attach(self, floor: int, forced: str = "") -> None:
        """Ask capture to open the source's files; answered by :class:`Attached` or :class:`Failed`.

        A new generation is numbered ``floor`` or higher; ``forced``: the reason to begin one in any case.
        """
        self._send(f"attach {floor} {forced}")

    def look(self) -> None:
        """Have capture look at once, and often for a while: a program is about to commit."""
        if not self._output:
            self._send("look")

    def mark(self, *, now: bool = False) -> int:
        """Ask for the position of all that is committed now; answered by :class:`Marked`.

        ``now``: even if the spool is full, because no room can be made in it before the answer.
        """
        self._marks += 1
        self._send(f"mark {self._marks} {'now' * now}")
        return self._marks

    def locate(self, salts: Salts, frame: int) -> int:
        """Ask for the position of a frame, once it is spooled; answered by :class:`Marked` or :class:`Unknown`."""
        self._marks += 1
        self._send(f"locate {self._marks} {salts.salt1} {salts.salt2} {frame}")
        return self._marks

    def _send(self, line: str) -> None:
        self._output += line.encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what capture had no room for before; never waits."""
        if self._output:
            with contextlib.suppress(OSError):  # no room, or capture has ended, which read() notices
                del self._output[: self._socket.send(self._output)]

    def read(self) -> list[Message]:
        """The messages that have come, possibly none; never waits.

        Raises ``SourceError`` when capture has ended.
        """
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:  # reset, or closed at this end
            data = b""
        if not data:
            raise SourceError("talk to the capture process", detail="it has ended", retryable=True)
        *lines, self._input = (self._input + data).split(b"\n")
        found: list[Message] = []
        for line, following in zip(lines, (*lines[1:], b""), strict=True):
            if not line.startswith(_PROGRESS):
                found.append(_message(json.loads(line)))
            elif not following.startswith(_PROGRESS):  # of several that come together, the last one says it all
                found.append(_progress(line))
        return found

    def close(self) -> None:
        """Hang up; capture then closes this source's files and its spool."""
        self._socket.close()


def _progress(line: bytes) -> Captured:
    try:
        generation, frame, segment, offset = map(int, line[len(_PROGRESS) :].split())
    except ValueError as error:
        raise SourceError("talk to the capture process", detail=f"unexpected message {line!r}") from error
    return Captured(Lsn(generation, frame), SpoolPlace(segment, offset))


def _message(data: dict[str, object]) -> Message:
    match data:
        case {
            "attached": True,
            "gap": (str() | None) as gap,
            "lsn": str(lsn),
            "salts": [int(salt1), int(salt2)],
            "place": [int(segment), int(offset)],
        }:
            return Attached(gap, SpoolPlace(segment, offset), Lsn.parse(lsn), Salts(salt1, salt2))
        case {"mark": int(mark), "lsn": str(lsn), "place": [int(segment), int(offset)]}:
            return Marked(mark, Lsn.parse(lsn), SpoolPlace(segment, offset))
        case {"mark": int(mark), "unknown": str(text)}:
            return Unknown(mark, text)
        case {"error": str(text), "retry": bool(retry), "replaced": bool(replaced), "private": bool(private)}:
            return Failed(text, retry, replaced, private)
        case {"behind": (str() | None) as why, "since": float(since)}:
            return Behind(why, since)
    raise SourceError("talk to the capture process", detail=f"unexpected message {data!r}")


@dataclass(frozen=True, slots=True)
class CaptureTask:
    """What the capture process has to follow, and its spool; ``limit``: bytes in it at which capture waits."""

    database: Path
    spool: Path
    limit: int


class CaptureService:
    """The capture process of one mirror, started when it is needed and again when it has died.

    Thread: any.
    """

    def __init__(self, module: str = CAPTURE_MODULE) -> None:
        """``module``: what runs in the process."""
        self._module = module
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        """Conversations are begun over this socket; the process ends when it is closed."""
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Process id of the capture process, while there is one."""
        with self._guard:
            return self._process.pid if self._process is not None and self._process.poll() is None else None

    def link(self, task: CaptureTask) -> CaptureLink:
        """Begin a conversation about a source; raises ``SourceError``.

        A conversation that the death of the process has ended is closed by the caller that began it.
        """
        with self._guard:
            if self._stopped:
                raise SourceError("follow the source", str(task.database), "the mirror ends")
            try:
                return self._begin(task)
            except OSError as error:
                raise SourceError(
                    "start the capture process",
                    error.filename or "",
                    error.strerror or str(error),
                    next_step="raise the limit of open files (`ulimit -n`)" if error.errno in NO_DESCRIPTORS else "",
                    retryable=True,
                ) from error

    def _begin(self, task: CaptureTask) -> CaptureLink:
        source = {"database": str(task.database), "spool": str(task.spool), "limit": task.limit}
        line = json.dumps(source).encode() + b"\n"
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                if self._process is not None and self._process.poll() is None:
                    with contextlib.suppress(ConnectionError):  # it is just dying
                        self._give(line, theirs)
                        return CaptureLink(ours)
                self._drop()
                self._start()
                self._give(line, theirs)
                return CaptureLink(ours)
            except BaseException:
                ours.close()
                raise

    def _give(self, line: bytes, theirs: socket.socket) -> None:
        assert self._socket is not None
        # As one message: a line is much smaller than the socket's buffer.
        socket.send_fds(self._socket, [line], [theirs.fileno()])

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", self._module, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours

    def _drop(self) -> None:
        """End the process by closing its socket, and kill it if it takes more than a second."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self) -> None:
        """End the process, and start no other: later calls of :meth:`link` raise ``SourceError``."""
        with self._guard:
            self._stopped = True
            self._drop()
