"""The spool: committed frames copied out of the WAL, in append-only segment files.

One process appends with this module (capture); another reads and prunes (the mirror's own), with
:mod:`mirror.replica.spool_reader`. Segment ``N`` is the file ``N.seg`` with N of 16 digits; each is a sequence of
records:

======  ====  =====================================================================
offset  size  field (big-endian)
======  ====  =====================================================================
0       4     magic ``MSPL``
4       1     kind: 1 FRAMES, 2 RESET, 3 GAP, 4 START, 5 CHANGE
5       1     FRAMES: 1 if the WAL's checksums are over big-endian words
6       2     state format (:mod:`mirror.core.versions`); zero: 1
8       8     generation
16      8     FRAMES: number of the first frame
24      4     FRAMES: how many
28      8     FRAMES: the WAL's checksum before the first; else CRC-32 of the payload, and zero
36      8     seconds since the epoch, IEEE 754 double
44      4     size of the payload in bytes
48      4     CRC-32 of the 48 bytes before
52      --    payload
======  ====  =====================================================================

FRAMES: the frames as they are in the WAL (header and page). They carry SQLite's own chain of checksums, which the
reader tests; so the process that must never be late need not. START (first in each segment), RESET, GAP and CHANGE: a
:class:`Cursor` as JSON, the place at which the frames after it go on. RESET means that the new generation continues
the old one with nothing missed, GAP that this cannot be proved, CHANGE that there are no frames, because the database
has no WAL: its pages have to be compared.

Not guaranteed: that what was appended last survives a power cut (nothing is synced here; a torn
record is found by its CRC and cut off), and that a transaction is in one record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import struct
import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from mirror.core.errors import FormatError, NewerStateError, StateError
from mirror.core.faults import Faults, no_fault
from mirror.core.positions import Lsn, Salts
from mirror.core.state_errors import state_error
from mirror.core.versions import STATE_FORMAT, newer_state
from mirror.sqlite.format.wal import FRAME_HEADER_SIZE, PAGE_SIZES, Checksum, frame_checksum, frame_salts, verify_frames

_HEADER = struct.Struct(">4sB?HQQIIIdI")
_CRC = struct.Struct(">I")
RECORD_HEADER_SIZE = _HEADER.size + _CRC.size
_MAGIC = b"MSPL"
SEGMENT_BYTES = 16 << 20
#: Seconds for which another process may have the spool that is to be opened before that is an error.
LOCK_SECONDS = 5.0


class Kind(IntEnum):
    """Kinds of spool records."""

    FRAMES = 1
    RESET = 2
    GAP = 3
    START = 4
    CHANGE = 5


_KINDS = {int(kind): kind for kind in Kind}


class Cursor(NamedTuple):
    """A place in the WAL, with all that is needed to go on from there and to prove that nothing is missing."""

    generation: int
    frame: int
    """Last frame taken; 0: none of this generation."""
    salts: Salts
    checksum: Checksum
    """The chain's value after ``frame``; the WAL header's at frame 0, (0, 0) while there is none."""
    changes: int
    """iChange of the WAL index at ``frame``."""
    page_size: int
    big_endian: bool
    inode: int
    """Of the database file."""
    reason: str = ""
    """GAP: why contiguity could not be proved."""

    @property
    def lsn(self) -> Lsn:
        """The position, in the form that the rest of the program uses."""
        return Lsn(self.generation, self.frame)

    def to_json(self) -> bytes:
        """The cursor as JSON."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Cursor:
        """The inverse of :meth:`to_json`; raises ``ValueError``, ``KeyError`` or ``TypeError``."""
        values = json.loads(data)
        salt1, salt2 = values.pop("salts")
        first, second = values.pop("checksum")
        return cls(salts=Salts(salt1, salt2), checksum=(first, second), **values)


class SpoolPlace(NamedTuple):
    """A place in the spool: segment number and offset in it."""

    segment: int
    offset: int


