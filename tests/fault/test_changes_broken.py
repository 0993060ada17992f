"""The change feed while things break: whatever is killed, cut, full or emptied, a follower misses nothing unsaid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from mirror.core.errors import TooOldError
from mirror.hot.connection import Address
from mirror.hot.facade import HotState, get_hot_state
from tests.support.changes import are_all_there, followed, in_chain, numbers, published, tell
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy, Trap
from tests.support.source import Writer
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server that a test may stop, and that keeps each write."""
    with ValkeyServer(appendonly=True) as server:
        yield server


@pytest.fixture
def there(server: ValkeyServer) -> Address:
    return server.address()


@pytest.fixture
def following(there: Address) -> Iterator[HotState]:
    with get_hot_state(there) as hot:
        yield hot


@pytest.fixture
def notes(writer: Writer) -> Writer:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)")
    return writer


def write(mirror: MirrorProcess, notes: Writer, count: int) -> str:
    """So many transactions, each applied by itself; the position after them."""
    for _ in range(count):
        notes.run("INSERT INTO notes(body) VALUES ('x')")
        mirror.wait_applied()
    return str(mirror.status()["applied"])


def keys_of(hot: HotState, mirror: MirrorProcess, begin: str, end: str) -> list[int]:
    """What was inserted between two positions, by a follower that finds no gap."""
    changes = followed(hot, mirror, begin, end)
    assert in_chain(changes) and changes[0].after == begin
    return numbers(changes)


def is_lost(hot: HotState, mirror: MirrorProcess, begin: str, end: str) -> str:
    """Fails unless what comes after a position cannot be had; returns from where it can."""
    with pytest.raises(TooOldError) as caught:
        followed(hot, mirror, begin, end)
    return caught.value.resume.partition("@")[0]


@pytest.mark.parametrize("log", [0, 100])
def test_killed_between_commit_and_publishing(
    mirror: MirrorProcess, notes: Writer, hot: HotState, valkey: Address, log: int
) -> None:
    tell(mirror, valkey, log=log).start()
    begin = published(mirror)["applied"]
    mirror.stop()
    mirror.start(kill_at="apply:after-commit")
    notes.run("INSERT INTO notes(body) VALUES ('x')")
    mirror.wait_killed()
    mirror.start()
    end = write(mirror, notes, 1)
    published(mirror)
    if log:
        assert keys_of(hot, mirror, begin, end) == [1, 2]
    else:
        assert keys_of(hot, mirror, is_lost(hot, mirror, begin, end), end) == [2]


def test_the_server_is_away(
    mirror: MirrorProcess, notes: Writer, server: ValkeyServer, there: Address, following: HotState
) -> None:
    """The mirror goes on, says so, and tells it all when the server is back."""
    tell(mirror, there).start()
    begin = published(mirror)["applied"]
    write(mirror, notes, 1)
    server.kill()
    end = write(mirror, notes, 20)
    status = mirror.status_when(lambda status: status["changes"]["redis"]["error"])
    assert "redis" in status["changes"]["redis"]["error"] and status["phase"] == "following"
    assert status["changes"]["redis"]["waiting"] >= 20 and not status["changes"]["logged"]
    assert any("changes are not told" in step for step in status["next_steps"])
    server.start()
    status = published(mirror)
    assert status["changes"]["redis"]["waiting"] == 0 == status["changes"]["redis"]["gaps"]
    assert keys_of(following, mirror, begin, end) == list(range(1, 22))


def test_the_server_hangs(
    mirror: MirrorProcess, notes: Writer, server: ValkeyServer, there: Address, following: HotState
) -> None:
    tell(mirror, there).start()
    begin = published(mirror)["applied"]
    server.freeze()
    end = write(mirror, notes, 20)
    server.thaw()
    assert published(mirror)["changes"]["redis"]["gaps"] == 0
    assert keys_of(following, mirror, begin, end) == list(range(1, 21))


@pytest.mark.parametrize("log", [0, 5, 100])
def test_both_are_away(
    mirror: MirrorProcess, notes: Writer, server: ValkeyServer, there: Address, following: HotState, log: int, dsn: str
) -> None:
    """What the log does not have any more, or never had, is told as a gap."""
    tell(mirror, there, log=log).start()
    begin = published(mirror)["applied"]
    server.kill()
    end = write(mirror, notes, 12)
    if log == 5:
        with psycopg.connect(dsn, autocommit=True) as postgres:
            until(lambda: postgres.execute("SELECT count(*) FROM mirror.changes").fetchone() == (5,))
    mirror.kill()
    server.start()
    mirror.start()
    status = published(mirror)
    assert status["changes"]["redis"]["gaps"] == (log < 100)
    if log == 100:
        assert keys_of(following, mirror, begin, end) == list(range(1, 13))
        return
    after = is_lost(following, mirror, begin, end)
    if log:
        assert keys_of(following, mirror, after, end) == list(range(8, 13))
    else:
        assert after == end


