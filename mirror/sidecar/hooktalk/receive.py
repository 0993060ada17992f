"""What the hooks in programs tell of one source's commits: taken from their sockets, kept until it is looked at.

The other end is :mod:`mirror.hook.outbox`. Each conversation has a thread of the control server; the source's own
thread takes what has come. Nothing here is needed for completeness: what does not come, the source's files tell.
What comes is checked here, where it ends a conversation at most; whoever takes it may rely on it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from typing import NamedTuple

from mirror.core.messages import Hook
from mirror.core.positions import Salts
from mirror.hook.wire import MOST_BLOCK_BYTES, MOST_NAME, Commit, FilePlace, Lost, WalPlace, decode_block

#: Commits that wait to be looked at, and bytes of their rows; older ones are dropped.
MOST_COMMITS, MOST_BYTES = 50_000, 256 << 20
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
    """Encoded, and known to be right (:func:`mirror.hook.wire.decode_row`); None: not all are known."""

    @property
    def size(self) -> int:
        """Bytes that the rows take."""
        return sum(map(len, self.rows or ()))


class _Waiting:
    """Commits that nobody has looked at yet."""

    def __init__(self) -> None:
        self._commits: deque[tuple[HookedCommit, int]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._commits)

    def add(self, commit: HookedCommit) -> int:
        """Add one; returns how many older ones had to go for it."""
        size = commit.size
        self._commits.append((commit, size))
        self._bytes += size
        gone = 0
        while len(self._commits) > MOST_COMMITS or (self._bytes > MOST_BYTES and len(self._commits) > 1):
            self._bytes -= self._commits.popleft()[1]
            gone += 1
        return gone

    def take(self) -> list[HookedCommit]:
        """All of them; then there are none."""
        found = [commit for commit, _ in self._commits]
        self._commits.clear()
        self._bytes = 0
        return found


class HookReceiver:
    """The hooks of one source."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """``ring``: called when something was committed after a quiet while."""
        self._ring = ring
        self._guard = threading.Lock()
        self._commits, self._of_files = _Waiting(), _Waiting()
        self.eager = False
        """Whether to ring each time: the source has no WAL that would tell."""
        self._connected: dict[BufferedIOBase, Writer] = {}
        self._last = 0.0
        self.unnamed = 0
        """Commits that could not be named."""
        self.lost = 0
        """Messages that did not fit into a program's queue, or into ours."""

    def listen(self, stream: BufferedIOBase, hello: Hook) -> None:
        """Take what one process sends until it hangs up. Raises ``ValueError`` for what is no message, ``OSError``."""
        writer = Writer(hello.pid, _clean(hello.program))
        with self._guard:
            self._connected[stream] = writer
        try:
            while len(head := stream.read(4)) == 4:
                length = int.from_bytes(head, "big")
                if length > MOST_BLOCK_BYTES:
                    raise ValueError(f"a block of {length} bytes")
                data = stream.read(length)
                if len(data) < length:
                    return
                self._take(writer, decode_block(data))
        finally:
            with self._guard:
                del self._connected[stream]
            self._ring()

    def _take(self, writer: Writer, block: list[Commit | Lost]) -> None:
        with self._guard:
            for message in block:
                match message:
                    case Commit(told_at, agent, place, rows):
                        behind = _behind(place)
                        self.unnamed += behind is None
                        queue = self._of_files if isinstance(behind, InFile) else self._commits
                        who = None if agent is None else _clean(agent)
                        self.lost += queue.add(HookedCommit(writer, told_at, who, behind, rows))
                    case Lost(count):
                        self.lost += count
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
            return self._commits.take()

    def take_of_files(self) -> list[HookedCommit]:
        """The same of commits that are named by a change counter."""
        with self._guard:
            return self._of_files.take()


def _clean(name: object) -> str:
    """A name as Postgres takes it, of no more characters than it may have."""
    return str(name)[:MOST_NAME].encode(errors="replace").decode().replace("\0", "\ufffd")


def _behind(place: WalPlace | FilePlace | None) -> InWal | InFile | None:
    match place:
        case WalPlace(salt1, salt2, frame):
            return InWal(Salts(salt1, salt2), frame)
        case FilePlace(counter, cookie, inode):
            return InFile(counter, cookie, inode)
    return None
