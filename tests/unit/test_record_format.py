"""Varints, records, cells and headers: by the documentation's bytes, by SQLite's, and by garbage."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.core.errors import FormatError, MirrorError
from mirror.core.values import BadText, Row, Value, identical
from mirror.sqlite.decode.diff import build_pagemap, decode
from mirror.sqlite.decode.mapping import map_tree
from mirror.sqlite.decode.pagemap import OVERFLOW_FIRST, OVERFLOW_MORE, TREE, PageMap
from mirror.sqlite.decode.rows import RowFormat, RowReader
from mirror.sqlite.decode.schema import read_schema
from mirror.sqlite.decode.trees import compare_tree, walk
from mirror.sqlite.format.btree import Geometry, ReadPage, cell_pointers, children, page_kind
from mirror.sqlite.format.header import DatabaseHeader, schema_cookie
from mirror.sqlite.format.record import decode_pieces, decode_record, leading_bytes
from mirror.sqlite.format.varint import read_varint
from tests.support.sqlite import Pages, new_database, runs, same_row, select

# -- varints -------------------------------------------------------------------------------------------

VARINTS = [
    ("00", 0),
    ("01", 1),
    ("7f", 127),
    ("8100", 128),
    ("ff7f", 16383),
    ("818000", 16384),
    ("ffff7f", 2**21 - 1),
    ("81808000", 2**21),
    ("ffffff7f", 2**28 - 1),
    ("8180808000", 2**28),
    ("ffffffff7f", 2**35 - 1),
    ("818080808000", 2**35),
    ("81808080808000", 2**42),
    ("8180808080808000", 2**49),
    ("ffffffffffffff7f", 2**56 - 1),
    ("80c080808080808000", 2**56),
    ("bfffffffffffffffff", 2**63 - 1),
    ("c08080808080808000", -(2**63)),
    ("ffffffffffffffffff", -1),
    ("fffffffffffffffffe", -2),
]


def varint(value: int) -> bytes:
    """A varint as SQLite writes it."""
    value &= 2**64 - 1
    if value >= 2**56:
        head = value >> 8
        return bytes(0x80 | (head >> shift) & 0x7F for shift in range(49, -1, -7)) + bytes([value & 0xFF])
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(0x80 | value & 0x7F)
    return bytes(reversed(parts))


@pytest.mark.parametrize(("text", "value"), VARINTS)
def test_varints_of_every_length(text: str, value: int) -> None:
    data = bytes.fromhex(text)
    assert varint(value) == data
    assert read_varint(data, 0) == (value, len(data))
    assert read_varint(b"\xff\xff" + data + b"\xff", 2) == (value, 2 + len(data))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_come_back(value: int) -> None:
    data = varint(value)
    assert read_varint(data, 0) == (value, len(data))


@pytest.mark.parametrize("length", range(9))
def test_a_varint_cut_short_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="ends inside"):
        read_varint(b"\xff" * length, 0)


# -- records -------------------------------------------------------------------------------------------

Parts = list[str]
SERIAL_TYPES: list[tuple[str, Value]] = [
    ("00", None),
    ("01 80", -128),
    ("02 7fff", 32767),
    ("03 800000", -(2**23)),
    ("04 7fffffff", 2**31 - 1),
    ("05 800000000000", -(2**47)),
    ("06 8000000000000000", -(2**63)),
    ("06 7fffffffffffffff", 2**63 - 1),
    ("07 3ff8000000000000", 1.5),
    ("07 8000000000000000", -0.0),
    ("07 7ff0000000000000", math.inf),
    ("08", 0),
    ("09", 1),
    ("0c", b""),
    ("0d", ""),
    ("0e ff", b"\xff"),
    ("0f 61", "a"),
    ("13 e282ac", "€"),
    ("11 6100", "a\0"),
    ("11 c328", BadText(b"\xc3\x28")),
    ("13 eda080", BadText(b"\xed\xa0\x80")),
]


def record(*columns: str) -> bytes:
    """A record from texts "serial type, body" in hex."""
    types = [bytes.fromhex(column.split()[0]) for column in columns]
    bodies = b"".join(bytes.fromhex(column.partition(" ")[2]) for column in columns)
    head = b"".join(types)
    return bytes([len(head) + 1]) + head + bodies


@pytest.mark.parametrize(("text", "value"), SERIAL_TYPES, ids=[text for text, _ in SERIAL_TYPES])
def test_each_serial_type(text: str, value: Value) -> None:
    """Alone, and between two others."""
    assert same_row(tuple(decode_record(record(text))), (value,))
    assert same_row(tuple(decode_record(record("01 07", text, "0f 7a"))), (7, value, "z"))


def test_an_empty_record_and_a_long_header() -> None:
    """A header of 128 bytes or more has a two-byte size."""
    assert decode_record(b"\x01") == []
    assert decode_record(b"\x82\x2e" + b"\x09" * 300) == [1] * 300
    assert decode_record(b"\x03\x81\x01\0" + bytes(57)[:57] if False else b"\x03\x81\x0c" + bytes(64)) == [bytes(64)]


@pytest.mark.parametrize("kind", ["0a", "0b"])
def test_reserved_serial_types_are_refused(kind: str) -> None:
    with pytest.raises(FormatError, match="serial type"):
        decode_record(record(kind))


@pytest.mark.parametrize(
    "data",
    [
        "",  # nothing
        "05 01",  # the header is longer than the record
        "02 01",  # an integer without its byte
        "02 07 00",  # a real of one byte
        "02 0f",  # text without its byte
        "02 81",  # the header ends inside a varint
        "02 81 00",  # ... which goes on in the body
        "00",  # a header of no bytes
        "ff ff ff ff ff ff ff ff ff",  # of -1 bytes
        "0a ff ff ff ff ff ff ff ff ff",  # serial type -1
        "0a bf ff ff ff ff ff ff ff fe",  # a blob of 2**62 bytes
        "14 bf ff ff ff ff ff ff ff fe bf ff ff ff ff ff ff ff fe 07",  # a real behind two of them
        "14 bf ff ff ff ff ff ff ff ff bf ff ff ff ff ff ff ff ff 06",
    ],
)
def test_records_that_cannot_be_are_refused(data: str) -> None:
    with pytest.raises(FormatError):
        decode_record(bytes.fromhex(data))


@pytest.mark.parametrize(("encoding", "text"), [("utf-16-le", "61003dd800de"), ("utf-16-be", "0061d83dde00")])
def test_utf_16(encoding: str, text: str) -> None:
    """Lone surrogates and odd lengths are bad text."""
    raw = bytes.fromhex(text)
    assert decode_record(record("19 " + text), encoding) == ["a😀"]
    assert decode_record(record("15 " + text[:8]), encoding) == [BadText(raw[:4])]
    assert decode_record(record("13 " + text[:6]), encoding) == [BadText(raw[:3])]


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]))
def test_random_bytes_are_a_record_or_refused(data: bytes, encoding: str) -> None:
    try:
        values = decode_record(data, encoding)
    except FormatError:
        return
    assert len(values) < len(data)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from([text for text, _ in SERIAL_TYPES]), max_size=9).map(lambda parts: record(*parts)),
    ),
    st.integers(1, 70),
    st.sampled_from(["utf-8", "utf-16-le"]),
)
def test_a_record_in_pieces_is_the_same(data: bytes, size: int, encoding: str) -> None:
    """And refused where it is refused whole."""
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    try:
        values = decode_record(data, encoding)
    except FormatError:
        with pytest.raises(FormatError):
            decode_pieces(pieces, encoding)
        return
    assert same_row(tuple(decode_pieces(pieces, encoding)), tuple(values))


PARTS = st.lists(st.sampled_from([text for text, _ in SERIAL_TYPES]), min_size=1, max_size=4)


@given(PARTS, PARTS, PARTS, PARTS)
def test_leading_bytes_are_those_of_the_leading_values(one: Parts, rest: Parts, other: Parts, rest2: Parts) -> None:
    """Equal for equal columns, whatever follows them; different for others."""
    first, second = leading_bytes(record(*one, *rest), len(one)), leading_bytes(record(*other, *rest2), len(one))
    assert first == leading_bytes(record(*one), len(one)) is not None
    if len(other) == len(one):
        assert (first == second) == (one == other)


@given(PARTS, st.integers(1, 4), st.integers(0, 60))
def test_leading_bytes_of_the_start_of_a_payload(columns: Parts, count: int, length: int) -> None:
    """They are there or they are not, never half."""
    whole = record(*columns)
    expected = leading_bytes(whole, count)
    assert (expected is None) == (count > len(columns))
    if length:
        assert leading_bytes(whole[:length], count) in (expected, None)


@given(st.binary(max_size=40), st.integers(1, 4))
def test_leading_bytes_of_anything(data: bytes, count: int) -> None:
    try:
        leading_bytes(data, count)
    except FormatError:
        pass


# -- cells and overflow --------------------------------------------------------------------------------


@pytest.mark.parametrize("usable", [480, 512, 1000, 1024, 4096, 8192, 65536])
def test_overflow_thresholds(usable: int) -> None:
    """The limits by the documentation's formulas, and the payload on the page one byte beyond each."""
    geometry = Geometry(usable)
    table, index = usable - 35, (usable - 12) * 64 // 255 - 23
    least = (usable - 12) * 32 // 255 - 23
    assert (geometry.table_max, geometry.index_max, geometry.local_min) == (table, index, least)
    page = bytearray(usable)
    for limit, interior in ((table, None), (index, False), (index, True)):
        for size in (0, 1, limit - 1, limit, limit + 1, limit + 2, 3 * usable, 10**6):
            start = b"" if not interior else struct.pack(">I", 9)
            cell = start + varint(size) + (varint(-5) if interior is None else b"")
            page[8 : 8 + len(cell)] = cell
            if interior is None:
                found = geometry.table_leaf_cell(bytes(page), 8)
                assert found.rowid == -5
            else:
                found = geometry.index_cell(bytes(page), 8, interior)
            assert (found.size, found.start) == (size, 8 + len(cell))
            if size <= limit:
                assert (found.local, found.end) == (size, found.start + size)
            else:
                k = least + (size - least) % (usable - 4)
                assert found.local == (k if k <= limit else least)
                assert found.end == found.start + found.local + 4
                assert (size - found.local) % (usable - 4) == 0 or found.local == least