@dataclass(slots=True)
class Record:
    """One record, and where it and its successor begin. (Not frozen: each commit makes one, and that takes longer.)"""

    kind: Kind
    generation: int
    first_frame: int
    count: int
    time: float
    payload: bytes
    big_endian: bool
    sums: Checksum
    place: SpoolPlace
    end: SpoolPlace

    def cursor(self) -> Cursor:
        """The cursor of a record that is not FRAMES; raises ``FormatError``."""
        try:
            return Cursor.from_json(self.payload)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            place = f"segment {self.place.segment}, offset {self.place.offset}"
            raise FormatError("read the spool", place, f"no cursor: {type(error).__name__}: {error}") from error


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:016d}.seg"


def segments(folder: Path) -> list[int]:
    """Numbers of the segments there are, ascending."""
    return sorted(int(path.stem) for path in folder.glob("*.seg"))


def read_record(descriptor: int, place: SpoolPlace, ahead: bytes = b"", at: int = 0) -> Record | None:
    """Read one record from an open segment; None where there is no whole, undamaged record.

    ``ahead``: what was read of the segment before; at index ``at`` it has what begins at the place, or a part of that.
    Raises ``NewerStateError`` for a record that a newer mirror has written.
    """
    head = ahead[at : at + RECORD_HEADER_SIZE]
    if len(head) < RECORD_HEADER_SIZE:
        head = os.pread(descriptor, RECORD_HEADER_SIZE, place.offset)
    if len(head) < RECORD_HEADER_SIZE or zlib.crc32(head[: _HEADER.size]) != _CRC.unpack_from(head, _HEADER.size)[0]:
        return None
    magic, kind, big_endian, form, generation, first, count, sum1, sum2, time, size = _HEADER.unpack_from(head)
    if magic != _MAGIC:
        return None
    if form > STATE_FORMAT:
        raise newer_state(form, f"the spool's segment {place.segment}")
    if kind not in _KINDS:
        return None
    payload = ahead[at + RECORD_HEADER_SIZE : at + RECORD_HEADER_SIZE + size]
    if len(payload) < size:
        payload = os.pread(descriptor, size, place.offset + RECORD_HEADER_SIZE)
    if len(payload) < size:
        return None
    if kind == Kind.FRAMES:
        if not count or size % count:
            return None
        page_size = size // count - FRAME_HEADER_SIZE
        if page_size not in PAGE_SIZES:
            return None
        salts = frame_salts(payload)
        if verify_frames(payload, page_size, big_endian, salts, (sum1, sum2)).count < count:
            return None
    elif zlib.crc32(payload) != sum1:
        return None
    end = SpoolPlace(place.segment, place.offset + RECORD_HEADER_SIZE + size)
    return Record(_KINDS[kind], generation, first, count, time, payload, big_endian, (sum1, sum2), place, end)


def _head(
    kind: Kind, big_endian: bool, generation: int, first: int, count: int, sums: Checksum, time: float, size: int
) -> bytes:
    head = _HEADER.pack(_MAGIC, kind, big_endian, STATE_FORMAT, generation, first, count, *sums, time, size)
    return head + _CRC.pack(zlib.crc32(head))


def _write_whole(descriptor: int, parts: Sequence[bytes], size: int, offset: int) -> None:
    """Write all parts, ``size`` bytes. What ends a write before its end is said by the next one, for the rest.

    Raises ``OSError``.
    """
    done = os.pwritev(descriptor, parts, offset)
    if done == size:
        return
    data = b"".join(parts)
    while done < len(data):
        if not (more := os.pwrite(descriptor, data[done:], offset + done)):
            raise OSError(errno.EIO, "a write has written nothing, without an error")
        done += more


