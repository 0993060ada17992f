"""Three sources in one process, one of which fails: the others go on as ever, and it can be started again."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from mirror.capture.spool import segments
from mirror.core.control import wait_for_mirror
from mirror.core.folders import holder
from mirror.parity.compare import compare
from mirror.sqlite.format.header import HEADER_SIZE
from mirror.sqlite.format.walindex import INDEX_HEADER_SIZE
from tests.support.commands import stop
from tests.support.house import FILL, House
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, put_in_place
from tests.support.waiting import LIMIT, until

#: What processes have open, and who waits for a lock.
pytestmark = pytest.mark.linux


@pytest.fixture
def house(folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess]) -> Iterator[House]:
    house = House(folder, dsn, make_mirror)
    yield house
    house.close()


def garbage(database: Path, seed: bytes) -> None:
    """A file that begins with the header of a database, and nothing behind that is one: not even its schema."""
    with Writer(database) as other:
        other.run(
            "PRAGMA journal_mode=WAL", "CREATE TABLE t_bad(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500, "bad")
        )
    size = database.stat().st_size
    with open(database, "r+b") as file:
        file.seek(HEADER_SIZE)
        file.write((seed * size)[: size - HEADER_SIZE])


def start_again(house: House) -> tuple[str, ...]:
    """The command that the status of a failed source names as the next step."""
    report = house.status_of_bad()
    assert report["phase"] == "failed", report
    (step,) = [step for step in report["next_steps"] if "mirror up" in step]
    program, *words = shlex.split(step.partition("`")[2].partition("`")[0])
    assert (program, words[0]) == ("mirror", "up")
    return tuple(words)


def assert_equal(house: House, schema: str = "public") -> None:
    """Whoever mirrors the failing source, Postgres has it."""
    with wait_for_mirror(house.state, 30.0) as client, psycopg.connect(house.dsn) as connection:
        assert client.wait(60.0)
        report = compare(house.bad, connection, schema, client)
        assert report.verdict == "equal" and report.tables, report.to_json()


def test_garbage_in_its_place(house: House) -> None:
    """It fails for good: logged once, told by ``status``, all released; and it is back when the file is put right.

    (Where it was followed before, the mirror waits for what is put there next; see also ``test_damaged_pages``.)
    """
    good, bad = house.folder / "good.db", house.folder / "garbage.db"
    house.writers["bad"].run("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(house.bad, good)
    garbage(bad, b"\xa5")
    house.writers["bad"].close()
    put_in_place(bad, house.bad)
    house.mirror.start(wait=False)
    for name in ("one", "two"):
        with house.mirror.control(house.paths[name]) as client:
            assert client.wait(LIMIT)
    with house.others_go_on():
        line = house.await_failure()
        assert "malformed" in line and f"when the file changes, or with `mirror up {house.bad}`" in line
        house.assert_released()
        start_again(house)
        # Touched, but no better: it is tried again, and that is not logged once more.
        os.utime(house.bad)
        until(lambda: "its file has changed" in house.log)
        until(lambda: not house.is_held(house.state / "lock"))
        assert len(house.errors()) == 1
        put_in_place(good, house.bad)
        assert_equal(house)
        assert len(house.errors()) == 1
    house.writers["bad"] = Writer(house.bad)
    house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('it goes on')")


def test_its_schema_is_taken_away(house: House) -> None:
    """What ``status`` names as the next step works while the first process goes on, which leaves it alone then."""
    house.mirror.schemas[house.bad] = "its own"
    house.start()
    with house.others_go_on():
        with psycopg.connect(house.dsn, autocommit=True) as connection:
            connection.execute('DROP SCHEMA "its own" CASCADE')
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('nowhere to go')")
        house.await_failure()
        house.assert_released()
        command = start_again(house)
        other = house.cli.start(*command)
        try:
            assert_equal(house, "its own")
            house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('to the other mirror')")
            assert_equal(house, "its own")
            assert holder(house.state) == other.pid
        finally:
            assert stop(other, seconds=30) == 0
        # The first process takes it back: the file has changed since it has failed.
        assert_equal(house, "its own")
        assert holder(house.state) == house.mirror.pid
    assert len(house.errors()) == 1


@pytest.mark.slow
def test_its_place_in_postgres_is_taken_away(house: House) -> None:
    """For the mirror this is as if another had taken the source over: it does not take it back by itself."""
    house.start()
    with house.others_go_on():
        with psycopg.connect(house.dsn, autocommit=True) as connection:
            connection.execute("DELETE FROM mirror.sources WHERE path = %s", (str(house.bad.resolve()),))
            house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('nowhere to go')")
            assert "with `mirror up" in house.await_failure()
            connection.execute("DROP TABLE t_bad")
        house.assert_released()
        with house.cli.up(*start_again(house)[1:], wait=False):
            assert_equal(house)
    house.mirror.end()


def test_its_folder_is_removed(house: House) -> None:
    """The database's: it is waited for."""
    house.start()
    with house.others_go_on():
        house.writers["bad"].run("PRAGMA wal_checkpoint(TRUNCATE)")
        away = house.folder / "away"
        shutil.copytree(house.bad.parent, away)
        house.writers["bad"].close()
        shutil.rmtree(house.bad.parent)
        until(lambda: "the file is gone" in (house.mirror.status(house.bad)["last_error"] or ""))
        os.replace(away, house.bad.parent)
        house.writers["bad"] = Writer(house.bad)
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('it is back')")
        assert_equal(house)
    assert not house.errors()


