"""The state directory, or a part of it, is deleted under a running mirror: it notices, and begins again by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.capture.spool import SEGMENT_BYTES, segments
from mirror.core.folders import source_folder
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT


@pytest.fixture
def running(mirror: MirrorProcess, writer: Writer) -> MirrorProcess:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    mirror.start()
    mirror.wait_applied()
    writer.run("INSERT INTO t VALUES (3, 'three')")
    mirror.wait_applied()
    return mirror


def folder_of(mirror: MirrorProcess) -> Path:
    return source_folder(mirror.state_dir, mirror.sources[0])


def remove(path: Path) -> None:
    """Delete it; the mirror may make a part of it again meanwhile, and then rm fails."""
    subprocess.run(["rm", "-rf", path], check=False)


def until_mended(mirror: MirrorProcess) -> None:
    mirror.status_when(lambda status: status["interruptions"] and status["phase"] == "following")


@pytest.mark.few(2)
@pytest.mark.parametrize("part", ["../..", ".", "lock", "spool", "spool/0000000000000001.seg"])
def test_deleted_while_it_runs(running: MirrorProcess, writer: Writer, part: str) -> None:
    folder = folder_of(running)
    remove(Path(os.path.normpath(folder / part)))
    writer.run("DELETE FROM t WHERE id = 1", "UPDATE t SET v = 'changed' WHERE id = 2")
    until_mended(running)
    writer.run("INSERT INTO t VALUES (4, 'four')")
    running.check()
    assert (folder / "lock").exists() and segments(folder / "spool")
    writer.run("INSERT INTO t VALUES (5, 'five')")
    running.check()
    assert running.stop() == 0
    writer.run("DELETE FROM t WHERE id = 2")
    running.start()
    running.check()


def test_deleted_again_and_again_under_load(running: MirrorProcess, writer: Writer) -> None:
    for turn in range(5):
        writer.send(*[f"INSERT INTO t(v) VALUES ('{turn}')", "DELETE FROM t WHERE id % 7 = 0"] * 500)
        remove(running.state_dir)
        writer.answer()
    running.check()


def test_an_old_segment_is_deleted(running: MirrorProcess, writer: Writer) -> None:
    """The newest one stays, so capture would go on; what the saved shadow continues with is gone."""
    folder = folder_of(running) / "spool"
    while len(segments(folder)) < 3:
        writer.run(f"INSERT INTO t(v) VALUES (randomblob({SEGMENT_BYTES // 8}))")
        running.wait_applied()
    (folder / f"{segments(folder)[0]:016d}.seg").unlink()
    until_mended(running)
    running.check()


@pytest.mark.parametrize("state", ["state", "another"])
def test_a_second_mirror_is_refused_all_the_same(
    running: MirrorProcess, writer: Writer, make_mirror: Callable[..., MirrorProcess], database: Path, state: str
) -> None:
    remove(running.state_dir)
    second = make_mirror(database, state=state)
    second.start(wait=False)
    assert second._process is not None
    assert second._process.wait(LIMIT) != 0
    writer.run("INSERT INTO t VALUES (4, 'four')")
    running.check()


def test_stopped_before_it_noticed(running: MirrorProcess, writer: Writer) -> None:
    """Nothing can be saved, and nothing need be: the next start copies the source."""
    remove(running.state_dir)
    assert running.stop() in (0, 2)
    writer.run("DELETE FROM t WHERE id = 1")
    running.start()
    running.check()


def test_spool_lost_and_killed_before_the_comparison(running: MirrorProcess, writer: Writer) -> None:
    """The new spool uses the old one's numbers again; the saved place is none of its own."""
    running.stop()
    remove(folder_of(running) / "spool")
    writer.run("DELETE FROM t WHERE id = 1")
    running.start(kill_at="rediff:compared", wait=False)
    running.wait_killed()
    writer.run("DELETE FROM t WHERE id = 2")
    running.start()
    running.check()
