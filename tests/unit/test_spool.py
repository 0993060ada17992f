"""The spool: what is appended comes back; what a kill or damage leaves is cut at a commit; never a wrong frame."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.capture import spool as spool_module
from mirror.capture.spool import (
    RECORD_HEADER_SIZE,
    Cursor,
    Kind,
    Record,
    SpoolPlace,
    SpoolWriter,
    segment_path,
    segments,
)
from mirror.core.errors import MirrorError, StateError
from mirror.core.positions import Salts
from mirror.replica import spool_reader as spool_reader_module
from mirror.replica.spool_reader import SpoolReader
from tests.support.descriptors import own_descriptors
from tests.support.spooling import Filler, bytes_of, opened, page, restore

FRAME = 512 + 24


def read(folder: Path, place: SpoolPlace | None = None, until: SpoolPlace | None = None) -> list[Record]:
    """All records that a reader finds."""
    reader = SpoolReader(folder)
    first = place or reader.first()
    found = [] if first is None else list(reader.records(first, until))
    reader.close()
    return found


def frames_of(records: Sequence[Record]) -> list[tuple[int, int, bytes]]:
    """The frames in records: generation, frame number, bytes."""
    return [
        (record.generation, record.first_frame + index, record.payload[index * FRAME : (index + 1) * FRAME])
        for record in records
        for index in range(record.count)
    ]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few frames."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 4000)


@pytest.fixture
def spool_folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def fill(folder: Path) -> Filler:
    """Three generations; several segments if those are small; a large transaction across records."""
    filler = Filler(folder)
    for number in range(2, 8):
        filler.commit(1, number)
    filler.reset()
    filler.frames(*((pgno, 0) for pgno in range(2, 8)))
    filler.frames(*((pgno, 0) for pgno in range(8, 14)))
    filler.frames((14, 20), (1, 20), (3, 0))
    filler.frames((4, 20))
    filler.gap("the WAL was reset: 3 commits overwritten")
    filler.commit(5)
    filler.commit(1, 6)
    filler.spool.close()
    return filler


def test_what_was_appended_comes_back(spool_folder: Path) -> None:
    filler = Filler(spool_folder)
    first = filler.commit(1, 2, 3)
    filler.reset()
    second = filler.frames((4, 0), (5, 8))
    filler.gap("why not")
    records = read(spool_folder)
    assert [record.kind for record in records] == [Kind.GAP, Kind.FRAMES, Kind.RESET, Kind.FRAMES, Kind.GAP]
    assert [record.generation for record in records] == [1, 1, 2, 2, 3]
    assert [(record.first_frame, record.count) for record in records] == [
        (0, 0),
        (1, 3),
        (0, 0),
        (1, 2),
        (0, 0),
    ]
    assert [frame[2][24:] for frame in frames_of(records)] == [*first.values(), *second.values()]
    assert records[-1].cursor() == filler.cursor
    assert records[-1].cursor().reason == "why not"
    assert all(one.end == other.place for one, other in pairwise(records))
    assert records[-1].end == filler.spool.place


def test_the_cursor_survives_as_json() -> None:
    cursor = Cursor(3, 9, Salts(2**32 - 1, 0), (1, 2**32 - 1), 77, 65536, True, 2**40, "tücke")
    assert Cursor.from_json(cursor.to_json()) == cursor


@pytest.mark.usefixtures("small_segments")
def test_segments_begin_with_where_they_are(spool_folder: Path) -> None:
    """Reading across segments gives every frame once; each segment but the first tells its cursor."""
    fill(spool_folder)
    numbers = segments(spool_folder)
    assert len(numbers) > 3
    records = read(spool_folder)
    frames = [(generation, frame) for generation, frame, _ in frames_of(records)]
    assert frames == [(1, n) for n in range(1, 13)] + [(2, n) for n in range(1, 17)] + [(3, n) for n in range(1, 4)]
    for number in numbers[1:]:
        start = read(spool_folder, SpoolPlace(number, 0))[0]
        before = [record for record in records if record.place < SpoolPlace(number, 0) and record.count]
        assert start.kind is Kind.START
        assert start.cursor().frame == before[-1].first_frame + before[-1].count - 1


@pytest.mark.usefixtures("small_segments")
def test_pages_are_read_from_where_they_lie(spool_folder: Path) -> None:
    fill(spool_folder)
    reader = SpoolReader(spool_folder)
    for record in read(spool_folder):
        for index in range(record.count):
            offset = record.place.offset + RECORD_HEADER_SIZE + index * FRAME + 24
            image = reader.page(SpoolPlace(record.place.segment, offset), 512)
            assert image == record.payload[index * FRAME + 24 : (index + 1) * FRAME]
    reader.close()


@pytest.mark.usefixtures("small_segments")
def test_reading_stops_at_the_given_place(spool_folder: Path) -> None:
    """Also where that is the end of a segment, or the start of the next one."""
    fill(spool_folder)
    records = read(spool_folder)
    for count, record in enumerate(records, start=1):
        assert read(spool_folder, until=record.end) == records[:count]
        following = SpoolPlace(record.end.segment + 1, 0)
        if following in [other.place for other in records]:
            assert read(spool_folder, until=following)[:count] == records[:count]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("ahead", [1, RECORD_HEADER_SIZE, RECORD_HEADER_SIZE + FRAME + 10, 3000])
def test_how_much_is_read_at_once_makes_no_difference(
    spool_folder: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Records begin and end anywhere in it, and may be longer."""
    fill(spool_folder)
    records = read(spool_folder)
    monkeypatch.setattr(spool_reader_module, "AHEAD_BYTES", ahead)
    assert read(spool_folder) == records
    for count, record in enumerate(records, start=1):
        assert read(spool_folder, until=record.end) == records[:count]
        assert read(spool_folder, record.place) == records[count - 1 :]


