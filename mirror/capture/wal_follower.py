"""Follow a WAL that other processes write, without a lock, and spool what they commit.

The WAL index (``-shm``) says what is committed: salts, last frame, and ``iChange``, which every
commit raises by one and no reset touches. Frames up to the last one are copied out and their salts
tested; salts in the index that are the same before and after the copy mean that nothing was
overwritten during it, because a reset publishes new salts before it writes its first frame. The
checksum chain is the second proof; the spool's reader tests it. For frames that SQLite left
without salts and checksum (see ``seal_frames``) the index is the only proof, and the chain is computed again.

After a reset the old generation's frames stay in the file until new ones overwrite them, from the
start. So the frames that were not read yet are read after it, as far as the old chain goes. Counting
proves whether these are all: ``iChange`` must have gone up by exactly the commits among these
leftovers plus those of the new generation. (The chain alone does not show that the sync of a commit failed,
and does not distinguish a finished generation from one that was overwritten up to the saved place.) Anything
else is a gap; a gap is recorded with its reason, and no guess is made instead.

This module is used in a process that holds no SQLite connection: it may open and close the files
(closing a descriptor on the database or the ``-shm`` drops the POSIX locks of the whole process:
hazard 17, mirror/HAZARDS.md).

Not guaranteed: that every generation is seen (a reader that is late for more than a generation gets
a gap), and anything about files on which the program uses exclusive locking mode, which have no
``-shm``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from mirror.capture.database_file import DatabaseFile
from mirror.capture.index_watch import SEEN_BYTES, IndexWatch, stamps
from mirror.capture.open_wal import OpenWal
from mirror.capture.room import Room
from mirror.capture.spool import Cursor, Kind, SpoolWriter
from mirror.core.errors import ReplacedError, SourceError
from mirror.core.imports import load_numpy
from mirror.core.positions import Lsn, Salts
from mirror.sqlite.format.wal import (
    FRAME_HEADER_SIZE,
    FrameRun,
    frame_checksum,
    frame_offset,
    frame_salts,
    scan_frames,
    seal_frames,
    verify_frames,
)
from mirror.sqlite.format.walindex import WalIndexHeader

#: Bytes copied out of the WAL at a time.
CHUNK_BYTES = 1 << 20
#: Bytes of leftovers of a finished generation that are kept in memory until it is proved that they are all.
LEFTOVER_BYTES = 64 << 20
#: So many leftovers show that resets come faster than capture, which is faster with numpy.
MANY_FRAMES = 64
#: Seconds between two tests of whether the files were replaced, when nothing is committed and when much is.
REPLACED_INTERVAL, REPLACED_BUSY_INTERVAL = 0.1, 1.0
#: Seconds for which the index may be between two states, as while a writer changes it, before that is an error.
SETTLE_SECONDS = 5.0
#: In the spool's folder: the stamp of the database file.
STAMP = "stamp"
_MASK = 0xFFFFFFFF
#: Generations whose salts are remembered, so that a position given by salts can be found.
_KNOWN_GENERATIONS = 64


class Follower:
    """Follows one source's WAL.

    ``spool_limit``: bytes in the spool at which capture waits (:mod:`mirror.capture.room`).
    """

    def __init__(self, database: Path, spool: SpoolWriter, spool_limit: int) -> None:
        self.committed: Lsn | None = None
        """The last commit that was spooled since attaching, or the start of the generation."""
        self._database = database
        self._file = DatabaseFile(database)
        self._spool = spool
        self.room = Room(spool, spool_limit)
        """In the spool."""
        self._log = OpenWal(database)
        self._inodes: tuple[int, int, int] = (0, 0, 0)
        self._cursor: Cursor | None = spool.cursor
        self._settled: WalIndexHeader | None = None  # the index that attaching uses
        self._unsettled_since: float | None = None
        self._reset: Iterator[None] | None = None  # the rest of the steps that follow a reset
        self._seen: bytes | None = None  # the index as it was when there was nothing new in it
        self._counted = False  # whether cursor.changes was taken from the index that is followed
        self._sealing = False  # whether this generation's frames need another checksum chain than their own
        self._full = False
        self._looked = 0.0
        self._generations: dict[Salts, int] = {}
        self._watch = IndexWatch(database, spool.folder / STAMP, self._generations.__contains__)

    @property
    def cursor(self) -> Cursor:
        """The place in the WAL up to which frames are spooled; raises ``SourceError`` when not attached."""
        if self._cursor is None:
            raise SourceError("follow the WAL", str(self._database), "not attached")
        return self._cursor

    @property
    def spool(self) -> SpoolWriter:
        """The spool to which frames are appended."""
        return self._spool

    # -- attaching ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the files; raises ``SourceError``."""
        self.detach()
        try:
            wal, shm = self._log.open()
            self._inodes = self._file.open(), wal, shm
            self._watch.open(self._file.descriptor, self._log.wal, self._log.shm)
        except OSError as error:
            self.detach()
            raise SourceError(
                "open the WAL",
                f"{self._database}-wal",
                error.strerror or str(error),
                next_step="the database must be in WAL mode and not in exclusive locking mode",
                retryable=True,
            ) from error

    def is_ready(self) -> bool:
        """Whether :meth:`attach` may be called; to be called again and again, once the files are open.

        Raises ``SourceError`` when the index has been between two states for long.
        """
        self._settled = self._header(self._log.index())
        return self._settled is not None

    def attach(self, floor: int, forced: str = "") -> str | None:
        """Find the place to go on from, right after :meth:`is_ready` has returned True.

        Returns the reason when contiguity with the spool cannot be proved (a GAP was recorded then);
        a new generation is numbered ``floor`` or higher. ``forced``: begin a new generation in any
        case, for this reason. Raises ``SourceError``.
        """
        header = self._settled
        assert header is not None
        if self._cursor is not None:
            forced = self._watch.beside_old_log(self._cursor.salts, header.salts) or forced
        reason = forced or self._cannot_resume(self._cursor, header)
        if reason is None:
            if self.cursor.frame and (head := self._log.header(header.salts)) is not None:
                self._cursor = self.cursor._replace(big_endian=head.big_endian)
            self._remember(self.cursor)
        else:
            self._gap(reason, header, floor)
        return reason

    def detach(self) -> None:
        """Close the files."""
        self._watch.close()
        self._file.close()
        self._log.close()
        self._seen = None
        self._counted = False
        self._reset = self._settled = self._unsettled_since = None

    def _header(self, index: bytes) -> WalIndexHeader | None:
        """What the index says; None while a writer is between its two copies. Raises ``SourceError`` if it stays so."""
        header = WalIndexHeader.parse(index)
        if header is not None:
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = time.monotonic()
        elif time.monotonic() - self._unsettled_since > SETTLE_SECONDS:
            raise SourceError(
                "read the WAL index",
                f"{self._database}-shm",
                "its header never settled",
                next_step="a writer may have died: open the database once with the program or the shell",
                retryable=True,
            )
        return header

    def _cannot_resume(self, cursor: Cursor | None, header: WalIndexHeader) -> str | None:
        if cursor is None:
            return "first sight of the source"
        if cursor.inode != self._inodes[0]:
            return "the database file was replaced"
        if header.salts == (0, 0):
            # Nor does the database's header: its change counter goes up only when page 1 is written anyway.
            return "the WAL is empty and does not show what was written before"
        if cursor.salts != header.salts:
            return "the WAL was reset while nobody followed it"
        if cursor.frame > header.last_frame:
            return f"the WAL went back from frame {cursor.frame} to {header.last_frame}"
        if cursor.frame:
            head = os.pread(self._log.wal, FRAME_HEADER_SIZE, frame_offset(cursor.frame, cursor.page_size))
            if len(head) < FRAME_HEADER_SIZE or (frame_salts(head), frame_checksum(head)) != (
                cursor.salts,
                cursor.checksum,
            ):
                return f"frame {cursor.frame} is not the one that was read"
        return "the database file was changed while nobody followed it" if self._watch.was_changed() else None

    # -- following ---------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Take what was committed since the last call, at most a chunk; True if there is more already.

        Following a reset takes several calls where there is much to read. Raises ``SourceError`` when a file was
        replaced or overwritten or the WAL is damaged, ``StateError`` when the spool cannot be written.
        """
        if self._reset is not None:
            self._go_on_with_reset(self._reset)
            return True
        index = self._log.index()
        quiet = index == self._seen
        if time.monotonic() - self._looked >= (REPLACED_INTERVAL if quiet else REPLACED_BUSY_INTERVAL):
            self._look_for_replacement()
        if quiet:
            return False
        header = self._header(index)
        if header is None:
            return False
        waited = self._full
        if waited and not self.room.is_again():
            return False
        self._full = False
        if header.salts != self.cursor.salts:
            why = f"the spool reached its limit of {self.room.limit} bytes, and " if waited else ""
            self._go_on_with_reset(self._follow_reset(header, why))
            return True
        if header.last_frame > self.cursor.frame:
            return self._take(header, index)
        if header.last_frame < self.cursor.frame:
            self._gap(f"the WAL went back from frame {self.cursor.frame} to {header.last_frame}", header)
            return True
        self._cursor = self.cursor._replace(changes=header.changes)
        self._counted = True
        self._seen = index
        return False

    def has_news(self) -> bool:
        """Whether :meth:`poll` has something to take: a look that costs little. Raises ``OSError``."""
        if self._log.shm < 0 or self._full:
            return False
        return self._seen is None or self._log.differs_from(self._seen)

    def target(self) -> Lsn | None:
        """The position of all that is committed now; None while a reset has still to be followed.

        Raises as :meth:`poll` does.
        """
        self._look_for_replacement()
        header = WalIndexHeader.parse(self._log.index())
        if header is None or header.salts != self.cursor.salts:
            return None
        return Lsn(self.cursor.generation, header.last_frame)

    def locate(self, salts: Salts, frame: int) -> Lsn | None:
        """The position of a frame of a recent generation; None if its salts are not known (yet)."""
        generation = self._generations.get(salts)
        return None if generation is None else Lsn(generation, frame)

    def watched(self) -> list[int]:
        """The descriptors of the files that are written before a commit is to be seen, and otherwise."""
        return [self._log.wal, self._file.descriptor] if self._log.wal >= 0 else []

    def sight(self) -> object:
        """All in which a change shows that :meth:`poll` would notice; None while not attached. Raises ``OSError``."""
        return None if self._log.shm < 0 else (stamps(self._database), os.pread(self._log.shm, SEEN_BYTES, 0))

    def look_soon(self) -> None:
        """Have the next :meth:`poll` look whether the files were replaced."""
        self._looked = 0.0

    def is_settled(self) -> bool:
        """Whether all is taken that there is, and nothing is to be looked at again if nothing changes."""
        return not self._full and self._reset is None and self._seen == self._log.index() and self._watch.is_settled

    def _look_for_replacement(self) -> None:
        try:
            inodes = tuple(os.stat(f"{self._database}{suffix}").st_ino for suffix in ("", "-wal", "-shm"))
        except OSError as error:
            gone = f"{os.path.basename(error.filename)} is gone"
            raise ReplacedError("follow the WAL", str(self._database), gone) from error
        if inodes != self._inodes:
            raise ReplacedError("follow the WAL", str(self._database), "its files were replaced")
        self._file.check()
        self._watch.look(self.cursor)
        self._looked = time.monotonic()  # only now: nothing is taken before what is wrong is put right

    def _take(self, header: WalIndexHeader, index: bytes) -> bool:
        """Take what this index, in the form that was read, calls committed, at most a chunk; True if there is more."""
        cursor = self._with_wal_header(header)
        if cursor is None:
            return True
        frame_size = FRAME_HEADER_SIZE + cursor.page_size
        count = min(header.last_frame - cursor.frame, max(1, CHUNK_BYTES // frame_size))
        data = os.pread(self._log.wal, count * frame_size, frame_offset(cursor.frame + 1, cursor.page_size))
        if not self._log.is_still(header.salts):
            return True
        sealed, commits, whole = self._committed(data, count, cursor, seal=self._sealing)
        self._sealing = sealed is not data
        if cursor.frame + count < header.last_frame:
            self._append(cursor, sealed, count, whole, cursor.changes + commits)
            return True
        self._append(cursor, sealed, count, whole, header.changes)
        self._counted = True
        if not self._full:
            self._seen = index
        return False

    def _committed(self, data: bytes, count: int, at: Cursor, *, seal: bool) -> tuple[bytes, int, int]:
        """``count`` frames after ``at`` that the index, the same before and after they were read, calls committed.

        Returns them, sealed if ``seal`` or if some need it, their number of commits, and the frames up to the last
        commit. Raises ``SourceError`` if the WAL is damaged.
        """
        good, commits, whole = scan_frames(data, at.page_size, at.salts)
        if good == count and not seal:
            return data, commits, whole
        sealed = seal_frames(data, at.page_size, at.big_endian, at.salts, at.checksum)
        if sealed is None or len(sealed) < count * (FRAME_HEADER_SIZE + at.page_size):
            raise SourceError(
                "read the WAL",
                f"{self._database}-wal, frame {at.frame + 1 + good}",
                "a committed frame has wrong salts or a wrong checksum",
                next_step="the WAL is damaged; if the program still reads it, let it run a checkpoint",
                retryable=True,
            )
        return sealed, *scan_frames(sealed, at.page_size, at.salts)[1:]

    def _append(self, before: Cursor, data: bytes, count: int, whole: int, changes: int) -> None:
        """Spool frames; ``whole``: how many of them lead up to the last commit; ``changes``: iChange after them."""
        size = FRAME_HEADER_SIZE + before.page_size
        data = data[: count * size]
        after = Cursor(
            before.generation,
            before.frame + count,
            before.salts,
            frame_checksum(data, (count - 1) * size),
            changes & _MASK,
            before.page_size,
            before.big_endian,
            before.inode,
        )
        self._spool.append(before, after, data, time.time())
        self._cursor = after  # only now: what could not be spooled is taken again
        if whole:
            self.committed = Lsn(before.generation, before.frame + whole)
            self.room.open = 0
        self.room.open += (count - whole) * size
        self._full = self.room.is_over()

    def _with_wal_header(self, header: WalIndexHeader) -> Cursor | None:
        """The cursor, at frame 0 with what the WAL's header says; None if the WAL was reset during the read."""
        if self.cursor.frame:
            return self.cursor
        wal = self._log.header(header.salts)
        if wal is None:
            return None
        return self.cursor._replace(checksum=wal.checksum, page_size=wal.page_size, big_endian=wal.big_endian)

    # -- resets and gaps ---------------------------------------------------------------------------

    def _go_on_with_reset(self, steps: Iterator[None]) -> None:
        """Do the next step; what is left of them is kept, unless one fails."""
        self._reset = None
        for _ in steps:
            self._reset = steps
            return

    def _follow_reset(self, header: WalIndexHeader, reason: str) -> Iterator[None]:
        """Follow a reset, step by step: there may be much to read. ``reason``: the beginning of a gap's reason."""
        old = self.cursor
        leftovers = yield from self._leftovers(old)
        left = sum(len(run.commits) for _, run in leftovers)
        fresh = yield from self._count_commits(header)
        if fresh is None:
            return  # reset once more: the next poll looks again
        missed = (header.changes - old.changes - left - fresh) & _MASK
        if not self._counted:
            self._gap(f"{reason}the WAL was reset before capture had caught up with it", header)
        elif missed:
            what = "the counter of commits was set back" if missed >= 1 << 31 else f"{missed} commits overwritten"
            self._gap(f"{reason}the WAL was reset: {what}", header)
        else:
            yield from self._take_leftovers(leftovers)
            self._begin(Kind.RESET, header, old.generation + 1, self.cursor.changes, "")
            self._counted = True

    def _leftovers(self, cursor: Cursor) -> Generator[None, None, list[tuple[bytes, FrameRun]]]:
        """What a finished generation has after the cursor: chunks, each with the frames that continue the chain."""
        found: list[tuple[bytes, FrameRun]] = []
        frame_size = FRAME_HEADER_SIZE + cursor.page_size
        offset = frame_offset(cursor.frame + 1, cursor.page_size)
        head = os.pread(self._log.wal, FRAME_HEADER_SIZE, offset) if cursor.page_size else b""
        if len(head) < FRAME_HEADER_SIZE or frame_salts(head) != cursor.salts:
            return found  # the usual case: everything had been read
        size = max(1, CHUNK_BYTES // frame_size) * frame_size
        chain, read = cursor.checksum, 0
        while read < LEFTOVER_BYTES:
            data = os.pread(self._log.wal, size, offset + read)
            run = verify_frames(data, cursor.page_size, cursor.big_endian, cursor.salts, chain)
            if run.count >= MANY_FRAMES:
                load_numpy()
            if run.count:
                found.append((data, run))
                chain = run.checksums[-1]
            if run.count * frame_size < size:
                break
            read += size
            yield
        return found

    def _take_leftovers(self, leftovers: list[tuple[bytes, FrameRun]]) -> Iterator[None]:
        """Spool them, up to the last commit."""
        while leftovers and not leftovers[-1][1].commits:
            leftovers.pop()
        for number, (data, run) in enumerate(leftovers, 1):
            whole = run.commits[-1] + 1 if run.commits else 0
            count = whole if number == len(leftovers) else run.count
            self._append(self.cursor, data, count, whole, self.cursor.changes + len(run.commits))
            yield

    def _count_commits(self, header: WalIndexHeader) -> Generator[None, None, int | None]:
        """Commits among the frames that the index says the new generation has; None if it is gone again."""
        if header.last_frame == 0:
            return 0 if self._log.is_still(header.salts) else None
        wal = self._log.header(header.salts)
        if wal is None:
            return None
        frame_size = FRAME_HEADER_SIZE + wal.page_size
        commits, at = 0, self.cursor._replace(frame=0, salts=wal.salts, page_size=wal.page_size)
        while True:
            count = min(header.last_frame - at.frame, max(1, CHUNK_BYTES // frame_size))
            data = os.pread(self._log.wal, count * frame_size, frame_offset(at.frame + 1, wal.page_size))
            if not self._log.is_still(header.salts):
                return None
            commits += self._committed(data, count, at, seal=False)[1]
            at = at._replace(frame=at.frame + count)
            if at.frame == header.last_frame:
                return commits
            yield

    def _gap(self, reason: str, header: WalIndexHeader, floor: int = 0) -> None:
        previous = 0 if self._cursor is None else self._cursor.generation
        self._begin(Kind.GAP, header, max(previous + 1, floor), 0, reason)
        self._counted = False

    def _begin(self, kind: Kind, header: WalIndexHeader, generation: int, changes: int, reason: str) -> None:
        cursor = Cursor(
            generation=generation,
            frame=0,
            salts=header.salts,
            checksum=(0, 0),
            changes=changes,
            page_size=self._cursor.page_size if self._cursor else 0,
            big_endian=False,
            inode=self._inodes[0],
            reason=reason,
        )
        self._spool.begin(kind, cursor, time.time())
        self._cursor, self.room.open = cursor, 0
        self.committed = self._cursor.lsn
        self._remember(self._cursor)
        self._seen = None
        self._sealing = False

    def _remember(self, cursor: Cursor) -> None:
        self._generations[cursor.salts] = cursor.generation
        while len(self._generations) > _KNOWN_GENERATIONS:
            del self._generations[next(iter(self._generations))]
