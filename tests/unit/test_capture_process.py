"""The capture process: conversations that begin and end at any time, each with all that its source needs."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

import mirror
from mirror.capture import conversation as conversation_module
from mirror.capture import link as link_module
from mirror.capture import wal_follower as follow_module
from mirror.capture.conversation import Conversation
from mirror.capture.link import (
    Attached,
    Captured,
    CaptureLink,
    CaptureService,
    CaptureTask,
    Failed,
    Marked,
    Message,
    Unknown,
)
from mirror.capture.spool import SpoolPlace
from mirror.core.errors import SourceError
from mirror.core.faults import no_fault
from mirror.core.positions import Lsn, Salts
from mirror.sidecar.capture_feed import CaptureFeed
from tests.support.descriptors import mapped_files, open_files, own_descriptors
from tests.support.source import Writer, filling
from tests.support.waiting import ended, until

LIMIT = 30.0
AnyMessage = TypeVar("AnyMessage", bound=Message)


@pytest.fixture
def service() -> Iterator[CaptureService]:
    service = CaptureService()
    yield service
    service.stop()


@pytest.fixture
def make_task(folder: Path) -> Iterator[Callable[..., CaptureTask]]:
    """Makes sources, each written by a program of its own, and says how to follow them."""
    writers: list[Writer] = []

    def make(name: str, mode: str = "WAL") -> CaptureTask:
        path = folder / f"{name}.db"
        writers.append(Writer(path))
        writers[-1].run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        spool = folder / f"spool of {name}"
        spool.mkdir()
        return CaptureTask(path, spool, 1 << 30)

    yield make
    for writer in writers:
        writer.close()


class Talk:
    """One conversation, and what capture has said in it."""

    def __init__(self, link: CaptureLink) -> None:
        self.link = link
        self._messages: list[Message] = []

    def await_one(self, kind: type[AnyMessage]) -> AnyMessage:
        """The next message of a kind; others are passed over."""
        deadline = time.monotonic() + LIMIT
        while True:
            while self._messages:
                message = self._messages.pop(0)
                if isinstance(message, kind):
                    return message
            assert time.monotonic() < deadline, f"no {kind.__name__}"
            select.select([self.link], [], [], 1.0)
            self._messages += self.link.read()

    def attach(self) -> Attached:
        self.link.attach(0)
        return self.await_one(Attached)


# -- beginning and ending ------------------------------------------------------------------------------


@pytest.mark.linux
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_the_end_of_a_conversation_releases_its_source(
    service: CaptureService, make_task: Callable[..., CaptureTask], folder: Path, mode: str
) -> None:
    """Its files are closed and its spool's lock is free, while the process follows the other."""
    one, two = make_task("one", mode), make_task("two")
    talks = [Talk(service.link(one)), Talk(service.link(two))]
    for talk in talks:
        talk.attach()
    pid = service.pid
    assert pid is not None
    assert any("one" in path for path in open_files(pid, folder))
    talks[0].link.close()
    until(lambda: not any("one" in path for path in open_files(pid, folder)))
    assert not mapped_files(pid, one.database)
    with open(one.spool / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert service.pid == pid
    talks[1].link.mark()
    talks[1].await_one(Marked)
    again = Talk(service.link(one))
    assert again.attach().lsn >= Lsn(1, 0)
    assert service.pid == pid
    again.link.close()
    talks[1].link.close()


@pytest.mark.linux
def test_a_conversation_that_ends_while_it_waits_for_the_spool(
    service: CaptureService, make_task: Callable[..., CaptureTask], folder: Path
) -> None:
    task = make_task("one")
    with open(task.spool / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        talk = Talk(service.link(task))
        talk.link.attach(0)
        pid = service.pid
        assert pid is not None
        until(lambda: bool(open_files(pid, folder)))
        talk.link.close()
        until(lambda: not open_files(pid, folder))
    other = Talk(service.link(task))
    other.attach()
    other.link.close()


def test_the_process_ends_with_the_mirror(service: CaptureService, make_task: Callable[..., CaptureTask]) -> None:
    """However many conversations there are."""
    talk = Talk(service.link(make_task("one")))
    talk.attach()
    pid = service.pid
    service.stop()
    assert pid is not None and ended(pid)
    with pytest.raises(SourceError, match="the mirror ends"):
        service.link(make_task("two"))
    talk.link.close()


def test_a_dead_process_takes_no_other_conversation_with_it(
    service: CaptureService, make_task: Callable[..., CaptureTask]
) -> None:
    """Whoever needs it first starts another; the other ends of the first one's sockets stay whose they are."""
    tasks = [make_task("one"), make_task("two")]
    talks = [Talk(service.link(task)) for task in tasks]
    for talk in talks:
        talk.attach()
    first = service.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(SourceError, match="it has ended"):
        talks[0].await_one(Failed)
    talks[0].link.close()
    again = Talk(service.link(tasks[0]))
    again.attach()
    assert service.pid not in (None, first)
    assert talks[1].link.fileno() >= 0, "nobody else closes it"
    with pytest.raises(SourceError, match="it has ended"):
        talks[1].await_one(Failed)
    talks[1].link.close()
    second = Talk(service.link(tasks[1]))
    second.attach()
    for talk in (again, second):
        talk.link.mark()
        talk.await_one(Marked)
        talk.link.close()


def test_a_closed_link_is_one_that_has_ended(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    bell, ring = socket.socketpair()
    link = CaptureLink(ours)
    tail = CaptureFeed(folder / "any.db", lambda: link)
    tail.connect()
    assert not tail.wait(bell, 0.0)
    link.close()
    with pytest.raises(SourceError, match="it has ended") as caught:
        tail.wait(bell, 0.0)
    assert caught.value.retryable
    assert not tail.wait(bell, 0.0), "without a conversation the bell alone is waited for"
    ring.send(b"!")
    assert tail.wait(bell, 0.0)
    tail.close()
    for end in (theirs, bell, ring):
        end.close()


def test_of_progress_that_comes_together_the_last_is_read() -> None:
    """In order with all else that was said; a line may come in two parts."""
    ours, theirs = socket.socketpair()
    link = CaptureLink(ours)
    failure = {"error": "full", "retry": True, "replaced": False, "private": False}
    said = b"c 1 2 1 100\nc 1 4 1 200\n" + json.dumps(failure).encode() + b"\nc 1 5 1 300\nc 2 0 2 52\nc 2 7 2"
    theirs.sendall(said)
    failed = Failed("full", retryable=True, replaced=False)
    last = Captured(Lsn(2, 0), SpoolPlace(2, 52))
    assert link.read() == [Captured(Lsn(1, 4), SpoolPlace(1, 200)), failed, last]
    theirs.sendall(b" 900\n")
    assert link.read() == [Captured(Lsn(2, 7), SpoolPlace(2, 900))]
    for wrong in (b"c 1 2 3\n", b"c 1 2 3 4 5\n", b"c 1 2 3 x\n"):
        theirs.sendall(wrong)
        with pytest.raises(SourceError, match="unexpected message"):
            link.read()
    link.close()
    theirs.close()


def test_a_process_that_cannot_be_started(
    service: CaptureService, make_task: Callable[..., CaptureTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what could not be started, not the state directory."""
    task = make_task("one")
    before = own_descriptors()
    monkeypatch.setattr(link_module.sys, "executable", "/nowhere/python")  # type: ignore[attr-defined]
    with pytest.raises(SourceError) as caught:
        service.link(task)
    assert str(caught.value).startswith("start the capture process (/nowhere/python): No such file")
    assert caught.value.retryable
    assert own_descriptors() == before


#: Starts the loop of a capture process that can have no more descriptors; then lets it have some.
_NO_DESCRIPTORS = """
import json, os, resource, socket, sys, threading
from pathlib import Path
from mirror.capture.process import Capture
from mirror.core.faults import no_fault

main, ours = socket.socketpair()
capture = Capture(main, no_fault)
ends = [socket.socketpair() for _ in range(2)]
def begin(name, theirs):
    line = json.dumps({"database": f"/nowhere/{name}", "spool": f"/nowhere/{name}", "limit": 1}).encode() + b"\\n"
    socket.send_fds(ours, [line], [theirs.fileno()])
    theirs.close()
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
begin("first", ends[0][1])
begin("second", ends[1][1])
held = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
capture._accept()
for descriptor in held:
    os.close(descriptor)
capture._accept()
assert ends[0][0].recv(1) == b"", "the first is hung up on"
(conversation,) = capture._awake
assert str(conversation._database) == "/nowhere/second", conversation._database
ends[1][0].sendall(b"attach 0 \\n")
conversation.read()
conversation.turn(1.0)
print(ends[1][0].recv(1000).decode())
"""


def test_no_descriptor_for_a_conversation() -> None:
    """That one has ended before it began; descriptors and sources are not mixed up."""
    done = subprocess.run(
        [sys.executable, "-c", _NO_DESCRIPTORS],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(mirror.__file__).parents[1])},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "/nowhere/second" in json.loads(done.stdout)["error"]


# -- questions -----------------------------------------------------------------------------------------


def test_a_frame_of_a_log_that_nobody_has_seen(service: CaptureService, make_task: Callable[..., CaptureTask]) -> None:
    """It is looked for a few seconds, then whoever asks is told."""
    talk = Talk(service.link(make_task("one")))
    talk.attach()
    mark = talk.link.locate(Salts(1, 2), 3)
    answer = talk.await_one(Unknown)
    assert (answer.mark, "no WAL with the salts 1, 2" in answer.text) == (mark, True)
    talk.link.close()


def test_a_frame_of_a_file_without_a_log(service: CaptureService, make_task: Callable[..., CaptureTask]) -> None:
    talk = Talk(service.link(make_task("one", "DELETE")))
    talk.attach()
    mark = talk.link.locate(Salts(1, 2), 3)
    assert talk.await_one(Unknown) == Unknown(mark, "the database has no WAL")
    talk.link.close()


def test_whoever_asks_for_it_gets_an_error(service: CaptureService, make_task: Callable[..., CaptureTask]) -> None:
    task = make_task("one", "DELETE")
    bell, ring = socket.socketpair()
    tail = CaptureFeed(task.database, lambda: service.link(task))
    tail.connect()
    tail.attach(0, "", lambda: tail.wait(bell, 1.0) and None)
    place: Future[Lsn] = Future()
    tail.locate(place, Salts(1, 2), 3)
    deadline = time.monotonic() + LIMIT
    while not place.done():
        assert time.monotonic() < deadline
        tail.wait(bell, 1.0)
    error = place.exception()
    assert isinstance(error, SourceError) and error.detail == "the database has no WAL"
    tail.close()
    for end in (bell, ring):
        end.close()


# -- turns ---------------------------------------------------------------------------------------------


def test_a_turn_ends_in_time_in_the_midst_of_a_large_commit(
    make_task: Callable[..., CaptureTask], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the others get theirs."""
    task = make_task("one")
    ours, theirs = socket.socketpair()
    conversation = Conversation(theirs, task.database, task.spool, task.limit, no_fault)
    talk = Talk(CaptureLink(ours))
    talk.link.attach(0)
    conversation.read()
    while conversation.turn(1.0):
        pass
    talk.await_one(Attached)
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 20_000)
    with Writer(task.database) as writer:
        writer.run(filling("i, 'row ' || hex(randomblob(100))").format(1, 5_000))
    turns = 1
    while conversation.turn(0.0):
        turns += 1
    assert turns > 20
    talk.await_one(Captured)
    conversation.close()
    talk.link.close()


def test_what_is_wrong_with_one_source_is_said_to_it_alone(
    make_task: Callable[..., CaptureTask], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the system is tried again; an exception that nobody has foreseen ends the conversation."""
    task = make_task("one")
    ours, theirs = socket.socketpair()
    conversation = Conversation(theirs, task.database, task.spool, task.limit, no_fault)
    talk = Talk(CaptureLink(ours))
    talk.link.attach(0)
    conversation.read()
    while conversation.turn(1.0):
        pass
    talk.await_one(Attached)
    real = follow_module.Follower.poll
    problem: Exception = OSError(5, "Input/output error")

    def poll(follower: follow_module.Follower) -> bool:
        raise problem

    monkeypatch.setattr(follow_module.Follower, "poll", poll)
    monkeypatch.setattr(conversation_module, "RETRY_INTERVAL", 0.0)
    conversation.turn(1.0)
    failed = talk.await_one(Failed)
    assert failed.retryable and "Input/output error" in failed.text and str(task.database) in failed.text
    monkeypatch.setattr(follow_module.Follower, "poll", real)
    conversation.turn(1.0)
    talk.await_one(Captured)
    problem = KeyError("nobody has foreseen it")
    monkeypatch.setattr(follow_module.Follower, "poll", poll)
    assert not conversation.turn(1.0)
    failed = talk.await_one(Failed)
    assert not failed.retryable and "KeyError" in failed.text
    assert "Traceback" in capsys.readouterr().err
    assert conversation.closed
    with open(task.spool / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    conversation.close()
    talk.link.close()
