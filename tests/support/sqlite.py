"""SQLite for tests: writers in processes of their own, and databases as pages.

A test that follows a live WAL has all SQLite in a :class:`WriterProcess`. A test that decodes pages
uses APSW in its own process, takes the pages with ``serialize`` or ``Connection.read``, and never opens
the file itself (hazard 17, mirror/HAZARDS.md).
"""

from __future__ import annotations

import ast
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from mirror.core.positions import Salts
from mirror.core.rows import RowChange
from mirror.core.tables import Table
from mirror.core.values import BadText, Row, Value
from mirror.sqlite.decode.diff import Layout, decode
from mirror.sqlite.decode.mapping import ReadRun
from mirror.sqlite.decode.pagemap import PageMap
from mirror.sqlite.decode.schema import read_schema
from mirror.sqlite.format.btree import Geometry, ReadPage
from mirror.sqlite.format.header import DatabaseHeader
from mirror.sqlite.format.wal import WAL_HEADER_SIZE, WalHeader, frame_offset, verify_frames

_DRIVER = """
import ast, sqlite3, sys
connections = {}
for line in sys.stdin:
    name, verb, *rest = ast.literal_eval(line)
    try:
        if verb == "open":
            connections[name] = sqlite3.connect(rest[0], isolation_level=None, timeout=0)
            result = None
        elif verb == "close":
            connections.pop(name).close()
            result = None
        elif verb == "many":
            connections[name].executemany(*rest)
            result = None
        else:
            result = connections[name].execute(*rest).fetchall()
        answer = (True, result)
    except sqlite3.Error as error:
        answer = (False, f"{type(error).__name__}: {error}")
    print(repr(answer), flush=True)
"""


class WriterProcess:
    """A program that uses the standard library's SQLite: does one step at each call, then waits."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _call(self, *request: object) -> list[tuple[Value, ...]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(repr(request) + "\n")
        self._process.stdin.flush()
        good, result = ast.literal_eval(self._process.stdout.readline())
        if not good:
            raise RuntimeError(result)
        return result or []

    def open(self, path: Path, name: str = "main") -> None:
        """Open a connection."""
        self._call(name, "open", str(path))

    def run(self, sql: str, values: Sequence[Value] = (), name: str = "main") -> list[tuple[Value, ...]]:
        """Execute one statement (autocommit, unless it is in a transaction) and return its rows."""
        return self._call(name, "run", sql, tuple(values))

    def many(self, sql: str, rows: Sequence[Sequence[Value]], name: str = "main") -> None:
        """Execute one statement for each row."""
        self._call(name, "many", sql, [tuple(row) for row in rows])

    def close(self, name: str = "main") -> None:
        """Close a connection."""
        self._call(name, "close")

    def stop(self) -> None:
        """End the process, as a program ends that forgets to close its connections."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True)
class Pages:
    """A database as bytes."""

    data: bytes
    header: DatabaseHeader
    layout: Layout

    @classmethod
    def of(cls, data: bytes) -> Pages:
        """Wrap the bytes of a database file."""
        header = DatabaseHeader.parse(data)
        return cls(data, header, Layout(Geometry(header.usable), header.encoding))

    @classmethod
    def take(cls, connection: apsw.Connection) -> Pages:
        """The connection's database as of now; it must not be in a transaction."""
        return cls.of(connection.serialize("main"))

    @property
    def count(self) -> int:
        """Size in pages."""
        return len(self.data) // self.header.page_size

    def read(self, pgno: int) -> bytes:
        """A page; empty after the end, as the shadow gives it."""
        assert pgno > 0
        size = self.header.page_size
        return self.data[(pgno - 1) * size : pgno * size]

    def differing(self, other: Pages) -> list[int]:
        """Numbers of this database's pages that differ from another's."""
        return [pgno for pgno in range(1, self.count + 1) if self.read(pgno) != other.read(pgno)]


def runs(read: ReadPage) -> ReadRun:
    """A function that reads consecutive pages, as the shadow does, made of one that reads one page."""
    return lambda pgno, count: b"".join(map(read, range(pgno, pgno + count)))