def test_its_state_is_removed(house: House) -> None:
    house.start()
    with house.others_go_on():
        shutil.rmtree(house.state)
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('meanwhile')")
        until(lambda: bool(segments(house.state / "spool")) and (house.state / "lock").exists())
        assert_equal(house)
    assert not house.errors()


def test_its_spool_is_held_by_another_process(house: House) -> None:
    """Capture dies, and another process has the spool before it is back: the others do not wait for that."""
    house.start()
    has_it, give_back = threading.Event(), threading.Event()

    def hold() -> None:
        with open(house.state / "spool" / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # next in line
            has_it.set()
            give_back.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    with house.others_go_on(capture_dies=True):
        while not has_it.is_set():
            os.kill(house.mirror.capture_pid, signal.SIGKILL)
            has_it.wait(1.0)
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('meanwhile')")
        until(lambda: "another process holds its lock" in (house.mirror.status(house.bad)["last_error"] or ""))
        assert house.mirror.status(house.bad)["phase"] == "waiting"
        give_back.set()
        thread.join()
        assert_equal(house)
    assert not house.errors()


def test_its_index_is_left_between_two_states(house: House) -> None:
    """A writer was killed while it changed the WAL index: that is waited for, by this source alone."""
    house.start()
    index = Path(f"{house.bad}-shm")
    house.writers["bad"].kill()
    with open(index, "r+b") as file:
        file.seek(INDEX_HEADER_SIZE + 8)
        before = file.read(1)
        file.seek(INDEX_HEADER_SIZE + 8)
        file.write(bytes([before[0] ^ 1]))
    with house.others_go_on(capture_dies=True):
        os.kill(house.mirror.capture_pid, signal.SIGKILL)
        until(lambda: "never settled" in (house.mirror.status(house.bad)["last_error"] or ""))
        house.writers["bad"] = Writer(house.bad)
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('it is repaired')")
        assert_equal(house)
    assert not house.errors()


@pytest.mark.slow
def test_capture_is_killed_in_a_large_batch_of_another_source(house: House) -> None:
    """A crash of capture ends no source, whatever its mirror is at then."""
    house.start()
    with house.others_go_on(capture_dies=True):
        for turn in range(3):
            first = 10_000 + turn * 100_000
            house.writers["bad"].run(FILL.format(first, first + 60_000, "bad"))
            until(lambda: house.mirror.status(house.bad)["behind_since"] is not None)
            os.kill(house.mirror.capture_pid, signal.SIGKILL)
            rows = len(house.lags)
            until(lambda rows=rows: len(house.lags) > rows + 4)  # type: ignore[misc]
            assert_equal(house)
    assert not house.errors()


def test_a_bug_in_capture_ends_one_source(house: House) -> None:
    """Its conversation alone; and it is started again when the file changes."""
    house.mirror.environment["MIRROR_CAPTURE_FAULT"] = "bug"
    house.mirror.start(capture_at="spool:begin", hit=7)  # three sources have begun, and begun to be copied
    house.mirror.wait_applied()
    capture = house.mirror.capture_pid
    with house.others_go_on():
        house.writers["bad"].run("PRAGMA wal_checkpoint(RESTART)", "INSERT INTO t_bad(v) VALUES ('a reset')")
        assert "ZeroDivisionError: a bug" in house.await_failure()
        house.assert_released()
        assert "Traceback" in house.log, "on capture's stderr"
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('changed')")
        assert_equal(house)
    assert house.mirror.capture_pid == capture
    assert len(house.errors()) == 1


@pytest.mark.parametrize("error", ["EIO", "EMFILE"])
def test_an_error_of_the_system_in_capture_is_tried_again(house: House, error: str) -> None:
    house.mirror.environment["MIRROR_CAPTURE_FAULT"] = error
    house.mirror.start(capture_at="spool:begin", hit=7)
    house.mirror.wait_applied()
    capture = house.mirror.capture_pid
    with house.others_go_on():
        house.writers["bad"].run("PRAGMA wal_checkpoint(RESTART)", "INSERT INTO t_bad(v) VALUES ('a reset')")
        until(house.mirror.capture_killed.exists)
        assert_equal(house)
    assert house.mirror.capture_pid == capture
    assert os.strerror(getattr(errno, error)) in house.log
    assert not house.errors()


def test_more_than_1024_open_files(house: House) -> None:
    """In the mirror and in the capture process; and capture is started again beside them."""
    house.mirror.environment["MIRROR_OPEN_FILES"] = "1100"
    house.start()
    for process in house.mirror.processes():
        assert process.num_fds() > 1100
    with house.others_go_on(capture_dies=True):
        os.kill(house.mirror.capture_pid, signal.SIGKILL)
        rows = len(house.lags)
        until(lambda: len(house.lags) > rows + 4)
        house.writers["bad"].run("INSERT INTO t_bad(v) VALUES ('and this')")
        assert_equal(house)
    assert not house.errors()
