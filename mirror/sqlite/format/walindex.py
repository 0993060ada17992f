"""The header of the WAL index (the ``-shm`` file): 48 bytes, twice, in the machine's byte order.

======  ====  =============================================================================
offset  size  field
======  ====  =============================================================================
0       4     version 3007000
8       4     iChange: goes up by one at each commit, also across resets; a recovery sets it 0
12      1     isInit
13      1     1 when the WAL's checksums are big-endian
14      2     page size; 1 stands for 65536
16      4     mxFrame: the last committed frame, 0 right after a reset
20      4     size of the database in pages
24      8     checksum of the last frame
32      8     salt-1 and salt-2, copied as bytes from the WAL header (so big-endian)
40      8     checksum of the 40 bytes before
======  ====  =============================================================================

A writer stores the second copy first, then the first; a reader that sees two equal copies with a
right checksum has a consistent header. Source: ``WalIndexHdr`` in SQLite's wal.c.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mirror.core.positions import Salts
from mirror.sqlite.format.wal import VERSION, checksum_words

INDEX_HEADER_SIZE = 48
#: Bytes to read: both copies.
BOTH_COPIES = 2 * INDEX_HEADER_SIZE
#: Where the salts are in the two copies.
SALTS, SECOND_SALTS = slice(32, 40), slice(80, 88)

_WORDS, _PAGE_SIZE, _SALTS = struct.Struct("=12I"), struct.Struct("=14xH"), struct.Struct(">32xII")


class WalIndexHeader(NamedTuple):
    """What the WAL index says is committed."""

    changes: int
    """iChange: commits since the index was built, modulo 2**32."""
    page_size: int
    last_frame: int
    """mxFrame."""
    pages: int
    salts: Salts

    @classmethod
    def parse(cls, data: bytes) -> WalIndexHeader | None:
        """Parse both copies (96 bytes); None while they differ, because a writer is between them, or are not valid."""
        first = data[:INDEX_HEADER_SIZE]
        if len(data) < BOTH_COPIES or first != data[INDEX_HEADER_SIZE:BOTH_COPIES]:
            return None
        words = _WORDS.unpack(first)
        if words[0] != VERSION or not first[12] or checksum_words(words[:10]) != words[10:]:
            return None
        (size,) = _PAGE_SIZE.unpack_from(first)
        return cls(words[2], 65536 if size == 1 else size, words[4], words[5], Salts(*_SALTS.unpack_from(first)))
