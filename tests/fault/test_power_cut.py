"""A power cut: what was written and not synced is lost, in part or whole, of spool, shadow and the source's own WAL.

Postgres has all that it has committed, so it may be ahead of whatever is left.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.capture.spool import segment_path, segments
from mirror.core.folders import source_folder
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy
from tests.support.source import Writer, filling

FILL = filling("i, 'row ' || i, abs(random())")


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 1000))
    writer.run("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    return writer


def work(writer: Writer, chance: random.Random) -> None:
    """Work of every kind: what was just inserted is deleted again, now and then behind a checkpoint."""
    for _ in range(chance.randint(1, 12)):
        key = chance.randint(1, 1500)
        writer.run(
            f"INSERT OR REPLACE INTO t VALUES ({key}, 'new {key}', random())",
            f"INSERT OR REPLACE INTO w VALUES ('{key % 7}', random())",
            f"DELETE FROM t WHERE id = {chance.randint(1, 1500)}",
            f"DELETE FROM w WHERE k = '{chance.randint(0, 6)}'",
        )
    if chance.random() < 0.2:
        writer.run(f"PRAGMA wal_checkpoint({chance.choice(['PASSIVE', 'RESTART', 'TRUNCATE'])})")


def folder_of(mirror: MirrorProcess) -> Path:
    return source_folder(mirror.state_dir, mirror.sources[0])


def lose_of_spool(folder: Path, chance: random.Random) -> str:
    """Lose what no save has synced: everything from the saved position's segment on may be cut; how."""
    first = json.loads((folder / "shadow.json").read_bytes())["place"][0]
    numbers = [number for number in segments(folder / "spool") if number >= first]
    number = chance.choice(numbers)
    for later in numbers:
        if later > number:
            segment_path(folder / "spool", later).unlink()
    path = segment_path(folder / "spool", number)
    how = chance.choice(["cut", "zeros", "garbage", "gone"])
    if how == "gone":
        path.unlink()
        return f"segment {number} gone"
    data = path.read_bytes()
    at = chance.randint(0, len(data))
    left = len(data) - at
    tail = {"cut": b"", "zeros": bytes(left), "garbage": chance.randbytes(left)}[how]
    path.write_bytes(data[:at] + tail)
    return f"segment {number}: {how} at {at} of {len(data)}"


def cut_again_and_again(mirror: MirrorProcess, writer: Writer, chance: random.Random, times: int) -> None:
    mirror.start()
    for turn in range(times):
        work(writer, chance)
        mirror.wait_applied()
        work(writer, chance)
        mirror.kill()
        print(f"cut {turn}:", lose_of_spool(folder_of(mirror), chance))
        if chance.random() < 0.5:
            work(writer, chance)
        mirror.start()
        mirror.settle()
        mirror.check()
        if chance.random() < 0.3:
            mirror.stop()
            mirror.start()


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(2))
def test_spool_lost_from_a_random_byte_on(mirror: MirrorProcess, filled: Writer, seed: int) -> None:
    cut_again_and_again(mirror, filled, random.Random(seed), 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_spool_lost_from_a_random_byte_on_many_times(mirror: MirrorProcess, filled: Writer, seed: int) -> None:
    cut_again_and_again(mirror, filled, random.Random(seed), 10)


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["save:begun", "save:redo", "save:pages", "save:map", "save:position"])
def test_in_a_save(mirror: MirrorProcess, filled: Writer, seam: str) -> None:
    """Of the pages that were written, and not synced yet, some are lost; so is a file about to be renamed."""
    chance = random.Random(seam)
    mirror.start()
    mirror.check()
    mirror.stop()
    folder = folder_of(mirror)
    before = (folder / "shadow.db").read_bytes()
    mirror.start(kill_at=seam)
    for _ in range(4):
        work(filled, chance)
    filled.run(FILL.format(3000, 4000))
    mirror.wait_applied()
    assert mirror._process is not None
    mirror._process.terminate()
    mirror.wait_killed()
    if seam in ("save:begun", "save:redo"):
        after = (folder / "shadow.db").read_bytes()
        mixed = b"".join(
            chance.choice([before, after])[at : at + 4096] or after[at : at + 4096] for at in range(0, len(after), 4096)
        )
        (folder / "shadow.db").write_bytes(mixed)
    for name in ("redo", "map", "json"):
        (folder / f"shadow.{name}.tmp").write_bytes(chance.randbytes(100))
    work(filled, chance)
    mirror.start()
    mirror.check()
    assert mirror.status()["resyncs"] == []


