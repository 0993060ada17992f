"""The applied position of a source, published by its mirror in a file that any number of processes read at each read.

The file is ``position`` in the source's folder (:mod:`mirror.core.folders`). It is a hint: by it a reader decides
whether it pays to ask Postgres, and how long to wait. Nothing is ever proved by it: a proof is the position that comes
with the answer, in one snapshot.

128 bytes, little-endian, always written whole, at offset 0; the file is never made shorter:

======  ====  =============================================================================================
offset  size  field
======  ====  =============================================================================================
0       8     ``mirrpos`` and the state format, ``1`` (:mod:`mirror.core.versions`)
8       4     flags: 1 the mirror follows the source; 2 the source has a WAL; 4 programs are being moved to Postgres:
              nothing is to be written to the file now; 8 they were moved: Postgres is the original;
              16 they are moved by phases, so the file is the original unless 8 is set
12      4     process id of the mirror
16      8     run: when this mirror took the source (ns since the epoch); another mirror has another one
24      8     ``source_id`` in ``mirror.sources``
32      8     ``epoch`` there, raised each time that a mirror takes the source or connects again
40      16    generation and frame of the applied position
56      8     its salt-1 and salt-2
64      8     when that was committed (float, seconds since the epoch)
72      8     beat: when this was written (ns, the clock ``CLOCK_MONOTONIC``, which all processes share)
80      16    lineage of the copy that Postgres has; zeros: none
96      4     CRC-32 of the bytes before
100     28    zeros
======  ====  =============================================================================================

A reader that meets a writer half-way sees a wrong checksum and reads again. It uses ``pread``: mapped memory would be
0.4 us faster, but whoever cuts a mapped file ends its readers by SIGBUS.

The flags 4, 8 and 16 are no hints: a program that can read them does as they say. They stay while no mirror runs, until
one has seen what the source is. Where 4 is set and the beat has stopped, a program that has taken
the file's write lock asks Postgres whether the source was sealed. While the flag 1 is not set the other fields are
those of the last position, or zeros. A mirror that was killed cannot take the flags 1 and 4 back: then the beat stops,
which otherwise comes every second while there is nothing else to do.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from mirror.core.files import write_atomically
from mirror.core.folders import known_sources, source_folder
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.versions import STATE_FORMAT, newer_state

#: Its name in the source's folder.
POSITION_FILE = "position"
SIZE = 128
#: Seconds between two beats of an idle mirror.
BEAT_SECONDS = 1.0
#: Seconds after the last beat from which a mirror counts as silent: it was killed, or has long work to do.
SILENT_SECONDS = 3.0

_MAGIC = b"mirrpos%d" % STATE_FORMAT
_FOLLOWS, _WAL, _MOVING, _SEALED, _IN_PHASES = 1, 2, 4, 8, 16
_RECORD = struct.Struct("<8sIIQQQQQIIdQ16s")
_SUM = struct.Struct("<I")
_BEAT, _BEAT_OFFSET = struct.Struct("<Q"), 72
#: Beats until the file is looked for, which may have been deleted.
_BEATS_A_LOOK = 5
#: Seconds between two looks of a reader at whether another file is at the path: a folder is deleted once in a year.
LOOK_SECONDS = 0.01
#: Reads of a file that a writer changes until it counts as damaged. One takes a microsecond, as a write does.
_TRIES = 200


def mirrored_sources(state_dir: Path) -> list[Path]:
    """The sources of which something was applied with a state directory. Raises ``StateError`` as
    :func:`~mirror.core.folders.known_sources`."""
    return [each for each in known_sources(state_dir) if (source_folder(state_dir, each) / POSITION_FILE).exists()]


class Published(NamedTuple):
    """What the file says."""

    following: bool
    """Whether Postgres had all of the source up to the position and the mirror followed it."""
    wal: bool
    """Whether the source has a WAL; without one the salts are zeros, and the WAL index says nothing."""
    pid: int
    run: int
    source_id: int
    epoch: int
    generation: int
    frame: int
    salt1: int
    salt2: int
    committed_at: float
    beat: float
    """When it was written (``time.monotonic``)."""
    lineage: str
    sealed: bool = False
    """Whether programs were moved to Postgres alone."""
    moves: bool = False
    """Whether they were being moved when it was written."""

    in_phases: bool = False
    """Whether programs are moved by phases (``mirror cutover``), at all."""

    @property
    def moving(self) -> bool:
        """Whether programs are being moved, so that nothing is to be written to the file. Of a mirror that was killed
        nothing is known: then its lock, or none, is what holds.
        """
        return self.moves and not self.is_silent(time.monotonic())

    @property
    def position(self) -> Position:
        """The applied position."""
        return Position(Lsn(self.generation, self.frame), Salts(self.salt1, self.salt2), self.committed_at)

    @property
    def mirror(self) -> tuple[int, int, int, str]:
        """Changes with everything after which it has to be asked again what it follows."""
        return self.run, self.epoch, self.source_id, self.lineage

    def is_silent(self, now: float) -> bool:
        """Whether the mirror was killed, or is busy for long. ``now``: of ``time.monotonic``.

        A beat of the future is one from before the machine was started again.
        """
        return not -BEAT_SECONDS < now - self.beat < SILENT_SECONDS


@lru_cache(maxsize=64)
def _lineage(data: bytes) -> str:
    return str(UUID(bytes=data)) if any(data) else ""


def _parse(data: bytes) -> Published | None:
    """What the bytes say; None if they are torn, or none of ours. Raises ``NewerStateError``."""
    if data[:7] == _MAGIC[:7] and data[7:8].isdigit() and int(data[7:8]) > STATE_FORMAT:
        raise newer_state(int(data[7:8]), f"its file {POSITION_FILE}")
    end = _RECORD.size
    if len(data) < SIZE or zlib.crc32(data[:end]) != _SUM.unpack_from(data, end)[0]:
        return None
    fields = _RECORD.unpack_from(data)
    magic, flags, pid, run, source_id, epoch, generation, frame, salt1, salt2, committed_at, beat, lineage = fields
    if magic != _MAGIC:
        return None
    follows, wal = flags & _FOLLOWS != 0, flags & _WAL != 0
    return Published(
        follows, wal, pid, run, source_id, epoch,
        generation, frame, salt1, salt2, committed_at, beat / 1e9, _lineage(lineage),
        flags & _SEALED != 0, flags & _MOVING != 0, flags & _IN_PHASES != 0,
    )  # fmt: skip


class Publisher:
    """The mirror's end. Thread: one at a time."""

    def __init__(self, folder: Path) -> None:
        """Make the file, or take over one that an earlier mirror has left; it says that nobody follows the source.

        The source's lock must be held, and the control socket not be there yet: an earlier mirror's position must not
        be taken for ours. Raises ``OSError``, and ``NewerStateError``.
        """
        self._path = folder / POSITION_FILE
        self._run = time.time_ns()
        self._descriptor = -1
        self._published: tuple[object, ...] | None = None
        """What the file says; None: that nobody follows the source, or it is not known."""
        self._last = _nothing(self._run)
        self._next_beat = 0.0
        self._beats = 0
        self.moving = False
        """Whether programs are being moved; said with the next position."""
        self._keep_seal()
        self._open()

    def _keep_seal(self) -> None:
        with closing(PublishedReader(self._path.parent)) as reader:
            before = reader.read()
        if before is not None and (before.in_phases or before.moves):
            # 4 is of a move in whose middle the mirror was killed: silent, so programs ask Postgres.
            kept = (_SEALED * before.sealed) | (_MOVING * before.moves) | _IN_PHASES
            self._last = _nothing(self._run, kept, before.source_id)

    def _open(self) -> None:
        data = _seal(self._last)
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            if os.fstat(self._descriptor).st_size != SIZE:
                raise FileNotFoundError
        except FileNotFoundError:
            self._close()
            write_atomically(self._path, data, durable=False)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self._descriptor, data, 0)
        self._published = None

    def publish(
        self, source_id: int, epoch: int, lineage: str | None, position: Position, *, wal: bool, in_phases: bool = False
    ) -> None:
        """Say that Postgres has this position; does nothing if that was said less than a second ago.

        Makes the file again if it was deleted. Raises ``OSError``.
        """
        said = source_id, epoch, lineage, position, wal, self.moving, in_phases
        now = time.monotonic()
        if said == self._published and now < self._next_beat:
            return
        self._published = None
        if self._descriptor < 0 or (now >= self._next_beat and not os.fstat(self._descriptor).st_nlink):
            self.renew()
        lsn, salts = position.lsn, position.salts
        self._last = _RECORD.pack(
            _MAGIC, _FOLLOWS | (_WAL * wal) | (_MOVING * self.moving) | (_IN_PHASES * in_phases), os.getpid(),
            self._run, source_id, epoch,
            lsn.generation, lsn.frame, salts.salt1, salts.salt2, position.committed_at,
            int(now * 1e9), _lineage_bytes(lineage),
        )  # fmt: skip
        os.pwrite(self._descriptor, _seal(self._last), 0)
        self._published, self._next_beat = said, now + BEAT_SECONDS

    def beat(self) -> bool:
        """Say once more what was published last; False if that is to be published again. Raises ``OSError``."""
        self._beats += 1
        if self._published is None:
            return False
        if self._beats % _BEATS_A_LOOK == 0 and not os.fstat(self._descriptor).st_nlink:
            self._next_beat = 0.0
            return False
        now = time.monotonic()
        record = bytearray(self._last)
        _BEAT.pack_into(record, _BEAT_OFFSET, int(now * 1e9))
        self._last = bytes(record)
        os.pwrite(self._descriptor, _seal(self._last), 0)
        self._next_beat = now + BEAT_SECONDS
        return True

    def say_moved(self, *, sealed: bool, source_id: int | None = None) -> None:
        """Say that programs were moved to Postgres, or back to the file; it is not followed now. Raises ``OSError``.

        ``source_id``: in ``mirror.sources``; None: it is the one that was published last.
        """
        self.moving = False
        known = _RECORD.unpack(self._last)[4]
        self._last = _nothing(self._run, _IN_PHASES | (_SEALED * sealed), known if source_id is None else source_id)
        self._published = None
        os.pwrite(self._descriptor, _seal(self._last), 0)

    def withdraw(self) -> None:
        """Say that the source is not followed at present.

        What cannot be written is left: readers rely on it for nothing but how long they wait.
        """
        fields = list(_RECORD.unpack(self._last))
        if self._descriptor < 0 or not fields[1] & (_FOLLOWS | _WAL):
            return
        fields[1] &= _MOVING | _SEALED | _IN_PHASES
        self._last = _RECORD.pack(*fields)
        self._published = None
        with suppress(OSError):
            os.pwrite(self._descriptor, _seal(self._last), 0)

    def renew(self) -> None:
        """Make the file again in a folder that was made again. Raises ``OSError``."""
        self.withdraw()  # in the old file, which some still have open
        self._close()
        self._open()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Say that the source is not followed any longer; the file stays. May be called twice."""
        if self.moving and self._descriptor >= 0:
            known = _RECORD.unpack(self._last)[4]
            self._last, self.moving = _nothing(self._run, _MOVING | _IN_PHASES, known), False
            with suppress(OSError):
                os.pwrite(self._descriptor, _seal(self._last), 0)
        self.withdraw()
        self._close()


def _nothing(run: int, flags: int = 0, source_id: int = 0) -> bytes:
    return _RECORD.pack(_MAGIC, flags, os.getpid(), run, source_id, 0, 0, 0, 0, 0, 0.0, 0, bytes(16))


def _seal(record: bytes) -> bytes:
    return (record + _SUM.pack(zlib.crc32(record))).ljust(SIZE, b"\0")


@lru_cache(maxsize=64)
def _lineage_bytes(lineage: str | None) -> bytes:
    return UUID(lineage).bytes if lineage else bytes(16)


class PublishedReader:
    """A reader's end. Opens nothing of the source itself. Thread: one at a time."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the source's; it need not exist."""
        self._path = str(folder / POSITION_FILE)
        self._descriptor = -1
        self._file: tuple[int, int] | None = None
        self._next_look = 0.0
        self._data = b""
        self._read: Published | None = None

    def read(self, *, look: bool = False) -> Published | None:
        """What is published now; None: nothing, or it cannot be read. Never waits for a writer.

        Raises ``NewerStateError`` if a newer mirror has published it: what it says may not be passed over.
        ``look``: whether another file is at the path is looked at in any case, not only every :data:`LOOK_SECONDS`.
        """
        now = time.monotonic()
        try:
            if look or now >= self._next_look:
                found = os.stat(self._path)
                if (found.st_dev, found.st_ino) != self._file:
                    self._open()
                self._next_look = now + LOOK_SECONDS
            for _ in range(_TRIES):
                data = os.pread(self._descriptor, SIZE, 0)
                if data == self._data:
                    return self._read
                if (read := _parse(data)) is not None:
                    self._data, self._read = data, read
                    return read
        except OSError:
            self.close()
        return None

    def _open(self) -> None:
        self.close()
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self._descriptor)
        self._file = found.st_dev, found.st_ino

    def close(self) -> None:
        """Close the file; another :meth:`read` opens it again."""
        descriptor, self._descriptor, self._file, self._data = self._descriptor, -1, None, b""
        self._next_look = 0.0
        if descriptor >= 0:
            os.close(descriptor)
