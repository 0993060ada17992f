"""Hazards that a mirror cannot live with: it says what is the matter, and mirrors no garbage."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from mirror.replica.filesystem import Mount, mounts, network_filesystem, shared_with_host
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1


def wait_until_told(mirror: MirrorProcess, told: str) -> None:
    """Until the mirror waits, for this reason."""
    mirror.status_when(lambda status: status["phase"] == "waiting" and told in status["last_error"])


def test_hazard_21_exclusive_locking_mode(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    """There is no WAL index that others can see. The mirror says so, waits, and begins when it is over."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    writer.close()
    with Writer(database) as exclusive:
        exclusive.run("PRAGMA locking_mode=EXCLUSIVE", "INSERT INTO t VALUES (1, 2)")
        mirror.start()
        wait_until_told(mirror, "exclusive mode")
        exclusive.run("INSERT INTO t VALUES (2, 3)")
    with Writer(database) as normal:
        normal.run("INSERT INTO t VALUES (3, 4)")
        mirror.check()


def test_hazard_21_the_journal_mode_flips(mirror: MirrorProcess, writer: Writer) -> None:
    """To and fro while it is followed, as far as a program can with the mirror connected, and while it is not."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    for mode in ("DELETE", "WAL", "TRUNCATE", "WAL", "PERSIST"):
        writer.run(f"PRAGMA journal_mode={mode}", f"INSERT INTO t(v) VALUES ('{mode}')")
        mirror.start()
        mirror.check()
        assert mirror.status()["capture"] == ("WAL" if mode == "WAL" else "pages")
        writer.run("INSERT INTO t(v) VALUES ('while it runs')")
        mirror.check()
        assert mirror.stop() == 0
    mirror.start()
    mirror.wait_applied()
    writer.run("PRAGMA journal_mode=WAL", "INSERT INTO t(v) VALUES ('flipped while it ran')")
    mirror.check()
    assert mirror.status()["capture"] == "WAL"


def test_hazard_21_encrypted_files(make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str) -> None:
    """Every byte of them is noise, or every byte but for a header that looks right."""
    with Writer(database) as program:
        program.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)")
    header = database.read_bytes()[:100]
    noise = os.urandom(8192)
    for content in (noise, header + noise[100:]):
        database.write_bytes(content)
        mirror = make_mirror(database)
        mirror.start(wait=False)
        assert mirror.ends_within(30)
        with psycopg.connect(dsn) as connection:
            query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
            assert connection.execute(query).fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("kind", "found"),
    [("nfs4", "nfs4"), ("cifs", "cifs"), ("fuse.sshfs", "fuse.sshfs"), ("ext4", None), ("apfs", None), ("tmpfs", None)],
)
def test_hazard_21_network_file_systems(kind: str, found: str | None) -> None:
    """The mount that is nearest to the file counts, and of two at one place the later."""
    mounted = [
        Mount("/", "nfs"),
        Mount("/data", "ext4"),
        Mount("/data/shared", "xfs"),
        Mount("/data/shared", kind),
        Mount("/data/shared/deep/local", "nfs"),
    ]
    assert network_filesystem(Path("/data/shared/deep/memory.db"), mounted) == found
    assert network_filesystem(Path("/data/sharedness/memory.db"), mounted) is None
    assert network_filesystem(Path(__file__), mounts()) is None, "the mounts of this machine are read"


@pytest.mark.parametrize(("kind", "found"), [("9p", "9p"), ("virtiofs", "virtiofs"), ("overlay", None), ("nfs", None)])
def test_hazard_21_folders_of_the_host(kind: str, found: str | None) -> None:
    """Told, and not refused: where all programs run in the virtual machine it does."""
    assert shared_with_host(Path("/data/memory.db"), [Mount("/", "9p"), Mount("/data", kind)]) == found


def _without_roots_rights() -> None:
    """In a child before it runs: who is root obeys permissions, too, like anybody else."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE) != 0:
        raise OSError("cannot give up root's rights")


def run(command: str, database: Path, dsn: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who has no right but what permissions give."""
    state = database.parent.parent / f"{database.parent.name}.state"
    try:
        return subprocess.run(
            [sys.executable, "-m", "mirror", command, database, "--postgres", dsn, "--state-dir", state, *options],
            preexec_fn=_without_roots_rights,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_hazard_22_no_right_to_write_the_wal_index(writer: Writer, database: Path, folder: Path, dsn: str) -> None:
    """Where there is no index yet, a reader has to make one; the mirror says so in one line."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)")
    writer.close()
    assert not Path(f"{database}-shm").exists()
    folder.chmod(0o555)
    try:
        done = run("up", database, dsn, "--once")
    finally:
        folder.chmod(0o755)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert str(database) in line
    assert "give the mirror write permission" in line


def test_hazard_22_an_index_that_may_only_be_read(writer: Writer, database: Path, dsn: str) -> None:
    """The program's own index is there: following needs no more than to read it."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)")
    Path(f"{database}-shm").chmod(0o444)
    done = run("up", database, dsn, "--once")
    assert done.returncode == 0, done.stderr
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id, v::int FROM t").fetchall() == [(1, 2)]
