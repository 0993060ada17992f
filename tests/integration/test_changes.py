"""The change feed in Redis: what an entry says, and what a follower gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from mirror.core.changes import VERSION, Change, Kind, Mark, encode
from mirror.core.errors import ConfigError, HotStateError, TooOldError
from mirror.core.positions import Lsn
from mirror.hot import changes as feed
from mirror.hot.connection import Address, get_redis_client
from mirror.hot.facade import HotState, get_async_hot_state
from mirror.hot.following import Follower
from mirror.sidecar.changes.feed import SourceFeed
from mirror.sidecar.changes.log import ChangeLog
from mirror.sidecar.changes.to_redis import RedisTeller
from tests.support.changes import followed, in_chain, published, tell
from tests.support.commands import UNREACHABLE
from tests.support.gateway import Gateway
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


@pytest.fixture
def telling(mirror: MirrorProcess, writer: Writer, valkey: Address) -> MirrorProcess:
    """A running mirror that publishes to Redis, with everything told so far."""
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "CREATE TABLE bare(value)")
    writer.run("CREATE TABLE pairs(a TEXT, b BLOB, n, PRIMARY KEY(a, b)) WITHOUT ROWID")
    tell(mirror, valkey).start()
    published(mirror)
    return mirror


def test_what_an_entry_says(telling: MirrorProcess, writer: Writer, hot: HotState) -> None:
    begin = published(telling)["applied"]
    follower = hot.changes.follow(telling.sources[0])
    assert follower.read() == []
    writer.transaction(
        "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO bare VALUES (5)",
        "INSERT INTO pairs VALUES ('x', x'00ff', 1)",
    )
    (first,) = follower.read(60)
    assert (first.kind, first.source, first.after, first.commits) == ("rows", str(telling.sources[0]), begin, 1)
    assert first.writers == [] and first.committed_at
    tables = {each.table: each for each in first.tables}
    assert (tables["notes"].inserted, tables["notes"].keys, tables["notes"].key) == (
        2,
        {"inserted": [[1], [2]]},
        ["id"],
    )
    assert (tables["bare"].keys, tables["bare"].key) == ({"inserted": [[1]]}, ["_rowid"])
    assert (tables["pairs"].keys, tables["pairs"].key) == ({"inserted": [["x", {"blob": "AP8="}]]}, ["a", "b"])
    writer.transaction("UPDATE notes SET body = 'new' WHERE id = 1", "DELETE FROM notes WHERE id = 2")
    (second,) = follower.read(60)
    (notes,) = second.tables
    assert (second.after, notes.updated, notes.deleted) == (first.lsn, 1, 1)
    assert notes.keys == {"updated": [[1]], "deleted": [[2]]}
    # Another key is another row.
    writer.run("UPDATE pairs SET a = 'y'")
    (third,) = follower.read(60)
    assert third.tables[0].keys == {"deleted": [["x", {"blob": "AP8="}]], "inserted": [["y", {"blob": "AP8="}]]}
    writer.transaction("CREATE TABLE later(id INTEGER PRIMARY KEY)", "INSERT INTO later VALUES (7)")
    (fourth,) = follower.read(60)
    assert [(each.table, each.definition, each.keys) for each in fourth.tables] == [
        ("later", "create", {"inserted": [[7]]})
    ]
    writer.run("ALTER TABLE later RENAME TO last")
    (fifth,) = follower.read(60)
    assert [(each.table, each.before, each.definition) for each in fifth.tables] == [("last", "later", "rename")]
    assert in_chain([first, second, third, fourth, fifth])


def test_keys_are_bounded_and_counted(telling: MirrorProcess, writer: Writer, hot: HotState) -> None:
    follower = hot.changes.follow(telling.sources[0])
    follower.read()
    writer.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        " INSERT INTO notes SELECT i, 'x' FROM n"
    )
    (change,) = follower.read(60)
    (notes,) = change.tables
    assert notes.inserted == 60_000
    assert len(notes.keys["inserted"]) + notes.keys_left_out == 60_000
    assert 0 < len(notes.keys["inserted"]) <= 500


def test_the_first_entry_is_a_copy(telling: MirrorProcess, hot: HotState, writer: Writer) -> None:
    status = published(telling)
    (copy,) = hot.changes.follow(telling.sources[0], "0:0").read()
    assert (copy.kind, copy.lsn, copy.after) == ("copy", status["applied"], None)
    assert status["changes"]["redis"]["told"] == 1 and not status["changes"]["redis"]["gaps"]
    assert status["changes"]["webhook"] is None


def test_who_wrote_it(telling: MirrorProcess, hot: HotState, database: Path, dsn: str) -> None:
    """As far as the hook told before the transaction was applied, which a busy machine may hold up."""
    follower = hot.changes.follow(telling.sources[0])
    follower.read()
    with Gateway(database, dsn) as program:
        program.enable(sidecar="none")
        program.do(f"c = connect({str(database)!r})")
        program.await_hook()

        def told() -> list[tuple[str | None, int]]:
            program.do("with mirror.as_agent('ada'): c.execute('INSERT INTO notes(body) VALUES (1)')")
            return [(each.agent, each.commits) for change in follower.read(60) for each in change.writers]

        assert set(until(told)) == {("ada", 1)}
        program.do("c.execute('INSERT INTO notes(body) VALUES (2)'); c.close()")
        assert {each.agent for change in follower.read(60) for each in change.writers} <= {None, "ada"}


def test_asynchronously(telling: MirrorProcess, writer: Writer, valkey: Address) -> None:
    async def follow() -> list[str]:
        async with get_async_hot_state(valkey) as hot:
            follower = hot.changes.follow(telling.sources[0])
            assert await follower.read() == []
            await asyncio.to_thread(writer.run, "INSERT INTO notes VALUES (1, 'one')")
            await asyncio.to_thread(telling.wait_applied)
            await asyncio.to_thread(writer.run, "INSERT INTO notes VALUES (2, 'two')")
            seen: list[str] = []
            async for change in follower:
                seen += [each.table for each in change.tables]
                if len(seen) == 2:
                    return seen
        raise AssertionError

    assert asyncio.run(follow()) == ["notes", "notes"]


def test_a_follower_that_comes_late_is_told(
    telling: MirrorProcess, writer: Writer, hot: HotState, valkey: Address
) -> None:
    """Trimmed, deleted, or all of it deleted: what is gone is not passed over."""
    begin = published(telling)["applied"]
    for number in range(4):
        writer.run(f"INSERT INTO notes VALUES ({number}, '')")
        telling.wait_applied()
    end = published(telling)["applied"]
    changes = followed(hot, telling, begin, end)
    with get_redis_client(valkey) as redis:
        stream = feed.stream_of(hot.names, telling.sources[0])
        redis.xdel(stream, feed.id_of(Lsn.parse(changes[1].lsn)))
        follower = hot.changes.follow(telling.sources[0], begin)
        assert [change.lsn for change in follower.read()] == [changes[0].lsn]
        with pytest.raises(TooOldError) as caught:
            follower.read()
        assert caught.value.resume == changes[1].mark and caught.value.code == "hot.too_old"
        assert followed(hot, telling, caught.value.resume, end) == changes[2:]
        redis.xtrim(stream, maxlen=1, approximate=False)
        with pytest.raises(TooOldError) as caught:
            hot.changes.follow(telling.sources[0], changes[0].lsn).read()
        assert caught.value.resume == changes[2].mark
        redis.xtrim(stream, maxlen=0, approximate=False)
        with pytest.raises(TooOldError) as caught:
            hot.changes.follow(telling.sources[0], changes[2].lsn).read()
        assert caught.value.resume == end
        assert hot.changes.follow(telling.sources[0], end).read() == []


def test_what_is_not_the_mirrors_is_refused(telling: MirrorProcess, hot: HotState, valkey: Address) -> None:
    for mark, why in (("yesterday", "not a position"), ("1:1@", "not a mark")):
        with pytest.raises(ConfigError, match=why):
            hot.changes.follow(telling.sources[0], mark)
    with get_redis_client(valkey) as redis:
        stream = feed.stream_of(hot.names, "/other.db")
        redis.xadd(stream, {"change": "{}"})
        with pytest.raises(HotStateError, match=r"none of the mirror's"):
            hot.changes.follow("/other.db", "0:0").read()


OTHER = "/other.db"


class Publisher:
    """Publishes entries of a source as a mirror would."""

    def __init__(self, redis: Redis, hot: HotState) -> None:
        self._redis, self._stream = redis, feed.stream_of(hot.names, OTHER)

    def __call__(self, lineage: str, lsn: str, after: str | None = None, kind: Kind = "rows") -> None:
        entry = encode(Change(version=VERSION, kind=kind, source=OTHER, lsn=lsn, after=after, lineage=lineage))
        self._redis.xadd(self._stream, {"change": entry.text}, id=feed.id_of(entry.lsn))

    def begin(self) -> None:
        """Begin with no stream."""
        self._redis.delete(self._stream)


@pytest.fixture
def publish(hot: HotState, valkey: Address) -> Iterator[Publisher]:
    with get_redis_client(valkey) as redis:
        yield Publisher(redis, hot)


def copied_anew(publish: Publisher) -> None:
    """A feed that had come to 3:10 begins again, with a copy at a lower position."""
    publish("a", "1:1", None, "copy")
    publish("a", "3:10", "1:1")
    publish.begin()
    publish("b", "2:10", None, "copy")


@pytest.mark.parametrize("begin", ["3:10@a", "3:10"])
def test_resumed_after_the_feed_has_begun_again(hot: HotState, publish: Publisher, begin: str) -> None:
    copied_anew(publish)
    publish("b", "3:0", "2:10")
    publish("b", "4:1", "3:0")
    with pytest.raises(TooOldError, match="another copy") as caught:
        hot.changes.follow(OTHER, begin).read()
    assert caught.value.resume == "3:0@b"
    assert [change.lsn for change in hot.changes.follow(OTHER, caught.value.resume).read()] == ["4:1"]


def test_resumed_while_the_new_feed_is_behind_or_just_there(hot: HotState, publish: Publisher) -> None:
    """Nothing comes after the mark: that is said, rather than waited for."""
    copied_anew(publish)
    follower = hot.changes.follow(OTHER)
    assert follower.mark is None and follower.read() == [] and follower.mark == "2:10@b"
    for lsn, after in (("2:11", "2:10"), ("3:10", "2:11")):
        with pytest.raises(TooOldError, match="copied anew"):
            hot.changes.follow(OTHER, "3:10@a").read()
        publish("b", lsn, after)
    with pytest.raises(TooOldError, match="copied anew") as caught:
        hot.changes.follow(OTHER, "3:10@a").read(60)
    assert caught.value.resume == "3:10@b" and hot.changes.follow(OTHER, "3:10@b").read() == []
    assert [change.lsn for change in follower.read()] == ["2:11", "3:10"]
    publish("b", "3:12", "3:10")
    with pytest.raises(TooOldError, match="another copy"):
        hot.changes.follow(OTHER, "3:11@a").read()


def test_one_that_lives_while_the_feed_begins_again(hot: HotState, publish: Publisher) -> None:
    publish("a", "1:1", None, "copy")
    publish("a", "3:10", "1:1")
    followers = [hot.changes.follow(OTHER, begin) for begin in (None, "3:10", "3:10@a")]
    assert [follower.read() for follower in followers] == [[], [], []]
    publish.begin()
    publish("b", "2:10", None, "copy")
    publish("b", "3:10", "2:10")
    for follower in followers:
        with pytest.raises(TooOldError, match="copied anew"):
            follower.read()


def test_marks_and_positions_that_are_gone_on_with(hot: HotState, publish: Publisher) -> None:
    """A copy is told whatever is kept; within an entry only a mark is exact; a stream may have lost its begin."""
    publish.begin()
    publish("a", "1:20", "1:10")
    for begin in ("1:10", "1:10@a", "1:15@a"):
        assert [change.mark for change in hot.changes.follow(OTHER, begin).read()] == ["1:20@a"]
    for begin, why in (
        ("1:15", "is not where an entry ends"),
        ("1:15@b", "another copy"),
        ("1:9@a", "not in the feed"),
    ):
        with pytest.raises(TooOldError, match=why) as caught:
            hot.changes.follow(OTHER, begin).read()
        assert caught.value.resume == "1:10@a"
    publish("b", "1:30", "1:20", "copy")
    publish("b", "1:31", "1:30")
    for begin in ("1:25", "1:20", "1:20@a", "1:25@c"):
        follower = hot.changes.follow(OTHER, begin)
        assert [change.lsn for change in follower.read()] == ["1:30", "1:31"] and follower.mark == "1:31@b"
    publish("b", "1:40", "1:31", "gap")
    publish("b", "1:41", "1:40")
    with pytest.raises(TooOldError, match="is lost") as caught:
        hot.changes.follow(OTHER, "1:31@b").read()
    assert caught.value.resume == "1:40@b"
    for begin in ("1:40", "1:40@b"):
        assert [change.lsn for change in hot.changes.follow(OTHER, begin).read()] == ["1:41"]


class NoLog(ChangeLog):
    """Without a Postgres; the mirror that asks has the source."""

    def epoch(self, source_id: int) -> int | None:
        return 1


def test_a_stream_of_positions_that_postgres_has_not_begins_again(
    hot: HotState, valkey: Address, publish: Publisher
) -> None:
    """Its last position is passed by what Postgres has, and is none of it."""
    publish("a", "3:10", "1:1")
    teller = RedisTeller(valkey, NoLog(UNREACHABLE, 0), keep=100)
    source = SourceFeed(OTHER, NoLog(UNREACHABLE, 0), logged=False, ring=teller.ring)
    source.begins(7, 1, "a", Mark(Lsn(3, 0), "b"))
    change = Change(version=VERSION, kind="rows", source=OTHER, lsn="4:1", after="3:0", lineage="b")
    source.put(encode(change))
    teller.start()
    follower = hot.changes.follow(OTHER, "3:0@b")
    assert until(lambda: _read(follower)) == [change]
    teller.stop(LIMIT)
    with pytest.raises(TooOldError, match="another copy"):
        hot.changes.follow(OTHER, "3:10@a").read()


def _read(follower: Follower) -> list[Change]:
    """What a follower gets, once it gets it: nothing yet where the stream is still the old one."""
    try:
        return follower.read()
    except TooOldError:
        return []


def test_followers_learn_of_a_copy(
    telling: MirrorProcess,
    writer: Writer,
    hot: HotState,
    make_mirror: Callable[..., MirrorProcess],
    valkey: Address,
    dsn: str,
) -> None:
    """A mirror with another state directory copies the source whole: everything may have changed."""
    follower = hot.changes.follow(telling.sources[0])
    follower.read()
    telling.stop()
    other = tell(make_mirror(telling.sources[0], state="other"), valkey)
    other.start()
    (copy,) = follower.read(60)
    assert copy.kind == "copy"
    writer.run("INSERT INTO notes VALUES (1, '')")
    (rows,) = follower.read(60)
    assert (rows.kind, rows.after) == ("rows", copy.lsn) and rows.lineage == copy.lineage
    with psycopg.connect(dsn) as postgres:
        assert postgres.execute("SELECT count(*) FROM mirror.changes").fetchone() == (0,)


def test_rows_that_postgres_cannot_hold_are_said(telling: MirrorProcess, writer: Writer, hot: HotState) -> None:
    follower = hot.changes.follow(telling.sources[0])
    follower.read()
    writer.run("CREATE TABLE texts(id TEXT PRIMARY KEY)", "INSERT INTO texts VALUES (hex(randomblob(2000))), ('b')")
    telling.wait_applied()
    writer.run("INSERT INTO texts VALUES ('c')")
    found = [each for change in (*follower.read(60), *follower.read(60)) for each in change.tables]
    assert sum(each.rejected for each in found) == telling.status()["rejects"] == 1
