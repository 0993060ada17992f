"""The WAL and its index: headers, checksum chain, and what is not accepted; on bytes that SQLite wrote."""

from __future__ import annotations

import random
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.errors import FormatError, MirrorError
from mirror.core.positions import Salts
from mirror.sqlite.format.wal import (
    FRAME_HEADER_SIZE,
    PAGE_SIZES,
    WalHeader,
    _sums,
    _sums_plainly,
    checksum_words,
    frame_checksum,
    frame_offset,
    frame_salts,
    scan_frames,
    seal_frames,
    verify_frames,
)
from mirror.sqlite.format.walindex import BOTH_COPIES, INDEX_HEADER_SIZE, WalIndexHeader
from tests.golden import load
from tests.support.sqlite import make_wal, reference_checksum, split_wal

ORDERS = ("little", "big")


def big_endian_of(wal: bytes) -> bytes:
    """The same frames as a machine with big-endian words would have written them."""
    header, frames = split_wal(wal)
    return make_wal(frames, header.page_size, salts=header.salts, order="big", sequence=header.sequence)


# -- headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "page_size", "frames", "commits"),
    [
        ("wal-512", 512, 8, (1, 2, 7)),
        ("wal-512-spilled", 512, 16, (1, 2, 7)),
        ("wal-512-reset", 512, 1, (0,)),
        ("wal-65536", 65536, 5, (1, 4)),
    ],
)
def test_sqlite_s_own_wal(name: str, page_size: int, frames: int, commits: tuple[int, ...]) -> None:
    """Spilled frames belong to the chain but are no commits; behind a reset the old ones do not belong."""
    wal = load(name)
    header = WalHeader.parse(wal)
    assert header.page_size == page_size
    assert not header.big_endian
    assert header.sequence == (1 if name == "wal-512-reset" else 0)
    run = verify_frames(wal[32:], page_size, False, header.salts, header.checksum)
    assert (run.count, run.commits) == (frames, commits)
    last = wal[frame_offset(frames, page_size) :][:24]
    assert frame_salts(last) == header.salts
    assert frame_checksum(last) == run.checksum(frames - 1)


def test_a_reset_raises_the_first_salt_and_leaves_the_old_frames() -> None:
    """What draining a finished generation relies on: its frames go on from any known place."""
    before, after = load("wal-512"), load("wal-512-reset")
    old, new = WalHeader.parse(before), WalHeader.parse(after)
    assert new.salts.salt1 == old.salts.salt1 + 1
    assert new.salts.salt2 != old.salts.salt2
    start = frame_offset(2, 512)
    seed = frame_checksum(before[frame_offset(1, 512) :][:24])
    run = verify_frames(after[start:], 512, False, old.salts, seed)
    assert run.commits == (0, 1, 6)
    assert after[start : len(before)] == before[start:]


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("order", ORDERS)
def test_every_page_size_and_byte_order(page_size: int, order: str) -> None:
    page = random.Random(page_size).randbytes(page_size)
    wal = make_wal([(1, 0, page), (7, 9, page)], page_size, order=order, sequence=5)
    header = WalHeader.parse(wal)
    assert (header.page_size, header.big_endian, header.sequence) == (page_size, order == "big", 5)
    run = verify_frames(wal[32:], page_size, header.big_endian, header.salts, header.checksum)
    assert (run.count, run.commits) == (2, (1,))


@pytest.mark.parametrize("position", range(32))
def test_any_flipped_bit_of_the_wal_header_is_refused(position: int) -> None:
    """Magic, version, page size, sequence, salts and the checksum itself."""
    wal = load("wal-512")
    for bit in range(8):
        damaged = bytearray(wal[:32])
        damaged[position] ^= 1 << bit
        with pytest.raises(FormatError):
            WalHeader.parse(bytes(damaged))


@pytest.mark.parametrize("page_size", [0, 1, 256, 513, 65535, 131072])
def test_a_page_size_that_cannot_be_is_refused(page_size: int) -> None:
    with pytest.raises(FormatError, match="page size"):
        WalHeader.parse(make_wal([], page_size))


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_wal_header_is_refused(length: int) -> None:
    with pytest.raises(FormatError):
        WalHeader.parse(load("wal-512")[:length])


@given(st.binary(max_size=64))
def test_random_bytes_are_no_wal_header(data: bytes) -> None:
    with pytest.raises(FormatError):
        WalHeader.parse(data)


# -- the chain -----------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 2**32 - 1), max_size=60).filter(lambda words: len(words) % 2 == 0),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.sampled_from(ORDERS),
)
def test_checksum_words_is_the_documented_loop(words: list[int], seed: tuple[int, int], order: str) -> None:
    data = b"".join(word.to_bytes(4, order) for word in words)  # type: ignore[arg-type]
    assert checksum_words(words, seed) == reference_checksum(data, order, seed)