def overflow_page(following: int, fill: int, usable: int = 512) -> bytes:
    return struct.pack(">I", following) + bytes([fill]) * (usable - 4)


def leaf_with_overflow(size: int, first: int) -> bytes:
    """A table leaf with one cell whose payload begins a chain."""
    geometry = Geometry(512)
    cell = varint(size) + varint(1)
    least = geometry.local_min
    local = least + (size - least) % 508
    local = local if local <= geometry.table_max else least
    body = cell + bytes(local) + struct.pack(">I", first)
    offset = 512 - len(body)
    return struct.pack(">BHHHB", 13, 0, 1, offset, 0) + struct.pack(">H", offset) + bytes(offset - 10) + body


def pages(images: dict[int, bytes]) -> ReadPage:
    """Pages by number; empty behind the end, as the shadow gives them."""

    def read(pgno: int) -> bytes:
        assert pgno > 0
        return images.get(pgno, b"")

    return read


def test_a_chain_is_followed() -> None:
    read = pages({2: leaf_with_overflow(1200, 3), 3: overflow_page(7, 1), 7: overflow_page(0, 2)})
    geometry = Geometry(512)
    cell = geometry.table_leaf_cell(read(2), cell_pointers(read(2), 2)[0])
    chain: list[int] = []
    payload = geometry.payload(read(2), cell, read, chain)
    assert chain == [3, 7] == list(geometry.chain(cell, read))
    assert len(payload) == 1200
    assert payload[cell.local :] == bytes([1]) * 508 + bytes([2]) * (1200 - cell.local - 508)


