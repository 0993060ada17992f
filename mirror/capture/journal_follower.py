"""Follow a database in a rollback-journal mode, without a lock: notice changes, and when it stands still.

Such a database has no log to read: its file is changed in place while the journal keeps what was there
before. So all that can be known is *that* it has changed; what has changed is found by comparing its pages
with the shadow. A reader's lock would make a writer's commit fail, so none is taken. Instead it is proved
that nothing was written while pages were read:

* the file's stamp (inode, size, mtime, ctime) has not changed. Every write sets the ctime, by a clock that
  moves in ticks; so a stamp counts only once it has been seen unchanged for more than a tick. Nor has its header,
  in which each commit raises the change counter: a machine that was held up may have kept that clock still. A commit
  writes page 1 before the others, so the header is read before and after looking at locks: the second time it must be
  the same;
* no process holds the lock EXCLUSIVE, without which SQLite writes no page into the file
  (https://sqlite.org/lockingv3.html, section 3): so none has spilled pages there that it may roll back. A transaction
  that has only begun to write (RESERVED) has them in its memory;
* there is no hot journal, which would mean that a writer died half-way. While a process holds RESERVED, the journal is
  its own: before it got that lock, SQLite has rolled back what was left.

A stamp for which this holds is *announced*: a CHANGE record in the spool, and a generation of its own. As
long as the file still has that stamp and header, its content is the committed state of that generation.

Used in a process that holds no SQLite connection (hazard 17, mirror/HAZARDS.md), like
:mod:`mirror.capture.wal_follower`.

Not guaranteed: that every transaction is seen (the state after several is), and anything at all while a
program writes without a pause that is longer than a tick and the time to read the file.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from mirror.capture.spool import Cursor, Kind, SpoolWriter
from mirror.core.errors import ReplacedError, SourceError
from mirror.core.files import Stamp, is_locked
from mirror.core.positions import Lsn, Salts
from mirror.sqlite.format.header import LOCK_BYTE, DatabaseHeader, is_wal, require_database

#: First bytes of a journal that has not been finalised (https://sqlite.org/fileformat2.html, section 3).
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
#: The lock bytes of SQLite: PENDING, RESERVED, and the 510 of SHARED, of which EXCLUSIVE is a write lock.
_RESERVED, _SHARED = (LOCK_BYTE + 1, 1), (LOCK_BYTE + 2, 510)
_CLOCK_REALTIME_COARSE = 5
#: Seconds for which a hot journal may exist before it is reported: a program that is starting rolls it back itself.
_HOT_SECONDS = 2.0
#: Seconds for which a file may be written without a pause before that is reported.
STILL_SECONDS = 1.0


class JournalFollower:
    """Follows one database; the same calls as :class:`~mirror.capture.wal_follower.Follower`."""

    def __init__(self, database: Path, spool: SpoolWriter) -> None:
        self.committed: Lsn | None = None
        self._database = database
        self._journal = Path(f"{database}-journal")
        self._spool = spool
        self._file = -1
        self._opened = 0.0
        self._cursor: Cursor | None = spool.cursor
        self._announced: Stamp | None = None
        self._latest: Stamp | None = None
        self._latest_since = 0.0
        self._hot_since: float | None = None
        self._unsettled: tuple[float, float] | None = None
        """Since when the file has not stood still: by the monotonic clock, and Unix time."""
        self.behind: tuple[str, float] | None = None
        """Why changes cannot be announced for long, and since when (Unix time); None: they can."""
        self._settle = _tick() + 0.001
        self._header = self._announced_header = b""
        """First 100 bytes of the file when it stood still, and those of the state that is announced."""

    @property
    def cursor(self) -> Cursor:
        """The place up to which changes are announced; raises ``SourceError`` when not attached."""
        if self._cursor is None:
            raise SourceError("follow the database", str(self._database), "not attached")
        return self._cursor

    @property
    def spool(self) -> SpoolWriter:
        """The spool in which changes are announced."""
        return self._spool

    def open(self) -> None:
        """Open the file; raises ``SourceError``."""
        self.detach()
        try:
            self._file = os.open(self._database, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(
                "open the database", str(self._database), error.strerror or str(error), retryable=True
            ) from error
        self._opened = time.monotonic()

    def is_ready(self) -> bool:
        """Whether :meth:`attach` may be called; to be called again and again, once the file is open.

        Raises ``SourceError`` when the file has not stood still for long, and as :meth:`poll` does.
        """
        if self.stands_still():
            return True
        if time.monotonic() > self._opened + STILL_SECONDS:
            raise self._never_still()
        return False

    def attach(self, floor: int, forced: str = "") -> str | None:
        """Begin a new generation, numbered ``floor`` or higher, with what the file has now, while it stands still.

        Returns the reason of a gap: ``forced``, or None, because comparing pages is the usual way here. Raises
        ``FormatError`` for a damaged header, ``StateError`` when the spool cannot be written.
        """
        self._announce(floor)
        return forced or None

    def _never_still(self) -> SourceError:
        if self._hot_since is not None:
            return self._is_hot()
        if self._latest_since < time.monotonic() - self._settle:
            detail = "a program holds a lock for writing all the time"
            step = "if it is no long transaction, let it use locking_mode=NORMAL"
        else:
            detail, step = "it is written without a pause", "it goes on at the next pause; in WAL mode none is needed"
        return SourceError("follow the database", str(self._database), detail, next_step=step, retryable=True)

    def detach(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._announced = self._latest = self._unsettled = self.behind = None

    def poll(self) -> bool:
        """Announce a change, if there is one and the file stands still; always returns False: there is never more.

        Raises ``ReplacedError`` when another file is at its path or it is in WAL mode now, ``SourceError``
        when a writer has died inside a transaction, ``StateError`` when the spool cannot be written.
        """
        if self.stands_still():
            self._unsettled = self.behind = None
            if self._latest != self._announced:
                self._announce(0)
        elif self._unsettled is None:
            self._unsettled = time.monotonic(), time.time()
        elif self.behind is None and time.monotonic() - self._unsettled[0] > STILL_SECONDS:
            self.behind = str(self._never_still()), self._unsettled[1]
        return False

    def has_news(self) -> bool:
        """Whether the file is not as it was announced, as far as its stamp shows. Raises ``OSError``."""
        return self._file >= 0 and (self._unsettled is not None or self._stamp() != self._announced)

    def target(self) -> Lsn | None:
        """The position of all that is committed now; None while a change has still to be announced."""
        return self.cursor.lsn if self._is_announced(self._stamp()) else None

    def locate(self, salts: Salts, frame: int) -> Lsn | None:
        """There are no frames to locate."""
        return None

    def watched(self) -> list[int]:
        """The descriptor of the file that is written before a change is to be announced."""
        return [self._file] if self._file >= 0 else []

    def sight(self) -> object:
        """All in which a change shows that :meth:`poll` would notice; None while not attached."""
        return self._stamp() if self._file >= 0 else None

    def look_soon(self) -> None:
        """Each :meth:`poll` looks."""

    def is_settled(self) -> bool:
        """Whether what the file has is announced."""
        return self._latest == self._announced and self._unsettled is None

    def _stamp(self) -> Stamp | None:
        try:
            return Stamp.of(self._database)
        except FileNotFoundError:
            return None

    def stands_still(self) -> bool:
        """Whether the file's state is a committed one, and has been unchanged for more than a tick of the clock.

        Raises ``ReplacedError``, ``SourceError`` as :meth:`poll` does.
        """
        stamp = self._stamp()
        if stamp is None or stamp.inode != os.fstat(self._file).st_ino:
            raise ReplacedError("follow the database", str(self._database), "its file was replaced")
        now = time.monotonic()
        if stamp != self._latest:
            self._latest, self._latest_since = stamp, now
            return False
        if stamp == self._announced:
            if self._is_announced(stamp):
                return True
            self._announced = None
        if now - self._latest_since < self._settle:
            return False
        header = os.pread(self._file, 100, 0)
        if self._is_being_written() or self._has_hot_journal(now):
            return False
        self._header = os.pread(self._file, 100, 0)
        if self._latest.size:
            require_database(self._header, str(self._database))
        if is_wal(self._header):
            raise ReplacedError("follow the database", str(self._database), "it is in WAL mode now")
        return self._header == header and self._stamp() == stamp

    def _is_announced(self, stamp: Stamp | None) -> bool:
        """Whether the file is as it was announced."""
        return stamp == self._announced and os.pread(self._file, 100, 0) == self._announced_header

    def _announce(self, floor: int) -> None:
        previous = 0 if self._cursor is None else self._cursor.generation
        assert self._latest is not None
        header = DatabaseHeader.parse(self._header) if self._latest.size else None
        cursor = Cursor(
            generation=max(previous + 1, floor),
            frame=0,
            salts=Salts(0, 0),
            checksum=(0, 0),
            changes=0 if header is None else header.change_counter,
            page_size=0 if header is None else header.page_size,
            big_endian=False,
            inode=self._latest.inode,
        )
        self._spool.begin(Kind.CHANGE, cursor, time.time())
        self._cursor = cursor
        self._announced, self._announced_header = self._latest, self._header
        self.committed = cursor.lsn

    def _is_being_written(self) -> bool:
        """Whether a process may be writing pages into the file. (Asking takes no lock.)"""
        return is_locked(self._file, fcntl.F_RDLCK, *_SHARED)

    def _has_hot_journal(self, now: float) -> bool:
        try:
            with open(self._journal, "rb") as file:
                hot = file.read(8) == _JOURNAL_MAGIC
        except FileNotFoundError:
            hot = False
        if not hot or is_locked(self._file, fcntl.F_RDLCK, *_RESERVED):
            self._hot_since = None
            return False
        self._hot_since = self._hot_since or now
        if now - self._hot_since > _HOT_SECONDS:
            raise self._is_hot()
        return True

    def _is_hot(self) -> SourceError:
        return SourceError(
            "follow the database",
            str(self._journal),
            "a program died inside a transaction, which has to be rolled back",
            next_step="open the database once with the program or the sqlite3 shell",
            retryable=True,
        )


def _tick() -> float:
    """Seconds between two values of the clock that stamps files."""
    return time.clock_getres(_CLOCK_REALTIME_COARSE) if sys.platform == "linux" else 0.01
