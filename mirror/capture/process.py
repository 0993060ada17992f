"""The capture process: one small loop that follows the WALs of all sources of one mirror.

It runs apart from decoding and Postgres so that nothing can make it late, and holds no SQLite
connection. Started as ``python -m mirror.capture.process '<json>'`` with one inherited socket per
source; when a socket's other end closes, the mirror is gone and the process ends.

Lines from the mirror            answered by (JSON, one object a line)
``attach <floor> [<reason>]``    ``{"attached": true, "gap": ..., "lsn": ..., "salts": ..., "place": ...}``
``look``                         (nothing: it looks more often for a while, as after a commit)
``mark <id> [now]``              ``{"mark": id, "lsn": "g:f"}`` once all that was committed is spooled
``locate <id> <s1> <s2> <f>``    ``{"mark": id, "lsn": "g:f"}`` once that frame is spooled
(unasked)                        ``{"lsn": "g:f", "place": [segment, offset]}`` after new commits
(unasked)                        ``{"error": text, "retry": bool, "replaced": bool}`` when following failed
"""

from __future__ import annotations

import ctypes
import json
import platform
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

from mirror.capture.follow import Follower
from mirror.capture.journal import JournalFollower
from mirror.capture.spool import SpoolWriter
from mirror.errors import MirrorError, ReplacedError, SourceError
from mirror.model import Faults, Lsn, Salts, no_fault

#: Seconds between two looks at the WAL index while commits come, and after a quiet while. Unpaced
#: writers fill a generation of 1,000 frames in about 10 ms, so even the slow pace misses none.
BUSY_INTERVAL, QUIET_INTERVAL = 0.0003, 0.002
QUIET_AFTER = 2.0
#: Turns of one source before the others get theirs.
TURNS = 8
RETRY_INTERVAL = 0.2
#: How long a database that is changed in place may be written without a pause before that is told.
STILL_SECONDS = 1.0

AnyFollower = Follower | JournalFollower


