"""The commits that hooks in programs send of one source: read from their sockets, and kept until they are taken.

The other end is :mod:`mirror.hook.outbox`. Each connection has a thread of the control server; the source's own thread
takes what has come. Nothing here is needed for completeness: a commit that does not come is found in the source's
files. Messages are validated here, where an invalid one ends only its connection; what :meth:`HookReceiver.take`
returns is valid.
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

#: Commits that wait to be taken, and bytes of their rows; beyond that the oldest are dropped.
MOST_COMMITS, MOST_BYTES = 50_000, 256 << 20
#: Seconds without a message after which the next one makes capture poll at once: it polls less often by then.
_QUIET_SECONDS = 1.0

#: Seconds after the last message in which applied commits are still checked: hooks may send them soon.
_TALK_SECONDS = 0.5


class Writer(NamedTuple):
    """A process that writes the source."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


class InWal(NamedTuple):
    """The place of a commit in the WAL: the commit frame before it, 0 for none."""

    salts: Salts
    frame: int


class InFile(NamedTuple):
    """The place of a commit in a file without a WAL: change counter and schema cookie before it, and the inode."""

    counter: int
    cookie: int
    inode: int


@dataclass(slots=True)
class HookedCommit:
    """A transaction that a hook has sent, after it was committed; one without rows may come just before that."""

    writer: Writer
    sent_at: int
    """When the hook made the message: nanoseconds of the system's monotonic clock."""
    agent: str | None
    previous: InWal | InFile | None
    """The commit before it; None: unknown."""
    rows: list[bytes] | None
    """Encoded, and known to be valid (:func:`mirror.hook.wire.decode_row`); None: not all are known."""

    @property
    def size(self) -> int:
        """Bytes that the rows take."""
        return sum(map(len, self.rows or ()))


class _Waiting:
    """Commits that have not been taken yet."""

    def __init__(self) -> None:
        self._commits: deque[tuple[HookedCommit, int]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._commits)

    def add(self, commit: HookedCommit) -> int:
        """Add one; returns how many older ones were dropped to make room."""
        size = commit.size
        self._commits.append((commit, size))
        self._bytes += size
        gone = 0
        while len(self._commits) > MOST_COMMITS or (self._bytes > MOST_BYTES and len(self._commits) > 1):
            self._bytes -= self._commits.popleft()[1]
            gone += 1
        return gone

    def take(self) -> list[HookedCommit]:
        """Remove all of them, and return them in order."""
        found = [commit for commit, _ in self._commits]
        self._commits.clear()
        self._bytes = 0
        return found


class HookReceiver:
    """The receiver of what the hooks of one source send.

    Thread: :meth:`listen` runs in those of the control server, everything else in the source's.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        """``ring``: called, in a thread of the control server, when a message comes after a quiet time."""
        self._ring = ring
        self._guard = threading.Lock()
        self._commits, self._of_files = _Waiting(), _Waiting()
        self.eager = False
        """Whether to ring for each message: the source has no WAL from which capture would know."""
        self._connected: dict[BufferedIOBase, Writer] = {}
        self._last = 0.0
        self.unnamed = 0
        """Number of commits of which the commit before is unknown."""
        self.lost = 0
        """Number of messages dropped because a program's queue, or ours, was full."""

    def listen(self, stream: BufferedIOBase, hello: Hook) -> None:
        """Receive what one process sends until it disconnects.

        Raises ``ValueError`` for an invalid message, ``OSError``.
        """
        writer = Writer(hello.pid, _clean(hello.program))
        with self._guard:
            self._connected[stream] = writer
        self._ring()
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
                    case Commit(sent_at, agent, place, rows):
                        previous = _previous(place)
                        self.unnamed += previous is None
                        queue = self._of_files if isinstance(previous, InFile) else self._commits
                        who = None if agent is None else _clean(agent)
                        self.lost += queue.add(HookedCommit(writer, sent_at, who, previous, rows))
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
        """Whether any process sent something in the last half second, or something that has not been taken yet."""
        return bool(self._commits) or time.monotonic() - self._last < _TALK_SECONDS

    def take(self) -> list[HookedCommit]:
        """The commits in a WAL, or of unknown place, that have come since the last call."""
        if not self._commits:
            return []
        with self._guard:
            return self._commits.take()

    def take_of_files(self) -> list[HookedCommit]:
        """The commits in a file without a WAL that have come since the last call."""
        with self._guard:
            return self._of_files.take()


def _clean(name: object) -> str:
    """A name as Postgres accepts it, cut to :data:`~mirror.hook.wire.MOST_NAME` characters."""
    return str(name)[:MOST_NAME].encode(errors="replace").decode().replace("\0", "\ufffd")


def _previous(place: WalPlace | FilePlace | None) -> InWal | InFile | None:
    match place:
        case WalPlace(salt1, salt2, frame):
            return InWal(Salts(salt1, salt2), frame)
        case FilePlace(counter, cookie, inode):
            return InFile(counter, cookie, inode)
    return None
