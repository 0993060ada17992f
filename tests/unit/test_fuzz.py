"""Damaged bytes give a value or a typed error that names its place: no other exception, no endless loop."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mirror.capture.spool import RECORD_HEADER_SIZE
from mirror.core.errors import DamagedError, FormatError, MirrorError, NewerStateError, SourceError, StateError
from mirror.replica.images import Images
from mirror.replica.shadow import SavedPosition, Shadow
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.decode.diff import Layout, all_rows, build_pagemap, decode
from mirror.sqlite.decode.pagemap import PageMap
from mirror.sqlite.decode.schema import SchemaRow, parse_schema, read_schema
from mirror.sqlite.format.btree import Geometry
from mirror.sqlite.format.header import DatabaseHeader
from mirror.sqlite.format.walindex import WalIndexHeader
from tests import golden
from tests.support.damage import KINDS, Damage, damaged, limited, sound_database
from tests.support.spooling import Filler, bytes_of, opened, restore
from tests.support.sqlite import Pages, runs, split_wal

SOUND = {
    "512": sound_database(512),
    "512, UTF-16be, auto-vacuum": sound_database(512, "UTF-16be", auto_vacuum=1),
    "1024, UTF-16le, reserved": sound_database(1024, "UTF-16le", reserved=32),
    "4096": sound_database(4096),
    "65536": sound_database(65536),
}
damages = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**20 - 1)),
    min_size=1,
    max_size=4,
)
#: What an error may name as its place.
PLACE = re.compile(r"page \d+|root page \d+|offset \d+|sqlite_schema|segment \d+|[twu]")


def assert_placed(error: MirrorError) -> None:
    """It says what was done, where, and what was found."""
    if isinstance(error, NewerStateError):  # what is read as the format may be anything
        return
    assert isinstance(error, SourceError)
    assert error.operation
    assert error.detail
    assert PLACE.match(error.place), error


def read_whole(data: bytes, page_size: int) -> None:
    """Header, schema, page map and all rows of a database; raises ``MirrorError`` or nothing."""
    header = DatabaseHeader.parse(data)
    layout = Layout(Geometry(header.usable), header.encoding)

    def page(pgno: int) -> bytes:
        return data[(pgno - 1) * page_size : pgno * page_size]

    if header.page_size != page_size:
        return  # another layout altogether; what reads a file asks the header first
    read = limited(page, 200_000)
    schema = read_schema(read, layout.geometry, layout.encoding)
    build_pagemap(runs(read), len(data) // page_size, schema, layout)
    decoded = decode(read, read, (), schema, PageMap(), layout, frozenset(schema.tables))
    for part in decoded.tables:
        for _ in part.rows:
            pass


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(SOUND)), damages)
def test_a_damaged_database(name: str, damage: list[Damage]) -> None:
    sound = SOUND[name]
    try:
        read_whole(damaged(sound, damage), sound.size)
    except MirrorError as error:
        assert_placed(error)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(SOUND)), damages)
@example("1024, UTF-16le, reserved", [("cut", 3084, 0, 0), ("pointer", 124, 0, 0)])
def test_what_is_left_of_a_damaged_database(name: str, damage: list[Damage]) -> None:
    """All rows of a good table; no row twice of a damaged one, which raises after the last; all of it is mapped."""
    sound = SOUND[name]
    layout = sound.pages.layout
    data = damaged(sound, damage)
    bad = Pages(data, sound.pages.header, layout)
    read = limited(bad.read, 400_000)
    try:
        schema = read_schema(read, layout.geometry, layout.encoding)
        found: dict[str, FormatError] = {}
        build_pagemap(runs(read), bad.count, schema, layout, found)
    except MirrorError as error:
        assert_placed(error)  # of the schema table itself
        return
    good = read_schema(sound.pages.read, layout.geometry, layout.encoding)
    for table in schema.tables.values():
        rows = []
        try:
            for change in all_rows(read, table, schema, layout):
                rows.append(change)
        except DamagedError as error:
            assert_placed(error)
        else:
            # Also the piece of a page at which the file is cut.
            untouched = all(bad.read(pgno) == sound.pages.read(pgno) for pgno in range(1, bad.count + 2))
            if untouched:
                assert rows == list(all_rows(sound.pages.read, good.tables[table.name], good, layout))
        if not table.without_rowid:
            keys = [change.rowid or 0 for change in rows]
            assert keys == sorted(set(keys))


@pytest.mark.parametrize("name", sorted(SOUND))
def test_all_rows_of_a_good_database(name: str) -> None:
    pages = SOUND[name].pages
    schema = read_schema(pages.read, pages.layout.geometry, pages.layout.encoding)
    rebuilt = decode(pages.read, pages.read, (), schema, PageMap(), pages.layout, frozenset(schema.tables))
    expected = {part.table.name: list(part.rows) for part in rebuilt.tables}
    for table in schema.tables.values():
        rows = list(all_rows(pages.read, table, schema, pages.layout))
        assert sorted(map(str, rows)) == sorted(map(str, expected[table.name])) and rows


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(SOUND)), damages, st.booleans())
def test_a_change_to_or_from_a_damaged_state(name: str, damage: list[Damage], back: bool) -> None:
    """The decoder between a good state and a damaged one; the map is right for the state before."""
    sound = SOUND[name]
    good = sound.pages
    bad = Pages(damaged(sound, damage), good.header, good.layout)
    old, new = (bad, good) if back else (good, bad)
    changed = range(1, good.count + 1) if back else new.differing(old)
    try:
        schema = read_schema(limited(old.read, 10_000), old.layout.geometry, old.layout.encoding)
        pagemap = build_pagemap(runs(limited(old.read, 50_000)), old.count, schema, old.layout)
        read, reread = limited(old.read, 200_000), limited(new.read, 200_000)
        decoded = decode(read, reread, changed, schema, pagemap, old.layout)
        for part in decoded.tables:
            for _ in part.rows:
                pass
    except MirrorError as error:
        assert_placed(error)
        return
    decoded.update.apply(pagemap)
    assert len(pagemap) <= good.count


# -- WAL -----------------------------------------------------------------------------------------------

WALS = [golden.load(name) for name in ("wal-512", "wal-512-reset", "wal-512-spilled")]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(WALS),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), max_size=3),
    st.integers(0, 2**20),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_a_damaged_wal_never_gives_a_wrong_frame(
    wal: bytes, flips: list[tuple[int, int]], cut: int, moved: tuple[int, int]
) -> None:
    """Flipped, truncated, frames in place of others: what is taken are the first of the frames that were written."""
    _, good = split_wal(wal)
    data = bytearray(wal)
    source, target = (32 + index * 536 for index in moved)
    data[target : target + 536] = wal[source : source + 536]
    for at, flip in flips:
        data[at % len(data)] ^= flip
    try:
        _, frames = split_wal(bytes(data[: 32 + cut % len(data)]))
    except FormatError as error:
        assert_placed(error)
        return
    assert frames == good[: len(frames)]


@given(st.lists(st.tuples(st.integers(0, 95), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_damaged_index_is_none(flips: list[tuple[int, int]]) -> None:
    """The two copies and the checksum: nothing passes that was not written."""
    index = golden.load("shm-512")
    data = bytearray(index[:96])
    for at, flip in flips:
        data[at] ^= flip
    assert WalIndexHeader.parse(bytes(data)) in (None, WalIndexHeader.parse(index) if data == index[:96] else None)


# -- spool ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder, and a spool that begins with a gap and holds some commits and a reset."""
    folder = tmp_path_factory.mktemp("fuzz") / "spool"
    filler = Filler(folder)
    filler.commit(1, 2, 3)
    filler.frames((4, 0), (5, 0))
    filler.commit(2)
    filler.reset()
    filler.commit(1, 2)
    filler.spool.close()
    return folder, bytes_of(folder)