@pytest.mark.parametrize("log", [0, 100])
def test_the_server_loses_everything(
    mirror: MirrorProcess, notes: Writer, hot: HotState, valkey: Address, valkey_server: ValkeyServer, log: int
) -> None:
    tell(mirror, valkey, log=log).start()
    begin = published(mirror)["applied"]
    last = write(mirror, notes, 3)
    published(mirror)
    follower = hot.changes.follow(mirror.sources[0], last)
    assert follower.read() == []
    with valkey_server.client(valkey) as redis:
        redis.flushdb()
    assert follower.read() == []
    end = write(mirror, notes, 1)
    published(mirror)
    assert [change.after for change in follower.read(60)] == [last]
    assert keys_of(hot, mirror, begin, end) == [1, 2, 3, 4], "the mirror has all of it in memory"


@pytest.mark.slow
def test_a_server_that_loses_everything_while_nothing_is_written(
    mirror: MirrorProcess, notes: Writer, hot: HotState, valkey: Address, valkey_server: ValkeyServer
) -> None:
    tell(mirror, valkey).start()
    begin = published(mirror)["applied"]
    end = write(mirror, notes, 2)
    published(mirror)
    with valkey_server.client(valkey) as redis:
        redis.flushdb()
    assert keys_of(hot, mirror, begin, end) == [1, 2]


def test_the_server_comes_back_with_less(
    mirror: MirrorProcess, notes: Writer, server: ValkeyServer, there: Address, following: HotState, folder: Path
) -> None:
    tell(mirror, there).start()
    begin = published(mirror)["applied"]
    write(mirror, notes, 2)
    published(mirror)
    server.stop()
    shutil.copytree(server._folder, folder / "older")
    server.start()
    middle = write(mirror, notes, 2)
    published(mirror)
    follower = following.changes.follow(mirror.sources[0], middle)
    server.stop()
    shutil.rmtree(server._folder)
    shutil.copytree(folder / "older", server._folder)
    server.start()
    assert follower.read() == []
    end = write(mirror, notes, 1)
    published(mirror)
    assert [change.after for change in follower.read(60)] == [middle]
    assert keys_of(following, mirror, begin, end) == [1, 2, 3, 4, 5]


def test_the_servers_memory_is_full(
    mirror: MirrorProcess, notes: Writer, server: ValkeyServer, there: Address, following: HotState
) -> None:
    tell(mirror, there).start()
    begin = published(mirror)["applied"]
    with server.client(there) as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "1")
        end = write(mirror, notes, 5)
        status = mirror.status_when(lambda status: status["changes"]["redis"]["error"])
        assert "maxmemory" in status["changes"]["redis"]["error"]
        redis.config_set("maxmemory", "0")
    assert published(mirror)["changes"]["redis"]["gaps"] == 0
    assert keys_of(following, mirror, begin, end) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("to_server", [True, False], ids=["question", "answer"])
def test_cut_while_it_appends(
    mirror: MirrorProcess, notes: Writer, hot: HotState, valkey: Address, to_server: bool
) -> None:
    """In the middle of the question: it was not appended; in the middle of the answer: it was. Each is there once."""
    with Proxy(f"host={valkey.host} port={valkey.port}") as proxy:
        tell(mirror, Address(port=proxy._port, db=valkey.db)).start()
        begin = published(mirror)["applied"]
        for _ in range(5):
            pattern = b'"kind":"rows"' if to_server else b"added"
            sprung = proxy.set_trap(Trap(to_server=to_server, pattern=pattern, more=-2))
            write(mirror, notes, 2)
            assert sprung.wait(60)
        end = published(mirror)["applied"]
        assert mirror.status()["changes"]["redis"]["gaps"] == 0
        assert keys_of(hot, mirror, begin, end) == list(range(1, 11))
        mirror.stop()


def test_the_server_is_killed_while_it_appends(
    mirror: MirrorProcess, notes: Writer, server: ValkeyServer, there: Address, following: HotState
) -> None:
    """Again and again, under load."""
    tell(mirror, there, log=1_000_000).start()
    begin = published(mirror)["applied"]
    ended, written = threading.Event(), 0

    def load() -> None:
        nonlocal written
        while not ended.wait(0.001):
            notes.run("INSERT INTO notes(body) VALUES ('x')")
            written += 1

    writing = threading.Thread(target=load)
    writing.start()
    try:
        for _ in range(4):
            told = mirror.status()["changes"]["redis"]["told"]
            mirror.status_when(lambda status, told=told: status["changes"]["redis"]["told"] > told + 5)
            server.kill()
            server.start()
    finally:
        ended.set()
        writing.join()
    end = published(mirror)["applied"]
    assert mirror.status()["changes"]["redis"]["gaps"] == 0
    changes = followed(following, mirror, begin, end)
    tables = [table for change in changes for table in change.tables]
    found = [(table.inserted, [key for (key,) in table.keys["inserted"]]) for table in tables]
    assert in_chain(changes) and are_all_there(found, written)