@given(st.integers(1, 6), st.randoms(use_true_random=False), st.sampled_from(ORDERS), st.just(512))
def test_verify_frames_is_the_loop(count: int, random: random.Random, order: str, size: int) -> None:
    """The matrix product sums what the loop sums, whatever the bytes are."""
    salts = Salts(random.getrandbits(32), random.getrandbits(32))
    frames = [(random.getrandbits(32), random.choice((0, 3)), random.randbytes(size)) for _ in range(count)]
    wal = make_wal(frames, size, salts=salts, order=order)
    header = WalHeader.parse(wal)
    run = verify_frames(wal[32:], size, header.big_endian, salts, header.checksum)
    assert run.count == count
    assert run.commits == tuple(i for i, frame in enumerate(frames) if frame[1])
    for index in range(count):
        assert run.checksum(index) == frame_checksum(wal[frame_offset(index + 1, size) :][:24])
    given = wal[32:], count, size, header.big_endian, header.checksum
    assert run.checksums == list(_sums(*given)) == list(_sums_plainly(*given))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("page_size", sorted(PAGE_SIZES))
def test_the_checksums_are_the_same_without_numpy(page_size: int, big_endian: bool) -> None:
    """Also where each number is as large as it can be."""
    size = 3 * (FRAME_HEADER_SIZE + page_size)
    for data in (random.Random(page_size).randbytes(size), b"\xff" * size):
        given = data, 3, page_size, big_endian, (1, 0xFFFFFFFF)
        assert list(_sums(*given)) == list(_sums_plainly(*given))


def test_a_few_frames_are_tested_without_numpy() -> None:
    """In the process that captures, which needs it for nothing else."""
    code = (
        "import mirror.capture.process, sys\n"
        "from mirror.sqlite.format.wal import WalHeader, verify_frames\n"
        "wal = sys.stdin.buffer.read(); header = WalHeader.parse(wal)\n"
        "for times in 1, 100:\n"
        "    run = verify_frames(wal[32:] * times, 512, False, header.salts, header.checksum)\n"
        "    print(run.count, 'numpy' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], input=load("wal-512"), capture_output=True, check=True)
    assert found.stdout.decode().split() == ["8", "False", "8", "True"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "place",
    [0, 3, 4, 7, 8, 15, 16, 19, 20, 23, 24, 24 + 255, 24 + 511],
    ids=lambda place: f"byte {place}",
)
@pytest.mark.parametrize("frame", [1, 4, 8])
def test_a_flipped_bit_ends_the_chain(order: str, place: int, frame: int) -> None:
    """Page number, size, salts, checksum, and the page's first, middle and last byte."""
    wal = load("wal-512") if order == "little" else big_endian_of(load("wal-512"))
    header = WalHeader.parse(wal)
    damaged = bytearray(wal)
    damaged[frame_offset(frame, 512) + place] ^= 0x40
    run = verify_frames(bytes(damaged[32:]), 512, header.big_endian, header.salts, header.checksum)
    assert run.count == frame - 1
    assert run.commits == tuple(index for index in (1, 2, 7) if index < frame - 1)


def test_the_byte_order_matters() -> None:
    wal = load("wal-512")
    header = WalHeader.parse(wal)
    assert verify_frames(wal[32:], 512, True, header.salts, header.checksum).count == 0
    swapped = big_endian_of(wal)
    header = WalHeader.parse(swapped)
    assert verify_frames(swapped[32:], 512, True, header.salts, header.checksum).count == 8
    assert verify_frames(swapped[32:], 512, False, header.salts, header.checksum).count == 0


@pytest.mark.parametrize("change", [(1, 0), (0, 1), (1, 1)])
def test_frames_of_other_salts_do_not_belong(change: tuple[int, int]) -> None:
    wal = load("wal-512")
    header = WalHeader.parse(wal)
    other = Salts(header.salts.salt1 + change[0], header.salts.salt2 ^ change[1])
    assert verify_frames(wal[32:], 512, False, other, header.checksum).count == 0


def test_a_chain_from_the_wrong_place_does_not_begin() -> None:
    wal = load("wal-512")
    header = WalHeader.parse(wal)
    assert verify_frames(wal[32:], 512, False, header.salts, (0, 0)).count == 0
    second = verify_frames(wal[frame_offset(2, 512) :], 512, False, header.salts, header.checksum)
    assert second.count == 0


def test_a_dropped_or_swapped_frame_is_noticed() -> None:
    wal = load("wal-512")
    header = WalHeader.parse(wal)
    frames = [wal[frame_offset(i, 512) : frame_offset(i + 1, 512)] for i in range(1, 9)]
    for order, good in (([0, 1, 3, 4], 2), ([0, 2, 1, 3], 1), ([0, 0, 1], 1)):
        data = b"".join(frames[i] for i in order)
        assert verify_frames(data, 512, False, header.salts, header.checksum).count == good


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.sampled_from(ORDERS), st.booleans())
def test_frames_without_salts_are_sealed_anew(lost: list[bool], order: str, other: bool) -> None:
    """The pages stay, all frames get salts and a chain; a frame of other salts is not taken for one without."""
    wal = make_wal([(n + 1, n, bytes([n]) * 512) for n in range(len(lost))], 512, order=order)
    header, good = split_wal(wal)
    data = bytearray(wal[32:])
    for index, is_lost in enumerate(lost):
        if is_lost:
            data[index * 536 + 8 : index * 536 + 24] = bytes(16)
    if other:
        data[8:12] = b"else"
    sealed = seal_frames(bytes(data), 512, header.big_endian, header.salts, header.checksum)
    if other:
        assert sealed is None
        return
    assert sealed is not None
    assert split_wal(wal[:32] + sealed) == (header, good)


