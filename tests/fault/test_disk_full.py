"""No room: for the spool, the shadow, the copy, or in Postgres. The mirror says so, waits, and goes on by itself.

A limit on the size of files, which the kernel enforces at a byte, stands in for a full disk of the mirror's own.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from mirror.capture.spool import segment_path, segments
from mirror.core.folders import source_folder
from tests.fault.test_postgres_away import restart_and_check, wait_waiting
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling

FILL = filling("i, 'row ' || i || hex(randomblob(20)), i")


@pytest.fixture
def running(mirror: MirrorProcess, writer: Writer) -> MirrorProcess:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 2000))
    mirror.start()
    mirror.wait_applied()
    return mirror


def folder_of(mirror: MirrorProcess) -> Path:
    return source_folder(mirror.state_dir, mirror.sources[0])


def processes(mirror: MirrorProcess) -> tuple[psutil.Process, psutil.Process]:
    """The mirror's, and that of its capture."""
    assert mirror._process is not None
    own = psutil.Process(mirror._process.pid)
    (capture,) = own.children()
    return own, capture


@contextmanager
def full(process: psutil.Process, size: int) -> Iterator[None]:
    """Within, no file can grow beyond a size through this process."""
    process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        if process.is_running():
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.few(1)
@pytest.mark.linux
@pytest.mark.parametrize("room", [0, 1, 60, 3000])
def test_no_room_for_the_spool(running: MirrorProcess, writer: Writer, room: int) -> None:
    """A record is torn after any number of bytes; status tells, and nothing is lost."""
    _, capture = processes(running)
    spool = folder_of(running) / "spool"
    size = segment_path(spool, segments(spool)[-1]).stat().st_size
    with full(capture, size + room):
        writer.run("INSERT INTO t VALUES (5000, 'no room', 1)", "DELETE FROM t WHERE id < 100")
        status = wait_waiting(running, "append to the spool")
        assert "raise the limit of a file's size" in str(status["last_error"])
        writer.run("UPDATE t SET v = 'no room' WHERE id = 200")
    running.check()
    status = running.status()
    assert (status["phase"], status["last_error"], status["gaps"]) == ("following", None, [])
    restart_and_check(running, writer)


@pytest.mark.linux
def test_killed_while_there_was_no_room_for_the_spool(running: MirrorProcess, writer: Writer) -> None:
    _, capture = processes(running)
    spool = folder_of(running) / "spool"
    with full(capture, segment_path(spool, segments(spool)[-1]).stat().st_size + 1000):
        writer.run("INSERT INTO t VALUES (5000, 'no room', 1)", "DELETE FROM t WHERE id < 100")
        wait_waiting(running, "append to the spool")
        running.kill()
    running.start()
    running.check()


@pytest.mark.linux
def test_no_room_for_the_copy(running: MirrorProcess, writer: Writer) -> None:
    """The source is copied again, here because its copy was deleted; the attempt with room succeeds."""
    own, _ = processes(running)
    with full(own, 50_000):
        # At once: the mirror makes it again as soon as it sees that something is gone.
        shutil.rmtree(folder_of(running).rename(folder_of(running).with_name("deleted")))
        writer.run("INSERT INTO t VALUES (5000, 'no room', 1)")
        status = wait_waiting(running, "File too large")
        assert "copy the source" in str(status["last_error"]) or "state directory" in str(status["last_error"])
    running.check()
    restart_and_check(running, writer)


@pytest.mark.linux
def test_no_room_for_the_last_save(running: MirrorProcess, writer: Writer) -> None:
    """It cannot save, says so with its exit code, and the spool still has what the next start needs."""
    own, _ = processes(running)
    with full(own, 4096):
        writer.run(FILL.format(5000, 6000), "DELETE FROM t WHERE id < 1000")
        running.wait_applied()
        assert running.stop() == 2
    writer.run("INSERT INTO t VALUES (10000, 'stopped', 1)")
    running.start()
    running.check()
    assert running.status()["resyncs"] == []


@pytest.mark.linux
def test_no_room_for_a_save(running: MirrorProcess, writer: Writer) -> None:
    own, _ = processes(running)
    with full(own, 4096):
        # More pages than a save waits for, and no checkpoint: a gap could not be compared without room either.
        writer.run("PRAGMA wal_autocheckpoint=0")
        writer.run(*["INSERT INTO t VALUES (NULL, hex(randomblob(16)), randomblob(60000))"] * 700)
        wait_waiting(running, "File too large")
    running.check()
    restart_and_check(running, writer)


@pytest.mark.few(1)
@pytest.mark.parametrize("rows", [1, 3000])
def test_no_room_in_postgres(running: MirrorProcess, writer: Writer, dsn: str, rows: int) -> None:
    """A trigger says what a server says that cannot extend a file."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON public.t FOR EACH STATEMENT EXECUTE FUNCTION public.full_disk()"
        )
        writer.run(FILL.format(5000, 5000 + rows - 1), "DELETE FROM t WHERE id < 100")
        status = wait_waiting(running, "No space left")
        assert "free disk space on the server" in str(status["last_error"])
        running.kill()
        running.start()
        wait_waiting(running, "No space left")
        connection.execute("DROP FUNCTION public.full_disk CASCADE")
    running.check()
    assert running.status()["rejects"] == 0
    restart_and_check(running, writer)
