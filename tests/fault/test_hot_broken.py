"""Hot state while things break: connections cut, the server restarted, emptied, stopped, programs killed or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis

from mirror.core.errors import HotAwayError, HotStateError, HotUnsureError, LockLostError
from mirror.hot import online, presence
from mirror.hot.connection import Address, get_redis_client
from mirror.hot.facade import HotState, get_hot_state
from mirror.hot.fenced import create_fences, fenced_write
from tests.support.proxy import Proxy, Trap
from tests.support.valkey import ValkeyServer
from tests.support.waiting import LIMIT, until

ROOT = Path(__file__).parents[2]
STREAM = "stream:family"
#: Seconds after which redis-py gives up a read, if it is not told otherwise.
THEIR_TIMEOUT = 5.0


@pytest.fixture
def raw(valkey: Address) -> redis.Redis:
    return get_redis_client(valkey)


@pytest.fixture
def proxy(valkey: Address) -> Iterator[Proxy]:
    with Proxy(f"host={valkey.host} port={valkey.port}") as proxy:
        yield proxy


@pytest.fixture
def cut(valkey: Address, proxy: Proxy) -> Iterator[HotState]:
    """Hot state through the proxy."""
    port = proxy._port
    with get_hot_state(Address(port=port, db=valkey.db)) as hot:
        yield hot


class Program:
    """A process of :mod:`tests.support.hot_process`."""

    def __init__(self, what: str, at: Address, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.support.hot_process", what, str(at.port), str(at.db)]
        command += map(str, arguments)
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def heard(self, word: str) -> str:
        """The first line that begins with a word, as soon as there is one."""
        return until(
            lambda: next((line for line in self.lines if line.split()[0] == word), ""),
            alive=lambda: self._process.poll() is None or self._thread.is_alive(),
        )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    with ExitStack() as stack:

        def start(*arguments: object) -> Program:
            made = Program(*arguments)  # type: ignore[arg-type]
            stack.callback(made.end)
            return made

        yield start


@pytest.mark.parametrize("trap", [(True, b"the-payload", -3), (False, b"$15\r\n", -5), (False, b"$15\r\n", 10)])
def test_a_message_is_sent_once(cut: HotState, proxy: Proxy, raw: redis.Redis, trap: tuple[bool, bytes, int]) -> None:
    """The question is lost, or the answer, or half of it: it is asked again, and there is one message."""
    cut.family.send("ada", "alert", {"n": 0})
    sprung = proxy.set_trap(Trap(*trap))
    sent = cut.family.send("ada", "alert", "the-payload")
    assert sprung.wait(LIMIT)
    assert [(one, fields["payload"]) for one, fields in raw.xrange(STREAM)][1:] == [(sent, "the-payload")]


def test_what_must_not_be_sent_twice_is_not(cut: HotState, proxy: Proxy, raw: redis.Redis) -> None:
    cut.context.append("ada", session_key="s", summary="one")
    sprung = proxy.set_trap(Trap(False, b"QUEUED\r\n", 40))
    with pytest.raises(HotUnsureError) as raised:
        cut.context.append("ada", session_key="s", summary="two")
    assert sprung.wait(LIMIT)
    assert (raised.value.code, raised.value.retryable) == ("hot.unsure", False)
    assert raw.xlen("agent:cross_channel_log:ada") == 2
    # Nothing was sent: it is asked again without doubt.
    proxy.cut()
    cut.context.append("ada", session_key="s", summary="three")
    assert raw.xlen("agent:cross_channel_log:ada") == 3


def test_redis_py_itself_repeats_nothing(valkey: Address, proxy: Proxy, raw: redis.Redis) -> None:
    """With its default settings there would be two entries."""
    client = get_redis_client(Address(port=proxy._port, db=valkey.db))
    client.ping()
    sprung = proxy.set_trap(Trap(False, b"-0\r\n", -2))
    with pytest.raises(redis.exceptions.ConnectionError):
        client.xadd("stream", {"n": "1"})
    assert sprung.wait(LIMIT)
    assert raw.xlen("stream") == 1
    client.close()


@pytest.mark.parametrize("wait", [0.0, LIMIT])
def test_messages_whose_answer_was_lost_come_first(cut: HotState, hot: HotState, proxy: Proxy, wait: float) -> None:
    reader = cut.family.reader("bob")
    assert reader.read() == []
    sent = [hot.family.send("ada", "alert", {"n": number}) for number in range(6)]
    [kept] = reader.read(count=1)
    sprung = proxy.set_trap(Trap(False, b"sender"))
    with pytest.raises(HotAwayError) as raised:
        reader.read(count=3, wait=wait)
    assert sprung.wait(LIMIT)
    assert raised.value.retryable
    found = [reader.read(count=2, wait=wait) for _ in range(3)]
    assert [[message.id for message in some] for some in found] == [sent[1:3], sent[3:4] + sent[4:5], sent[5:]]
    assert kept.id == sent[0]


def test_an_idle_reader_is_cut(cut: HotState, hot: HotState, proxy: Proxy, raw: redis.Redis) -> None:
    reader = cut.family.reader("bob")
    threading.Thread(
        target=lambda: (until(lambda: raw.info("clients")["blocked_clients"]), proxy.cut()), daemon=True
    ).start()
    with pytest.raises(HotAwayError):
        reader.read(wait=LIMIT)
    sent = hot.family.send("ada", "alert", {})
    assert [message.id for message in reader.read(wait=LIMIT)] == [sent]


def _idle(hot: HotState, seconds: float) -> None:
    reader = hot.family.reader("bob")
    begin = time.monotonic()
    assert reader.read(wait=seconds) == []
    assert time.monotonic() - begin >= seconds
    sender = threading.Timer(1.0, hot.family.send, ("ada", "alert", {}))
    sender.start()
    assert len(reader.read(wait=LIMIT)) == 1
    sender.join()


def test_a_long_idle_read(hot: HotState) -> None:
    """Longer than redis-py's time limit for reading."""
    _idle(hot, THEIR_TIMEOUT + 1)


