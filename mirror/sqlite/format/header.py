"""The database header: the first 100 bytes of page 1, all integers big-endian.

======  ====  =====================================================================
offset  size  field
======  ====  =====================================================================
0       16    ``SQLite format 3\\0``
16      2     page size; 1 stands for 65536
18      1     write version: 1 rollback journal, 2 WAL; above 2 SQLite only reads
19      1     read version: 1 rollback journal, 2 WAL; above 2 SQLite takes it for no database
20      1     reserved bytes at the end of each page
21      3     64, 32, 32 (payload fractions, fixed)
24      4     file change counter
28      4     size of the database in pages
32      8     first freelist trunk page, number of freelist pages
40      4     schema cookie: goes up at every schema change
44      4     schema format, 1 to 4
52      4     largest root page in an auto-vacuum database, else 0
56      4     text encoding: 1 UTF-8, 2 UTF-16le, 3 UTF-16be; 0 in an empty file
64      4     not 0: incremental vacuum
92      4     change counter for which the size at 28 is valid
96      4     version number of the library that wrote it
======  ====  =====================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mirror.core.errors import GOES_ON, FormatError, SourceError, overwritten
from mirror.sqlite.format.wal import PAGE_SIZES

MAGIC = b"SQLite format 3\0"
HEADER_SIZE = 100
#: Bytes at the beginning of a file by which it is known as a database: up to the read version.
KNOWN_BY = 20
#: The page that holds byte 2**30 is never used: SQLite keeps its POSIX locks there.
LOCK_BYTE = 1 << 30

#: https://sqlite.org/fileformat2.html, section 1.3.3
_NEWEST_READ_VERSION = 2
_ENCODINGS = {0: "utf-8", 1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}


def begins_a_database(head: bytes) -> bool:
    """Whether the first bytes of a file (18 at least) are those of a database."""
    size = int.from_bytes(head[16:18], "big")
    return head.startswith(MAGIC) and (65536 if size == 1 else size) in PAGE_SIZES


def require_database(head: bytes, database: str) -> None:
    """Raise ``SourceError`` (retryable) if a file that was a database is none any more, or none that SQLite can read.

    ``head``: its first :data:`KNOWN_BY` bytes, or more.
    """
    if not begins_a_database(head) or len(head) < KNOWN_BY:
        raise overwritten(database)
    if (why := _unreadable(head)) is not None:
        step = f"convert it back with the program that did it{GOES_ON}"
        raise SourceError("follow the source", database, why, next_step=step, retryable=True)


def _unreadable(head: bytes) -> str | None:
    if head[19] <= _NEWEST_READ_VERSION:
        return None
    return f"it is in a format that SQLite cannot read (read version {head[19]}; Turso's MVCC has 255)"


@dataclass(frozen=True, slots=True)
class DatabaseHeader:
    """The fields of the header that a reader of pages needs."""

    page_size: int
    reserved: int
    wal: bool
    change_counter: int
    pages: int
    """Size in pages; trustworthy only if ``size_valid``."""
    size_valid: bool
    schema_cookie: int
    encoding: str
    """Python's codec name of the text encoding."""
    auto_vacuum: bool

    @property
    def usable(self) -> int:
        """Bytes of each page that b-trees and overflow chains may use."""
        return self.page_size - self.reserved

    def size_in(self, file: int) -> int:
        """Pages of the database, if its file has so many bytes and there is no WAL.

        A library older than 3.7.0, and other engines, leave a size in the header that is not valid
        (https://sqlite.org/fileformat2.html, section 1.3.7).
        """
        return self.pages if self.size_valid else file // self.page_size

    @classmethod
    def parse(cls, page1: bytes) -> DatabaseHeader:
        """Parse and validate the first 100 bytes of page 1; raises ``FormatError``."""
        if len(page1) < HEADER_SIZE or page1[:16] != MAGIC:
            raise FormatError(
                "read the database header",
                "page 1",
                f"starts with {page1[:16]!r}",
                next_step="the file is empty, encrypted or no SQLite database",
            )
        if (why := _unreadable(page1)) is not None:
            step = "mirror the database of a program that keeps SQLite's format"
            raise FormatError("read the database header", "page 1", why, next_step=step)
        (size,) = struct.unpack_from(">H", page1, 16)
        page_size = 65536 if size == 1 else size
        reserved = page1[20]
        if page_size < 512 or page_size & (page_size - 1) or page_size - reserved < 480:
            raise FormatError("read the database header", "page 1", f"page size {size}, reserved {reserved}")
        change, pages, _, _, cookie = struct.unpack_from(">IIIII", page1, 24)
        auto_root, encoding = struct.unpack_from(">II", page1, 52)
        (valid_for,) = struct.unpack_from(">I", page1, 92)
        if encoding not in _ENCODINGS:
            raise FormatError("read the database header", "page 1", f"text encoding {encoding}")
        return cls(
            page_size=page_size,
            reserved=reserved,
            wal=is_wal(page1),
            change_counter=change,
            pages=pages,
            size_valid=pages > 0 and valid_for == change,
            schema_cookie=cookie,
            encoding=_ENCODINGS[encoding],
            auto_vacuum=auto_root != 0,
        )


def is_wal(header: bytes) -> bool:
    """Whether a database is in WAL mode, by the first 20 bytes of its header: the read version decides."""
    return header[19:20] == b"\2"


def change_counter(page1: bytes) -> int:
    """The change counter, of page 1 or the header alone."""
    return int.from_bytes(page1[24:28], "big")


def schema_cookie(page1: bytes) -> bytes:
    """The four bytes of the schema cookie, for comparing two versions of page 1."""
    return page1[40:44]