@pytest.mark.parametrize(
    ("size", "images"),
    [
        (1200, {3: overflow_page(0, 1)}),  # it ends too early
        (1200, {3: overflow_page(9, 1)}),  # it leaves the file
        (1200, {}),  # it begins behind the file
        (10**9, {3: overflow_page(3, 1)}),  # it bites its tail, and a gigabyte is claimed
        (2**31 - 1, {3: overflow_page(4, 1), 4: overflow_page(5, 1), 5: overflow_page(4, 1)}),
        (2**60, {3: overflow_page(4, 1), 4: overflow_page(3, 1)}),
    ],
)
def test_a_broken_chain_is_refused(size: int, images: dict[int, bytes]) -> None:
    """At a cost that depends on the file's pages, not on the size that a cell claims."""
    read = pages({2: leaf_with_overflow(size, 3), **images})
    geometry = Geometry(512)
    cell = geometry.table_leaf_cell(read(2), cell_pointers(read(2), 2)[0])
    with pytest.raises(FormatError):
        geometry.payload(read(2), cell, read)
    with pytest.raises(FormatError):
        list(geometry.chain(cell, read))
    with pytest.raises(FormatError):
        map_tree(2, runs(read), geometry, False, PageMap(9))


def test_a_cell_without_its_chain_is_refused() -> None:
    page = leaf_with_overflow(1200, 0)
    geometry = Geometry(512)
    cell = geometry.table_leaf_cell(page, cell_pointers(page, 2)[0])
    with pytest.raises(FormatError):
        list(geometry.chain(cell, pages({})))
    with pytest.raises(FormatError):
        geometry.payload(page, cell, pages({}))


# -- trees that are none -------------------------------------------------------------------------------


