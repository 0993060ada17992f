"""Views of the source that show one known commit, without an effect on the programs that write it.

The connections write nothing and run no checkpoint, not even when they are closed. A view is open only
while rows are read; how long is measured (:attr:`Source.longest_view`).

In WAL mode a view is a short read transaction, pinned to a commit by the WAL index. In a rollback-journal
mode a reader's lock would make a writer's commit fail, so no lock is taken: rows are read as if no program could
write, and count only if the mirror confirms afterwards that the file has not changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from mirror.core.errors import MirrorError, SinkError, SourceError
from mirror.core.place import require_own_name
from mirror.core.positions import Lsn
from mirror.parity import walheader
from mirror.parity.gate import Gate
from mirror.parity.source import Source
from mirror.parity.walheader import Commit, WalHeader

#: How often and how long (seconds) to try for a view of a known commit. Beside a writer that commits without a
#: pause about every second try succeeds.
VIEW_TRIES = 20_000
VIEW_SECONDS = 2.0
#: How often to try to hold the mirror at a view's commit, and seconds to wait in between.
GATE_TRIES, GATE_SECONDS = 5, 0.05
#: How long (seconds) to try for a view of a file that is changed in place.
STILL_SECONDS = 20.0

_BUSY_TIMEOUT_MS = 200


def open_source(path: Path) -> Source:
    """Open a database for comparison; raises :class:`SourceError`."""
    require_own_name(path, "open the source")
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        # Without a statement, which in a rollback-journal mode would take a lock.
        in_wal_mode = db.read("main", 0, 18, 2)[1] == b"\2\2"
        if in_wal_mode:
            return WalSource(path, db)
        db.close()
        return StillSource(path)
    except (OSError, apsw.Error) as error:
        raise SourceError("open the source", str(path), str(error)) from error


class WalSource(Source):
    """A database in WAL mode. A view is a read transaction, and takes no lock that a writer waits for."""

    def __init__(self, path: Path, db: apsw.Connection) -> None:
        try:
            self._identity = _identity(path)
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.wal_autocheckpoint(0)
            db.set_busy_timeout(_BUSY_TIMEOUT_MS)
            db.execute("PRAGMA query_only = 1")
            db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()  # makes SQLite map the -shm
            super().__init__(path, db)
            self._header = WalHeader(path, db)
        except BaseException:
            db.close()
            raise

    def at_commit(self, gate: Gate, begin: Callable[[Lsn], None], read: Callable[[], None]) -> Lsn:
        """See :meth:`Source.at_commit`: the mirror applies up to the commit that the view shows, and stops there."""
        left = GATE_TRIES
        while True:
            left -= 1
            try:
                hold = gate.hold()
            except MirrorError as error:
                _wait_unless_lasting(error, left)  # there is another hold
                continue
            try:
                with self.view() as commit:
                    read()
                try:
                    lsn = gate.reach(hold, commit.salts, commit.frame)
                except MirrorError as error:
                    _wait_unless_lasting(error, left)  # the mirror is past the view, after comparing pages for example
                    continue
                begin(lsn)
                return lsn
            finally:
                gate.release(hold)

    @contextmanager
    def view(self) -> Iterator[Commit]:
        """Open a read view and give the commit that it shows; the view ends with the block.

        Raises :class:`SourceError` when no view could be pinned to a commit.
        """
        commit, started = self._pin()
        try:
            self._began()
            yield commit
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.longest_view = max(self.longest_view, time.perf_counter() - started)

    def _pin(self) -> tuple[Commit, float]:
        self._check_identity()
        deadline = time.perf_counter() + VIEW_SECONDS
        trouble = "a writer committed during every try"
        for _ in range(VIEW_TRIES):
            self._db.execute("BEGIN")
            before = self._header.raw()
            started = time.perf_counter()
            try:
                self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            except apsw.Error as error:
                self._db.execute("ROLLBACK")
                if not isinstance(error, apsw.BusyError | apsw.LockedError | apsw.ProtocolError):
                    raise SourceError("read the source", str(self.path), str(error)) from error
                trouble = str(error)
            else:
                if before == self._header.raw() and (commit := walheader.parse(before)) is not None:
                    return commit, started
                self._db.execute("ROLLBACK")
            if started > deadline:
                break
        raise SourceError(
            "pin a read view to a commit",
            str(self.path),
            trouble,
            next_step="try again when the writer pauses",
            retryable=True,
        )

    def _check_identity(self) -> None:
        try:
            same = _identity(self.path) == self._identity
        except OSError as error:
            raise SourceError("read the source", str(self.path), error.strerror or "") from error
        if not same:
            raise SourceError("read the source", str(self.path), "the file was replaced", retryable=True)
        self._header.check_identity()


class StillSource(Source):
    """A database in a rollback-journal mode. A view takes no lock, and is proved afterwards."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _open_unlocked(path))

    def at_commit(self, gate: Gate, begin: Callable[[Lsn], None], read: Callable[[], None]) -> Lsn:
        """See :meth:`Source.at_commit`: tried until nothing is written from before the view until after it."""
        deadline = time.monotonic() + STILL_SECONDS
        while True:
            lsn = gate.settle()
            try:
                self._db.close()
                self._use(_open_unlocked(self.path))
                self._began()
                read()
                trouble = "it is written without a pause"
            except (apsw.Error, SourceError) as error:  # half-written pages may say anything
                trouble = str(error)
            else:
                # A position stands for one stamp of the file, which any write changes, also one that is
                # rolled back: so nothing was written in between.
                if gate.settle() == lsn:
                    try:
                        begin(lsn)
                    except SinkError:
                        trouble = "a writer committed during the read"
                    else:
                        return lsn
            if time.monotonic() > deadline:
                raise SourceError(
                    "read the source while it does not change",
                    str(self.path),
                    trouble,
                    next_step="try again when the writer pauses",
                    retryable=True,
                )


def _wait_unless_lasting(error: MirrorError, left: int) -> None:
    """Wait before the next request; raise the mirror's error if it is not retryable, or no tries are left."""
    if not error.retryable or left <= 0:
        raise error
    time.sleep(GATE_SECONDS)


def _open_unlocked(path: Path) -> apsw.Connection:
    return apsw.Connection(
        f"file:{quote(str(path))}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
