"""Who holds a source: a dead mirror of this host is succeeded; nobody else's connection is ever ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mirror.core.errors import FencedError
from mirror.core.locks import SOURCE_IN_POSTGRES
from mirror.core.process_name import is_gone, this_process
from mirror.postgres import lease
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink

Connection = psycopg.Connection[tuple[object, ...]]


def take(dsn: str) -> Sink:
    return Sink.open(dsn, "/source.db", "public", PROFILES)


def name_of_another_process(*, alive: bool = False) -> tuple[int, str, subprocess.Popen[str]]:
    """Process id and name of a process of this host, ended (and reaped) or still there."""
    program = "import sys; from mirror.core.process_name import this_process; print(this_process(), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    if not alive:
        process.communicate(timeout=60)
    return process.pid, name, process


@pytest.fixture
def left(dsn: str) -> Iterator[Connection]:
    """A connection that has the lock of a source, as a mirror's that is stuck, or that nobody knows to be dead."""
    take(dsn).close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_advisory_lock(%s::int, source_id::int) FROM mirror.sources WHERE path = '/source.db'",
            (SOURCE_IN_POSTGRES,),
        )
        yield connection


def held_by(connection: Connection, pid: int, holder: str | None, *, written: bool = True) -> None:
    """Write down that it is the connection of this process; ``written``: of this very connection."""
    connection.execute(
        "UPDATE mirror.sources SET host = %s, pid = %s, holder = %s,"
        " backend = CASE WHEN %s THEN mirror.backend(pg_backend_pid()) ELSE '1 1.5' END",
        (socket.gethostname(), pid, holder, written),
    )


def lives(connection: Connection) -> bool:
    try:
        return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_programs_that_share_it_all_the_time_let_a_mirror_in(dsn: str) -> None:
    """At each moment at least one of them has a share, as of many programs that write to Postgres alone."""
    take(dsn).close()
    ended, refused = threading.Event(), threading.Event()
    share = "SELECT pg_try_advisory_xact_lock_shared(%s, source_id::int) FROM mirror.sources WHERE path = '/source.db'"
    ready = threading.Barrier(5)

    def program(number: int) -> None:
        with psycopg.connect(dsn) as connection:
            while not ended.is_set():
                if connection.execute(share, [SOURCE_IN_POSTGRES]).fetchone() == (True,):
                    if number >= 0:
                        ready.wait(60)
                        number = -1
                    ended.wait(0.1)
                else:
                    refused.set()
                connection.commit()

    with ThreadPoolExecutor(4) as pool:
        programs = [pool.submit(program, number) for number in range(4)]
        try:
            ready.wait(60)
            take(dsn).close()
        finally:
            ended.set()
        for each in programs:
            each.result()
    assert refused.is_set()


def test_a_dead_holder_of_this_host_is_succeeded(left: Connection, dsn: str) -> None:
    pid, name, _ = name_of_another_process()
    held_by(left, pid, name)
    take(dsn).close()
    assert not lives(left)


def test_a_process_id_that_was_used_again_is_no_holder(left: Connection, dsn: str) -> None:
    """Ours, here: the holder had the same id, and began at another time."""
    name = this_process()
    held_by(left, os.getpid(), f"{name[:-1]}{(int(name[-1]) + 1) % 10}")
    take(dsn).close()
    assert not lives(left)


def test_a_living_holder_is_left_alone(left: Connection, dsn: str) -> None:
    pid, name, process = name_of_another_process(alive=True)
    held_by(left, pid, name)
    with pytest.raises(FencedError, match=f"pid {pid}"):
        take(dsn)
    assert lives(left)
    process.communicate(timeout=60)


def test_a_holder_of_another_container_is_left_alone(left: Connection, dsn: str) -> None:
    """Same host name, and nobody here has the process id: that says nothing about a process of another namespace."""
    pid, name, _ = name_of_another_process()
    namespace = name.split(" ")[0]
    for other in (name.replace(namespace, f"{namespace}1"), name.replace(namespace, f"0{namespace}"), None, ""):
        held_by(left, pid, other)
        with pytest.raises(FencedError, match="another mirror holds it") as refused:
            take(dsn)
        assert "container" in refused.value.next_step
        assert lives(left)


def test_whoever_has_just_taken_it_is_left_alone(left: Connection, dsn: str) -> None:
    """It has the lock, and has not written that down: what is there is still of a dead mirror."""
    pid, name, _ = name_of_another_process()
    held_by(left, pid, name, written=False)
    with pytest.raises(FencedError):
        take(dsn)
    assert lives(left)


def test_a_recycled_server_process_is_left_alone(dsn: str) -> None:
    """A server that was restarted begins with low ids again, so that another's connection has one that was ours."""
    first = take(dsn)
    pid, _ = str(first._backend).split(" ")
    lease.leave(f"{pid} 1.5")
    with pytest.raises(FencedError):
        take(dsn)
    assert first.read_position() is None, "the first goes on"
    first.close()


def test_what_this_process_left_behind_is_ended(dsn: str, left: Connection) -> None:
    """A connection that was cut, of which the server knows nothing yet."""
    held_by(left, os.getpid(), this_process())
    with pytest.raises(FencedError):
        take(dsn)
    backend = left.execute("SELECT mirror.backend(pg_backend_pid())").fetchone()
    assert backend is not None
    lease.leave(str(backend[0]))
    take(dsn).close()
    assert not lives(left)


def test_a_sink_that_could_not_be_opened_leaves_nothing_behind(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should its connection be lost right then, the next attempt may end what the server still holds."""
    take(dsn).close()
    before = len(lease._LEFT_BEHIND)
    with monkeypatch.context() as patched:
        patched.setattr(lease, "take", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take(dsn)
    assert len(lease._LEFT_BEHIND) == before + 1


def test_names_of_processes() -> None:
    _, ended, _ = name_of_another_process()
    _, alive, process = name_of_another_process(alive=True)
    assert is_gone(ended) and not is_gone(alive) and not is_gone(this_process())
    # Its end, before its parent has asked: a zombie holds nothing any more.
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(alive)
    process.wait()
    for nothing in (None, "", "x", "x y z", ended.partition(" ")[0], f"{ended.partition(' ')[0]} 12"):
        assert not is_gone(nothing)
    assert not is_gone(f"elsewhere {ended.partition(' ')[2]}")
