"""The one SQLite connection to a source: it stays open, holds no transaction, and checkpoints nothing.

While it is open, no other connection is the last one to close, which would delete the WAL (hazard 4,
mirror/HAZARDS.md). It also reads the database file for copies, through SQLite's own handle. A
:class:`SourceConnection` renews it when another file is put at the source's path.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw

from mirror.core.backoff import Backoff
from mirror.core.errors import (
    GOES_ON,
    FormatError,
    OldLogError,
    PrivateIndexError,
    ReplacedError,
    SourceError,
    overwritten,
    put_again,
    recover,
)
from mirror.core.files import Stamp
from mirror.core.near import did_you_mean
from mirror.core.place import require_own_name
from mirror.core.words import counted
from mirror.replica.filesystem import mounts, network_filesystem
from mirror.replica.images import Image, Images
from mirror.replica.names import NameWatch, require_one_name
from mirror.sqlite.format.freelist import free_leaves
from mirror.sqlite.format.header import HEADER_SIZE, LOCK_BYTE, DatabaseHeader, begins_a_database, require_database

#: SQLite 3.7.0 to 3.51.2 can corrupt a database when a WAL reset meets another checkpoint.
_OLDEST = 3051003
#: Seconds for which a file that was put back must have been unchanged before it is opened.
_SETTLED = 1.0
#: Seconds for which at most that is waited for where the file is new: its program may write to it without a pause.
_SETTLING = 5.0
#: Seconds without a write after which a file is opened again that another program has written with an index of its own:
#: all of its pages are compared then. Twice as long each time, up to a limit, until
#: a minute has passed without that.
_QUIET, _LONGEST_QUIET = 2.0, 32.0


class FileReader:
    """Reads ``(offset, amount)`` bytes of the database file (not of the WAL), up to the size it has at first.

    What is appended later comes from the WAL. Raises ``ReplacedError`` when another file is at the source's path,
    ``SourceError`` when it cannot be read.
    """

    def __init__(self, keeper: OpenSource) -> None:
        self._open = keeper
        self._size = keeper.size()

    def __call__(self, offset: int, amount: int) -> bytes:
        """Bytes of the file; fewer at its end, none after it."""
        amount = min(amount, self._size - offset)
        if amount <= 0:
            self._open.size()  # still the same file, after all of it was read
            return b""
        return self._open.read(offset, amount)

    @property
    def size(self) -> int:
        """Bytes that are read."""
        return self._size

    def header(self) -> bytes:
        """The database header, unparsed: 100 bytes.

        Raises ``SourceError`` (retryable) when the file is no database any more: what the mirror has is right, and the
        file is not.
        """
        head = self(0, HEADER_SIZE)
        if len(head) < HEADER_SIZE:
            raise overwritten(self._open.database)
        require_database(head, str(self._open.database))
        return head

    def require_whole(self, pages: int, page_size: int, frames: Mapping[int, Image], images: Images) -> None:
        """Raise ``SourceError`` if a page of the database is neither in the file as read nor in the WAL.

        Then what was read is the beginning of a file that is still being copied. A missing page that is free does not
        count: it has nothing in it.
        """
        there = self._size // page_size
        lock_page = LOCK_BYTE // page_size + 1
        missing = {pgno for pgno in range(there + 1, pages + 1) if pgno not in frames and pgno != lock_page}
        if not missing:
            return

        def page(pgno: int) -> bytes:
            if pgno in frames:
                return images.read(frames[pgno], page_size)
            return self((pgno - 1) * page_size, page_size)

        try:
            if missing <= free_leaves(page):
                return
        except FormatError as error:
            raise self._open.not_whole(there, pages) from error
        raise self._open.not_whole(there, pages)


class OpenSource:
    """Keeps one source connected.

    Thread: one, which also closes it.
    """

    def __init__(self, database: Path) -> None:
        """Connect; raises ``SourceError`` for a file that cannot be followed, saying why."""
        if _library_version() < _OLDEST:
            raise SourceError(
                "open the source",
                str(database),
                f"SQLite {apsw.sqlite_lib_version()} has the WAL-reset bug",
                next_step="install apsw 3.51.3 or newer",
            )
        self.database = database
        found, mounted = self._stat(), mounts()
        self.inode = found.st_ino
        require_one_name(database, found.st_nlink, mounted)
        kind = network_filesystem(database, mounted)
        if kind is not None:
            raise self._refused(f"it is on a network file system ({kind})", "run program and mirror on a local disk")
        try:
            self._connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
        except apsw.Error as error:
            raise _explain(error, database) from error
        try:
            self.in_wal_mode = self._look().wal
            """Otherwise no statement may be run: its lock would make a writer's commit fail or wait."""
            if self.in_wal_mode:
                self._prepare()
            self.size()
        except apsw.Error as error:
            self._connection.close()
            raise _explain(error, database) from error
        except SourceError:
            self._connection.close()
            raise

    def _look(self) -> DatabaseHeader:
        """The database's header, read before a statement takes a lock or makes a WAL.

        Raises ``SourceError`` for what is no whole database.
        """
        if self.size() == 0:
            raise self._refused("it is empty", "create a database in it")
        head = self.read(0, HEADER_SIZE)
        if begins_a_database(head):
            try:
                require_database(head, str(self.database))
            except SourceError as error:
                step = "mirror the database of a program that keeps SQLite's format"
                raise self._refused(error.detail, step) from error
        try:
            header = DatabaseHeader.parse(head)
        except FormatError as error:
            raise self._refused("no SQLite database, or an encrypted one", "check the path") from error
        # The size last: with nothing in the WAL, a growing file has by now all pages that its header named before.
        logged = _stamp(Path(f"{self.database}-wal"))
        if not header.wal and logged is not None and logged.size:
            name = self.database.name
            raise self._refused(
                f"{name}-wal is the log of a database that was here before: this file's header says that it has none,"
                " and SQLite reads it through that log all the same",
                put_again(name),
            )
        pages = self.size() // header.page_size
        if pages == 0 or (header.size_valid and header.pages > pages and (logged is None or logged.size == 0)):
            raise self.not_whole(pages, header.pages)
        return header

    def _prepare(self) -> None:
        connection = self._connection
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(2000)
        connection.execute("PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0")
        # The first read opens the WAL and its index, creating them if need be.
        connection.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - reads the row
        mode = connection.execute("PRAGMA journal_mode").get
        if mode != "wal":
            raise self._refused(f"its journal mode is changing to {mode}", "try again", retryable=True)

    def _refused(self, detail: str, next_step: str, *, retryable: bool = False) -> SourceError:
        return SourceError("open the source", str(self.database), detail, next_step=next_step, retryable=retryable)

    def not_whole(self, there: int, pages: int) -> SourceError:
        """The error for a file that ends too early."""
        detail = f"the file has {counted(there, 'page')} of {pages:,}: a copy of it is not finished"
        return self._refused(detail, f"let the copy end{GOES_ON}", retryable=True)

    def reader(self) -> FileReader:
        """A reader of the database file, up to its present size; raises ``ReplacedError``."""
        return FileReader(self)

    def read(self, offset: int, amount: int) -> bytes:
        """``amount`` bytes of the database file; takes no lock. Raises ``SourceError``."""
        try:
            return self._connection.read("main", 0, offset, amount)[1]
        except apsw.Error as error:
            raise SourceError(
                "read the source", f"{self.database}, offset {offset}", str(error), retryable=True
            ) from error

    def size(self) -> int:
        """The file's size in bytes; raises ``ReplacedError`` when it is not at the source's path any more."""
        try:
            found = self._stat()
        except SourceError as error:
            raise ReplacedError("read the source", str(self.database), error.detail) from error
        if found.st_ino != self.inode:
            raise ReplacedError("read the source", str(self.database), "another file was put at its path")
        return found.st_size

    def _stat(self) -> os.stat_result:
        try:
            found = os.stat(self.database)  # opens no descriptor, so no lock can be lost
        except OSError as error:
            raise self._refused(f"no such file ({error.strerror})", "check the path") from error
        require_own_name(self.database, "open the source")
        if not stat.S_ISREG(found.st_mode):
            raise self._refused("no regular file", "check the path")
        return found

    def has_log(self) -> bool:
        """Whether there is a file with the WAL's name: the one that SQLite has open, or another."""
        return os.path.exists(f"{self.database}-wal")

    def close(self) -> None:
        """Disconnect without a checkpoint; the WAL stays."""
        self._connection.close()


