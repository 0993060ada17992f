"""Capture, prune and changes of the schema, killed at their seams: nothing is lost, nothing comes twice."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mirror.capture.spool import SEGMENT_BYTES
from mirror.core.errors import ControlError
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling

FILL = filling("i, 'row ' || i, i")


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 1000))
    return writer


def churn(writer: Writer, turn: int) -> None:
    """What was just inserted is deleted again."""
    writer.run(
        f"INSERT INTO t VALUES ({10_000 + turn}, 'new {turn}', {turn})",
        f"UPDATE t SET v = v + 1 WHERE id = {turn % 1000 + 1}",
        f"DELETE FROM t WHERE id = {10_000 + turn - 3}",
    )


def check_after(mirror: MirrorProcess, writer: Writer) -> None:
    """It is equal now, and after a kill of the whole mirror."""
    mirror.check()
    mirror.kill()
    churn(writer, 5000)
    mirror.start()
    mirror.check()


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("seam", "hit"),
    [("spool:begin", 1), ("spool:segment", 1), ("spool:append", 1), ("spool:append", 7), ("spool:appended", 7)],
)
def test_capture_killed_at_a_seam(mirror: MirrorProcess, filled: Writer, seam: str, hit: int) -> None:
    mirror.start(capture_at=seam, hit=hit)
    turn = 0
    while not mirror.capture_killed.exists():
        turn += 1
        churn(filled, turn)
        mirror.wait_applied()
    churn(filled, turn + 1)
    check_after(mirror, filled)


def test_capture_killed_at_a_reset_of_the_wal(mirror: MirrorProcess, filled: Writer) -> None:
    mirror.start(capture_at="spool:begin", hit=2)
    turn = 0
    while not mirror.capture_killed.exists():
        turn += 1
        churn(filled, turn)
        filled.run("PRAGMA wal_checkpoint(RESTART)")
    check_after(mirror, filled)


@pytest.mark.few(1)
@pytest.mark.parametrize("hit", [2, 3])
def test_capture_killed_at_a_new_segment(mirror: MirrorProcess, filled: Writer, hit: int) -> None:
    """The segment has its START and nothing else."""
    mirror.start(capture_at="spool:segment", hit=hit)
    while not mirror.capture_killed.exists():
        filled.run(f"INSERT INTO t(v) VALUES (randomblob({SEGMENT_BYTES // 4}))", "DELETE FROM t WHERE name IS NULL")
    check_after(mirror, filled)


@pytest.mark.slow
def test_killed_between_two_segments_that_are_pruned(mirror: MirrorProcess, filled: Writer) -> None:
    mirror.start(kill_at="prune:segment")
    mirror.wait_applied()
    # A save, which prunes, is due every few segments. A writer that does not wait would leave capture behind.
    filled.run("PRAGMA wal_autocheckpoint=0")
    with suppress(ControlError):
        while mirror.alive:
            filled.run(f"INSERT INTO t(v) VALUES (randomblob({SEGMENT_BYTES}))", "DELETE FROM t WHERE name IS NULL")
            mirror.wait_applied()
    mirror.wait_killed()
    churn(filled, 1)
    mirror.start()
    check_after(mirror, filled)
    assert mirror.status()["resyncs"] == []


@pytest.mark.few(1)
@pytest.mark.parametrize("seam", ["apply:before-commit", "apply:after-commit"])
@pytest.mark.parametrize("hit", [1, 4])
def test_killed_at_changes_of_the_schema(mirror: MirrorProcess, filled: Writer, seam: str, hit: int) -> None:
    """Each is a Postgres transaction of its own; those behind it are applied by the next start."""
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    mirror.start(kill_at=seam, hit=hit)
    mirror.wait_applied()
    filled.run(
        "CREATE TABLE u(a PRIMARY KEY, b)",
        "INSERT INTO u VALUES (1, 'one'), (2, 'two')",
        "ALTER TABLE t ADD COLUMN more DEFAULT 7",
        "UPDATE t SET more = id WHERE id % 2 = 0",
        "ALTER TABLE u RENAME COLUMN b TO c",
        "ALTER TABLE t DROP COLUMN v",
        "INSERT INTO t(id, name) VALUES (7000, 'later')",
    )
    filled.transaction("DROP TABLE u", "CREATE TABLE u(c, a PRIMARY KEY)", "INSERT INTO u VALUES ('new', 3)")
    mirror.wait_killed()
    filled.run("ALTER TABLE t RENAME TO s", "INSERT INTO s(name) VALUES ('in the renamed table')")
    mirror.start()
    mirror.check()
    filled.run("DELETE FROM s WHERE id = 7000")