@pytest.mark.slow
def test_an_idle_read_of_90_seconds(hot: HotState) -> None:
    _idle(hot, 90)


def test_a_listener_says_that_it_missed_something(cut: HotState, hot: HotState, proxy: Proxy) -> None:
    with cut.dashboard.listen() as listener:
        hot.dashboard.publish("agent_status", "ada", {"n": 1})
        assert listener.get(LIMIT)
        proxy.cut()
        with pytest.raises(HotAwayError):
            listener.get(LIMIT)
    with cut.dashboard.listen() as listener:
        hot.dashboard.publish("agent_status", "ada", {"n": 2})
        event = listener.get(LIMIT)
        assert event is not None
        assert event.data == {"n": 2}


def test_the_server_is_restarted_in_the_middle_of_sending() -> None:
    """Killed at any moment, and started again: what was acknowledged is there, and nothing is there twice."""
    with ValkeyServer(appendonly=True) as server:
        at = server.address()
        acknowledged: dict[str, str] = {}
        failed: dict[str, HotStateError] = {}
        end = threading.Event()

        def send() -> None:
            with get_hot_state(at) as hot:
                number = 0
                while not end.is_set():
                    number += 1
                    try:
                        acknowledged[str(number)] = hot.family.send("ada", "alert", str(number))
                    except HotStateError as error:
                        failed[str(number)] = error

        thread = threading.Thread(target=send)
        thread.start()
        for kill in (server.kill, server.stop, server.kill):
            enough = len(acknowledged) + 50
            until(lambda enough=enough: len(acknowledged) >= enough)
            kill()
            server.start()
        enough = len(acknowledged) + 50
        until(lambda: len(acknowledged) >= enough)
        end.set()
        thread.join()
        assert all(error.retryable for error in failed.values())
        with get_hot_state(at) as hot, server.client(at) as raw:
            there = [(fields["payload"], one) for one, fields in raw.xrange(STREAM)]
            assert len({payload for payload, _ in there}) == len(there)
            assert acknowledged.items() <= dict(there).items()
            assert {payload for payload, _ in there} <= {*acknowledged, *failed}
            reader = hot.family.reader("bob")
            read: list[str] = []
            while some := reader.read(count=500):
                read += [message.payload for message in some]
                reader.acknowledge(*some)
            assert read == [payload for payload, _ in there]