class SourceConnection:
    """The connection to a source, made again when its file was replaced, or deleted and put back.

    At first, a file that cannot be followed is an error, but for one that its program has yet to make. Once a file was
    followed, the errors of :meth:`connect` are retryable, so that the mirror waits for it.
    """

    def __init__(self, database: Path, *, awaits: bool = True, link: Path | None = None) -> None:
        """``awaits``: whether, at first, a file that is missing or empty is waited for. ``link``: the name that leads
        to it through a link, if it was named by one.
        """
        self.database = database
        self._names = NameWatch(database, link)
        self._awaits = awaits
        self._missed, self._near = False, ""
        self._arrived: float | None = None
        self._open: OpenSource | None = None
        self._followed = self._ours = False
        self._sighted: tuple[object, float] | None = None
        self._met: tuple[Stamp | None, Stamp | None] = (None, None)
        """The stamps of the file and its log before it was connected to."""
        self._strange: tuple[object, str] | None = None
        """The stamps of a file and a log that do not belong together, and what is to be done."""
        self._loud = ""
        """Why the file is left alone while it is written."""
        self._pause = Backoff(_QUIET, _LONGEST_QUIET)
        self._quiet = self._left = 0.0

    def connect(self) -> bool:
        """Connect to the file at the source's path, unless connected to it; True if that was done again.

        Then everything in the file may be different. Raises ``SourceError``.
        """
        if self._open is not None:
            try:
                self._open.size()
                if not self.in_wal_mode or self._open.has_log():
                    return False
            except ReplacedError:
                pass
            self.close()
        if self._strange is not None and self._strange[0] == self._stamps():
            raise SourceError("follow the source", str(self.database), self._strange[1], retryable=True)
        self._strange = None
        try:
            if self._loud:
                self._let_be_quiet()
            elif self._followed and not self._ours:
                self._let_settle()
            elif self._awaits:
                self._await_first()
            self._met = self._stamps()
            self._open = OpenSource(self.database)
        except SourceError as error:
            if (self._followed or self._missed) and not error.retryable:
                error.retryable = True
                error.next_step += GOES_ON
            raise
        self._names.open(in_wal_mode=self._open.in_wal_mode)
        again = self._followed and not self._ours
        self._followed, self._ours, self._sighted = True, False, None
        return again

    def was_ours(self) -> None:
        """While it was not connected to, the mirror itself has written the file: nobody has put it there."""
        self._ours = True

    def doubt(self) -> str:
        """Why what programs write may not be in the files that are followed; empty while nothing says so."""
        return self._names.look()

    def is_settled(self) -> bool:
        """Whether :meth:`doubt` finds nothing, and nothing that may become a doubt."""
        return not self._names.look() and not self._names.is_unsure

    @property
    def in_wal_mode(self) -> bool:
        """Whether the database has a WAL; only while connected."""
        assert self._open is not None
        return self._open.in_wal_mode

    @property
    def inode(self) -> int:
        """The file's inode; 0 while not connected."""
        return 0 if self._open is None else self._open.inode

    def reader(self) -> FileReader:
        """A reader of the database file, up to its present size; only while connected. Raises ``ReplacedError``."""
        assert self._open is not None
        return self._open.reader()

    def _await_first(self) -> None:
        """Raise ``SourceError`` until there is a file that is not empty; and, where that was missed, is complete."""
        try:
            size = os.stat(self.database).st_size
        except FileNotFoundError:
            size = None
        except OSError:
            return  # no right to look, or no folder: the error that follows says so
        if not size:
            if not self._missed:
                self._near = did_you_mean(self.database)
            self._missed, self._arrived, self._sighted = True, None, None
            detail = "the file is empty: it has no database in it yet"
            if size is None:
                detail = f"there is no such file yet{self._near}"
            step = "nothing, if its program has yet to make it: the mirror waits for that; else check the path"
            raise SourceError("open the source", str(self.database), detail, next_step=step, retryable=True)
        if self._missed:
            self._arrived = self._arrived or time.monotonic()
            if time.monotonic() - self._arrived < _SETTLING:
                self._let_settle()

    def _let_settle(self) -> None:
        """Raise ``SourceError`` until the file that was put back is complete: its WAL may be put back after it.

        Connecting before that would make a new WAL. A WAL index shows that a program has the file open, or had it.
        """
        file = _stamp(self.database)
        if file is None:
            self._sighted = None
            raise SourceError("follow the source", str(self.database), "the file is gone", next_step="put it back")
        if os.path.exists(f"{self.database}-shm"):
            return
        sight, now = (file, _stamp(Path(f"{self.database}-wal"))), time.monotonic()
        if self._sighted is None or self._sighted[0] != sight:
            self._sighted = sight, now
        if now < self._sighted[1] + _SETTLED:
            raise SourceError(
                "follow the source",
                str(self.database),
                "the file was put there a moment ago",
                next_step="leave it alone",
            )

    def leave(self, error: ReplacedError) -> str:
        """Disconnect. If a program writes with an index of its own, :meth:`connect` raises that until it pauses.

        Returns why what programs write may not be seen; empty if nothing says so.
        """
        self.close()
        if isinstance(error, OldLogError) and _same_files(self._met, stamps := self._stamps()):
            self._strange = stamps, error.detail  # not if others were put there since: these may belong together
        if not isinstance(error, PrivateIndexError):
            return ""
        now = time.monotonic()
        if now - self._left > _LONGEST_QUIET + 60:
            self._pause.reset()
        self._left, self._loud, self._quiet, self._sighted = now, error.detail, self._pause.next(), None
        return error.detail

    def _stamps(self) -> tuple[Stamp | None, Stamp | None]:
        """Those of the file and of its log."""
        return _stamp(self.database), _stamp(Path(f"{self.database}-wal"))

    def _let_be_quiet(self) -> None:
        now = time.monotonic()
        sight = self._stamps()
        if self._sighted is None or self._sighted[0] != sight:
            self._sighted = sight, now
        if now < self._sighted[1] + self._quiet:
            raise SourceError("follow the source", str(self.database), self._loud, retryable=True)
        self._loud = ""

    def close(self) -> None:
        """Disconnect; :meth:`connect` may follow. May be called twice."""
        if self._open is not None:
            self._names.close()
            self._open.close()
            self._open = None