def test_a_mirror_that_was_stopped_adds_nothing_after_another_has_taken_over(
    mirror: MirrorProcess,
    notes: Writer,
    hot: HotState,
    valkey: Address,
    make_mirror: Callable[..., MirrorProcess],
    dsn: str,
) -> None:
    """What it has sent already, and is still under way, is refused when it arrives; the other has it from the log."""
    with Proxy(f"host={valkey.host} port={valkey.port}") as proxy, psycopg.connect(dsn, autocommit=True) as postgres:
        tell(mirror, Address(port=proxy._port, db=valkey.db), log=100).start()
        begin = published(mirror)["applied"]
        proxy.hang()
        write(mirror, notes, 1)
        assert proxy.swallowed.wait(60)
        for process in mirror.processes():
            os.kill(process.pid, signal.SIGSTOP)
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mirror'")
        other = tell(make_mirror(mirror.sources[0], state="other"), valkey, log=100)
        other.start()
        published(other)
        end = write(other, notes, 2)
        published(other)
        proxy.flow()
        for process in mirror.processes():
            os.kill(process.pid, signal.SIGCONT)
        assert mirror.ends_within(200)
        changes = followed(hot, other, begin, end)
        assert [change.kind for change in changes] == ["rows", "copy", "rows", "rows"] and in_chain(changes)
        with get_hot_state(valkey) as again:
            assert followed(again, other, begin, end) == changes
        assert published(other)["changes"]["redis"]["error"] is None


def test_postgres_was_put_back(
    mirror: MirrorProcess, notes: Writer, hot: HotState, valkey: Address, folder: Path, dsn: str
) -> None:
    """The feed of another history is not gone on with: it begins again."""
    tell(mirror, valkey).start()
    write(mirror, notes, 2)
    before = published(mirror)["applied"]
    (*_, last) = hot.changes.follow(mirror.sources[0], "0:0").read()
    assert last.lsn == before
    mirror.stop()
    shutil.rmtree(folder / "state")
    with psycopg.connect(dsn, autocommit=True) as postgres:
        postgres.execute("DROP SCHEMA mirror CASCADE; DROP TABLE notes")
    mirror.last_position.clear()
    mirror.start()
    published(mirror)
    now = write(mirror, notes, 1)
    published(mirror)
    assert now != before
    (first, *rest) = hot.changes.follow(mirror.sources[0], "0:0").read()
    assert first.kind == "copy" and [change.kind for change in rest] == ["rows"] and rest[0].lsn == now
    with pytest.raises(TooOldError, match=r"copied anew|another copy"):
        hot.changes.follow(mirror.sources[0], last.mark).read()


class Killed:
    """A follower in a process of its own."""

    def __init__(self, mirror: MirrorProcess, at: Address, begin: str, file: Path) -> None:
        self._command = [sys.executable, "-m", "tests.support.follow_process", str(at.port), str(at.db)]
        self._command += [str(mirror.sources[0]), begin, str(file)]
        self._file = file

    def text(self) -> bytes:
        """What it has written."""
        return self._file.read_bytes() if self._file.exists() else b""

    def run(self, until_there: Callable[[bytes], bool]) -> None:
        """Run it until it has written what it is to write, and kill it."""
        process = subprocess.Popen(self._command, cwd=ROOT)
        try:
            until(lambda: until_there(self.text()), alive=lambda: process.poll() is None)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("times", [pytest.param(3), pytest.param(100, marks=pytest.mark.slow)])
def test_a_follower_that_is_killed_sees_each_once(
    mirror: MirrorProcess, notes: Writer, valkey: Address, folder: Path, times: int
) -> None:
    """Every transaction, under load, however often it is killed."""
    tell(mirror, valkey, log=1_000_000, keep=1_000_000).start()
    begin = published(mirror)["applied"]
    follower = Killed(mirror, valkey, begin, folder / "seen")
    ended, written = threading.Event(), 0

    def load() -> None:
        nonlocal written
        while not ended.wait(0.002):
            notes.run("INSERT INTO notes(body) VALUES ('x')")
            written += 1

    writing = threading.Thread(target=load)
    writing.start()
    try:
        for _ in range(times):
            seen = follower.text().count(b"\n")
            follower.run(lambda text, seen=seen: text.count(b"\n") > seen + 3)
    finally:
        ended.set()
        writing.join()
    end = published(mirror)["applied"]
    follower.run(lambda text: text.endswith(b"\n") and text.splitlines()[-1].split()[0].decode() == end)
    found = [line.split() for line in follower.text().decode().splitlines()]
    assert are_all_there([(int(count), [*map(int, keys)]) for _, count, *keys in found], written)
    with get_hot_state(valkey) as hot:
        assert [lsn for lsn, *_ in found] == [change.lsn for change in followed(hot, mirror, begin, end)]