def interior_page(*kids: int) -> bytes:
    """An interior page of a table b-tree on 512 bytes."""
    cells = [struct.pack(">I", kid) + varint(n + 1) for n, kid in enumerate(kids[:-1])]
    head = struct.pack(">BHHHBI", 5, 0, len(cells), 512 - 5 * len(cells), 0, kids[-1])
    offsets = b"".join(struct.pack(">H", 512 - 5 * (n + 1)) for n in range(len(cells)))
    body = b"".join(reversed(cells))
    return head + offsets + bytes(512 - len(head) - len(offsets) - len(body)) + body


LEAF = struct.pack(">BHHHB", 13, 0, 0, 512, 0) + bytes(504)


def test_children_in_order() -> None:
    assert children(interior_page(7, 3, 9), 2) == [7, 3, 9]
    assert list(walk(2, pages({2: interior_page(7, 3), 7: LEAF, 3: LEAF}), interior=True)) == [2, 7, 3]
    assert list(walk(2, pages({2: interior_page(7, 3), 7: LEAF, 3: LEAF}), interior=False)) == [7, 3]


@pytest.mark.parametrize(
    "images",
    [
        {2: interior_page(2, 2)},  # its own child
        {2: interior_page(3, 4), 3: interior_page(2, 2), 4: LEAF},  # a cycle
        {n: interior_page(*[n + 1] * 60) for n in range(2, 40)},  # 60 ** 38 ways down
        {2: interior_page(0, 0)},  # page 0
        {2: interior_page(2**32 - 1, 7)},  # behind the file
        {2: interior_page(3, 3), 3: bytes(512)},  # no b-tree page
        {2: interior_page(3, 3), 3: b"\x0a" + LEAF[1:]},  # an index page
        {2: bytes(512)},
        {2: b""},
        {},
    ],
)
def test_a_tree_that_is_none_is_refused(images: dict[int, bytes]) -> None:
    read = pages(images)
    with pytest.raises(FormatError):
        for _ in walk(2, read, interior=True):
            pass
    with pytest.raises(FormatError):
        map_tree(2, runs(read), Geometry(512), False, PageMap(9))
    good = pages({2: interior_page(50, 60), 50: LEAF, 60: LEAF})
    with pytest.raises(FormatError):
        compare_tree(2, (2,), good, read, False)


@pytest.mark.parametrize("length", [0, 1, 7, 11, 100, 107, 111])
def test_a_short_page_is_refused(length: int) -> None:
    for pgno in (1, 2):
        page = (bytes(100) if pgno == 1 else b"") + interior_page(3, 4)
        with pytest.raises(FormatError):
            children(page[:length], pgno)
        with pytest.raises(FormatError):
            page_kind(page[:0], pgno)
        with pytest.raises(FormatError):
            cell_pointers(page[:length], pgno)


def test_a_cell_pointer_into_the_header_is_refused() -> None:
    page = bytearray(leaf_with_overflow(100, 3))
    page[8:10] = b"\x00\x05"
    with pytest.raises(FormatError, match="inside the header"):
        cell_pointers(bytes(page), 2)


# -- the database header -------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("reserved", [0, 32])
@pytest.mark.parametrize(
    ("encoding", "name"), [("UTF-8", "utf-8"), ("UTF-16le", "utf-16-le"), ("UTF-16be", "utf-16-be")]
)
def test_sqlite_s_own_header(page_size: int, reserved: int, encoding: str, name: str) -> None:
    connection = new_database(page_size=page_size, reserved=reserved, encoding=encoding, auto_vacuum=1)
    connection.execute("CREATE TABLE t(x); CREATE TABLE u(x)")
    data = connection.serialize("main")
    header = DatabaseHeader.parse(data)
    assert (header.page_size, header.reserved, header.usable) == (page_size, reserved, page_size - reserved)
    assert (header.encoding, header.auto_vacuum, header.wal) == (name, True, False)
    assert (header.pages, header.size_valid) == (len(data) // page_size, True)
    cookie = connection.execute("PRAGMA schema_version").get
    assert header.schema_cookie == cookie == int.from_bytes(schema_cookie(data), "big")


@given(st.binary(max_size=120))
def test_random_bytes_are_no_database(data: bytes) -> None:
    with pytest.raises(FormatError):
        DatabaseHeader.parse(data)


@given(st.integers(0, 799))
def test_a_flipped_bit_of_a_database_header(bit: int) -> None:
    """Either it is refused, or the page size can be."""
    data = bytearray(new_database().serialize("main")[:100])
    data[bit // 8] ^= 1 << bit % 8
    try:
        header = DatabaseHeader.parse(bytes(data))
    except FormatError:
        return
    assert header.page_size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    assert header.usable >= 480


# -- what SQLite writes --------------------------------------------------------------------------------

INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([s * 2**n + d for n in (7, 15, 23, 31, 47) for s in (1, -1) for d in (-1, 0, 1)]),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(st.none(), INTEGERS, st.floats(allow_nan=False), TEXTS, st.just("a\0b"), st.binary(max_size=20))
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES, st.binary(max_size=9)), min_size=1, max_size=8)