def test_the_server_is_restarted_under_a_waiting_reader_and_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "EVERY", 0.05)
    monkeypatch.setattr(online, "_RETRY", 0.05)
    with ValkeyServer(appendonly=True) as server:
        at = server.address()
        with get_hot_state(at) as hot, hot.presence.keep("ada"), hot.locks.take("heartbeat:ada", 60) as lock:
            reader = hot.family.reader("bob")
            reader.read()
            got: list[str] = []

            def read() -> None:
                while not got:
                    try:
                        got.extend(message.payload for message in reader.read(wait=LIMIT))
                    except HotAwayError:
                        pass

            thread = threading.Thread(target=read)
            thread.start()
            with server.client(at) as raw:
                until(lambda: raw.info("clients")["blocked_clients"])
            server.kill()
            server.start()
            hot.family.send("ada", "alert", "after")
            thread.join()
            assert got == ["after"]
            until(lambda: hot.presence.online() == ["ada"])
            assert lock.held


def test_a_server_that_forgets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without persistence; as FLUSHALL, but the connections break, too."""
    monkeypatch.setattr(presence, "EVERY", 0.05)
    monkeypatch.setattr(online, "_RETRY", 0.05)
    with ValkeyServer() as server:
        at = server.address()
        with get_hot_state(at) as hot, hot.presence.keep("ada"):
            lost: list[str] = []
            lock = hot.locks.take("heartbeat:ada", 3, on_lost=lambda gone: lost.append(gone.name))
            before = lock.fence
            reader = hot.family.reader("bob")
            reader.read()
            server.kill()
            server.start()
            until(lambda: lost)
            with pytest.raises(LockLostError):
                lock.check()
            with hot.locks.take("heartbeat:ada") as again:
                assert again.fence > before
            hot.family.send("ada", "alert", {})
            assert len(reader.read()) == 1
            until(lambda: hot.presence.online() == ["ada"])
            lock.release()


def test_flushall_under_a_waiting_reader(hot: HotState, raw: redis.Redis) -> None:
    """The group is made again, at 0: what came since is read."""
    reader = hot.family.reader("bob")
    got: list[str] = []
    thread = threading.Thread(
        target=lambda: got.extend(message.payload for message in reader.read(wait=LIMIT)), daemon=True
    )
    thread.start()
    until(lambda: raw.info("clients")["blocked_clients"])
    raw.flushall()
    hot.family.send("ada", "alert", "after")
    thread.join()
    assert got == ["after"]
    raw.flushall()
    assert reader.read() == []
    reader.acknowledge("1-1")
    assert reader.keep("1-1") == ["1-1"]
    raw.flushall()
    assert reader.fail("1-1", "gone") == "lost"
    assert reader.keep("1-1") == ["1-1"]
    assert hot.family.trim() == 0
    assert not hot.family.drop_older_than(1).messages


def test_readers_are_killed(valkey: Address, hot: HotState, program: Callable[..., Program]) -> None:
    """With kill -9, in the middle of their work: each message is dealt with, and those that were not are pending."""
    sent = [hot.family.send("ada", "alert", {"n": number}, "bob") for number in range(12)]
    readers = [program("read", valkey, "bob", 0.2) for _ in range(2)]
    for reader in readers:
        reader.heard("reading")
    until(lambda: hot.family.status().groups["bob"].lag == 0)
    for reader in readers:
        reader.send(signal.SIGKILL)
    alive = hot.family.reader("bob", claim_after=0.2, tries=1000)
    got: set[str] = set()

    def read() -> bool:
        some = alive.read(count=5, wait=0.1)
        got.update(message.id for message in some)
        alive.acknowledge(*some)
        return got == set(sent)

    until(read)
    status = hot.family.status()
    assert status.groups["bob"].pending == 0
    assert status.dead_letters == 0
    hot.family.trim()
    assert hot.family.status().messages == 1


def test_readers_are_killed_all_the_time(valkey: Address, hot: HotState, program: Callable[..., Program]) -> None:
    for number in range(60):
        hot.family.send("ada", "alert", str(number), "bob")
    done: set[str] = set()
    for _ in range(3):
        worker = program("work", valkey, "bob", 0.1)
        worker.heard("reading")
        until(lambda worker=worker: len(worker.lines) > 3 or not hot.family.status().groups["bob"].lag)
        worker.end()
        done.update(worker.lines)
    last = program("work", valkey, "bob", 0.1)
    until(lambda: not (group := hot.family.status().groups["bob"]).pending and group.lag == 0)
    last.end()
    done.update(last.lines)
    # Said before it is acknowledged: what nobody said was never acknowledged.
    assert {str(number) for number in range(60)} <= done


def test_an_agent_is_killed(valkey: Address, hot: HotState, raw: redis.Redis, program: Callable[..., Program]) -> None:
    """It counts as online until its time is over, which is set by its own sign of life."""
    agent = program("online", valkey, "bob")
    agent.heard("online")
    assert hot.presence.online() == ["bob"]
    agent.send(signal.SIGKILL)
    assert 0 < int(raw.pttl("agent:presence:bob")) <= 30_000
    raw.pexpire("agent:presence:bob", 1)
    until(lambda: hot.presence.online() == [])


def test_a_holder_that_is_stopped(valkey: Address, hot: HotState, dsn: str, program: Callable[..., Program]) -> None:
    """Another takes the lock and writes; the stopped one wakes up in the middle of its own write, and is refused."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        create_fences(connection)
        connection.execute("CREATE TABLE protected AS SELECT 'nobody' AS value")
        stalled = program("hold", valkey, "heartbeat:ada", 1.0, dsn)
        fence = int(stalled.heard("held").split()[1])
        stalled.send(signal.SIGSTOP)
        with hot.locks.take("heartbeat:ada", wait=LIMIT) as lock:
            assert lock.fence > fence
            with fenced_write(connection, lock.name, lock.fence) as cursor:
                cursor.execute("UPDATE protected SET value = 'of the later holder'")
            stalled.send(signal.SIGCONT)
            stalled.go_on()
            stalled.heard("released")
            assert lock.held
        assert {"refused hot.late_write", "used hot.lock_lost", "lost heartbeat:ada", "released False"} <= {
            *stalled.lines
        }
        assert connection.execute("SELECT value FROM protected").fetchall() == [("of the later holder",)]


def test_a_holder_is_killed(valkey: Address, hot: HotState, dsn: str, program: Callable[..., Program]) -> None:
    holder = program("hold", valkey, "heartbeat:ada", 1.0, dsn)
    holder.heard("held")
    holder.send(signal.SIGKILL)
    with hot.locks.take("heartbeat:ada", wait=LIMIT) as lock:
        assert lock.held


def test_a_server_that_does_not_answer() -> None:
    """A lock is lost, and that is called back, before the server would let another have it."""
    with ValkeyServer() as server:
        at = server.address()
        told = threading.Event()
        with get_hot_state(at) as hot:
            lock = hot.locks.take("heartbeat:ada", 2.0, on_lost=lambda _: told.set())
            server.freeze()
            assert told.wait(LIMIT)
            assert not lock.held
            server.thaw()
            lock.release()
            assert os.getpid() != server.pid


def test_a_hanging_network(cut: HotState, proxy: Proxy) -> None:
    lost = threading.Event()
    lock = cut.locks.take("heartbeat:ada", 1.0, on_lost=lambda _: lost.set())
    proxy.hang()
    assert lost.wait(LIMIT)
    proxy.cut()
    assert not lock.release()
