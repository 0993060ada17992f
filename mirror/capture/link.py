"""The mirror's end of the capture process: start it, talk to it, notice its death."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.capture.spool import Place
from mirror.errors import SourceError
from mirror.model import Lsn, Salts

#: What runs in the capture process.
CAPTURE_MODULE = "mirror.capture.process"


@dataclass(frozen=True, slots=True)
class Captured:
    """Frames up to this position are in the spool, up to this place."""

    lsn: Lsn
    place: Place


@dataclass(frozen=True, slots=True)
class Attached:
    """Capture follows the WAL; ``gap``: why it does not continue what was spooled, None if it does."""

    gap: str | None
    place: Place
    lsn: Lsn
    salts: Salts


@dataclass(frozen=True, slots=True)
class Marked:
    """The answer to a mark or a locate."""

    mark: int
    lsn: Lsn
    place: Place


@dataclass(frozen=True, slots=True)
class Failed:
    """Following failed; capture goes on trying. ``replaced``: in vain until it is attached again."""

    text: str
    retryable: bool
    replaced: bool


Message = Captured | Attached | Marked | Failed


class CaptureLink:
    """One source's conversation with the capture process.

    ``fileno()`` makes it usable with :mod:`selectors`. Not thread-safe: the source's own thread
    uses it alone.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._input = b""
        self._marks = 0

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def attach(self, floor: int, forced: str = "") -> None:
        """Ask capture to open the source's files; answered by :class:`Attached` or :class:`Failed`.

        A new generation is numbered ``floor`` or higher; ``forced``: the reason to begin one anyway.
        """
        self._send(f"attach {floor} {forced}")

    def look(self) -> None:
        """Have capture look at once, and often for a while: somebody is about to commit."""
        self._send("look")

    def mark(self, *, now: bool = False) -> int:
        """Ask for the position of all that is committed now; answered by :class:`Marked`.

        ``now``: even if the spool is full, because nobody can make room in it before.
        """
        self._marks += 1
        self._send(f"mark {self._marks} {'now' * now}")
        return self._marks

    def locate(self, salts: Salts, frame: int) -> int:
        """Ask for the position of a frame, once it is spooled; answered by :class:`Marked`."""
        self._marks += 1
        self._send(f"locate {self._marks} {salts.salt1} {salts.salt2} {frame}")
        return self._marks

    def _send(self, line: str) -> None:
        try:
            self._socket.sendall(line.encode() + b"\n")
        except OSError as error:
            raise SourceError("talk to the capture process", detail=str(error), retryable=True) from error

    def read(self) -> list[Message]:
        """The messages that have come; call when readable. Raises ``SourceError`` when capture died."""
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            raise SourceError("talk to the capture process", detail="it has ended", retryable=True)
        *lines, self._input = (self._input + data).split(b"\n")
        return [_message(json.loads(line)) for line in lines]

    def close(self) -> None:
        """Hang up; capture stops following this source."""
        self._socket.close()


def _message(data: dict[str, object]) -> Message:
    match data:
        case {
            "attached": True,
            "gap": (str() | None) as gap,
            "lsn": str(lsn),
            "salts": [int(salt1), int(salt2)],
            "place": [int(segment), int(offset)],
        }:
            return Attached(gap, Place(segment, offset), Lsn.parse(lsn), Salts(salt1, salt2))
        case {"mark": int(mark), "lsn": str(lsn), "place": [int(segment), int(offset)]}:
            return Marked(mark, Lsn.parse(lsn), Place(segment, offset))
        case {"lsn": str(lsn), "place": [int(segment), int(offset)]}:
            return Captured(Lsn.parse(lsn), Place(segment, offset))
        case {"error": str(text), "retry": bool(retry), "replaced": bool(replaced)}:
            return Failed(text, retry, replaced)
    raise SourceError("talk to the capture process", detail=f"unexpected message {data!r}")


@dataclass(frozen=True, slots=True)
class CaptureTask:
    """What the capture process has to follow."""

    database: Path
    spool: Path
    limit: int


class CaptureProcess:
    """The running capture process."""

    def __init__(self, tasks: Sequence[CaptureTask], module: str = CAPTURE_MODULE) -> None:
        """``module``: what runs in it."""
        pairs = [socket.socketpair() for _ in tasks]
        argument = json.dumps(
            [
                {
                    "database": str(task.database),
                    "spool": str(task.spool),
                    "limit": task.limit,
                    "socket": theirs.fileno(),
                }
                for task, (_, theirs) in zip(tasks, pairs, strict=True)
            ]
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, argument],
            pass_fds=[theirs.fileno() for _, theirs in pairs],
            stdin=subprocess.DEVNULL,
        )
        for _, theirs in pairs:
            theirs.close()
        self.links = [CaptureLink(ours) for ours, _ in pairs]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """Hang up on all sources and wait for the process to end."""
        for link in self.links:
            link.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
