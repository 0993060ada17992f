"""Sessions, tokens, counters, and what a read does without a mirror."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from mirror.core.errors import ControlError, NotRunningError, TokenError
from mirror.core.folders import resolve, source_folder
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.published import Publisher
from mirror.storage.freshness import Freshness
from mirror.storage.newest import NewestCommit
from mirror.storage.proofs import Floor, PositionRow, Start
from mirror.storage.reads import ReadCounts, Reason
from mirror.storage.sessions import Session, Token
from tests.support.source import Writer
from tests.support.waiting import until

ONE, OTHER = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def row(generation: int, frame: int, lineage: str = ONE) -> PositionRow:
    return PositionRow(generation, frame, 1, 2, lineage)


# -- tokens and sessions ---------------------------------------------------------------------------


def test_a_token_is_text_and_back() -> None:
    token = Token(ONE, Lsn(12, 345))
    assert str(token) == f"m1.{ONE}.12.345"
    assert Token.parse(str(token)) == token
    other = Token(OTHER, Lsn(1, 2), "dashboard")
    assert Token.parse_all(f"{token}+{other}") == {"memory": token, "dashboard": other}
    assert Token.parse_all(str(other)) == {"dashboard": other}


@pytest.mark.parametrize(
    "text",
    ["", "12:345", f"m1.{ONE}.12", f"m1.{ONE}.12.345\n", f"m2.{ONE}.1.1", f"m1.{ONE}.-1.1", f"m1.{ONE}.1.1" + "1" * 20],
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(TokenError, match="read a token"):
        Token.parse(text)
    with pytest.raises(TokenError, match="read a token"):
        Token.parse_all(text)


def test_a_token_names_a_source_once() -> None:
    part = str(Token(ONE, Lsn(1, 2)))
    for text in (f"{part}+{part}", f"{part}+", f"+{part}", cast("Any", None)):
        with pytest.raises(TokenError, match="read a token"):
            Token.parse_all(text)


def test_what_happens_while_a_token_is_asked_for() -> None:
    """A later answer counts, and something on SQLite meanwhile is not in the token."""
    stub = Stub()
    session = Session(cast("Any", stub))
    marked = stub.mark

    def answered(deadline: float) -> Any:
        session.judge(session.begin(), row(9, 9))
        return marked(deadline)

    def written(deadline: float) -> Any:
        session.saw_sqlite()
        return marked(deadline)

    stub.mark = answered  # type: ignore[method-assign]
    assert session.token() == Token(ONE, Lsn(5, 5)) and session.token() == Token(ONE, Lsn(9, 9))
    stub.at, stub.mark = (ONE, Lsn(10, 1)), written  # type: ignore[method-assign]
    session.saw_sqlite()
    assert session.token() == Token(ONE, Lsn(10, 1))
    stub.at, stub.mark = (ONE, Lsn(10, 2)), marked  # type: ignore[method-assign]
    assert session.token() == Token(ONE, Lsn(10, 2))


def test_a_token_is_compared_within_its_lineage_only() -> None:
    token = Token(ONE, Lsn(3, 10))
    assert [token.reached_by(row(*at)) for at in ((3, 9), (3, 10), (2, 99), (4, 0))] == [False, True, False, True]
    with pytest.raises(TokenError, match="another copy") as caught:
        token.reached_by(row(9, 9, OTHER))
    assert not caught.value.retryable


class Stub:
    """What a session asks of a freshness; the newest commit is what the test says."""

    def __init__(self) -> None:
        self.good = True
        self.at = ONE, Lsn(5, 5)

    def begin(self) -> Start:
        return Start(None, None)

    def proves(self, start: Start, row: PositionRow) -> bool:
        return self.good

    def mark(self, deadline: float) -> tuple[str, Lsn]:
        return self.at


def test_a_session_never_goes_back() -> None:
    stub = Stub()
    session = Session(cast("Any", stub))
    start = session.begin()
    assert session.judge(start, row(3, 10)) is Reason.FRESH
    assert session.judge(start, row(3, 9)) is Reason.SESSION
    assert session.judge(start, row(3, 10)) is Reason.FRESH
    assert session.judge(start, row(4, 1)) is Reason.FRESH
    stub.good = False
    assert session.judge(start, row(4, 1)) is Reason.OLDER
    assert session.judge(start._replace(reason=Reason.UNPROVED), row(4, 1)) is Reason.UNPROVED
    assert session.judge_at(Token(ONE, Lsn(3, 10)), row(3, 10)) is Reason.SESSION
    assert session.judge_at(Token(ONE, Lsn(3, 10)), row(3, 9)) is Reason.BEHIND
    assert session.judge_at(Token(ONE, Lsn(3, 10)), row(4, 2)) is Reason.TOKEN
    assert session.token() == Token(ONE, Lsn(4, 2))


def test_a_copy_that_is_proved_fresh_begins_a_lineage() -> None:
    """It has all that the session has seen: that was committed before."""
    session = Session(cast("Any", Stub()))
    assert session.judge(session.begin(), row(30, 10)) is Reason.FRESH
    assert session.judge(session.begin(), row(2, 1, OTHER)) is Reason.FRESH
    assert session.token() == Token(OTHER, Lsn(2, 1))


def test_a_token_for_what_sqlite_answered() -> None:
    """Where that is, only the mirror knows; until it is asked, no position of Postgres is known to have it."""
    stub = Stub()
    session = Session(cast("Any", stub))
    assert session.judge(session.begin(), row(3, 10)) is Reason.FRESH
    session.saw_sqlite()
    assert session.judge_at(Token(ONE, Lsn(3, 10)), row(5, 5)) is Reason.SESSION
    assert session.token() == Token(ONE, Lsn(5, 5))
    assert session.judge_at(Token(ONE, Lsn(3, 10)), row(5, 5)) is Reason.TOKEN
    stub.at = ONE, Lsn(4, 4)
    session.saw_sqlite()
    with pytest.raises(ControlError, match="by now") as caught:
        session.token()
    assert caught.value.retryable


def test_a_write_while_an_answer_of_postgres_is_under_way() -> None:
    """The answer may not have it, so the mirror has to be asked where it is."""
    stub = Stub()
    session = Session(cast("Any", stub))
    start = session.begin()
    session.saw_sqlite()
    assert session.judge(start, row(3, 10)) is Reason.FRESH
    assert session.token() == Token(ONE, Lsn(5, 5))
    session.saw_sqlite()
    assert session.judge(session.begin(), row(6, 1)) is Reason.FRESH
    assert session.token() == Token(ONE, Lsn(6, 1))


def test_a_session_elsewhere() -> None:
    session = Session()
    assert session.begin().reason is Reason.NO_INDEX
    assert session.judge(session.begin(), row(3, 10)) is Reason.NO_INDEX
    with pytest.raises(TokenError, match="nothing has been read"):
        session.token()
    token = Token(ONE, Lsn(3, 10))
    assert session.judge_at(token, row(3, 12)) is Reason.TOKEN
    assert session.token() == Token(ONE, Lsn(3, 12))
    assert session.judge_at(token, row(3, 11)) is Reason.SESSION


# -- counters --------------------------------------------------------------------------------------


def test_counters() -> None:
    counts = ReadCounts()
    assert counts.text().count("\n") == 4

    def count() -> None:
        for _ in range(2000):
            counts.count("postgres", Reason.FRESH)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.count("sqlite", Reason.BEHIND)
    assert counts.values() == {("postgres", Reason.FRESH): 8000, ("sqlite", Reason.BEHIND): 1}
    assert counts.text() == (
        "# HELP mirror_reads_total Reads answered, by the store that answered and the reason.\n"
        "# TYPE mirror_reads_total counter\n"
        'mirror_reads_total{from="postgres",reason="fresh"} 8000\n'
        'mirror_reads_total{from="sqlite",reason="behind"} 1\n'
        "# HELP mirror_shadow_reads_total Reads that were to run on both stores, by what became of them.\n"
        "# TYPE mirror_shadow_reads_total counter\n"
    )


# -- without a mirror ------------------------------------------------------------------------------


@pytest.fixture
def freshness(writer: Writer, database: Path, folder: Path) -> Freshness:
    writer.run("CREATE TABLE t(x)")
    source_folder(folder / "state", resolve(database)).mkdir(parents=True)
    return Freshness(database, folder / "state")


@pytest.fixture
def publisher(freshness: Freshness, database: Path, folder: Path) -> Publisher:
    """Publishes, as a mirror does that does not answer."""
    return Publisher(source_folder(folder / "state", resolve(database)))


def publish(publisher: Publisher, frame: int) -> None:
    publisher.publish(1, 1, ONE, Position(Lsn(2, frame), Salts(1, 2), 1.0), wal=True)


def test_nobody_publishes_anything(freshness: Freshness) -> None:
    assert freshness.begin().reason is Reason.NOT_FOLLOWED
    assert freshness.wait(freshness.begin(), time.monotonic() + 60) is Reason.NOT_FOLLOWED
    assert not freshness.prepare(0.0)
    with pytest.raises(ControlError, match="does not follow"):
        freshness.mark(time.monotonic() + 60)


def test_a_mirror_that_does_not_answer(freshness: Freshness, publisher: Publisher) -> None:
    """It is asked in the background, again and again with pauses; reads do not wait for that."""
    publish(publisher, 1)
    assert freshness.begin().reason is Reason.UNPROVED
    assert not freshness.prepare(0.3)
    assert isinstance(until(lambda: freshness.error), NotRunningError)
    assert freshness.wait(freshness.begin(), time.monotonic() + 60) is Reason.UNPROVED


def started(freshness: Freshness, frame: int) -> Start:
    """A read that began when this frame was the newest, as if the mirror had been asked."""
    published = freshness.published()
    assert published is not None
    newest = NewestCommit((1, 2, 3, 4), (5, 6), Salts(1, 2), frame, frame)
    return Start(newest, None, Floor(published.mirror, ONE, 2, Salts(1, 2), (5, 6)), 0, 1, published)


@pytest.mark.parametrize("natively", [False, True])
def test_waiting(freshness: Freshness, publisher: Publisher, natively: bool) -> None:
    def wait(start: Start, seconds: float) -> Reason | None:
        deadline = time.monotonic() + seconds
        return asyncio.run(freshness.wait_async(start, deadline)) if natively else freshness.wait(start, deadline)

    publish(publisher, 7)
    assert wait(started(freshness, 7), 0.0) is None
    assert wait(started(freshness, 8), 0.0) is Reason.BEHIND
    assert wait(started(freshness, 8), 0.02) is Reason.BEHIND
    start = started(freshness, 9)
    later = threading.Timer(0.05, publish, (publisher, 9))
    later.start()
    assert wait(start, 60) is None
    later.join()
    start = started(freshness, 10)
    later = threading.Timer(0.05, publisher.withdraw)
    later.start()
    assert wait(start, 60) is Reason.NOT_FOLLOWED
    later.join()


def test_another_mirror_ends_the_waiting(
    freshness: Freshness, publisher: Publisher, database: Path, folder: Path
) -> None:
    publish(publisher, 7)
    start = started(freshness, 8)
    publish(Publisher(source_folder(folder / "state", resolve(database))), 8)
    assert freshness.wait(start, time.monotonic() + 60) is Reason.UNPROVED


def test_a_process_that_was_forked(freshness: Freshness, publisher: Publisher) -> None:
    """It has its own locks, whatever another thread held, and asks by itself."""
    publish(publisher, 7)
    with freshness._guard:
        freshness._asking = True
        child = os.fork()
        if not child:
            try:
                good = freshness.begin().reason is Reason.UNPROVED and not freshness.prepare(0.2)
                os._exit(0 if good and isinstance(until(lambda: freshness.error), NotRunningError) else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
