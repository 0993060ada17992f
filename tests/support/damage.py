"""Damage to a database where it has the most effect: every kind of pointer, size and type on its pages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mirror.sqlite.decode.trees import walk
from mirror.sqlite.format.btree import INDEX_INTERIOR, Cell, ReadPage, cell_pointers, is_interior, page_kind
from tests.support.sqlite import Pages, new_database, read_schema

#: A kind of damage, and three numbers that choose where and what.
Damage = tuple[str, int, int, int]
#: Bytes with a special meaning where a varint, a size or a type is expected.
_BYTES = (b"\0", b"\xff" * 9, b"\x80" * 9, b"\x80\x80\x01", b"\x81\x00", b"\x7f", b"\xff\x7f", b"\x0a", b"\x0b\x0c")


@dataclass(frozen=True)
class Sound:
    """A good database, and where in it things are."""

    pages: Pages
    interiors: tuple[int, ...]
    cells: tuple[tuple[int, int, Cell], ...]
    """Page, the offset at which the cell begins, the cell."""
    links: tuple[int, ...]
    """Offsets in the file of the numbers of overflow pages."""

    @property
    def size(self) -> int:
        return self.pages.header.page_size


def sound_database(page_size: int, encoding: str = "UTF-8", reserved: int = 0, auto_vacuum: int = 0) -> Sound:
    """Tables of every kind, with interior pages and overflow chains."""
    connection = new_database(page_size=page_size, encoding=encoding, reserved=reserved, auto_vacuum=auto_vacuum)
    connection.execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT, y BLOB);"
        "CREATE TABLE w(k TEXT PRIMARY KEY, v, r REAL) WITHOUT ROWID; CREATE TABLE u(x DEFAULT 5);"
        "CREATE INDEX i ON t(x)"
    )
    rows, unit = 60 if page_size < 4096 else 150, page_size // 4
    connection.executemany(
        "INSERT INTO t VALUES (?,?,?)", [(i, "x" * (i % 90), bytes(i * 1013 % (6 * unit))) for i in range(rows)]
    )
    connection.executemany("INSERT INTO w VALUES (?,?,1)", [(str(i) * (unit // 7), i) for i in range(rows)])
    connection.executemany("INSERT INTO u VALUES (?)", [(i,) for i in range(rows)])
    pages = Pages.take(connection)
    geometry = pages.layout.geometry
    schema = read_schema(pages.read, geometry, pages.layout.encoding)
    interiors: list[int] = []
    cells: list[tuple[int, int, Cell]] = []
    links: list[int] = []
    for root, index in [(1, False), *((table.root, table.without_rowid) for table in schema.tables.values())]:
        for pgno in walk(root, pages.read, interior=True):
            page = pages.read(pgno)
            kind = page_kind(page, pgno)
            if is_interior(kind):
                interiors.append(pgno)
            if is_interior(kind) and not index:
                continue
            inside = kind == INDEX_INTERIOR
            for at in cell_pointers(page, pgno):
                cell = geometry.index_cell(page, at, inside) if index else geometry.table_leaf_cell(page, at)
                cells.append((pgno, at + (4 if inside else 0), cell))
                if cell.overflow:
                    links.append((pgno - 1) * page_size + cell.end - 4)
                    links += [(link - 1) * page_size for link in geometry.chain(cell, pages.read)]
    return Sound(pages, tuple(interiors), tuple(cells), tuple(links))


def damaged(sound: Sound, damages: list[Damage]) -> bytes:
    """The bytes of the database after some damage, done in order."""
    data = bytearray(sound.pages.data)
    for kind, where, which, what in damages:
        _KINDS[kind](data, sound, where, which, what)
    return bytes(data)


def limited(read: ReadPage, most: int) -> ReadPage:
    """The same, but it fails when it is called more than ``most`` times."""
    left = most

    def counted(pgno: int) -> bytes:
        nonlocal left
        assert 0 < pgno < 2**32, pgno
        left -= 1
        assert left > 0, "pages are read without end"
        return read(pgno)

    return counted


def _target(sound: Sound, pgno: int, what: int) -> int:
    """A page number that is wrong in one way or another."""
    count = sound.pages.count
    choice = (pgno, 0, 1, 2, count, count + 1, 2**31, 2**32 - 1, 1 + what // 16 % count)
    return choice[what % len(choice)]


def _put(data: bytearray, at: int, new: bytes) -> None:
    data[at : at + len(new)] = new[: max(0, len(data) - at)]


def _bit(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    if data:
        data[where % len(data)] ^= 1 << what % 8


def _header(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    """The database's header, or a page's."""
    pgno = 1 + where % sound.pages.count
    start = 0 if which % 4 == 0 else (pgno - 1) * sound.size + (100 if pgno == 1 else 0)
    _put(data, start + which // 4 % (100 if which % 4 == 0 else 14), _BYTES[what % len(_BYTES)][:4])


def _page(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    """One page in place of another."""
    size, count = sound.size, sound.pages.count
    source, target = where % count * size, which % count * size
    _put(data, target, bytes(data[source : source + size]))


def _cut(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    del data[where % (len(data) + 1) :]


def _child(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    pgno = sound.interiors[where % len(sound.interiors)]
    page = sound.pages.read(pgno)
    base = (pgno - 1) * sound.size
    places = [*cell_pointers(page, pgno), 108 if pgno == 1 else 8]
    _put(data, base + places[which % len(places)], struct.pack(">I", _target(sound, pgno, what)))


def _pointer(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    """The pointer to a cell, or the number of them."""
    pgno, _, _ = sound.cells[where % len(sound.cells)]
    base = (100 if pgno == 1 else 0) + (12 if is_interior(page_kind(sound.pages.read(pgno), pgno)) else 8)
    wrong = (0, 1, 8, 100, sound.size - 1, sound.size - 4, sound.size - 5, sound.size, 0xFFFF, what // 16 & 0xFFFF)
    at = 3 - base if which % 5 == 0 else 2 * (which // 5 % 20)
    _put(data, (pgno - 1) * sound.size + base + at, struct.pack(">H", wrong[what % len(wrong)] & 0xFFFF))


def _overflow(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    at = sound.links[where % len(sound.links)]
    _put(data, at, struct.pack(">I", _target(sound, at // sound.size + 1, what)))


def _size(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    """The size of a payload, and what follows it."""
    pgno, at, _ = sound.cells[where % len(sound.cells)]
    _put(data, (pgno - 1) * sound.size + at + which % 2, _BYTES[what % len(_BYTES)])


def _record(data: bytearray, sound: Sound, where: int, which: int, what: int) -> None:
    """The size of a record's header, or one of its types."""
    pgno, _, cell = sound.cells[where % len(sound.cells)]
    _put(data, (pgno - 1) * sound.size + cell.start + which % 5, _BYTES[what % len(_BYTES)])


_KINDS: dict[str, Callable[[bytearray, Sound, int, int, int], None]] = {
    "bit": _bit,
    "header": _header,
    "page": _page,
    "cut": _cut,
    "child": _child,
    "pointer": _pointer,
    "overflow": _overflow,
    "size": _size,
    "record": _record,
}
KINDS = tuple(_KINDS)
