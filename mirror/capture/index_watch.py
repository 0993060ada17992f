"""Whether the files of a database in WAL mode change only as its WAL index says.

SQLite writes to the WAL under the write lock, and each commit moves the header of the index. It writes to the database
file in a checkpoint alone: under the checkpoint lock, and with what the index says is copied back moving. Whoever
follows the index misses what a program writes that keeps an index of its own (exclusive mode over a VFS without POSIX
locks, an engine that is not SQLite's), or that puts another content into the file. So, whenever the index stands still:

* The WAL changed, and no program has the write lock. A transaction that was rolled back may have left frames. But a
  commit may follow the last frame of the index, by the chain of checksums, or be in a WAL with salts that were never in
  the index. A program may have died before it told the index, or a sync may have failed: for whoever uses the index,
  there is no such commit, but if nobody has it open, the next one builds it again, with that commit. So the mirror lets
  go of it once (:class:`~mirror.core.errors.ReplacedError`) and takes the index as it is then. Where another such
  commit follows, a program writes that has an index of its own (:class:`~mirror.core.errors.PrivateIndexError`): the
  mirror stays away until nothing is written any more, so that the old index misleads nobody else.
* The WAL is shorter than the index says: other programs cannot read it either. The index has to be built again; for
  that, too, the mirror lets go of it.
* The database file changed, and no program has the checkpoint lock. Once it stands still, the mirror lets go of it, so
  that its index is built again (the old one has the size of the old content), and pages are compared.

The file's stamp is kept on disk, too: if it is another one when the mirror comes back to the same WAL, pages are
compared. If another file was put in its place, and the WAL is still the one of the file before (the mirror's connection
keeps it when the program closes), SQLite reads the new file through the old log: right for a copy of what the file was,
wrong for anything else. The header tells one from the other, or the comparison of pages.

Not seen: a write within one tick of the clock that stamps files (4 ms) after a look, if none follows it; and another
content that is put there between two looks in which the WAL was reset.

==========  ========================================================================================================
of ``-shm`` (https://sqlite.org/walformat.html, section 2)
==========  ========================================================================================================
0 to 95     the header, twice: :mod:`mirror.sqlite.format.walindex`
96          nBackfill: frames that were copied back to the database
120 to 122  bytes that are locked: WRITE, CHECKPOINT, RECOVER
128         nBackfillAttempted: frames that a checkpoint may have copied back, or is about to
==========  ========================================================================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mirror.capture.spool import Cursor
from mirror.core.errors import FormatError, OldLogError, PrivateIndexError, ReplacedError, SourceError
from mirror.core.files import is_locked, write_atomically
from mirror.core.positions import Salts
from mirror.sqlite.format.header import HEADER_SIZE
from mirror.sqlite.format.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_offset, verify_frames
from mirror.sqlite.format.walindex import BOTH_COPIES, SALTS, WalIndexHeader

#: Of the index: what is looked at.
SEEN_BYTES = 132
_BACKFILL, _ATTEMPTED = slice(96, 100), slice(128, 132)
_WRITE_LOCK, _CHECKPOINT_LOCK, _RECOVER_LOCK = 120, 121, 122
#: Bytes of frames that are looked at for a commit: others' commits are small.
_SCANNED = 8 << 20

#: Seconds for which a file that was changed must stand still: it may be just copied.
STILL_SECONDS = 1.0

_Stamp = tuple[int, int, int]
#: A commit that the index does not know: the WAL's salts, and the checksum of its last frame.
_Commit = tuple[int, int, int, int]
_UNKNOWN = -1, -1, -1
_NONE: _Commit = (-1, -1, -1, -1)


class _Sight(NamedTuple):
    """What can be seen at one moment."""

    database: _Stamp
    """Inode, size and mtime (ns)."""
    wal: _Stamp
    header: bytes
    backfilled: bytes
    writing: bool
    """A program has the right to change the WAL, or the index."""
    checkpointing: bool


class IndexWatch:
    """Looks at the open files of one database. Used in a process without SQLite connections (hazard 17)."""

    def __init__(self, database: Path, kept: Path, is_known: Callable[[Salts], bool]) -> None:
        """``kept``: a file that keeps the database file's stamp, and the last commit that the index did not know.
        ``is_known``: whether these salts were in the index before.
        """
        self._database = database
        self._path = kept
        self._is_known = is_known
        self._descriptors = (-1, -1, -1)
        self._seen: _Sight | None = None
        self._kept: _Stamp | None = None
        """The stamp of before; None: none was kept."""
        self._kept_wal, self._kept_header = 0, ""
        """The inode of the WAL of before, and the header of the file."""
        self._leftover: _Commit | None = None
        """For this commit the mirror has let go of the index."""
        self._changed_at: float | None = None
        """When (monotonic) the database file was last seen to be changed past its WAL."""
        self._settled = False

    def open(self, database: int, wal: int, shm: int) -> None:
        """Look at these descriptors from now on. Raises ``OSError``."""
        self._descriptors = database, wal, shm
        self._seen = self._sight()._replace(wal=_UNKNOWN)
        self._changed_at, self._settled = None, False
        self._kept, self._leftover, self._kept_wal, self._kept_header = self._read()

    def close(self) -> None:
        """They are about to be closed."""
        if self._seen is not None:
            with contextlib.suppress(OSError):
                now = self._sight()
                if now.database != self._seen.database and not _none_copied_back(self._seen, now):
                    self._keep(now)
        self._seen = None

    def was_changed(self) -> bool:
        """Whether the database file is not as it was when it was last seen: a checkpoint may have done it, or not."""
        return self._seen is not None and self._kept not in (None, self._seen.database)

    def beside_old_log(self, known: Salts, now: Salts) -> str:
        """The reason of the gap, if another file was put in place and the WAL is still that of the one before; or "".

        ``known``: the salts up to which capture was; ``now``: those of the WAL.
        """
        if self._seen is None or self._kept is None or known != now or now == (0, 0):
            return ""
        if self._seen.database[0] == self._kept[0] or os.fstat(self._descriptors[1]).st_ino != self._kept_wal:
            return ""
        return OldLogError.UNSURE if self._header() == self._kept_header else OldLogError.SURE

    def _header(self) -> str:
        return os.pread(self._descriptors[0], HEADER_SIZE, 0).hex()

    def look(self, cursor: Cursor) -> None:
        """``cursor``: how far capture is. Raises ``SourceError`` and ``ReplacedError`` as said above, ``OSError``."""
        now, before = self._sight(), self._seen
        assert before is not None
        if now.header != before.header:
            self._leftover = None  # somebody who uses the index has written over it
        own = now.wal == before.wal or now.header != before.header or now.writing or self._is_own(cursor, now)
        past = now.database != before.database and _none_copied_back(before, now)
        if past and _none_copied_back(now, self._sight()):
            self._changed_at = time.monotonic()
        self._seen = now if own else now._replace(wal=before.wal)
        self._settled = False
        self._raise_what_is_past()
        self._settled = own
        if now.database != before.database or before.wal == _UNKNOWN:
            self._keep(now)

    @property
    def is_settled(self) -> bool:
        """Whether the last look has found nothing that has to be looked at again, if nothing changes."""
        return self._settled

    def _raise_what_is_past(self) -> None:
        if self._changed_at is None:
            return
        if time.monotonic() - self._changed_at < STILL_SECONDS:
            raise SourceError(
                "follow the WAL",
                str(self._database),
                "the file is being changed past its WAL",
                next_step="if another content is copied into it, let that end: the mirror then compares all pages",
                retryable=True,
            )
        self._changed_at = None
        raise self._replaced("the database file was changed past its WAL")

    def _replaced(self, why: str) -> ReplacedError:
        return ReplacedError("follow the WAL", str(self._database), why)

    def _keep(self, now: _Sight) -> None:
        wal = os.fstat(self._descriptors[1]).st_ino
        with contextlib.suppress(OSError):  # at worst all pages are compared at the next start
            write_atomically(
                self._path, json.dumps([now.database, self._leftover, wal, self._header()]).encode(), durable=False
            )

    def _read(self) -> tuple[_Stamp | None, _Commit | None, int, str]:
        try:
            (inode, size, mtime), leftover, wal, header = json.loads(self._path.read_bytes())
            return (inode, size, mtime), leftover and (leftover[0], leftover[1], leftover[2], leftover[3]), wal, header
        except FileNotFoundError:
            return None, None, 0, ""
        except (OSError, ValueError, TypeError, IndexError):
            return _UNKNOWN, None, 0, ""  # a power cut, or a full disk: pages are compared

    def _sight(self) -> _Sight:
        database, wal, shm = self._descriptors
        # The locks first: what is changed under one that is released by now is in what is read after it.
        writing = _is_held(shm, _WRITE_LOCK) or _is_held(shm, _RECOVER_LOCK)
        checkpointing = _is_held(shm, _CHECKPOINT_LOCK)
        index = os.pread(shm, SEEN_BYTES, 0)
        file, log = os.fstat(database), os.fstat(wal)
        return _Sight(
            (file.st_ino, file.st_size, file.st_mtime_ns),
            (log.st_ino, log.st_size, log.st_mtime_ns),
            index[:BOTH_COPIES],
            index[_BACKFILL] + index[_ATTEMPTED],
            writing,
            checkpointing,
        )

    def _is_own(self, cursor: Cursor, now: _Sight) -> bool:
        """Whether what changed in the WAL is of programs that use its index; False: that is not known yet.

        Raises if the WAL has what its index does not know, and no program can be about to change that.
        """
        index = WalIndexHeader.parse(now.header)
        if index is None:
            return False  # between two states
        if index.last_frame and now.wal[1] < frame_offset(index.last_frame + 1, index.page_size):
            if not self._unchanged(now):
                return False
            raise self._replaced("its WAL was cut off under its index")
        found = self._strange_commit(cursor, index)
        if found is None or not self._unchanged(now):
            return False
        if found is _NONE or found == self._leftover:
            return True
        if self._leftover is None:
            self._leftover = found
            self._keep(now)
            raise self._replaced("its WAL has a commit that its index does not know")
        raise PrivateIndexError(
            "follow the WAL",
            f"{self._database}-wal",
            "its WAL has commits that its index does not know: a program writes it that keeps an index of its own"
            " (exclusive locking mode over another VFS, or an engine that is not SQLite's); let it use"
            " locking_mode=NORMAL and SQLite's own locks, or close it: until it pauses, Postgres lacks what it writes",
        )

    def _unchanged(self, before: _Sight) -> bool:
        now = self._sight()
        return now.header == before.header and not now.writing

    def _strange_commit(self, cursor: Cursor, index: WalIndexHeader) -> _Commit | None:
        """The last commit that follows the index's last frame, or :data:`_NONE`; None: capture is not there yet."""
        wal = self._descriptors[1]
        try:
            head = WalHeader.parse(os.pread(wal, WAL_HEADER_SIZE, 0))
        except FormatError:
            return _NONE  # empty, or another WAL is begun
        if head.salts == index.salts:
            if cursor.salts != index.salts or cursor.frame != index.last_frame:
                return None
            frame, checksum = cursor.frame, cursor.checksum if cursor.frame else head.checksum
        elif self._is_known(head.salts):
            return _NONE  # what is left of an earlier generation
        else:
            frame, checksum = 0, head.checksum
        size = FRAME_HEADER_SIZE + head.page_size
        data = os.pread(wal, max(1, _SCANNED // size) * size, frame_offset(frame + 1, head.page_size))
        run = verify_frames(data, head.page_size, head.big_endian, head.salts, checksum)
        return (*head.salts, *run.checksums[run.commits[-1]]) if run.commits else _NONE


def stamps(database: Path) -> tuple[int, ...]:
    """Those of a database's file, of its WAL, and the inode of its index. Raises ``OSError``."""
    file, wal = os.stat(database), os.stat(f"{database}-wal")
    return (
        *(file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns),
        *(wal.st_ino, wal.st_size, wal.st_mtime_ns, wal.st_ctime_ns),
        os.stat(f"{database}-shm").st_ino,
    )


def _none_copied_back(before: _Sight, after: _Sight) -> bool:
    """Whether no checkpoint has written to the database file in between. A reset sets what was copied back to 0."""
    same = before.backfilled == after.backfilled and before.header[SALTS] == after.header[SALTS]
    return same and not before.checkpointing and not after.checkpointing


def _is_held(shm: int, lock: int) -> bool:
    """Whether a program holds this lock for itself alone."""
    return is_locked(shm, fcntl.F_RDLCK, lock, 1)