@pytest.mark.few(1)
@pytest.mark.parametrize("what", ["all", "shadow", "spool"])
def test_the_state_directory_is_restored_from_a_backup(mirror: MirrorProcess, filled: Writer, what: str) -> None:
    """Postgres is ahead of it: rows came and went since."""
    chance = random.Random(what)
    mirror.start()
    mirror.check()
    mirror.stop()
    folder = folder_of(mirror)
    backup = folder.with_name("backup")
    shutil.copytree(folder, backup, ignore=shutil.ignore_patterns("*.sock"))
    for _ in range(3):
        mirror.start()
        work(filled, chance)
        filled.run("INSERT INTO t VALUES (9999, 'short-lived', 1)")
        mirror.wait_applied()
        mirror.stop()
        filled.run("DELETE FROM t WHERE id = 9999")
        for path in [*folder.glob("shadow.*"), *(folder / "spool").glob("*.seg")]:
            if what == "all" or (path.suffix == ".seg") == (what == "spool"):
                path.unlink()
        for path in [*backup.glob("shadow.*"), *(backup / "spool").glob("*.seg")]:
            if what == "all" or (path.suffix == ".seg") == (what == "spool"):
                shutil.copyfile(path, folder / path.relative_to(backup))
    mirror.start()
    mirror.settle()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(3))
def test_the_source_loses_commits_too(make_mirror: Callable[..., MirrorProcess], database: Path, seed: int) -> None:
    """With synchronous=NORMAL what was not checkpointed may go: Postgres has what the source lost."""
    chance = random.Random(seed)
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 1000))
    writer.run("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID", "PRAGMA wal_checkpoint(TRUNCATE)")
    mirror = make_mirror(database)
    mirror.start()
    work(writer, chance)
    mirror.wait_applied()
    synced = Path(f"{database}-wal").stat().st_size
    work(writer, chance)
    mirror.wait_applied()
    mirror.kill()
    writer.kill()
    wal = Path(f"{database}-wal")
    size = wal.stat().st_size
    with wal.open("r+b") as file:
        file.truncate(chance.randint(min(synced, size), size))
    Path(f"{database}-shm").unlink()
    print("cut:", lose_of_spool(folder_of(mirror), chance))
    with Writer(database) as writer:
        work(writer, chance)
        mirror.start()
        work(writer, chance)
        mirror.settle()
        mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize(("saved", "restarted"), [(False, False), (False, True), (True, False)])
def test_other_commits_take_the_place_of_lost_ones(
    make_mirror: Callable[..., MirrorProcess], database: Path, dsn: str, saved: bool, restarted: bool
) -> None:
    """Source and spool lose the same commits; what is written next has their salts, frame numbers and sizes.

    ``restarted``: once more, before Postgres could be asked; then capture goes on behind all of them.
    """
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    mirror = make_mirror(database)
    mirror.start()
    mirror.wait_applied()
    wal, spool = Path(f"{database}-wal"), folder_of(mirror) / "spool"
    kept: dict[Path, int] = {}
    for key in range(10):
        writer.run(f"INSERT INTO t VALUES ({key}, 'lost')")
        mirror.wait_applied()
        if key == 4:
            kept = {path: path.stat().st_size for path in (wal, segment_path(spool, segments(spool)[-1]))}
    mirror.stop() if saved else mirror.kill()
    writer.kill()
    for path, size in kept.items():
        with path.open("r+b") as file:
            file.truncate(size)
    Path(f"{database}-shm").unlink()
    with Writer(database) as writer, Proxy(dsn) as proxy:
        writer.run("SELECT * FROM t")
        # Postgres answers only when the spool has all that and more, under the same numbers.
        proxy.refuse()
        mirror.its_dsn = proxy.dsn
        mirror.start()
        seen = ""
        for key in range(20, 27):
            writer.run(f"INSERT INTO t VALUES ({key}, 'in its place')")
            status = mirror.status_when(lambda status, seen=seen: str(status["captured"]) not in ("None", seen))
            seen = str(status["captured"])
        if restarted:
            mirror.kill()
            mirror.start()
        proxy.accept()
        mirror.settle()
        mirror.check()
