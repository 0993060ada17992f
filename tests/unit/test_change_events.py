"""The feed of one source in memory, and the same as server-sent events: what a reader gets at any position."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from mirror.core.changes import VERSION, Change, Entry, Mark, TableChange, decode, encode, filtered
from mirror.core.positions import Lsn
from mirror.sidecar.changes import feed as feeds
from mirror.sidecar.changes.feed import SourceFeed
from mirror.sidecar.changes.log import ChangeLog
from mirror.sidecar.serve import events, http
from mirror.sidecar.serve.http import Address, Looks, StatusServer
from tests.support.commands import UNREACHABLE
from tests.support.events import EventClient
from tests.support.waiting import until

SOURCE = "/a/source.db"


def at(frame: int) -> Lsn:
    return Lsn(1, frame)


def rows(
    frame: int, *, before: int | None = None, table: str = "notes", keys: int = 1, lineage: str | None = None
) -> Entry:
    """A transaction that inserted rows; by default right after the one before."""
    after = str(at(frame - 1 if before is None else before))
    tables = [TableChange(table=table, inserted=keys, keys={"inserted": [[number] for number in range(keys)]})]
    lsn = str(at(frame))
    return encode(
        Change(version=VERSION, kind="rows", source=SOURCE, lsn=lsn, after=after, lineage=lineage, tables=tables)
    )


def copied(frame: int, lineage: str | None = None) -> Entry:
    lsn = str(at(frame))
    return encode(Change(version=VERSION, kind="copy", source=SOURCE, lsn=lsn, after="1:1", lineage=lineage))


def made(position: int | None = None, lineage: str | None = None) -> SourceFeed:
    feed = SourceFeed(SOURCE, ChangeLog(UNREACHABLE, 0), logged=False, ring=lambda feed: None)
    feed.begins(7, 1, "a", None if position is None else Mark(at(position), lineage))
    return feed


def told(
    feed: SourceFeed, position: int | None, most: int = 100, lineage: str | None = None
) -> list[tuple[str, str, str | None]]:
    found = feed.read(None if position is None else Mark(at(position), lineage), most)
    return [(entry.kind, str(entry.lsn), entry.after and str(entry.after)) for entry in found]


def test_what_is_in_memory() -> None:
    feed = made(10)
    assert told(feed, 10) == [] and not feed.wait(Mark(at(10)), 0)
    assert told(feed, 99) == [("gap", "1:10", None)], "Postgres was put back"
    for frame in (11, 12, 13):
        feed.put(rows(frame))
    assert told(feed, 10) == [("rows", "1:11", "1:10"), ("rows", "1:12", "1:11"), ("rows", "1:13", "1:12")]
    assert told(feed, 11, 1) == [("rows", "1:12", "1:11")]
    assert feed.waiting(at(11)) == 2 and feed.wait(Mark(at(12)), 0)


def test_a_reader_between_two_positions_misses_nothing() -> None:
    """It must know of which copy its position is: without that it may be of any."""
    feed = made(10, "a")
    feed.put(rows(20, before=10, lineage="a"))
    assert told(feed, 15, lineage="a") == [("rows", "1:20", "1:10")]
    assert told(feed, 15) == [("gap", "1:10", None), ("rows", "1:20", "1:10")] == told(feed, 15, lineage="b")
    assert told(feed, 10) == [("rows", "1:20", "1:10")]


@pytest.mark.parametrize("lineage", ["a", None])
def test_positions_that_begin_again_are_a_copy(lineage: str | None) -> None:
    """Wherever the reader of the old copy is: the new one may be before, at or beyond its position."""
    feed = made(30, "a")
    feed.put(copied(20, "b"))
    for frame in range(21, 41):
        copy = told(feed, 30, 1, lineage)
        # The position alone cannot tell the old one from the new one.
        assert copy == [("copy", "1:20", "1:1")] or (lineage is None and frame > 30)
        feed.put(rows(frame, lineage="b"))
    assert told(feed, 35, 1, "b") == [("rows", "1:36", "1:35")]


def test_positions_that_begin_again_are_a_gap_when_the_copy_is_forgotten() -> None:
    feed = made(30, "b")
    assert feed.wait(Mark(at(30), "a"), 0) and told(feed, 30, lineage="a") == [("gap", "1:30", None)]
    assert not feed.wait(Mark(at(30), "b"), 0) and told(feed, 30, lineage="b") == []
    feed.put(rows(50, before=30, lineage="b"))
    assert told(feed, 40, lineage="a") == [("gap", "1:30", None), ("rows", "1:50", "1:30")] == told(feed, 40)
    assert told(feed, 50, lineage="a") == [("gap", "1:50", None)] and told(feed, 50) == []
    assert told(feed, 60, lineage="a") == [("gap", "1:50", None)] == told(feed, 60)
    assert str(feed.read(Mark(at(60)))[0].mark) == "1:50@b"


class Logged(ChangeLog):
    """A log that has these entries, without a Postgres."""

    entries: Sequence[Entry] = ()

    def read(self, source_id: int, after: Lsn | None, until: Lsn, most: int) -> list[Entry]:
        return [entry for entry in self.entries if (after is None or entry.lsn > after) and entry.lsn <= until][:most]


def test_a_log_with_holes_and_of_another_copy() -> None:
    """For a time nothing was logged; and what comes next by its number alone is of another copy."""
    log = Logged(UNREACHABLE, 0)
    log.entries = [rows(11, lineage="a"), rows(15, lineage="a"), copied(20, "b"), rows(40, before=21, lineage="b")]
    feed = SourceFeed(SOURCE, log, logged=True, ring=lambda feed: None)
    feed.begins(7, 1, "a", Mark(at(40), "b"))
    assert told(feed, 10, lineage="a") == [("rows", "1:11", "1:10")]
    expected = [("gap", "1:14", "1:11"), ("rows", "1:15", "1:14"), ("copy", "1:20", "1:1")]
    assert told(feed, 11, lineage="a") == expected
    assert told(feed, 20, lineage="b") == [("gap", "1:21", "1:20"), ("rows", "1:40", "1:21")]
    for lineage in ("a", None):
        assert told(feed, 30, lineage=lineage) == [("gap", "1:21", None), ("rows", "1:40", "1:21")]


def test_marks() -> None:
    for text in ("12:345@0b8f-7", "12:345"):
        assert str(Mark.parse(text)) == text
    for text in ("12:345@", "12@a", "12:345@a b", "12:345@a\n", "12:345@a@b", "", "@a"):
        with pytest.raises(ValueError, match="not a"):
            Mark.parse(text)
    assert decode(rows(11, lineage="a").text).mark == "1:11@a"


def test_what_was_before_is_a_gap() -> None:
    feed = made(10)
    assert told(feed, 4) == [("gap", "1:10", "1:4")]
    assert told(feed, None) == [("gap", "1:10", None)]
    feed.put(rows(11))
    assert told(feed, 4) == [("gap", "1:10", "1:4"), ("rows", "1:11", "1:10")]
    feed.put(copied(12))
    assert told(feed, 11) == [("copy", "1:12", "1:1")]


def test_what_was_committed_without_an_answer_is_a_gap() -> None:
    """The connection broke during COMMIT, and the position has moved all the same."""
    feed = made(10)
    feed.put(rows(11))
    feed.begins(7, 2, "a", Mark(at(12)))
    assert told(feed, 10) == [("gap", "1:12", "1:10")] and told(feed, 12) == []


def test_taken_again_with_nothing_lost() -> None:
    feed = made(10)
    feed.put(rows(11))
    feed.begins(7, 2, "a", Mark(at(11)))
    assert told(feed, 10) == [("rows", "1:11", "1:10")]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = made(0)
    for frame in range(1, feeds.MOST_ENTRIES + 11):
        feed.put(rows(frame))
    assert told(feed, 0)[:2] == [("gap", "1:10", "1:0"), ("rows", "1:11", "1:10")]
    monkeypatch.setattr(feeds, "MOST_CHARACTERS", 5_000)
    feed.put(rows(feeds.MOST_ENTRIES + 11, keys=500))
    feed.put(rows(feeds.MOST_ENTRIES + 12, keys=2_000))
    assert len(told(feed, feeds.MOST_ENTRIES + 11)) == 1 == len(told(feed, feeds.MOST_ENTRIES, 9)) - 1


def test_tables_are_chosen() -> None:
    entry = rows(1)
    assert filtered(entry, frozenset()) == entry.text == filtered(entry, {"notes", "x"})
    assert filtered(entry, {"x"}) is None
    assert filtered(copied(1), {"x"}) == copied(1).text


class Feeds:
    """As a mirror's own, with the feeds that a test has made."""

    def __init__(self, *feeds: SourceFeed) -> None:
        self.feeds: Sequence[SourceFeed] = feeds