def sealed_records(data: bytes) -> Iterator[int]:
    """Where the records of a segment begin."""
    at = 0
    while at < len(data):
        yield at
        at += RECORD_HEADER_SIZE + int.from_bytes(data[at + 44 : at + 48], "big")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 4),
    st.sampled_from([4, 5, 8, 12, 16, 20, 24, 26, 27, 28, 32, 36, 44, 46, 47]),
    st.binary(min_size=1, max_size=4),
    st.one_of(st.none(), st.binary(max_size=60), st.sampled_from([b"{}", b"[]", b"1", b'{"salts": 1}', b"null"])),
)
def test_records_that_are_sealed_but_absurd(
    spool: tuple[Path, dict[str, bytes]], which: int, at: int, new: bytes, payload: bytes | None
) -> None:
    """Right sums over wrong contents: as of another version, or of a fault in this one."""
    folder, files = spool
    [(name, good)] = files.items()
    data = bytearray(good)
    start = list(sealed_records(good))[which]
    data[start + at : start + at + len(new)] = new
    if payload is not None:
        data[start + 28 : start + 32] = struct.pack(">I", zlib.crc32(payload))
        data[start + 44 : start + 48] = struct.pack(">I", len(payload))
        old = int.from_bytes(good[start + 44 : start + 48], "big")
        data[start + RECORD_HEADER_SIZE : start + RECORD_HEADER_SIZE + old] = payload
    data[start + 48 : start + 52] = struct.pack(">I", zlib.crc32(data[start : start + 48]))
    restore(folder, {name: bytes(data)})
    reader = SpoolReader(folder)
    place = reader.first()
    assert place is not None
    try:
        for record in reader.records(place):
            if not record.count:
                record.cursor()
    except MirrorError as error:
        assert_placed(error)
    finally:
        reader.close()
    try:
        opened(folder).close()
    except StateError:
        return


