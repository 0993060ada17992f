"""The write-ahead log: one header, then frames.

WAL header, 32 bytes, big-endian:

======  ====  ====================================================================
offset  size  field
======  ====  ====================================================================
0       4     magic 0x377f0682 (checksums over little-endian words) or ...83 (big)
4       4     format version 3007000
8       4     page size
12      4     checkpoint sequence number
16      8     salt-1 (goes up by one at each reset), salt-2 (random)
24      8     checksum of the first 24 bytes
======  ====  ====================================================================

Frame: a header of 24 bytes, big-endian, then the page:

======  ====  ====================================================================
offset  size  field
======  ====  ====================================================================
0       4     page number
4       4     size of the database in pages for a commit frame, else 0
8       8     salt-1, salt-2, equal to the header's
16      8     checksum over everything so far
======  ====  ====================================================================

The checksum of a frame continues the one of the frame before it (the first continues the
header's) over the first 8 bytes of the frame header and the page, taken as pairs of 32-bit words
(x, y)::

    s0 += x + s1;  s1 += y + s0        (mod 2**32)

That is linear: after n pairs ``s = A**n s + sum(A**(n-1-i) (x_i, x_i + y_i))`` with
``A = ((1, 1), (1, 2))``. So what the words of all frames of a buffer add is one matrix product, and
since each frame stores its sum, each link of the chain is tested by itself.

That product is numpy's, which takes 14 MB of memory. A process that never has many frames to test does without it: it
is imported when there are more than :data:`FEW_FRAMES`, and where it is loaded, it is used for all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mirror.core.errors import FormatError
from mirror.core.imports import has_numpy
from mirror.core.positions import Salts
from mirror.sqlite.format.lanes import page_sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WAL_HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
VERSION = 3007000
PAGE_SIZES = frozenset(1 << bits for bits in range(9, 17))
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
#: Frames that are tested without numpy, which takes some 30 µs for each of 4 KB, thirty times as long as with it.
FEW_FRAMES = 512
_MASK = 0xFFFFFFFF

_SUM, _SALTS = struct.Struct(">16xII"), struct.Struct(">8xII")

Checksum = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WalHeader:
    """The header of a WAL file."""

    page_size: int
    big_endian: bool
    """Byte order of the words that checksums are taken over."""
    sequence: int
    salts: Salts
    checksum: Checksum

    @classmethod
    def parse(cls, data: bytes) -> WalHeader:
        """Parse and validate 32 bytes; raises ``FormatError`` naming the field that is wrong."""
        if len(data) < WAL_HEADER_SIZE:
            raise FormatError("read the WAL header", "offset 0", f"{len(data)} bytes instead of 32")
        magic, version, page_size, sequence, salt1, salt2, sum1, sum2 = struct.unpack_from(">8I", data)
        if magic not in (_MAGIC_LITTLE, _MAGIC_BIG):
            raise FormatError("read the WAL header", "offset 0", f"magic {magic:#010x}")
        if version != VERSION:
            raise FormatError("read the WAL header", "offset 4", f"version {version}")
        if page_size not in PAGE_SIZES:
            raise FormatError("read the WAL header", "offset 8", f"page size {page_size}")
        big_endian = magic == _MAGIC_BIG
        words = struct.unpack_from(">6I" if big_endian else "<6I", data)
        if checksum_words(words) != (sum1, sum2):
            raise FormatError("read the WAL header", "offset 24", "wrong checksum")
        return cls(page_size, big_endian, sequence, Salts(salt1, salt2), (sum1, sum2))


def checksum_words(words: Sequence[int], seed: Checksum = (0, 0)) -> Checksum:
    """SQLite's checksum of an even number of 32-bit words, continuing from ``seed``."""
    s0, s1 = seed
    for index in range(0, len(words), 2):
        s0 = (s0 + words[index] + s1) & _MASK
        s1 = (s1 + words[index + 1] + s0) & _MASK
    return s0, s1


