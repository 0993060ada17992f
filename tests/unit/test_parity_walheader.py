"""The wal-index header: what is accepted as a commit and what is not."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from mirror.errors import SourceError
from mirror.model import Salts
from mirror.parity import walheader
from mirror.parity.walheader import HEADER_SIZE, Commit, WalHeader, parse


def header(*, frame: int = 7, initialised: int = 1, version: int = 3007000) -> bytes:
    """One copy of a valid header, built by the layout of SQLite's documentation."""
    body = struct.pack("=IIIBBHIIII", version, 0, 5, initialised, 0, 4096, frame, 9, 11, 12)
    body += struct.pack(">II", 0xDEADBEEF, 2)
    low = high = 0
    words = struct.unpack("=10I", body)
    for index in range(0, 10, 2):
        low = (low + words[index] + high) % 2**32
        high = (high + words[index + 1] + low) % 2**32
    return body + struct.pack("=II", low, high)


def test_a_valid_header() -> None:
    """Salts are big-endian, the frame is native."""
    assert parse(header() * 2) == Commit(Salts(0xDEADBEEF, 2), 7)


@pytest.mark.parametrize("position", range(2 * HEADER_SIZE))
def test_any_changed_byte_is_refused(position: int) -> None:
    """A header that is being written never passes for a commit."""
    raw = bytearray(header() * 2)
    raw[position] ^= 0x10
    assert parse(bytes(raw)) is None


@pytest.mark.parametrize(
    "raw",
    [header(initialised=0) * 2, header(version=3007001) * 2, header(), b"", header() + header(frame=8)],
)
def test_not_a_commit(raw: bytes) -> None:
    """Not initialised, unknown, short or torn."""
    assert parse(raw) is None


def test_the_descriptor_is_kept(tmp_path: Path) -> None:
    """One descriptor per file for the life of the process, whoever asks."""
    (tmp_path / "a.db-shm").write_bytes(header() * 2)
    first = WalHeader(tmp_path / "a.db")
    assert parse(first.raw()) == Commit(Salts(0xDEADBEEF, 2), 7)
    known = dict(walheader._kept)
    del first
    assert parse(WalHeader(tmp_path / "a.db").raw()) is not None
    assert walheader._kept == known
    assert all(os.fstat(descriptor) for descriptor in known.values())


def test_a_replaced_file_is_noticed(tmp_path: Path) -> None:
    """Another inode under the same path is another WAL."""
    path = tmp_path / "a.db-shm"
    path.write_bytes(header() * 2)
    reader = WalHeader(tmp_path / "a.db")
    reader.check_identity()
    path.rename(tmp_path / "old")
    with pytest.raises(SourceError, match="replaced"):
        reader.check_identity()
    path.write_bytes(header() * 2)
    with pytest.raises(SourceError, match="replaced"):
        reader.check_identity()


def test_no_wal_index(tmp_path: Path) -> None:
    """Without -shm there is nothing to compare at."""
    with pytest.raises(SourceError, match="wal-index"):
        WalHeader(tmp_path / "none.db")