# -- shadow --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shadow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder, and the files of a saved shadow."""
    folder = tmp_path_factory.mktemp("fuzz") / "state"
    folder.mkdir()
    filler = Filler(folder / "spool")
    (folder / "shadow.db").write_bytes(bytes(512 * 6))
    saved = SavedPosition("lineage", 1, 0, filler.cursor.salts, 1.0, filler.spool.place, 512, 6)
    reader = SpoolReader(folder / "spool")
    made = Shadow.create(folder, Images(folder, reader), saved, {})
    made.commit(PageMap(6).to_bytes())
    made.close()
    filler.spool.close()
    reader.close()
    return folder, {name: (folder / name).read_bytes() for name in ("shadow.db", "shadow.map", "shadow.json")}


def open_shadow(folder: Path, files: dict[str, bytes]) -> SavedPosition | None:
    """What opening these files says of the position; None if they are refused."""
    (folder / "shadow.redo").unlink(missing_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    reader = SpoolReader(folder / "spool")
    images = Images(folder, reader)
    try:
        opened = Shadow.open(folder, images)
        assert opened is not None
        shadow, pagemap = opened
        shadow.close()
        assert len(pagemap) == 5 * (shadow.saved.pages + 1)
        return shadow.saved
    except FormatError:
        return None
    finally:
        images.close()
        reader.close()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["shadow.map", "shadow.json"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=2),
    st.integers(0, 2**16),
)
def test_a_damaged_shadow_is_refused(
    shadow: tuple[Path, dict[str, bytes]], name: str, flips: list[tuple[int, int]], cut: int
) -> None:
    """No flipped bit and no lost end gives another position or another map."""
    folder, files = shadow
    good = open_shadow(folder, files)
    assert good is not None
    data = bytearray(files[name])
    for at, flip in flips:
        data[at % len(data)] ^= flip
    changed = bytes(data[: len(data) - cut % len(data) if cut % 3 == 0 else None])
    found = open_shadow(folder, {**files, name: changed})
    assert found == good if changed == files[name] else found in (good, None)


def test_a_name_in_another_case_than_in_its_statement() -> None:
    """As a flipped bit leaves it; SQLite takes them for one."""
    schema = parse_schema([SchemaRow("table", "T", "t", 2, "CREATE TABLE t(x INTEGER PRIMARY KEY, y)")])
    assert [column.name for column in schema.tables["T"].columns] == ["x", "y"]
