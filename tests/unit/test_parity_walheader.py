"""The wal-index header: what is accepted as a commit and what is not."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import apsw
import psutil
import pytest

from mirror.core.errors import SourceError
from mirror.core.positions import Salts
from mirror.parity.views import WalSource, open_source
from mirror.parity.walheader import HEADER_SIZE, Commit, WalHeader, parse
from tests.support.locks import CONNECTED, Lock, locks


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def write(path: Path, *statements: str) -> apsw.Connection:
    """A program's connection, in WAL mode."""
    connection = apsw.Connection(str(path))
    for statement in ("PRAGMA journal_mode=WAL", *statements):
        connection.execute(statement).fetchall()
    return connection


def reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
    return connection


def test_the_commit_is_that_of_the_log(path: Path) -> None:
    """As the file has it, and as its log names it; read again after each commit."""
    writer = write(path, "CREATE TABLE t(a)")
    connection = reader(path)
    header = WalHeader(path, connection)
    for number in range(3):
        writer.execute("INSERT INTO t VALUES (1)")
        commit = parse(header.raw())
        assert commit is not None and commit.frame == 3 + number
        assert Path(f"{path}-shm").read_bytes()[: 2 * HEADER_SIZE] == header.raw()
        assert struct.pack(">II", *commit.salts) == Path(f"{path}-wal").read_bytes()[16:24]
    connection.close()
    with pytest.raises(apsw.ConnectionClosedError):
        header.raw()
    writer.close()


def test_no_descriptor_is_left_behind(path: Path, tmp_path: Path) -> None:
    """However often a file is put in the place of another: in a process that compares for months."""
    before = psutil.Process().num_fds()
    for number in range(20):
        made = tmp_path / f"{number}.db"
        write(made, "CREATE TABLE t(a)").close()
        os.replace(made, path)
        program = write(path, "INSERT INTO t VALUES (1)")
        source = open_source(path)
        assert isinstance(source, WalSource)
        with source.view() as commit:
            assert commit.frame > 0
        source.close()
        program.close()
    assert psutil.Process().num_fds() == before


def test_the_locks_of_other_connections_stay(path: Path) -> None:
    """A connection of this process holds its lock on the file before, while and after another compares."""
    program = write(path, "CREATE TABLE t(a)")
    held = [Lock(os.getpid(), False, CONNECTED, CONNECTED)]
    assert locks(Path(f"{path}-shm")) == held
    source = open_source(path)
    assert isinstance(source, WalSource)
    with source.view():
        assert held[0] in locks(Path(f"{path}-shm"))
    assert locks(Path(f"{path}-shm")) == held
    source.close()
    assert locks(Path(f"{path}-shm")) == held
    program.close()


def test_a_replaced_file_is_noticed(path: Path, tmp_path: Path) -> None:
    """Another inode under the same path is another WAL."""
    program, shm = write(path, "CREATE TABLE t(a)"), Path(f"{path}-shm")
    connection = reader(path)
    header = WalHeader(path, connection)
    header.check_identity()
    shm.rename(tmp_path / "old")
    with pytest.raises(SourceError, match="replaced"):
        header.check_identity()
    shm.write_bytes((tmp_path / "old").read_bytes())
    with pytest.raises(SourceError, match="replaced"):
        header.check_identity()
    connection.close()
    program.close()


def test_no_wal_index(path: Path) -> None:
    """Without a WAL there is nothing to compare at."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t(a)")
    with pytest.raises(SourceError, match="wal-index"):
        WalHeader(path, connection)
    Path(f"{path}-shm").touch()  # somebody else's
    with pytest.raises(SourceError, match="wal-index"):
        WalHeader(path, connection)
    connection.close()