@pytest.mark.parametrize("cut", [0, 1, 23, 24, 535])
def test_a_partial_last_frame_is_ignored(cut: int) -> None:
    """The file ends anywhere while SQLite appends to it."""
    wal = load("wal-512")
    header = WalHeader.parse(wal)
    data = wal[32 : frame_offset(4, 512) + cut]
    run = verify_frames(data, 512, False, header.salts, header.checksum)
    assert (run.count, run.commits) == (3, (1, 2))


@pytest.mark.parametrize("cut", [0, 1, 535])
def test_headers_alone_tell_salts_and_commits(cut: int) -> None:
    """Up to the first frame of other salts; what is no whole frame is ignored."""
    wal = load("wal-512")
    salts = WalHeader.parse(wal).salts
    assert scan_frames(wal[32 : frame_offset(9, 512)], 512, salts) == (8, 3, 8)
    assert scan_frames(wal[32 : frame_offset(6, 512) + cut], 512, salts) == (5, 2, 3)
    other = bytearray(wal[32:])
    other[2 * 536 + 8] ^= 1
    assert scan_frames(bytes(other), 512, salts) == (2, 1, 2)
    assert scan_frames(b"", 512, salts) == (0, 0, 0)


def test_no_frames() -> None:
    run = verify_frames(b"", 512, False, Salts(1, 2), (3, 4))
    assert (run.count, run.commits, len(run.checksums)) == (0, (), 0)


@given(st.binary(max_size=2000), st.booleans())
def test_random_bytes_are_no_frames(data: bytes, big_endian: bool) -> None:
    assert verify_frames(data, 512, big_endian, Salts(0x01020304, 1), (0, 0)).count == 0


# -- the WAL index -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "page_size", "frame", "pages", "changes"),
    [("shm-512", 512, 8, 5, 3), ("shm-65536", 65536, 5, 3, 2)],
)
def test_sqlite_s_own_index(name: str, page_size: int, frame: int, pages: int, changes: int) -> None:
    """Page size 65536 is stored as 1; the salts stand in it as they stand in the WAL's header."""
    header = WalIndexHeader.parse(load(name))
    assert header is not None
    assert (header.page_size, header.last_frame, header.pages) == (page_size, frame, pages)
    assert header.changes == changes
    assert header.salts == WalHeader.parse(load(name.replace("shm", "wal"))).salts


@pytest.mark.parametrize("position", range(BOTH_COPIES))
def test_an_index_header_with_any_flipped_bit_is_torn(position: int) -> None:
    shm = load("shm-512")[:BOTH_COPIES]
    for bit in range(8):
        damaged = bytearray(shm)
        damaged[position] ^= 1 << bit
        assert WalIndexHeader.parse(bytes(damaged)) is None


@pytest.mark.parametrize("written", range(INDEX_HEADER_SIZE))
def test_a_writer_between_the_two_copies_is_waited_for(written: int) -> None:
    """It stores the second copy first: any prefix of it, with the first one still old, is torn."""
    old = load("shm-512")[:INDEX_HEADER_SIZE]
    new = load("shm-65536")[:INDEX_HEADER_SIZE]
    halfway = old + new[:written] + old[written:]
    if halfway != old + old:
        assert WalIndexHeader.parse(halfway) is None
    halfway = new[:written] + old[written:] + new
    if halfway != new + new:
        assert WalIndexHeader.parse(halfway) is None


@pytest.mark.parametrize("length", [0, 3, 47, 48, 95])
def test_a_short_index_is_no_header(length: int) -> None:
    """A new index file is 3 bytes or empty for a moment."""
    assert WalIndexHeader.parse(load("shm-512")[:length]) is None


def test_an_index_that_nobody_initialised_is_no_header() -> None:
    assert WalIndexHeader.parse(bytes(BOTH_COPIES)) is None
    copy = bytearray(load("shm-512")[:INDEX_HEADER_SIZE])
    copy[12] = 0
    copy[40:48] = struct.pack("=2I", *checksum_words(struct.unpack_from("=10I", copy)))
    assert WalIndexHeader.parse(bytes(copy) * 2) is None


@given(st.binary(min_size=INDEX_HEADER_SIZE, max_size=INDEX_HEADER_SIZE))
def test_random_bytes_are_no_index(data: bytes) -> None:
    assert WalIndexHeader.parse(data * 2) is None


def test_errors_name_the_place() -> None:
    with pytest.raises(MirrorError, match="offset 24"):
        WalHeader.parse(load("wal-512")[:24] + bytes(8))