class SpoolWriter:
    """Appends to the spool, once it is open. One process at a time has it open, by a lock on the folder's lock file.

    Opening cuts off what a kill left after the last commit; ``cursor`` is then the place in the WAL
    where capture goes on, None in an empty spool.
    """

    def __init__(self, folder: Path, faults: Faults = no_fault) -> None:
        """``faults`` is called with the name of each place at which tests kill the process."""
        self.folder = folder
        """Nobody else has it while the spool is open."""
        self._faults = faults
        self._descriptor = -1
        self.cursor: Cursor | None = None
        self.place = SpoolPlace(0, 0)
        self.size = 0
        """Bytes in all segments at the last :meth:`measure` and those appended since: an upper bound."""
        self._lock = -1

    def open(self) -> Iterator[bool]:
        """Lock the spool and read its end, in short steps, so that a caller with other work is not held up.

        A generator, to be run to its end. It yields True where it can go on at once, False while another process has
        the spool: the capture process of a mirror that was killed may live a moment longer than that mirror. Raises
        ``StateError`` when that lasts, or when the spool cannot be read.
        """
        try:
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            yield from self._take_lock()
            numbers = segments(self.folder)
            # A crash can leave a newest segment without its START record: it has nothing in it then.
            while numbers and not (yield from self._recover(numbers[-1])):
                segment_path(self.folder, numbers.pop()).unlink()
            self.measure()
        except NewerStateError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise state_error(error, self.folder, "open the spool", retryable=True) from error
        except FormatError as error:
            self.close()
            raise StateError(
                "open the spool", str(self.folder), str(error), next_step="delete this folder", retryable=True
            ) from error

    def _take_lock(self) -> Iterator[bool]:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    yield False
                    continue
                self.close()
                detail, step = self._holder()
                raise StateError(
                    "open the spool",
                    str(self.folder),
                    detail,
                    next_step=step,
                    retryable=True,
                ) from None
            with contextlib.suppress(OSError):  # no room: it only helps to find the holder
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            return

    def _holder(self) -> tuple[str, str]:
        """Which process holds the lock, and how to end it: in most cases one that an earlier mirror left behind."""
        path = self.folder / "lock"
        detail, goes_on = "another process holds its lock", "the mirror then goes on by itself"
        try:
            pid = int(path.read_bytes())
            if pid == os.getpid():  # we had it before somebody else took it
                raise ProcessLookupError
            os.kill(pid, 0)
        except (OSError, ValueError):
            return detail, f"end the process that has this file open (`fuser {shlex.quote(str(path))}`); {goes_on}"
        return f"{detail} (pid {pid})", f"end that process (`kill -KILL {pid}`); {goes_on}"

    @property
    def intact(self) -> bool:
        """Whether the files that are open are still those in the folder."""
        files = [(self.folder / "lock", self._lock)]
        if self._descriptor >= 0:
            files.append((segment_path(self.folder, self.place.segment), self._descriptor))
        try:
            return all(os.path.samestat(os.stat(path), os.fstat(descriptor)) for path, descriptor in files)
        except OSError:
            return False

    def _recover(self, number: int) -> Generator[bool, None, bool]:
        """Find the last commit in a segment and cut off what follows it; returns False if there is none."""
        descriptor = os.open(segment_path(self.folder, number), os.O_RDWR)
        try:
            end = yield from self._find_end(descriptor, number)
            if end is not None:
                os.ftruncate(descriptor, end.offset)
                self._descriptor, self.place = descriptor, end
            return end is not None
        finally:
            if self._descriptor != descriptor:
                os.close(descriptor)

    def _find_end(self, descriptor: int, number: int) -> Generator[bool, None, SpoolPlace | None]:
        place = SpoolPlace(number, 0)
        cursor: Cursor | None = None
        last: tuple[Record, int, Cursor] | None = None
        while (record := read_record(descriptor, place)) is not None:
            if record.kind is not Kind.FRAMES:
                cursor = record.cursor()
                last = record, 0, cursor
            elif cursor is None:
                break
            else:
                whole = _frames_to_commit(record)
                if whole:
                    last = record, whole, _after(cursor, record, whole)
                cursor = _after(cursor, record, record.count)
            place = record.end
            yield True
        if last is None:
            return None
        record, whole, self.cursor = last
        if whole == record.count:
            return record.end
        # Its first commits may have been applied: they stay at their place, under a shorter header.
        size = whole * (len(record.payload) // record.count)
        before = record.generation, record.first_frame, whole, record.sums, record.time
        os.pwrite(descriptor, _head(Kind.FRAMES, record.big_endian, *before, size), record.place.offset)
        return SpoolPlace(number, record.place.offset + RECORD_HEADER_SIZE + size)

    def begin(self, kind: Kind, cursor: Cursor, time: float) -> None:
        """Append the record that begins a generation: RESET, GAP or CHANGE. Raises ``StateError``.

        ``time``: seconds since the epoch.
        """
        self._faults("spool:begin")
        self._room(time)
        self._append(self._cursor_record(kind, cursor, time))
        self.cursor = cursor

    def append(self, before: Cursor, after: Cursor, frames: bytes, time: float) -> None:
        """Append the frames that lead from one cursor to another. Raises ``StateError``.

        ``frames``: whole frames, header and page, in order; ``time``: seconds since the epoch.
        """
        self._room(time)
        count = after.frame - before.frame
        head = _head(
            Kind.FRAMES,
            after.big_endian,
            after.generation,
            before.frame + 1,
            count,
            before.checksum,
            time,
            len(frames),
        )
        self._append((head, frames))
        self.cursor = after

    @staticmethod
    def _cursor_record(kind: Kind, cursor: Cursor, time: float) -> tuple[bytes, bytes]:
        payload = cursor.to_json()
        sums = zlib.crc32(payload), 0
        return _head(kind, False, cursor.generation, 0, 0, sums, time, len(payload)), payload

    def _room(self, time: float) -> None:
        """Begin a new segment, with its START, if there is none or the last one is full."""
        if self._descriptor >= 0 and self.place.offset < SEGMENT_BYTES:
            return
        path = segment_path(self.folder, self.place.segment + 1)
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            start = self._cursor_record(Kind.START, self.cursor, time) if self.cursor is not None else ()
            size = sum(map(len, start))
            if start:
                _write_whole(descriptor, start, size, 0)
            self._faults("spool:segment")
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
                path.unlink()
            raise self._no_room(path, error) from error
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self.place = SpoolPlace(self.place.segment + 1, size)
        self.size += size

    def _append(self, record: tuple[bytes, bytes]) -> None:
        size = len(record[0]) + len(record[1])
        segment, offset = self.place
        self._faults("spool:append")
        try:
            _write_whole(self._descriptor, record, size, offset)
        except OSError as error:
            raise self._no_room(segment_path(self.folder, segment), error) from error
        self._faults("spool:appended")
        self.place = SpoolPlace(segment, offset + size)
        self.size += size

    @staticmethod
    def _no_room(path: Path, error: OSError) -> StateError:
        return state_error(error, path, "append to the spool", retryable=True)

    def measure(self) -> None:
        """Add up the bytes of all segments: the reader prunes them. (With 256 of them this takes 1.6 ms.)"""
        total = 0
        for path in self.folder.glob("*.seg"):
            with contextlib.suppress(FileNotFoundError):  # pruned just now
                total += path.stat().st_size
        self.size = total

    def close(self) -> None:
        """Close the segment and release the lock, so that another process can append. May be called twice."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1


def _frames_to_commit(record: Record) -> int:
    """How many frames of a FRAMES record lead up to its last commit; 0 if it has none."""
    size = len(record.payload) // record.count
    for index in range(record.count, 0, -1):
        at = (index - 1) * size
        if record.payload[at + 4 : at + 8] != b"\0\0\0\0":
            return index
    return 0


def _after(cursor: Cursor, record: Record, count: int) -> Cursor:
    """The cursor after the first ``count`` frames of a FRAMES record."""
    size = len(record.payload) // record.count
    heads = [record.payload[at : at + FRAME_HEADER_SIZE] for at in range(0, count * size, size)]
    commits = sum(head[4:8] != b"\0\0\0\0" for head in heads)
    return cursor._replace(
        frame=record.first_frame + count - 1,
        checksum=frame_checksum(heads[-1]),
        changes=(cursor.changes + commits) & 0xFFFFFFFF,
        page_size=size - FRAME_HEADER_SIZE,
        big_endian=record.big_endian,
        reason="",
    )