@pytest.mark.usefixtures("small_segments")
def test_pruning_deletes_whole_segments(spool_folder: Path) -> None:
    fill(spool_folder)
    reader = SpoolReader(spool_folder)
    first = reader.first()
    assert first is not None
    assert list(reader.records(first))
    keep = segments(spool_folder)[2]
    kept = [record for record in read(spool_folder) if record.place.segment >= keep]
    reader.sync({keep, segments(spool_folder)[-1]})
    reader.prune(keep)
    assert reader.first() == SpoolPlace(keep, 0)
    assert list(reader.records(SpoolPlace(keep, 0))) == kept
    reader.close()


def test_a_writer_goes_on_where_the_last_one_stopped(spool_folder: Path) -> None:
    first = Filler(spool_folder)
    first.commit(2, 3)
    cursor, place = first.cursor, first.spool.place
    first.spool.close()
    second = Filler(spool_folder)
    assert (second.cursor, second.spool.place) == (cursor, place)
    second.commit(4)
    assert [frame for _, frame, _ in frames_of(read(spool_folder))] == [1, 2, 3]


def test_a_second_writer_waits_until_the_first_one_ends(spool_folder: Path) -> None:
    """Two would overwrite each other's records. It waits without holding up whoever asks."""
    first = Filler(spool_folder)
    first.commit(2, 3)
    second = SpoolWriter(spool_folder)
    steps = second.open()
    assert [next(steps) for _ in range(3)] == [False] * 3
    first.spool.close()
    assert all(steps)
    assert (second.cursor, second.place) == (first.cursor, first.spool.place)
    second.close()