def _same_files(before: Sequence[Stamp | None], now: Sequence[Stamp | None]) -> bool:
    """Whether these are the same files with the same content; connecting to a file may change its ctime."""
    return [stamp and stamp[:3] for stamp in before] == [stamp and stamp[:3] for stamp in now]


def _stamp(path: Path) -> Stamp | None:
    """The stamp of a file, None if it cannot be seen."""
    try:
        return Stamp.of(path)
    except OSError:
        return None


def _library_version() -> int:
    major, minor, patch = (int(part) for part in apsw.sqlite_lib_version().split(".")[:3])
    return major * 1_000_000 + minor * 1000 + patch


def _explain(error: apsw.Error, database: Path) -> SourceError:
    if isinstance(error, apsw.NotADBError):
        return SourceError(
            "open the source",
            str(database),
            "no SQLite database, or an encrypted one",
            next_step="check the path",
        )
    if isinstance(error, apsw.CorruptError):
        wal = Path(f"{database}-wal")
        logged = _stamp(wal)
        of_before = (
            f"; if it was replaced by a copy of a whole database, {wal.name} is of the content before: delete it and"
            f" {database.name}-shm while nothing has the file open"
        )
        return SourceError(
            "open the source",
            str(database),
            f"its list of tables cannot be read ({error}): it is damaged, or encrypted behind a plain header",
            next_step=f"if it is damaged, {recover(database)}"
            + (of_before if logged is not None and logged.size else ""),
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return SourceError(
            "open the source",
            str(database),
            "it is locked: a program holds it in exclusive mode, or is just changing its journal mode",
            next_step=f"let the program use locking_mode=NORMAL{GOES_ON}",
            retryable=True,
        )
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        return SourceError(
            "open the source",
            str(database),
            f"no right to write beside it ({error})",
            next_step="a reader of a WAL shares its index: give the mirror write permission on the file and its folder",
        )
    return SourceError("open the source", str(database), str(error), next_step="check the file and its permissions")
