"""Bytes of the state directory are damaged while the mirror is stopped: it converges; never a wrong row."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mirror.capture.spool import segment_path, segments
from mirror.core.folders import source_folder
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling, put_in_place
from tests.support.waiting import until

FILL = filling("i, 'row ' || i || hex(randomblob(20)), i")


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 1000))
    return writer


def folder_of(mirror: MirrorProcess) -> Path:
    return source_folder(mirror.state_dir, mirror.sources[0])


def flip(path: Path, chance: random.Random) -> None:
    """Change a few bytes, or a run of them, somewhere."""
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 20])):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    if chance.random() < 0.3:
        at = chance.randrange(len(data))
        run = chance.randbytes(chance.randrange(1, 5000))
        data[at : at + len(run)] = run
    if chance.random() < 0.2:
        del data[chance.randrange(len(data)) :]
    path.write_bytes(data)


@pytest.mark.few(2)
@pytest.mark.parametrize("end", ["stopped", "killed"])
@pytest.mark.parametrize("part", ["shadow.map", "shadow.json", "status.json", "spool"])
def test_bytes_flipped(mirror: MirrorProcess, filled: Writer, part: str, end: str) -> None:
    chance = random.Random(f"{part} {end}")
    folder = folder_of(mirror)
    mirror.start()
    for turn in range(2):
        filled.run(f"INSERT INTO t VALUES ({5000 + turn}, 'short-lived {turn}', 1)")
        mirror.wait_applied()
        until((folder / "status.json").exists, alive=lambda: mirror.alive)
        mirror.stop() if end == "stopped" else mirror.kill()
        path = segment_path(folder / "spool", segments(folder / "spool")[-1]) if part == "spool" else folder / part
        flip(path, chance)
        filled.run(f"DELETE FROM t WHERE id = {5000 + turn}", f"UPDATE t SET v = -1 WHERE id % 50 = {turn}")
        mirror.start()
        mirror.settle()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(3))
def test_bytes_of_the_copy_flipped(mirror: MirrorProcess, filled: Writer, seed: int) -> None:
    chance = random.Random(seed)
    mirror.start()
    mirror.check()
    mirror.stop()
    flip(folder_of(mirror) / "shadow.db", chance)
    filled.run(*[f"DELETE FROM t WHERE id = {chance.randrange(1000)}" for _ in range(300)])
    filled.run("UPDATE t SET v = -1 WHERE id % 2 = 0")
    mirror.start()
    mirror.settle()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("running", [False, True])
def test_file_replaced_by_another_database(
    mirror: MirrorProcess, filled: Writer, database: Path, folder: Path, running: bool
) -> None:
    """With other tables, and one of the same name that is made otherwise."""
    other = folder / "other.db"
    with Writer(other) as writer:
        writer.run("PRAGMA page_size=1024", "PRAGMA journal_mode=WAL", "CREATE TABLE t(name TEXT PRIMARY KEY, x REAL)")
        writer.run("INSERT INTO t VALUES ('other', 1.5)", "CREATE TABLE o(a, b)", "INSERT INTO o VALUES (1, 'o')")
    mirror.start()
    mirror.check()
    if not running:
        mirror.stop()
    filled.close()
    put_in_place(other, database)
    with Writer(database) as writer:
        writer.run("INSERT INTO o VALUES (2, 'after')")
        if not running:
            mirror.start()
        mirror.settle()
        mirror.check()
        mirror.kill()
        writer.run("DELETE FROM o WHERE a = 1")
        mirror.start()
        mirror.settle()
        mirror.check()
