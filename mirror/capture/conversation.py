"""One source in the capture process: its follower, its socket, and the questions that are not answered yet.

The messages are listed in :mod:`mirror.capture.process`.
"""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Generator
from pathlib import Path

from mirror.capture.journal_follower import JournalFollower
from mirror.capture.spool import Cursor, SpoolWriter
from mirror.capture.stream import Stream
from mirror.capture.wal_follower import Follower
from mirror.core.errors import MirrorError, PrivateIndexError, ReplacedError, SourceError
from mirror.core.faults import Faults
from mirror.core.positions import Lsn, Salts
from mirror.sqlite.format.header import is_wal

#: Seconds for which one source is followed before the others get their turn and messages are read.
SHARED_TURN = 0.002
RETRY_INTERVAL = 0.2
#: Seconds for which a frame is looked for that has salts not seen yet.
LOCATE_SECONDS = 5.0
_MASK = 0xFFFFFFFF

AnyFollower = Follower | JournalFollower


class Conversation:
    """One source: its follower, its socket, and the questions that are not answered yet."""

    def __init__(self, sock: socket.socket, database: Path, spool: Path, limit: int, faults: Faults) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        self._database = database
        self._folder = spool
        self._limit = limit
        self._faults = faults
        self._spool: SpoolWriter | None = None
        self._follower: AnyFollower | None = None
        self._attached = False
        self._attaching: Generator[bool, None, None] | None = None
        """The rest of the steps of attaching."""
        self.closed = False
        self._broken = False
        """A bug was met: all that is left to do is to report it."""
        self.lively = False
        """Commits have come, or are about to, as the mirror says."""
        self.rests_at = 0.0
        """When it may rest, unless it is lively before."""
        self.stream = Stream()
        self._sight: object = None
        """What can be seen of a source that rests."""
        self._marks: list[tuple[int, Lsn | None]] = []
        self._awaited: set[int] = set()
        """Marks before which the mirror cannot go on."""
        self._places: list[tuple[int, Salts, int, float]] = []
        """Marks of frames, and until when they are looked for."""
        self._input = b""
        self._output = bytearray()
        self._cursor: Cursor | None = None
        """As of the last turn."""
        self._reported: Lsn | None = None
        self._retry_at = 0.0
        self._failing = False
        self._last_failure: dict[str, object] = {}
        self._behind: tuple[str, float] | None = None

    # -- called by the loop; nothing is raised -----------------------------------------------------

    def turn(self, seconds: float) -> bool:
        """Follow for about so long; True if there may be more."""
        more = False
        if not self._broken:
            try:
                more = self._work(time.monotonic() + seconds)
            except Exception as error:
                self._break(error)
        self._flush()
        return more and not self.closed

    def has_news(self, now: float) -> bool:
        """Whether a turn is due at once, because something was committed: a look that costs little.

        ``now``: of the monotonic clock.
        """
        if self._attaching is not None:
            return True
        if self._follower is None or not self._attached or self._failing or now < self.stream.waits_until:
            return False
        try:
            return self._follower.has_news()
        except OSError:
            return True  # the turn reports it

    def read(self) -> None:
        """Take the mirror's lines."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        *lines, self._input = (self._input + data).split(b"\n")
        try:
            for line in lines:
                self._obey(line.decode())
        except Exception as error:
            self._break(error)

    def close(self) -> None:
        """Close the source's files, its spool and the socket."""
        self._release()
        self.socket.close()

    # -- resting -----------------------------------------------------------------------------------

    def watched(self) -> list[int]:
        """The descriptors of the files of which one is written before a commit is to be seen."""
        return [] if self._follower is None else self._follower.watched()

    def lie_down(self) -> bool:
        """Begin to rest; False if something is to be done, or is not settled yet."""
        follower = self._follower
        if follower is None or not self._attached:
            return False
        try:
            self._sight = follower.sight()
        except OSError:
            return False  # the turn reports it
        follower.look_soon()
        if self.turn(SHARED_TURN) or self.lively or not self._attached:
            return False
        return follower.is_settled() and not (self._failing or self._marks or self._places or self._output)

    def is_still(self) -> bool:
        """Whether nothing that a turn would notice has changed since it began to rest."""
        try:
            return self._follower is not None and self._follower.sight() == self._sight
        except OSError:
            return False

    def wake(self) -> None:
        """It gets turns again."""
        self._sight = None

    # -- following ---------------------------------------------------------------------------------

    def _work(self, until: float) -> bool:
        more = False
        if self._attaching is not None:
            more = self._go_on_attaching(self._attaching, until)
        follower = self._follower
        if follower is not None and self._attached and time.monotonic() >= self._retry_at:
            try:
                more = self._follow(follower, until)
            except (MirrorError, OSError) as error:
                self._retry_at = time.monotonic() + RETRY_INTERVAL
                self._failing = True
                if isinstance(error, ReplacedError):
                    self._attached = False
                    follower.detach()
                self._fail(error)
        if follower is not None and self._attached:
            self._report(follower)
        self._give_up_places()
        return more

    def _follow(self, follower: AnyFollower, until: float) -> bool:
        if isinstance(follower, Follower):
            follower.room.awaited = bool(self._awaited)
        while (more := follower.poll()) and time.monotonic() < until:
            pass
        self._answer(follower)
        if isinstance(follower, JournalFollower) and follower.behind != self._behind:
            self._behind = follower.behind
            text, since = self._behind or (None, 0.0)
            self._say({"behind": text, "since": since})
        if self._failing:
            self._failing, self._reported = False, None  # that it goes on is reported even if nothing is new
        cursor, before = follower.cursor, self._cursor
        if cursor is not before:
            self._cursor, self.lively = cursor, True
            if before is not None and isinstance(follower, Follower):
                reset = cursor.generation != before.generation
                self.stream.takes((cursor.changes - before.changes) & _MASK, time.monotonic(), reset=reset)
        return more

    def _report(self, follower: AnyFollower) -> None:
        # Only whole commits are reported: the reader would look at a large transaction again and again.
        committed = follower.committed
        if not self._output and committed is not None and committed is not self._reported:
            self._reported = committed
            segment, offset = follower.spool.place
            self._output += b"c %d %d %d %d\n" % (committed.generation, committed.frame, segment, offset)

    def _answer(self, follower: AnyFollower) -> None:
        if not self._marks and not self._places:
            return
        now = follower.target() if any(target is None for _, target in self._marks) else None
        captured = follower.cursor.lsn
        waiting: list[tuple[int, Lsn | None]] = []
        for mark, target in self._marks:
            goal = now if target is None else target
            if goal is not None and captured >= goal:
                # The goal, not the cursor, which may be inside a large transaction.
                self._say_mark(mark, goal, follower)
            else:
                waiting.append((mark, goal))
        self._marks = waiting
        unknown: list[tuple[int, Salts, int, float]] = []
        for mark, salts, frame, deadline in self._places:
            goal = follower.locate(salts, frame)
            if goal is None:
                unknown.append((mark, salts, frame, deadline))
            elif captured >= goal:
                self._say_mark(mark, goal, follower)
            else:
                self._marks.append((mark, goal))
        self._places = unknown

    def _give_up_places(self) -> None:
        """Answer that frames are unknown which were looked for long enough."""
        if not self._places:
            return
        now, waiting = time.monotonic(), []
        for mark, salts, frame, deadline in self._places:
            if self._attached and isinstance(self._follower, JournalFollower):
                self._say({"mark": mark, "unknown": "the database has no WAL"})
            elif now > deadline:
                self._say({"mark": mark, "unknown": f"no WAL with the salts {salts.salt1}, {salts.salt2} was seen"})
            else:
                waiting.append((mark, salts, frame, deadline))
        self._places = waiting

    def _obey(self, line: str) -> None:
        self.stream.ends()
        match line.split():
            case ["attach", floor, *reason]:
                self._stop_attaching()
                self._attached, self._reported = False, None
                self._attaching = self._attach(int(floor), " ".join(reason))
            case ["look"]:
                self.lively = True
            case ["mark", mark, *now]:
                self._marks.append((int(mark), None))
                if now:
                    self._awaited.add(int(mark))
            case ["locate", mark, salt1, salt2, frame]:
                deadline = time.monotonic() + LOCATE_SECONDS
                self._places.append((int(mark), Salts(int(salt1), int(salt2)), int(frame), deadline))

    # -- attaching ---------------------------------------------------------------------------------

    def _go_on_attaching(self, steps: Generator[bool, None, None], until: float) -> bool:
        try:
            for more in steps:
                if not more or time.monotonic() >= until:
                    return more
        except (MirrorError, OSError) as error:
            self._stop_attaching()
            self._fail(error)
        self._attaching = None
        return False

    def _attach(self, floor: int, forced: str) -> Generator[bool, None, None]:
        """Attach and report it. A generator: yields True where it can go on at once, False where it has to wait."""
        if self._follower is not None:
            self._follower.detach()
        if self._spool is not None and not self._spool.intact:  # it was deleted on disk
            self._spool.close()
            self._spool = None
        if self._spool is None:
            spool = SpoolWriter(self._folder, self._faults)
            try:
                yield from spool.open()
                self._spool = spool
            finally:
                if self._spool is not spool:
                    spool.close()
        follower = self._follower = self._new_follower(self._spool)
        self._behind = None
        follower.open()
        while not follower.is_ready():
            yield False
        reason = follower.attach(floor, forced)
        self._attached = True
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

    def _stop_attaching(self) -> None:
        steps, self._attaching = self._attaching, None
        if steps is not None:
            steps.close()
            if self._follower is not None:
                self._follower.detach()

    def _new_follower(self, spool: SpoolWriter) -> AnyFollower:
        """The follower for the database's journal mode."""
        if in_wal_mode(self._database):
            return Follower(self._database, spool, self._limit)
        return JournalFollower(self._database, spool)

    def _release(self) -> None:
        """Close the source's files and the spool: another process may have them now."""
        self._stop_attaching()
        self._attached = False
        if self._follower is not None:
            self._follower.detach()
            self._follower = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    # -- answers -----------------------------------------------------------------------------------

    def _say_mark(self, mark: int, lsn: Lsn, follower: AnyFollower) -> None:
        self._awaited.discard(mark)
        self._say({"mark": mark, "lsn": str(lsn), "place": list(follower.spool.place)})

    def _fail(self, error: MirrorError | OSError) -> None:
        if isinstance(error, OSError):
            place = error.filename or self._database
            error = SourceError("follow the source", str(place), error.strerror or str(error))
        replaced = isinstance(error, ReplacedError)
        failure = {"error": error.detail if replaced else str(error), "retry": True, "replaced": replaced}
        failure["private"] = isinstance(error, PrivateIndexError)
        if not self._output or failure != self._last_failure:  # while the mirror does not read, once is enough
            self._say(failure)
        self._last_failure = failure

    def _break(self, error: Exception) -> None:
        """A bug: print the traceback, and end this source alone."""
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {error}"
        self._say({"error": text, "retry": False, "replaced": False, "private": False})
        self._broken = True
        self._release()

    def _say(self, message: dict[str, object]) -> None:
        self._output += json.dumps(message).encode() + b"\n"

    def _flush(self) -> None:
        if self._output:
            try:
                del self._output[: self.socket.send(self._output)]
            except BlockingIOError:
                pass  # the mirror is busy: it will read later, and only the newest progress is kept
            except OSError:
                self.closed = True
        if self._broken and not self._output:
            self.closed = True


def in_wal_mode(database: Path) -> bool:
    """Whether a database is in WAL mode by its header; raises ``SourceError`` if it cannot be read."""
    try:
        descriptor = os.open(database, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return is_wal(os.pread(descriptor, 20, 0))
        finally:
            os.close(descriptor)
    except OSError as error:
        detail = error.strerror or str(error)
        raise SourceError("open the database", str(database), detail, retryable=True) from error