def test_a_spool_that_stays_held_is_an_error(spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that may pass; and nothing of it is open then."""
    first = Filler(spool_folder)
    monkeypatch.setattr(spool_module, "LOCK_SECONDS", 0.0)
    before = own_descriptors()
    with pytest.raises(StateError, match="another process holds its lock") as caught:
        opened(spool_folder)
    assert caught.value.retryable
    assert "fuser" in caught.value.next_step, "the process in the lock file is this one: it does not have the lock"
    assert own_descriptors() == before
    first.spool.close()


def test_the_holder_of_a_spool_is_named(spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its process id: other capture processes that run must not be ended."""
    monkeypatch.setattr(spool_module, "LOCK_SECONDS", 0.0)
    spool_folder.mkdir(exist_ok=True)
    code = (
        "import sys; from pathlib import Path; from mirror.capture.spool import SpoolWriter\n"
        "spool = SpoolWriter(Path(sys.argv[1])); assert all(spool.open()); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(spool_folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(StateError, match=f"another process holds its lock .pid {other.pid}.") as caught:
            opened(spool_folder)
        assert f"`kill -KILL {other.pid}`" in caught.value.next_step and "pgrep" not in caught.value.next_step
        other.kill()
    opened(spool_folder).close()


def test_opening_is_done_in_steps(spool_folder: Path) -> None:
    """A record at a time; given up in between, nothing is open and the lock is free."""
    filler = Filler(spool_folder)
    for _ in range(50):
        filler.commit(2, 3)
    filler.spool.close()
    before = own_descriptors()
    writer = SpoolWriter(spool_folder)
    steps = writer.open()
    assert next(steps) and next(steps)
    steps.close()
    writer.close()
    assert own_descriptors() == before
    again = SpoolWriter(spool_folder)
    assert len(list(again.open())) >= 50
    assert again.cursor == filler.cursor
    again.close()


def test_an_empty_spool_has_no_cursor(spool_folder: Path) -> None:
    spool_folder.mkdir()
    assert opened(spool_folder).cursor is None
    assert SpoolReader(spool_folder).first() is None
    assert read(spool_folder, SpoolPlace(1, 0)) == []


def test_uncommitted_frames_are_cut_off(spool_folder: Path) -> None:
    """Also behind a commit in the same record, which may have been applied and stays (see the shadow's tests)."""
    filler = Filler(spool_folder)
    filler.commit(2, 3)
    filler.frames((2, 9))
    cursor, place = filler.cursor, filler.spool.place
    filler.frames((4, 0), (2, 0))
    filler.frames((5, 0))
    filler.spool.close()
    writer = opened(spool_folder)
    assert (writer.cursor, writer.place) == (cursor, place)
    assert segment_path(spool_folder, 1).stat().st_size == place.offset


def test_a_record_is_cut_behind_its_last_commit(spool_folder: Path) -> None:
    """Its first commits may have been applied, and their pages are read from where they lie."""
    filler = Filler(spool_folder)
    filler.frames((2, 9), (3, 0), (4, 9), (5, 0), (6, 0))
    before = read(spool_folder)
    filler.spool.close()
    again = Filler(spool_folder)
    assert again.cursor.frame == 3
    assert again.cursor.changes == 2
    assert again.spool.place == SpoolPlace(1, before[1].place.offset + RECORD_HEADER_SIZE + 3 * FRAME)
    again.frames((5, 0), (7, 9))
    frames = frames_of(read(spool_folder))
    assert frames[:3] == frames_of(before)[:3]
    assert [frame for _, frame, _ in frames] == [1, 2, 3, 4, 5]
    again.spool.close()


# -- damage --------------------------------------------------------------------------------------------


def assert_recovers(folder: Path, whole: list[Record]) -> None:
    """A writer opens what is there, at a cursor that undamaged reading knows; no frame is a wrong one."""
    writer = opened(folder)
    records = read(folder)
    writer.close()
    frames = frames_of(records)
    assert frames == frames_of(whole)[: len(frames)]
    assert [record.place for record in records] == [record.place for record in whole[: len(records)]]
    assert all(one.end <= other.end for one, other in zip(records, whole, strict=False))
    if writer.cursor is None:
        assert records == []
        return
    assert writer.place == records[-1].end
    last = records[-1]
    if last.kind is Kind.FRAMES:
        assert last.payload[-FRAME:][4:8] != bytes(4), "the last frame is a commit"
        assert (writer.cursor.generation, writer.cursor.frame) == frames[-1][:2]
        assert writer.cursor.checksum == (
            int.from_bytes(last.payload[-FRAME:][16:20], "big"),
            int.from_bytes(last.payload[-FRAME:][20:24], "big"),
        )
    else:
        assert writer.cursor == last.cursor()


@pytest.fixture(params=[1 << 24, 4000], ids=["one segment", "several segments"])
def filled(request: pytest.FixtureRequest, spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", request.param)
    fill(spool_folder)
    return spool_folder


def test_truncated_anywhere_it_recovers_to_a_commit(filled: Path) -> None:
    """A kill or a power cut leaves any prefix of the newest segment."""
    data, whole = bytes_of(filled), read(filled)
    newest = segment_path(filled, segments(filled)[-1])
    records = [record for record in whole if record.place.segment == segments(filled)[-1]]
    edges = {edge for r in records for edge in (r.place.offset, r.place.offset + RECORD_HEADER_SIZE, r.end.offset)}
    lengths = {edge + d for edge in edges for d in (-1, 0, 1)} | set(range(0, newest.stat().st_size, 97))
    for length in sorted(length for length in lengths if 0 <= length <= newest.stat().st_size):
        os.truncate(newest, length)
        assert_recovers(filled, whole)
        restore(filled, data)


def test_a_power_cut_leaves_zeros_or_garbage(filled: Path) -> None:
    """The file may be as long as it was, with blocks that never reached the disk."""
    data, whole = bytes_of(filled), read(filled)
    newest = segment_path(filled, segments(filled)[-1])
    size = newest.stat().st_size
    for start in range(0, size, 301):
        for fill_with in (bytes(size - start), os.urandom(size - start), bytes(min(512, size - start))):
            damaged = bytearray(data[newest.name])
            damaged[start : start + len(fill_with)] = fill_with
            newest.write_bytes(damaged)
            assert_recovers(filled, whole)
            restore(filled, data)


def test_a_flipped_bit_of_a_record_header_is_noticed(filled: Path) -> None:
    """Sizes and counts too: nothing is allocated or parsed by a header that is not the one written."""
    data, whole = bytes_of(filled), read(filled)
    newest = segment_path(filled, segments(filled)[-1])
    sizes = {*range(24, 28), *range(44, 48)}
    victims = [record for record in whole if record.place.segment == segments(filled)[-1]]
    for record in (*victims[:2], *victims[-3:]):
        for at in range(RECORD_HEADER_SIZE):
            for bit in range(8) if at in sizes else (at % 8,):
                damaged = bytearray(data[newest.name])
                damaged[record.place.offset + at] ^= 1 << bit
                newest.write_bytes(damaged)
                assert_recovers(filled, whole)
        restore(filled, data)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damage_anywhere_in_the_newest_segment(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """But for the salts within a frame, which capture tested and nobody reads again."""
    folder = tmp_path_factory.getbasetemp() / "damaged-spool"
    if not folder.exists():
        fill(folder)
        (folder / "kept").mkdir()
        restore(folder / "kept", bytes_of(folder))
    files = bytes_of(folder / "kept")
    restore(folder, files)
    whole = read(folder)
    newest = segment_path(folder, segments(folder)[-1])
    salts = {
        record.place.offset + RECORD_HEADER_SIZE + index * FRAME + at
        for record in whole
        for index in range(record.count)
        for at in range(8, 16)
    }
    damaged = bytearray(files[newest.name])
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        if at not in salts:
            damaged[at] ^= data.draw(st.integers(1, 255))
    newest.write_bytes(damaged)
    assert_recovers(folder, whole)


def test_records_with_wrong_counts_are_refused(spool_folder: Path) -> None:
    """A header whose count does not fit its payload is tested before it is used."""
    filler = Filler(spool_folder)
    filler.frames(*((pgno, 0) for pgno in range(2, 11)), (11, 20))
    filler.spool.close()
    whole, data = read(spool_folder), bytes_of(spool_folder)
    newest = segment_path(spool_folder, 1)
    for count in (0, 1, 2, 5, 8, 20, 67, 536, 2680, 5360, 2**32 - 1):
        damaged = bytearray(data[newest.name])
        at = whole[1].place.offset + 24
        damaged[at : at + 4] = count.to_bytes(4, "big")
        newest.write_bytes(damaged)
        assert read(spool_folder) == whole[:1]
        assert_recovers(spool_folder, whole)
        restore(spool_folder, data)


@pytest.mark.usefixtures("small_segments")
def test_damage_in_the_middle_is_never_passed_over(spool_folder: Path) -> None:
    """A damaged record is where reading ends; before a place that capture named, it is an error."""
    fill(spool_folder)
    whole = read(spool_folder)
    victim = next(record for record in whole if record.kind is Kind.FRAMES and record.place.segment == 2)
    path = segment_path(spool_folder, 2)
    damaged = bytearray(path.read_bytes())
    damaged[victim.place.offset + RECORD_HEADER_SIZE + 100] ^= 1
    path.write_bytes(damaged)
    reader = SpoolReader(spool_folder)
    found: list[Record] = []
    assert list(reader.records(SpoolPlace(1, 0))) == whole[: whole.index(victim)]
    with pytest.raises(MirrorError):
        found.extend(reader.records(SpoolPlace(1, 0), whole[-1].end))
    assert found == whole[: whole.index(victim)]
    reader.close()


# -- a full disk ---------------------------------------------------------------------------------------


class FullDisk:
    """Lets some writes fail as a full disk does, or, after a short one, a full quota."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.partial = False
        self._write, self._rest = os.pwritev, os.pwrite
        monkeypatch.setattr(os, "pwritev", self.write)
        monkeypatch.setattr(os, "pwrite", self.rest)

    def rest(self, descriptor: int, data: bytes, offset: int) -> int:
        if not self.full:
            return self._rest(descriptor, data, offset)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def write(self, descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        if not self.full:
            return self._write(descriptor, parts, offset)
        if self.partial:
            return self._write(descriptor, [b"".join(parts)[:40]], offset)
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("partial", [False, True])
def test_a_failed_append_leaves_nothing(spool_folder: Path, monkeypatch: pytest.MonkeyPatch, partial: bool) -> None:
    """The same frames can be appended again when there is room."""
    filler = Filler(spool_folder)
    filler.commit(2)
    disk = FullDisk(monkeypatch)
    cursor, place = filler.cursor, filler.spool.place
    disk.full, disk.partial = True, partial
    with pytest.raises(StateError) as caught:
        filler.commit(3)
    assert caught.value.retryable
    assert caught.value.detail == os.strerror(errno.EDQUOT if partial else errno.ENOSPC)
    assert (filler.cursor, filler.spool.place) == (cursor, place)
    disk.full = False
    filler.commit(4)
    assert [frame for _, frame, _ in frames_of(read(spool_folder))] == [1, 2]
    filler.spool.close()
    assert opened(spool_folder).cursor == filler.cursor


@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_could_not_be_begun(spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full just when a new segment begins: it must have its START before any frame."""
    filler = Filler(spool_folder)
    while filler.spool.place.offset < 4000:
        filler.commit(2)
    disk = FullDisk(monkeypatch)
    disk.full = True
    for _ in range(3):
        with pytest.raises(StateError):
            filler.commit(3)
    disk.full = False
    filler.commit(4)
    filler.spool.close()
    frames = [frame for _, frame, _ in frames_of(read(spool_folder))]
    assert frames == list(range(1, filler.cursor.frame + 1))
    assert opened(spool_folder).cursor == filler.cursor


@pytest.mark.usefixtures("small_segments")
def test_a_segment_that_could_not_be_created(spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No inode, no descriptor: a ``StateError`` like any other, and appending works again later."""
    filler = Filler(spool_folder)
    while filler.spool.place.offset < 4000:
        filler.commit(2)
    real = os.open

    def refuse(path: object, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    for _ in range(2):
        with pytest.raises(StateError):
            filler.commit(3)
    monkeypatch.setattr(os, "open", real)
    filler.commit(4)
    assert [frame for _, frame, _ in frames_of(read(spool_folder))] == list(range(1, filler.cursor.frame + 1))


def test_page_images_tell_what_they_are() -> None:
    """The tests' own pages differ by number and version."""
    assert len({page(1, 1), page(1, 2), page(2, 1), page(1, 1, 5)}) == 4


def test_a_busy_source_has_numpy_loaded() -> None:
    """As many frames over a longer time do not: what it takes in memory is for those who use it."""
    code = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from mirror.core.imports import has_numpy\n"
        "from mirror.capture.spool import Kind, Record, SpoolPlace\n"
        "from mirror.replica.spool_reader import BUSY_FRAMES, BUSY_SECONDS, SpoolReader\n"
        "place = SpoolPlace(1, 0)\n"
        "for pause in BUSY_SECONDS / 4, BUSY_SECONDS / 16:\n"
        "    reader = SpoolReader(Path())\n"
        "    for at in range(64):\n"
        "        count = BUSY_FRAMES // 8\n"
        "        reader._count(Record(Kind.FRAMES, 1, 1, count, at * pause, b'', False, (0, 0), place, place))\n"
        "    print('numpy' in sys.modules or any(thread.name == 'mirror numpy' for thread in threading.enumerate()))\n"
        "while not has_numpy():\n"
        "    pass\n"
        "import numpy\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stdout.decode().split() == ["False", "True"]
