"""Whether a file may be the database of which there is a copy: before its mirror goes on with it under another name.

Only what is plainly another database is refused. The rest is found out, and put right, by the mirror's next start,
which compares all pages unless the log proves that nothing happened meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mirror.core.errors import FormatError, SourceError
from mirror.replica.shadow import Shadow
from mirror.sqlite.decode.schema import read_schema
from mirror.sqlite.format.btree import Geometry
from mirror.sqlite.format.header import HEADER_SIZE, DatabaseHeader

#: Pages that are compared, over the whole file; with fewer, that they differ says nothing.
_MOST, _LEAST = 256, 16
#: Of these, the share that is equal at least, unless most of the database was written anew since.
_SHARE = 0.1
#: Types of pages, their first byte: of b-trees, interior, which programs with the same tables have alike.
_INTERIOR = (2, 5)

_Read = Callable[[int], bytes]


def require_like(folder: Path, database: Path) -> None:
    """Raise ``SourceError`` if a file is plainly another database than the copy in a source's state folder.

    Where there is no copy, or it says nothing, it is not. The calling process must have no SQLite connection to the
    file: it is opened and closed.
    """
    try:
        copy = os.open(Shadow.database(folder), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        found = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
        try:
            why = _difference(copy, found)
        finally:
            os.close(found)
    finally:
        os.close(copy)
    if why is not None:
        raise SourceError(
            "rename a source",
            str(database),
            f"it is another database than the one that was mirrored: {why}",
            next_step="check the path; one that was rebuilt (VACUUM) after it was moved, or is another one, is mirrored"
            " anew by `mirror up`",
        )


def _difference(copy: int, found: int) -> str | None:
    """What tells two files apart; None: nothing. That pages differ tells a file that was rebuilt apart, too."""
    try:
        ours = DatabaseHeader.parse(os.pread(copy, HEADER_SIZE, 0))
    except FormatError:
        return None  # a copy that was not completed
    try:
        theirs = DatabaseHeader.parse(os.pread(found, HEADER_SIZE, 0))
    except FormatError as error:
        return error.detail
    size = ours.page_size
    if theirs.page_size != size:
        return f"its pages have {theirs.page_size:,} bytes, not {size:,}"
    if theirs.encoding != ours.encoding:
        return f"its texts are in {theirs.encoding}, not in {ours.encoding}"

    def reader(descriptor: int) -> _Read:
        return lambda page: os.pread(descriptor, size, (page - 1) * size)

    read, other = reader(copy), reader(found)
    pages = min(os.fstat(copy).st_size, os.fstat(found).st_size) // size
    some = [page for page in range(2, pages + 1, max(1, pages // _MOST)) if _says_something(read(page))]
    if len(some) >= _LEAST and sum(read(page) == other(page) for page in some) < _SHARE * len(some):
        return f"nearly all of its pages differ ({len(some)} were compared)"
    tables, others = _tables(read, ours), _tables(other, theirs)
    if tables and others and tables.isdisjoint(others):
        return f"it has none of the tables {', '.join(sorted(tables)[:5])}"
    return None


def _says_something(page: bytes) -> bool:
    """Whether another database will hardly have such a page: not where it is a b-tree's without rows of its own."""
    return page[0] not in _INTERIOR and page[3:5] != b"\0\0"


def _tables(read: _Read, header: DatabaseHeader) -> set[str]:
    """The names of the tables; none where the file alone does not give them, because its log has more."""
    try:
        return set(read_schema(read, Geometry(header.usable), header.encoding).tables)
    except FormatError:
        return set()