def decoded_rows(data: Pages, name: str) -> list[tuple[int | None, Row]]:
    """All rows of a table by the decoder."""
    schema = read_schema(data.read, data.layout.geometry, data.layout.encoding)
    table = schema.tables[name]
    rows = RowReader(RowFormat(table, data.layout.encoding), data.layout.geometry, data.read)
    return [
        (None if table.without_rowid else entry[0], rows.row(entry))
        for pgno in walk(table.root, data.read, interior=table.without_rowid)
        if table.without_rowid or data.read(pgno)[0] == 13
        for entry in rows.entries(pgno, rows.pointers(pgno))
    ]


def assert_decoded(connection: apsw.Connection) -> None:
    """Every table's decoded rows are what SELECT gives, to the bit."""
    data = Pages.take(connection)
    schema = read_schema(data.read, data.layout.geometry, data.layout.encoding)
    build_pagemap(runs(data.read), data.count, schema, data.layout)
    assert schema.tables
    for table in schema.tables.values():
        expected = sorted(select(connection, table, data.layout.encoding), key=repr)
        found = sorted(decoded_rows(data, table.name), key=repr)
        assert len(found) == len(expected)
        for (rowid, row), (other, wanted) in zip(found, expected, strict=True):
            assert rowid == other
            assert same_row(row, wanted), (table.name, row, wanted)


