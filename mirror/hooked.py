"""What the hooks in programs tell of one source's commits: taken from their sockets, kept until it is looked at.

The other end is :mod:`mirror.hook.outbox`. Each conversation has a thread of the control server; the source's own
thread takes what has come. Nothing here is needed for completeness: what does not come, the source's files tell.
"""

from __future__ import annotations

import marshal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, NamedTuple

from mirror.model import Salts

#: Of one block on the wire.
_MOST_BYTES = 256 << 20
#: Commits that wait to be looked at; older ones are let go.
MOST_COMMITS = 50_000
#: The source is looked at at once if nothing came for so many seconds before: capture then looks less often.
_QUIET_SECONDS = 1.0


#: What is applied so long after something was told is not checked: nobody tells of it, or only too late.
_TALK_SECONDS = 0.5


class Writer(NamedTuple):
    """A process that writes the source."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


class InWal(NamedTuple):
    """A commit by the one before it in the WAL."""

    salts: Salts
    frame: int


class InFile(NamedTuple):
    """A commit by the file change counter before it, with the schema cookie before it, and the file's inode."""

    counter: int
    cookie: int
    inode: int


@dataclass(slots=True)
class HookedCommit:
    """A transaction that a hook has told of, after it was committed; one without rows perhaps just before."""

    writer: Writer
    told_at: int
    """Of the system's monotonic clock, in nanoseconds."""
    agent: str | None
    behind: InWal | InFile | None
    """The commit before it; None: unknown."""
    rows: list[bytes] | None
    """Marshalled; None: not all are known. See :mod:`mirror.hook.watch`."""


class Hooked:
    """The hooks of one source."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """``ring``: called when something was committed after a quiet while."""
        self._ring = ring
        self._guard = threading.Lock()
        self._commits: deque[HookedCommit] = deque()
        self._of_files: deque[HookedCommit] = deque()
        self.eager = False
        """Whether to ring each time: the source has no WAL that would tell."""
        self._connected: dict[BufferedIOBase, Writer] = {}
        self._last = 0.0
        self.unnamed = 0
        """Commits that could not be named."""
        self.lost = 0
        """Messages that did not fit into a program's queue, or into ours."""

    def listen(self, stream: BufferedIOBase, hello: dict[str, Any]) -> None:
        """Take what one process tells until it hangs up. Raises ``ValueError`` for what is no message."""
        writer = Writer(int(hello["pid"]), _clean(hello["program"]))
        with self._guard:
            self._connected[stream] = writer
        try:
            while len(head := stream.read(4)) == 4:
                length = int.from_bytes(head, "big")
                if length > _MOST_BYTES:
                    raise ValueError(f"a block of {length} bytes")
                data = stream.read(length)
                if len(data) < length:
                    return
                try:
                    block = marshal.loads(data)  # noqa: S302 - of a process of the same user, see outbox.py
                except (EOFError, TypeError) as error:
                    raise ValueError(str(error)) from error
                self._take(writer, block)
        finally:
            with self._guard:
                del self._connected[stream]
            self._ring()

    def _take(self, writer: Writer, block: list[tuple[Any, ...]]) -> None:
        with self._guard:
            for message in block:
                match message:
                    case ("commit", int(told_at), agent, place, rows):
                        behind = _behind(place)
                        self.unnamed += behind is None
                        queue = self._of_files if isinstance(behind, InFile) else self._commits
                        who = None if agent is None else _clean(agent)
                        queue.append(HookedCommit(writer, told_at, who, behind, rows))
                    case ("lost", int(count)):
                        self.lost += count
                    case _:
                        raise ValueError(f"no message: {message!r:.100}")
            for queue in (self._commits, self._of_files):
                while len(queue) > MOST_COMMITS:
                    queue.popleft()
                    self.lost += 1
            last, self._last = self._last, time.monotonic()
        if self.eager or self._last - last > _QUIET_SECONDS:
            self._ring()

    # -- the source's thread -----------------------------------------------------------------------

    @property
    def writers(self) -> list[Writer]:
        """The processes that are connected."""
        with self._guard:
            return list(self._connected.values())

    @property
    def talking(self) -> bool:
        """Whether any process has told something just now, or something that was not looked at."""
        return bool(self._commits) or time.monotonic() - self._last < _TALK_SECONDS

    def take(self) -> list[HookedCommit]:
        """What has come since the last call."""
        if not self._commits:
            return []
        with self._guard:
            found, self._commits = list(self._commits), deque()
        return found

    def take_of_files(self) -> list[HookedCommit]:
        """The same of commits that are named by a change counter."""
        with self._guard:
            found, self._of_files = list(self._of_files), deque()
        return found


def _clean(name: object) -> str:
    """A name as Postgres takes it, of no more than 200 characters."""
    return str(name)[:200].encode(errors="replace").decode().replace("\0", "\ufffd")


def _behind(place: tuple[Any, ...] | None) -> InWal | InFile | None:
    match place:
        case ("wal", int(salt1), int(salt2), int(frame)):
            return InWal(Salts(salt1, salt2), frame)
        case ("file", int(counter), int(cookie), int(inode)):
            return InFile(counter, cookie, inode)
    return None