def new_database(
    path: str = ":memory:",
    *,
    page_size: int = 4096,
    auto_vacuum: int = 0,
    secure_delete: bool = False,
    encoding: str = "UTF-8",
    reserved: int = 0,
) -> apsw.Connection:
    """A connection to a new database, which has one page already."""
    connection = apsw.Connection(path)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute(f"PRAGMA encoding='{encoding}'")
    connection.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
    connection.execute(f"PRAGMA secure_delete={int(secure_delete)}")
    connection.execute("PRAGMA synchronous=OFF")
    if reserved:
        connection.reserve_bytes("main", reserved)
    connection.execute("VACUUM")
    return connection


def select(connection: apsw.Connection, table: Table, encoding: str = "utf-8") -> Iterator[tuple[int | None, Row]]:
    """All rows of a table as SQLite gives them: rowid (None if WITHOUT ROWID) and stored columns.

    Text is fetched as its bytes, because it need not be valid.
    """
    names = ['"' + column.name.replace('"', '""') + '"' for column in table.columns]
    wanted = [f"typeof({name}), iif(typeof({name})='text', CAST({name} AS BLOB), {name})" for name in names]
    rowid = "NULL" if table.without_rowid else "_rowid_"
    name = '"' + table.name.replace('"', '""') + '"'
    for row in connection.execute(f"SELECT {rowid}, {', '.join(wanted)} FROM {name}"):
        values = [
            _text(value, encoding) if kind == "text" else value
            for kind, value in zip(row[1::2], row[2::2], strict=True)
        ]
        yield row[0], tuple(values)


def _text(raw: bytes, encoding: str) -> Value:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return BadText(raw)


def decoded_rows(path: Path) -> Callable[[Table], Iterator[RowChange]]:
    """All rows of a table of a closed database, read from its pages."""
    data = path.read_bytes()
    header = DatabaseHeader.parse(data)

    def read(pgno: int) -> bytes:
        return data[(pgno - 1) * header.page_size : pgno * header.page_size]

    layout = Layout(Geometry(header.usable), header.encoding)
    schema = read_schema(read, layout.geometry, layout.encoding)

    def rows(table: Table) -> Iterator[RowChange]:
        decoded = decode(read, read, (), schema, PageMap(), layout, frozenset((table.name,)))
        for changes in decoded.tables:
            yield from changes.rows

    return rows


def same_row(one: Row, other: Row) -> bool:
    """Whether two rows are equal to the bit."""
    return len(one) == len(other) and all(map(_same_value, one, other))


def _same_value(one: Value, other: Value) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    return type(one) is type(other) and one == other


# -- WAL bytes by hand, from the documentation alone ---------------------------------------------------


def reference_checksum(data: bytes, order: str, seed: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """The checksum loop of https://sqlite.org/fileformat2.html#checksum_algorithm, word by word."""
    s0, s1 = seed
    for at in range(0, len(data), 8):
        x = int.from_bytes(data[at : at + 4], order)  # type: ignore[arg-type]
        y = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        s0 = (s0 + x + s1) % 2**32
        s1 = (s1 + y + s0) % 2**32
    return s0, s1


SALTS = Salts(0x01020304, 0xA0B0C0D0)


def make_wal(
    frames: Sequence[tuple[int, int, bytes]],
    page_size: int,
    *,
    salts: Salts = SALTS,
    order: str = "little",
    sequence: int = 0,
) -> bytes:
    """A WAL with these frames: (page number, size of the database if a commit else 0, page)."""
    magic = 0x377F0683 if order == "big" else 0x377F0682
    head = struct.pack(">6I", magic, 3007000, page_size, sequence, *salts)
    chain = reference_checksum(head, order)
    parts = [head, struct.pack(">2I", *chain)]
    for pgno, size, page in frames:
        assert len(page) == page_size
        start = struct.pack(">2I", pgno, size)
        chain = reference_checksum(start + page, order, chain)
        parts += [start, struct.pack(">2I", *salts), struct.pack(">2I", *chain), page]
    return b"".join(parts)


def split_wal(wal: bytes) -> tuple[WalHeader, list[tuple[int, int, bytes]]]:
    """Header and frames of a WAL file, up to where the chain of the header's salts ends."""
    header = WalHeader.parse(wal[:WAL_HEADER_SIZE])
    size = header.page_size
    run = verify_frames(wal[WAL_HEADER_SIZE:], size, header.big_endian, header.salts, header.checksum)
    frames = []
    for frame in range(1, run.count + 1):
        at = frame_offset(frame, size)
        pgno, pages = struct.unpack_from(">2I", wal, at)
        frames.append((pgno, pages, wal[at + 24 : at + 24 + size]))
    return header, frames
