"""When capture waits for more commits before it takes them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mirror.capture.conversation import Conversation
from mirror.capture.stream import LINGER_SECONDS, STEADY_SECONDS, Stream
from mirror.core.faults import no_fault
from tests.support.source import Writer
from tests.support.waiting import until


def after(*takes: tuple[float, int]) -> float:
    """The wait that follows the last of these: seconds since the one before, and commits."""
    stream, now = Stream(), 1000.0
    for since, commits in takes:
        now += since
        stream.takes(commits, now, reset=False)
    return max(0.0, stream.waits_until - now)


def test_a_commit_by_itself_is_not_waited_after() -> None:
    assert after((1.0, 1)) == after((1.0, 1), (LINGER_SECONDS * 1.1, 1)) == after((1.0, 400)) == 0.0


def test_commits_in_a_stream_are() -> None:
    """From the second on, as long as they come faster than one in the wait."""
    assert after((1.0, 1), (LINGER_SECONDS * 0.9, 1)) == pytest.approx(LINGER_SECONDS)
    assert after((1.0, 1), (LINGER_SECONDS * 2.1, 3)) == pytest.approx(LINGER_SECONDS)
    assert after((1.0, 1), (LINGER_SECONDS * 0.9, 1), (LINGER_SECONDS * 1.1, 1)) == 0.0


def test_a_part_of_a_commit_is_none() -> None:
    """A large one is read in parts, one right after the other."""
    assert after((1.0, 1), (0.0001, 0)) == 0.0


def test_where_the_log_is_reset_all_the_time_nothing_waits() -> None:
    """A generation that nobody saw is a gap."""
    stream, now = Stream(), 1000.0
    for number in range(50):
        now += STEADY_SECONDS / 5
        stream.takes(10, now, reset=number % 5 == 0)
        assert not stream.waits_until, number
    stream.takes(10, now + STEADY_SECONDS, reset=False)
    assert stream.waits_until > now + STEADY_SECONDS


def test_whoever_asks_does_not_wait(folder: Path) -> None:
    """A source in a stream has no news before its time, unless the mirror asks for something."""
    database = folder / "source.db"
    (folder / "spool").mkdir()
    ours, theirs = socket.socketpair()
    with ours, Writer(database) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
        conversation = Conversation(theirs, database, folder / "spool", 1 << 30, no_fault)
        ours.sendall(b"attach 1\n")
        conversation.read()
        until(lambda: not conversation.turn(0.01) and not conversation.has_news(0.0))
        writer.run("INSERT INTO t DEFAULT VALUES")
        assert conversation.has_news(0.0), "as after any commit"
        conversation.stream.waits_until = 10.0
        assert not conversation.has_news(9.9) and conversation.has_news(10.0)
        ours.sendall(b"mark 1\n")
        conversation.read()
        assert conversation.has_news(9.9)
        conversation.close()