@lru_cache(maxsize=8)
def _weights(page_size: int) -> tuple[NDArray[np.uint32], tuple[int, int, int]]:
    """Weights of a frame's words (0 for salts and sums) in s0 and s1, shape (2, words), and ``A**pairs``.

    ``A**k`` is symmetric, ((a, b), (b, d)), and given as (a, b, d).
    """
    import numpy as np

    frame = np.zeros((2, (FRAME_HEADER_SIZE + page_size) // 4), dtype=np.uint32)
    summed = [0, *range(6, frame.shape[1], 2)]
    a, b, d = 1, 0, 1
    for index in reversed(summed):
        frame[:, index] = ((a + b) & _MASK, (b + d) & _MASK)
        frame[:, index + 1] = (b, d)
        a, b, d = (a + b) & _MASK, (a + 2 * b) & _MASK, (b + 2 * d) & _MASK
    return frame, (a, b, d)


@lru_cache(maxsize=8)
def _frame_header(page_size: int) -> struct.Struct:
    """The six words of a frame's header, without its page."""
    return struct.Struct(f">6I{page_size}x")


def _headers(data: bytes, page_size: int) -> Iterator[tuple[int, ...]]:
    """Those of the whole frames in ``data``: page number, size, salt-1, salt-2, and the two sums."""
    frame_size = FRAME_HEADER_SIZE + page_size
    if extra := len(data) % frame_size:
        data = data[:-extra]
    return _frame_header(page_size).iter_unpack(data)


@dataclass(frozen=True, slots=True)
class FrameRun:
    """The frames at the start of a buffer that continue a known chain."""

    count: int
    """Frames with the right salts and a valid checksum chain, from the buffer's start."""
    commits: tuple[int, ...]
    """Indexes (0-based, below ``count``) of the commit frames."""
    checksums: list[Checksum]
    """The chain's value after each of them."""

    def checksum(self, index: int) -> Checksum:
        """The chain's value after frame ``index``."""
        return self.checksums[index]


def verify_frames(data: bytes, page_size: int, big_endian: bool, salts: Salts, seed: Checksum) -> FrameRun:
    """Test the frames in ``data`` (whole frames, consecutive) against salts and checksum chain.

    ``seed``: the chain's value just before the first frame. Trailing bytes that make no whole
    frame are ignored.
    """
    total = len(data) // (FRAME_HEADER_SIZE + page_size)
    if total == 0:
        return FrameRun(0, (), [])
    plainly = total <= FEW_FRAMES and not has_numpy()
    sums = (_sums_plainly if plainly else _sums)(data, total, page_size, big_endian, seed)
    commits: list[int] = []
    checksums: list[Checksum] = []
    for checksum, (_, size, salt1, salt2, sum0, sum1) in zip(sums, _headers(data, page_size), strict=True):
        if checksum != (sum0, sum1) or (salt1, salt2) != salts:
            break
        if size:
            commits.append(len(checksums))
        checksums.append(checksum)
    return FrameRun(len(checksums), tuple(commits), checksums)


def _sums(data: bytes, total: int, page_size: int, big_endian: bool, seed: Checksum) -> Iterator[Checksum]:
    """The chain's value after each of so many frames."""
    weights, (a, b, d) = _weights(page_size)
    s0, s1 = seed
    for add0, add1 in _added(data, (total, (FRAME_HEADER_SIZE + page_size) // 4), weights, big_endian):
        s0, s1 = (a * s0 + b * s1 + add0) & _MASK, (b * s0 + d * s1 + add1) & _MASK
        yield s0, s1


def _sums_plainly(data: bytes, total: int, page_size: int, big_endian: bool, seed: Checksum) -> Iterator[Checksum]:
    """The same without numpy."""
    head = struct.Struct(">2I" if big_endian else "<2I")
    for at in range(0, total * (FRAME_HEADER_SIZE + page_size), FRAME_HEADER_SIZE + page_size):
        page = data[at + FRAME_HEADER_SIZE : at + FRAME_HEADER_SIZE + page_size]
        seed = page_sums(page, big_endian, checksum_words(head.unpack_from(data, at), seed))
        yield seed


def _added(data: bytes, shape: tuple[int, int], weights: NDArray[np.uint32], big_endian: bool) -> list[list[int]]:
    """What each frame's words add to the two sums. ``shape``: frames, and words of each."""
    import numpy as np

    words = np.ndarray(shape, ">u4", data).astype(np.uint32) if big_endian else np.ndarray(shape, "<u4", data)
    # Not `words @ weights.T`: numpy has no fast matrix product for integers.
    found: list[list[int]] = np.einsum("fw,sw->fs", words, weights).tolist()
    return found


def seal_frames(data: bytes, page_size: int, big_endian: bool, salts: Salts, seed: Checksum) -> bytes | None:
    """Whole frames with the checksum chain computed again; None if some have other salts than these or zero.

    For committed frames without salts and checksums: SQLite (3.40 does, 3.54 does not) leaves them zero on frames
    that it wrote again after it rolled back to a savepoint in a transaction larger than its cache, and
    begins the chain again after them.
    """
    import numpy as np

    frame_size = FRAME_HEADER_SIZE + page_size
    total = len(data) // frame_size
    raw: NDArray[np.uint32] = np.ndarray((total, frame_size // 4), ">u4", data)
    own = (raw[:, 2] == salts.salt1) & (raw[:, 3] == salts.salt2)
    if not (own | ~raw[:, 2:6].any(axis=1)).all():
        return None
    sealed = raw.copy()
    weights, (a, b, d) = _weights(page_size)
    added = _added(data, (total, frame_size // 4), weights, big_endian)
    s0, s1 = seed
    for frame, (add0, add1) in zip(sealed, added, strict=True):
        s0, s1 = (a * s0 + b * s1 + add0) & _MASK, (b * s0 + d * s1 + add1) & _MASK
        frame[2:6] = (*salts, s0, s1)
    return sealed.tobytes()


def scan_frames(data: bytes, page_size: int, salts: Salts) -> tuple[int, int, int]:
    """Read only the headers of the frames in ``data`` (whole frames, consecutive).

    Returns the number of frames from the start that carry ``salts``, how many of them are commits, and
    the number of frames up to the last commit.
    """
    good = commits = whole = 0
    own1, own2 = salts
    for _, size, salt1, salt2, _, _ in _headers(data, page_size):
        if salt1 != own1 or salt2 != own2:
            break
        good += 1
        if size:
            commits += 1
            whole = good
    return good, commits, whole


def frame_offset(frame: int, page_size: int) -> int:
    """Offset in the WAL file of the header of a frame (1-based)."""
    return WAL_HEADER_SIZE + (frame - 1) * (FRAME_HEADER_SIZE + page_size)


def frame_salts(header: bytes) -> Salts:
    """The salts in a frame header of 24 bytes."""
    return Salts(*_SALTS.unpack_from(header))


def frame_checksum(data: bytes, offset: int = 0) -> Checksum:
    """The checksum stored in the frame header of 24 bytes at an offset."""
    first, second = _SUM.unpack_from(data, offset)
    return first, second