@settings(deadline=None)
@given(
    ROWS,
    st.sampled_from([512, 1024, 4096, 65536]),
    st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]),
    st.sampled_from([0, 32]),
    st.integers(0, 140_000),
)
def test_any_row_that_sqlite_writes(
    rows: list[tuple[Any, ...]], page_size: int, encoding: str, reserved: int, large: int
) -> None:
    """All affinities, with and without rowids, text of any bytes, large values on all page sizes."""
    connection = new_database(page_size=page_size, encoding=encoding, reserved=reserved)
    connection.execute(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL, d BLOB, e NUMERIC, f INT, g);"
        "CREATE TABLE w(n INT, d REAL, a REAL, b TEXT, PRIMARY KEY(b, n, a)) WITHOUT ROWID"
    )
    for number, (one, two, three, four, raw) in enumerate(rows):
        connection.execute(
            "INSERT INTO t(a, b, c, d, e, f, g) VALUES (?, ?, ?, ?, ?, ?, CAST(? AS TEXT))",
            (number * 2**57 - 2**62, one, two, three, four, one, raw),
        )
        connection.execute(
            "INSERT INTO w(n, d, a, b) VALUES (?, ?, ?, ?)",
            (
                number,
                one if isinstance(one, int | float) else 1,
                float(number),
                two if two is not None else "",
            ),
        )
    connection.execute(
        "INSERT INTO t(a, d, b) VALUES (-5, ?, ?)", (random.Random(1).randbytes(large), "ü" * (large // 7))
    )
    connection.execute("INSERT INTO w(n, b, a) VALUES (-5, ?, 0.5)", ("k" * (large // 3),))
    assert_decoded(connection)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("reserved", [0, 5, 32])
def test_payloads_around_every_threshold(page_size: int, reserved: int) -> None:
    """Table leaf, index leaf and index interior cells, one byte below, at and above each limit."""
    connection = new_database(page_size=page_size, reserved=reserved)
    connection.execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB); CREATE TABLE w(k BLOB PRIMARY KEY) WITHOUT ROWID"
    )
    usable = page_size - reserved
    geometry = Geometry(usable)
    limits = (
        geometry.table_max,
        geometry.index_max,
        geometry.local_min,
        usable - 4,
        2 * (usable - 4) + geometry.local_min,
    )
    for limit in limits:
        for near in range(-8, 4):
            connection.execute("INSERT INTO t(b) VALUES (zeroblob(?))", (limit + near,))
            blob = random.Random(near).randbytes(max(1, limit + near))
            connection.execute("INSERT OR IGNORE INTO w VALUES (?)", (blob,))
    assert_decoded(connection)


def test_short_records_show_the_default_of_each_later_column() -> None:
    """Hazard 15: ADD COLUMN leaves the rows as they are; also without rowids, and on STRICT tables."""
    connection = new_database()
    connection.execute(
        "CREATE TABLE t(a); INSERT INTO t VALUES (1); CREATE TABLE s(a INT) STRICT; INSERT INTO s VALUES (1);"
        "CREATE TABLE w(k TEXT PRIMARY KEY, a) WITHOUT ROWID; INSERT INTO w VALUES ('k', 1)"
    )
    defaults = (
        "", "TEXT DEFAULT 123", "INTEGER DEFAULT '12'", "REAL DEFAULT 5", "DEFAULT (1.0)", "TEXT DEFAULT x'ff00'",
        "DEFAULT -0.0", "DEFAULT 'a''b'", "DEFAULT abc", "DEFAULT true", "NUMERIC DEFAULT '1e3'", "ANY DEFAULT '7'",
        "TEXT NOT NULL DEFAULT 'ü€'", "INT DEFAULT -9223372036854775808", "BLOB DEFAULT 1.5", "REAL DEFAULT 1e999",
        "DEFAULT NULL", "DEFAULT +5", "BOOLEAN DEFAULT FALSE",
    )  # fmt: skip
    for number, definition in enumerate(defaults):
        for table in "tw":
            connection.execute(f"ALTER TABLE {table} ADD COLUMN c{number} {definition}")
    for number, definition in enumerate(("ANY DEFAULT '7'", "ANY DEFAULT 7.0", "TEXT DEFAULT 7", "INT DEFAULT '5'")):
        connection.execute(f"ALTER TABLE s ADD COLUMN c{number} {definition}")
    connection.execute("INSERT INTO t(a) VALUES (2); INSERT INTO w(k) VALUES ('l'); INSERT INTO s(a) VALUES (3)")
    assert_decoded(connection)


def test_definitions_that_only_the_program_understands() -> None:
    """Its functions, collations and modules are not known here, and not needed."""
    connection = new_database()
    connection.create_scalar_function("own", lambda x: x, 1, deterministic=True)
    connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
    connection.execute(
        'CREATE TABLE "odd "" name"("a b" TEXT COLLATE mine PRIMARY KEY, g AS (own("a b")), CHECK (own("a b") > 0));'
        "CREATE TABLE w(a TEXT COLLATE mine, b, PRIMARY KEY(b, a DESC)) WITHOUT ROWID;"
        "CREATE INDEX i ON w(own(b)); CREATE VIEW v AS SELECT own(a) FROM w;"
        "CREATE TRIGGER tr AFTER INSERT ON w BEGIN SELECT own(1); END;"
        "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('not mirrored');"
        'INSERT INTO "odd "" name" VALUES (\'1\'); INSERT INTO w VALUES (1, 2)'
    )
    data = Pages.take(connection)
    schema = read_schema(data.read, data.layout.geometry, data.layout.encoding)
    assert set(schema.tables) == {'odd " name', "w"}
    assert_decoded(connection)


@pytest.mark.parametrize(
    "definition",
    [
        "t(a, b, PRIMARY KEY(a, b))",
        "t(b INT PRIMARY KEY, a)",
        "t(a INTEGER PRIMARY KEY DESC, b)",
        "t(a, b INTEGER, PRIMARY KEY(b))",
        "t(b, a INTEGER PRIMARY KEY AUTOINCREMENT)",
        "t(b, a, PRIMARY KEY(a, b)) WITHOUT ROWID",
        "t(b, a, PRIMARY KEY(a, a)) WITHOUT ROWID",
        "t(b, a, PRIMARY KEY(a, a COLLATE nocase)) WITHOUT ROWID",
        "t(b, x AS (a || b), a, y AS (b) STORED, PRIMARY KEY(a DESC)) WITHOUT ROWID",
        "t(b, x AS (a || b), y AS (b) STORED, a)",
        "t(b UNIQUE, a UNIQUE, UNIQUE(a, b))",
        "t(b, a INTEGER PRIMARY KEY) STRICT".replace("b,", "b ANY,"),
    ],
)
def test_storage_orders(definition: str) -> None:
    """Keys first without rowids, stored columns only, an alias for the rowid or none."""
    connection = new_database()
    connection.execute(f"CREATE TABLE {definition}")
    connection.execute(
        "INSERT INTO t(a, b) VALUES (1, 2), (3, NULLIF(4, 4)), (5, 'x')"
        if "PRIMARY KEY(a, b)" not in definition
        and "b INT PRIMARY" not in definition
        and "PRIMARY KEY(b)" not in definition
        else "INSERT INTO t(a, b) VALUES (1, 2), (3, 4)"
    )
    assert_decoded(connection)


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("reserved", [0, 32])
def test_the_map_of_a_whole_database(page_size: int, reserved: int) -> None:
    """Every page and every chain, also where the pages of a tree are many, deep and not in order."""
    connection = new_database(page_size=page_size, reserved=reserved)
    connection.execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE w(k BLOB PRIMARY KEY, v) WITHOUT ROWID;"
        "CREATE TABLE tiny(v); CREATE TABLE empty(v)"
    )
    pick = random.Random(page_size)
    sizes = [0, 1, 90, 115, 116, 117, 120, 123, 124, 127, 128, 129, 130, 440, 480, 16_370, 16_383, 16_384, 140_000]
    near = [max(0, limit + step) for limit in (page_size, page_size // 4) for step in range(-70, 5)]
    for kind, count in (("t", 6000), ("w", 3000)):
        for _ in range(count):
            size = pick.randrange(60) if pick.random() < 0.9 else pick.choice(sizes + near)
            connection.execute(
                f"INSERT INTO {kind} VALUES (?, zeroblob(?))",
                (pick.getrandbits(40) if kind == "t" else pick.randbytes(8 + size % 400), size),
            )
    connection.executemany("INSERT INTO tiny VALUES (?)", [(None,)] * 3000)
    data = Pages.take(connection)
    geometry = data.layout.geometry
    schema = read_schema(data.read, geometry, "utf-8")
    expected = PageMap(data.count)
    for root, index in [(1, False), *((t.root, t.without_rowid) for t in schema.tables.values())]:
        for pgno in walk(root, data.read, interior=True):
            expected.set(pgno, TREE, root)
            page = data.read(pgno)
            interior = page_kind(page, pgno) in (2, 5)
            for pointer in cell_pointers(page, pgno) if index or not interior else ():
                if index:
                    cell = geometry.index_cell(page, pointer, interior)
                else:
                    cell = geometry.table_leaf_cell(page, pointer)
                kind_of, owner = OVERFLOW_FIRST, pgno
                for link in geometry.chain(cell, data.read):
                    expected.set(link, kind_of, owner)
                    kind_of, owner = OVERFLOW_MORE, link
    assert build_pagemap(runs(data.read), data.count, schema, data.layout) == expected
    assert {1, 2, 3} <= set(expected.kinds)


# -- damaged databases ---------------------------------------------------------------------------------


def small_database() -> bytes:
    """A few tables on 512-byte pages, with interior pages and overflow chains."""
    connection = new_database(page_size=512)
    connection.execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT, y BLOB); CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
        "CREATE TABLE u(x DEFAULT 5)"
    )
    connection.executemany(
        "INSERT INTO t VALUES (?,?,?)", [(i, "x" * (i % 90), bytes(i * 13 % 1500)) for i in range(60)]
    )
    connection.executemany("INSERT INTO w VALUES (?,?)", [(str(i) * 40, i) for i in range(60)])
    return connection.serialize("main")


SMALL = small_database()


def read_all(data: bytes) -> None:
    """Everything that reads a database; raises ``MirrorError`` or nothing."""
    try:
        header = DatabaseHeader.parse(data)
        size = header.page_size
        geometry = Geometry(header.usable)

        def read(pgno: int) -> bytes:
            assert 0 < pgno < 2**32
            return data[(pgno - 1) * size : pgno * size]

        schema = read_schema(read, geometry, header.encoding)
    except MirrorError:
        return
    for table in schema.tables.values():
        try:
            map_tree(table.root, runs(read), geometry, table.without_rowid, PageMap(10))
        except MirrorError:
            pass
        try:
            rows = RowReader(RowFormat(table, header.encoding), geometry, read)
            for pgno in walk(table.root, read, interior=table.without_rowid):
                for entry in rows.entries(pgno, rows.pointers(pgno)):
                    rows.row(entry)
        except MirrorError:
            pass


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_database_is_read_or_refused(damage: list[tuple[int, int]]) -> None:
    """Any bytes anywhere: a result or a ``MirrorError``, in bounded time."""
    data = bytearray(SMALL)
    for at, value in damage:
        data[at] = value
    read_all(bytes(data))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, len(SMALL) // 512),
    st.sampled_from([0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13]),
    st.binary(min_size=1, max_size=5),
    st.booleans(),
)
def test_damaged_page_headers(pgno: int, at: int, damage: bytes, first: bool) -> None:
    """Page types, cell counts, cell pointers and children, where damage does most."""
    data = bytearray(SMALL)
    start = (pgno - 1) * 512 + (100 if pgno == 1 else 0) + at
    data[start : start + len(damage)] = damage
    read_all(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SMALL)), st.randoms(use_true_random=False))