class _Tail:
    """One source: its follower, its socket, and who waits for what."""

    def __init__(self, database: Path, spool: Path, descriptor: int, limit: int, faults: Faults) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)
        self._database = database
        self._folder = spool
        self._limit = limit
        self._faults = faults
        self._spool: SpoolWriter | None = None
        self.follower: AnyFollower | None = None
        self.attached = False
        self._attaching: tuple[int, str, float] | None = None
        """Floor, reason, and until when to wait for a pause."""
        self.closed = False
        self.awake = False
        """Somebody is about to commit, as the mirror says."""
        self._marks: list[tuple[int, Lsn | None]] = []
        self._awaited: set[int] = set()
        """Marks before which the mirror cannot go on."""
        self._places: list[tuple[int, Salts, int]] = []
        self._input = b""
        self._output = bytearray()
        self._told: Lsn | None = None
        self._retry_at = 0.0
        self._failing = False

    @property
    def captured(self) -> Lsn | None:
        """The position up to which the spool has everything."""
        return self.follower.cursor.lsn if self.follower is not None and self.attached else None

    def turn(self) -> bool:
        """Follow for a while; True if there may be more."""
        more = False
        if self._attaching is not None:
            self._try_to_attach(*self._attaching)
        follower = self.follower
        if follower is not None and self.attached and time.monotonic() >= self._retry_at:
            try:
                if isinstance(follower, Follower):
                    follower.awaited = bool(self._awaited)
                for _ in range(TURNS):
                    more = follower.poll()
                    if not more:
                        break
                self._answer(follower)
                if self._failing:
                    self._failing, self._told = False, None  # that it goes on is told even if nothing is new
            except MirrorError as error:
                self._retry_at = time.monotonic() + RETRY_INTERVAL
                self._failing = True
                self.attached = not isinstance(error, ReplacedError)
                self._fail(error)
                more = False
        if follower is not None and self.attached:
            self._tell(follower)
        self._flush()
        return more

    def _tell(self, follower: AnyFollower) -> None:
        # Only whole commits are told of: the reader would look at a large transaction again and again.
        committed = follower.committed
        if not self._output and committed is not None and committed != self._told:
            self._told = committed
            self._say({"lsn": str(self._told), "place": list(follower.spool.place)})

    def _answer(self, follower: AnyFollower) -> None:
        if not self._marks and not self._places:
            return
        now = follower.target() if any(target is None for _, target in self._marks) else None
        captured = follower.cursor.lsn
        waiting: list[tuple[int, Lsn | None]] = []
        for mark, target in self._marks:
            goal = now if target is None else target
            if goal is not None and captured >= goal:
                # The goal, not the cursor: that may stand inside a large transaction.
                self._say_mark(mark, goal, follower)
            else:
                waiting.append((mark, goal))
        self._marks = waiting
        unknown = []
        for mark, salts, frame in self._places:
            goal = follower.locate(salts, frame)
            if goal is not None and captured >= goal:
                self._say_mark(mark, goal, follower)
            else:
                unknown.append((mark, salts, frame))
        self._places = unknown

    def _say_mark(self, mark: int, lsn: Lsn, follower: AnyFollower) -> None:
        self._awaited.discard(mark)
        self._say({"mark": mark, "lsn": str(lsn), "place": list(follower.spool.place)})

    def read(self) -> None:
        """Take the mirror's lines."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["attach", floor, *reason]:
                    self._attach(int(floor), " ".join(reason))
                case ["look"]:
                    self.awake = True
                case ["mark", mark, *now]:
                    self._marks.append((int(mark), None))
                    if now:
                        self._awaited.add(int(mark))
                case ["locate", mark, salt1, salt2, frame]:
                    self._places.append((int(mark), Salts(int(salt1), int(salt2)), int(frame)))

    def _attach(self, floor: int, forced: str) -> None:
        self.attached = False
        self._told = None
        self._attaching = floor, forced, time.monotonic() + STILL_SECONDS
        try:
            self.follower = self._opened()
        except MirrorError as error:
            self._attaching = None
            self._fail(error)
            return
        self._try_to_attach(*self._attaching)

    def _try_to_attach(self, floor: int, forced: str, deadline: float) -> None:
        follower = self.follower
        assert follower is not None
        try:
            if isinstance(follower, JournalFollower) and not follower.stands_still():
                if time.monotonic() > deadline:
                    raise follower.never_still()
                return
            reason = follower.attach(floor, forced)
        except MirrorError as error:
            self._attaching = None
            self._fail(error)
            return
        self._attaching = None
        self.attached = True
        self._retry_at = 0.0
        cursor = follower.cursor
        self._say(
            {
                "attached": True,
                "gap": reason,
                "lsn": str(cursor.lsn),
                "salts": list(cursor.salts),
                "place": list(follower.spool.place),
            }
        )

    def _opened(self) -> AnyFollower:
        """A follower of the kind that the journal mode asks for; with a new spool if the old one was deleted."""
        if self.follower is not None:
            self.follower.detach()
        if self._spool is not None and not self._spool.intact:
            self._spool.close()
            self._spool = None
        if self._spool is None:
            self._spool = SpoolWriter(self._folder, self._faults)
        if in_wal_mode(self._database):
            return Follower(self._database, self._spool, self._limit)
        follower = JournalFollower(self._database, self._spool)
        follower.open()
        return follower

    def _fail(self, error: MirrorError) -> None:
        replaced = isinstance(error, ReplacedError)
        self._say({"error": error.detail if replaced else str(error), "retry": error.retryable, "replaced": replaced})

    def _say(self, message: dict[str, object]) -> None:
        self._output += json.dumps(message).encode() + b"\n"

    def _flush(self) -> None:
        if not self._output:
            return
        try:
            del self._output[: self.socket.send(self._output)]
        except BlockingIOError:
            pass  # the mirror is busy: it will read later, and only the newest progress is kept
        except ConnectionError:
            self.closed = True


def in_wal_mode(database: Path) -> bool:
    """Whether a database's header says so; raises ``SourceError`` if it cannot be read."""
    try:
        with open(database, "rb") as file:
            return file.read(20)[18:] == b"\2\2"
    except OSError as error:
        raise SourceError("open the database", str(database), str(error), retryable=True) from error


def main(argument: str, faults: Faults = no_fault) -> None:
    """Follow the sources described by the JSON argument until their sockets close.

    ``faults`` is called with the names of places where a kill is of interest.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the mirror, which stops us
    tails = [
        _Tail(Path(source["database"]), Path(source["spool"]), source["socket"], source["limit"], faults)
        for source in json.loads(argument)
    ]
    _be_prompt()
    last = time.monotonic()
    while tails:
        before = [tail.captured for tail in tails]
        more = False
        for tail in tails:
            more |= tail.turn()
        now = time.monotonic()
        if before != [tail.captured for tail in tails] or any(tail.awake for tail in tails):
            last = now
            for tail in tails:
                tail.awake = False
        interval = 0.0 if more else (BUSY_INTERVAL if now - last < QUIET_AFTER else QUIET_INTERVAL)
        readable, _, _ = select.select([tail.socket for tail in tails], [], [], interval)
        for tail in tails:
            if tail.socket in readable:
                tail.read()
        tails = [tail for tail in tails if not tail.closed]


def _be_prompt() -> None:
    """Ask Linux (6.12 and newer) to run this process soon after it wakes, for a short slice each time.

    A process with a slice of 0.1 ms is let in before others that compute for milliseconds on end; it
    gets no more processor time than any other. Needs no privilege. Elsewhere nothing happens: capture
    then is as prompt as the scheduler makes it.
    """
    number = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    # struct sched_attr: size, policy (0: normal), flags, nice, priority, runtime (ns), deadline, period
    attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, 0, 0, 100_000, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)


if __name__ == "__main__":
    main(sys.argv[1])