@pytest.fixture
def feed() -> SourceFeed:
    return made(10)


@pytest.fixture
def clients() -> int:
    """How many there may be."""
    return 10


@pytest.fixture
def url(feed: SourceFeed, clients: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(events, "MOST_CLIENTS", clients)
    looks = Looks(list, dict, list, Path("/"), changes=Feeds(feed))
    server = StatusServer(Address("127.0.0.1", 0), looks)
    yield server.url
    server.close()


def test_events_as_they_come_and_from_a_position(url: str, feed: SourceFeed) -> None:
    with EventClient(url) as client, EventClient(url, last="1:10") as other:
        assert (client.code, client.type) == (200, "text/event-stream; charset=utf-8")
        assert next(client.all()).kind == ""
        feed.put(rows(11))
        feed.put(copied(12))
        for each in (client, other):
            assert [(event.kind, event.id) for event in each.take(2)] == [("rows", "1:11"), ("copy", "1:12")]
    with EventClient(url, last="1:11") as client:
        (event,) = client.take(1)
        assert event.change is not None and (event.kind, event.change.after) == ("copy", "1:1")
    with EventClient(url, "?from=1:3") as client:
        assert [(event.kind, event.id) for event in client.take(2)] == [("gap", "1:10"), ("rows", "1:11")]
    with EventClient(url, last="5:1") as client:
        (event,) = client.take(1)
        assert (event.kind, event.id) == ("gap", "1:12")


def test_events_after_a_copy_that_counts_anew(url: str, feed: SourceFeed) -> None:
    """Who comes back with its last id gets the copy, although there are entries that seem to follow."""
    feed.begins(7, 1, "a", Mark(at(30), "a"))
    feed.put(rows(31, lineage="a"))
    with EventClient(url, last="1:30@a") as client:
        (event,) = client.take(1)
        assert event.id == "1:31@a"
        feed.put(copied(20, "b"))
        assert [event.id for event in client.take(1)] == ["1:20@b"], "it need not come back"
    feed.put(rows(40, before=21, lineage="b"))
    for last in ("1:31@a", "1:31"):
        with EventClient(url, last=last) as client:
            assert [(event.kind, event.id) for event in client.take(2)] == [("copy", "1:20@b"), ("rows", "1:40@b")]
    feed.begins(7, 2, "a", Mark(at(31), "b"))
    with EventClient(url, f"?from={quote('1:31@a')}") as client:
        (event,) = client.take(1)
        assert (event.kind, event.id) == ("gap", "1:31@b")
    with EventClient(url, last="1:31@b") as client:
        assert next(client.all()).kind == "" and next(client.all()).id == "1:31@b"


def test_events_of_some_tables(url: str, feed: SourceFeed) -> None:
    """What is passed over moves the client's position all the same."""
    with EventClient(url, "?table=notes&table=x", last="1:10") as client:
        feed.put(rows(11, table="others"))
        feed.put(rows(12))
        (event,) = client.take(1)
        assert event.id == "1:12"
        feed.put(rows(13, table="others"))
        assert next(event for event in client.all() if event.id == "1:13").change is None


def test_requests_that_get_no_events(url: str, feed: SourceFeed) -> None:
    for query, last, code, text in (
        ("?source=/other.db", None, 404, SOURCE),
        ("", "yesterday", 400, "not a position"),
        ("?from=1:1@a%0Aid:x", None, 400, "not a mark"),
    ):
        with EventClient(url, query, last) as client:
            assert client.code == code and text in client.text


def has_room(url: str) -> bool:
    with EventClient(url) as client:
        return client.code == 200


@pytest.mark.parametrize("clients", [2])
def test_the_number_of_clients_is_bounded(url: str) -> None:
    """One that has gone is noticed at the next sign of life."""
    with EventClient(url, f"?source={SOURCE}") as one, EventClient(url) as two:
        assert (one.code, two.code) == (200, 200)
        with EventClient(url) as refused:
            assert (refused.code, refused.text) == (503, "there are too many clients\n")
    until(lambda: has_room(url))


@pytest.mark.parametrize("clients", [1])
def test_a_client_that_does_not_read_is_cut_off(url: str, feed: SourceFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http._Request, "timeout", 0.2)
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.connect((host, int(port)))
        slow.sendall(b"GET /changes?from=1:10 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.1 200"
        assert not has_room(url)
        for frame in range(11, 111):
            feed.put(rows(frame, keys=2_000))
        until(lambda: has_room(url))