def test_a_truncated_or_shuffled_database_is_read_or_refused(length: int, order: random.Random) -> None:
    read_all(SMALL[:length])
    parts = [SMALL[at : at + 512] for at in range(512, len(SMALL), 512)]
    order.shuffle(parts)
    read_all(SMALL[:512] + b"".join(parts))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, len(SMALL) // 512), st.integers(0, 20) | st.integers(0, 511), st.integers(0, 255)),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_a_damaged_change_is_decoded_or_refused(damage: list[tuple[int, int, int]], moved: bool) -> None:
    """The decoder's way from a good state to a damaged one, also where whole pages change places."""
    data = bytearray(SMALL)
    for pgno, at, value in damage:
        start = (pgno - 1) * 512
        if moved:
            data[start : start + 512] = SMALL[at % 8 * 512 :][:512]
        data[start + at] = value
    old, new = Pages.of(SMALL), Pages(bytes(data), Pages.of(SMALL).header, Pages.of(SMALL).layout)
    schema = read_schema(old.read, old.layout.geometry, "utf-8")
    pagemap = build_pagemap(runs(old.read), old.count, schema, old.layout)
    try:
        decoded = decode(old.read, new.read, new.differing(old), schema, pagemap, old.layout)
        for part in decoded.tables:
            for _ in part.rows:
                pass
    except MirrorError:
        return
    decoded.update.apply(pagemap)
    assert len(pagemap) <= old.count


@settings(max_examples=200)
@given(st.binary(min_size=512, max_size=512), st.integers(0, 600), st.booleans())
def test_random_cells_are_read_or_refused(page: bytes, offset: int, interior: bool) -> None:
    geometry = Geometry(512)
    for parse in (
        lambda: geometry.table_leaf_cell(page, offset),
        lambda: geometry.index_cell(page, offset, interior),
    ):
        try:
            cell = parse()
        except FormatError:
            continue
        assert 0 <= cell.start <= cell.end <= 512
        assert 0 <= cell.local <= cell.size
    for kind, parse in (
        (13, geometry.table_leaf_cell),
        (10, lambda page, at: geometry.index_cell(page, at, False)),
        (2, lambda page, at: geometry.index_cell(page, at, True)),
    ):
        typed = bytes([kind]) + page[1:]
        try:
            cell = parse(typed, offset)
        except FormatError:
            with pytest.raises(FormatError):
                geometry.payloads(typed, 2, (offset,))
            continue
        local = typed[cell.start : cell.start + cell.local]
        assert geometry.payloads(typed, 2, (offset,)) == [(cell.rowid, local, cell if cell.local < cell.size else None)]
    for function in (cell_pointers, children):
        try:
            function(page, 2)
        except FormatError:
            pass


@pytest.mark.parametrize("root", [-1, 0, 2**32, 2**40, 2**63 - 1])
def test_a_root_page_that_cannot_be(root: int) -> None:
    """A damaged schema: refused, or the table is taken for a virtual one (root page 0)."""
    connection = new_database(page_size=512)
    connection.execute("CREATE TABLE t(x)")
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    connection.execute("UPDATE sqlite_schema SET rootpage=?", (root,))
    read_all(connection.serialize("main"))


def test_identical_rows() -> None:
    """Equal is not identical: 1, 1.0 and True-like values stay apart."""
    assert identical((1, "a", b"x", None), (1, "a", b"x", None))
    for one, other in ((1, 1.0), (0.0, -0.0), ("1", 1), (b"a", "a"), (None, 0)):
        assert not identical((one,), (other,))


class CountingMap(PageMap):
    """A page map that counts how often a page is looked up."""

    looked = 0

    def get(self, pgno: int) -> tuple[int, int]:
        self.looked += 1
        return super().get(pgno)


@pytest.mark.parametrize("order", [1, -1])
def test_the_owner_of_a_long_chain_is_found_in_few_steps(order: int) -> None:
    """Page by page, with room for few of them, the time does not grow with the square of the chain's length."""
    pages, room = 10_000, 1000
    pagemap = CountingMap(pages)
    pagemap.set(3, OVERFLOW_FIRST, 2)
    for pgno in range(4, pages):
        pagemap.set(pgno, OVERFLOW_MORE, pgno - 1)
    known: dict[int, tuple[int, int] | None] = {}
    for pgno in range(3, pages)[::order]:
        if len(known) >= room:
            known.clear()
        assert pagemap.chain_owner(pgno, known) == (2, 3)
    assert pagemap.looked < 200 * pages
