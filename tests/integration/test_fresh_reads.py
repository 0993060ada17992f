"""Reads from Postgres beside a program that counts as fast as it can: none is of the past, whatever happens meanwhile.

Before each read the number is taken from SQLite. An answer of Postgres that is proved fresh must have it, or a later
one. How often a read had to go to SQLite, and why, is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import psycopg
import pytest

from mirror.core.errors import ControlError, TokenError
from mirror.core.folders import source_folder
from mirror.core.published import POSITION_FILE
from mirror.storage.freshness import Freshness
from mirror.storage.proofs import PositionRow
from mirror.storage.reads import Reason
from mirror.storage.sessions import Session, Token
from tests.fault.test_overwritten import overwrite
from tests.support import counter_process
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, put_in_place
from tests.support.waiting import LIMIT, until

QUERY = """
SELECT s.generation, s.frame, s.salt1, s.salt2, s.lineage::text, c.n
  FROM mirror.sources s LEFT JOIN counter c ON true WHERE s.path = %s
"""
#: Seconds that a read waits at most.
WAIT = 0.02


class Reader:
    """One session of a program that reads from Postgres, else from SQLite; and the check of every answer."""

    def __init__(self, mirror: MirrorProcess, *, prepared: bool = True) -> None:
        self._database, self._path = str(mirror.sources[0]), str(mirror.sources[0])
        self.postgres = psycopg.connect(mirror.dsn, autocommit=True)
        self.freshness = Freshness(mirror.sources[0], mirror.state_dir)
        self.session = Session(self.freshness)
        self.counts: Counter[Reason] = Counter()
        self.last = -1
        self.reopen()
        if prepared:
            assert self.freshness.prepare(LIMIT), self.freshness.error

    def reopen(self) -> None:
        """Have a connection to the file that is at the path now."""
        self._sqlite = apsw.Connection(self._database)
        self._sqlite.set_busy_timeout(60_000)
        self.number()

    def number(self) -> int:
        found = self._sqlite.execute("SELECT n FROM counter").fetchone()
        assert found is not None
        return int(found[0])

    def query(self) -> tuple[PositionRow, int]:
        found: Any = self.postgres.execute(QUERY, (self._path,)).fetchone()
        row = PositionRow.of(found)
        assert row is not None
        return row, found[5]

    def read(self, wait: float = WAIT) -> Reason:
        """Read once, and check the answer; returns why it came from where it came."""
        before = self.number()
        start = self.session.begin()
        reason = start.reason or self.freshness.wait(start, time.monotonic() + wait)
        number = -1
        if reason is None:
            row, number = self.query()
            reason = self.session.judge(start, row)
        if reason is not Reason.FRESH:
            number = self.number()
            self.session.saw_sqlite()
        assert number >= before, (reason, start)
        assert number >= self.last, (reason, start)
        self.last = number
        self.counts[reason] += 1
        return reason

    def read_until(self, done: Callable[[], bool], reads: int = 0, fresh: int = 0) -> None:
        """Read until this is so, and so many reads were made, and so many of them came from Postgres."""
        deadline = time.monotonic() + LIMIT
        while not done() or self.counts.total() < reads or self.counts[Reason.FRESH] < fresh:
            self.read()
            assert time.monotonic() < deadline, self.counts

    def read_fresh(self) -> None:
        """Read until an answer comes from Postgres."""
        before = self.counts[Reason.FRESH]
        self.read_until(lambda: self.counts[Reason.FRESH] > before)

    def close(self) -> None:
        self.freshness.close()
        self.postgres.close()
        self._sqlite.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        total = self.counts.total()
        print(f"{total} reads:", ", ".join(f"{reason} {number}" for reason, number in self.counts.most_common()))


@contextmanager
def counting(database: Path, rate: float = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A program that counts, and ends by itself afterwards."""
    program = subprocess.Popen(
        [sys.executable, counter_process.__file__, str(database), str(rate)], stdin=subprocess.PIPE
    )
    try:
        yield program
    finally:
        program.communicate(timeout=LIMIT)
    assert program.returncode in (0, -9)


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Do something in another thread; gives a function that returns whether it is done."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield lambda: not thread.is_alive()
    thread.join(LIMIT)
    assert not problems, problems


def await_count(count: Callable[[], int], more: int) -> None:
    """Wait until a count has grown by so many."""
    reached = count() + more
    until(lambda: count() >= reached)


@pytest.fixture
def counter(mirror: MirrorProcess, writer: Writer) -> MirrorProcess:
    """A running mirror of a file with a number."""
    writer.run("CREATE TABLE counter(n INTEGER NOT NULL)", "INSERT INTO counter VALUES (0)")
    mirror.start()
    mirror.settle()
    return mirror


@pytest.mark.parametrize("rate", [0, 300])
def test_beside_a_program_that_commits(counter: MirrorProcess, database: Path, rate: int) -> None:
    with Reader(counter) as reader:
        with counting(database, rate):
            reader.read_until(lambda: True, reads=3000, fresh=500 if rate else 0)
        reader.read_fresh()


def test_nothing_waits_at_rest(counter: MirrorProcess, writer: Writer) -> None:
    """Also after checkpoints that reset the WAL, which nothing is written to then."""
    with Reader(counter) as reader:
        for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE"):
            writer.run("UPDATE counter SET n = n + 1", f"PRAGMA wal_checkpoint({mode})")
            counter.wait_applied()
            reader.read_fresh()
            before = reader.counts[Reason.FRESH]
            for _ in range(100):
                reader.read()
            assert reader.counts[Reason.FRESH] == before + 100, mode


def test_checkpoints_of_all_kinds(counter: MirrorProcess, database: Path, writer: Writer) -> None:
    def work() -> None:
        for turn in range(60):
            writer.run(f"PRAGMA wal_checkpoint({['TRUNCATE', 'RESTART', 'PASSIVE'][turn % 3]})")
            time.sleep(0.02)  # so that something is committed in between

    with Reader(counter) as reader, counting(database, 500), beside(work) as done:
        reader.read_until(done, reads=2000, fresh=300)


@pytest.mark.slow
def test_the_mirror_is_killed_and_started_again(counter: MirrorProcess, database: Path) -> None:
    def work() -> None:
        for _ in range(4):
            await_count(lambda: reader.counts[Reason.FRESH], 100)
            counter.kill()
            await_count(reader.counts.total, 20)
            counter.start()

    with Reader(counter) as reader, counting(database, 500), beside(work) as done:
        reader.read_until(done)
        reader.read_fresh()


@pytest.mark.slow
def test_a_killed_mirror_is_not_waited_for(counter: MirrorProcess, writer: Writer) -> None:
    """What Postgres has is read there as long as nothing is written. Afterwards nobody waits for long."""
    with Reader(counter) as reader:
        reader.read_fresh()
        counter.kill()
        assert {reader.read() for _ in range(100)} == {Reason.FRESH}
        writer.run("UPDATE counter SET n = n + 1")
        reader.read_until(lambda: reader.counts[Reason.NOT_FOLLOWED] > 50)
        counter.start()
        reader.read_fresh()


@pytest.mark.slow
def test_a_stopped_mirror_is_not_asked_about(counter: MirrorProcess) -> None:
    with Reader(counter) as reader:
        reader.read_fresh()
        counter.stop()
        assert reader.read() is Reason.NOT_FOLLOWED
        with pytest.raises(ControlError):
            reader.session.token()
        counter.start()
        reader.read_fresh()


@pytest.mark.slow
def test_the_program_ends_and_another_begins(counter: MirrorProcess, database: Path, writer: Writer) -> None:
    """The reader's connection keeps the WAL; so nothing has to be asked again."""
    writer.close()
    with Reader(counter) as reader:
        for _ in range(3):
            with counting(database, 500):
                reader.read_until(lambda: True, fresh=reader.counts[Reason.FRESH] + 100)
            reader.read_fresh()
        with counting(database, 500) as program:
            reader.read_fresh()
            program.kill()
            program.wait()
            reader.read_fresh()


def test_nobody_has_the_file_open(counter: MirrorProcess, database: Path, writer: Writer) -> None:
    """Then there is no index; and when the file is opened again, nothing of before counts."""
    with Reader(counter) as reader:
        reader.read_fresh()
        counter.stop()
        writer.close()
        reader._sqlite.close()
        assert not Path(f"{database}-shm").exists()
        assert reader.freshness.begin().reason is Reason.NO_INDEX
        reader.reopen()
        counter.start()
        reader.read_fresh()


def test_the_file_is_replaced(counter: MirrorProcess, database: Path, writer: Writer, folder: Path) -> None:
    """By another one, by a rename: what Postgres has of the first proves nothing about the second."""
    writer.close()
    with Reader(counter) as reader:
        for turn in range(1, 4):
            reader.read_fresh()
            other = folder / "other.db"
            with Writer(other) as made:
                made.run("PRAGMA journal_mode=WAL", "CREATE TABLE counter(n INTEGER NOT NULL)")
                made.run(f"INSERT INTO counter VALUES ({turn * 1_000_000})")
            put_in_place(other, database)
            reader.reopen()
            assert reader.read() is not Reason.FRESH
            reader.read_fresh()
            assert reader.last == turn * 1_000_000
            with Writer(database) as again:
                again.run("UPDATE counter SET n = n + 1")
                reader.read_fresh()


@pytest.mark.slow
def test_vacuum_and_another_schema(counter: MirrorProcess, database: Path, writer: Writer) -> None:
    def work() -> None:
        for turn in range(5):
            writer.run(
                "VACUUM", f"ALTER TABLE counter ADD COLUMN c{turn} DEFAULT 5", "CREATE TABLE x(y)", "DROP TABLE x"
            )

    with Reader(counter) as reader, counting(database, 200), beside(work) as done:
        reader.read_until(done, fresh=100)


@pytest.mark.slow
def test_a_power_cut_shortens_the_log(counter: MirrorProcess, database: Path, writer: Writer, dsn: str) -> None:
    """What is written next has the salts and frames of what was lost, which Postgres has: it proves nothing."""
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)", *["UPDATE counter SET n = n + 1"] * 10)
    counter.wait_applied()
    counter.kill()
    writer.kill()
    wal = Path(f"{database}-wal")
    size = wal.stat().st_size
    Path(f"{database}-shm").unlink()
    os.truncate(wal, 32 + (size - 32) * 6 // 10)
    with Writer(database) as again:
        again.run(*["UPDATE counter SET n = n + 1000"] * 4)
        with Reader(counter, prepared=False) as reader:
            assert reader.query()[1] == 10
            assert (reader.number(), reader.read()) == (4006, Reason.UNPROVED)
            counter.start()
            reader.read_fresh()


def test_postgres_goes_back(counter: MirrorProcess, writer: Writer, dsn: str) -> None:
    """A backup was restored while the mirror was away; what is published is of before."""
    with Reader(counter) as reader:
        reader.read_fresh()
        row, number = reader.query()
        writer.run("UPDATE counter SET n = n + 1")
        counter.wait_applied()
        reader.read_fresh()
        counter.kill()
        reader.postgres.execute("SET mirror.writer = 'on'")  # a backup has no news of others' writes
        reader.postgres.execute(
            "WITH c AS (UPDATE counter SET n = %s) UPDATE mirror.sources SET generation = %s, frame = %s",
            (number, row.generation, row.frame),
        )
        assert {reader.read() for _ in range(20)} == {Reason.OLDER}
        counter.start()
        reader.read_fresh()


def test_the_mirror_loses_its_connection(counter: MirrorProcess, writer: Writer) -> None:
    """It has another epoch afterwards, so it is asked again."""
    with Reader(counter) as reader:
        for _ in range(3):
            reader.read_fresh()
            before = reader.freshness.published()
            assert before is not None
            reader.postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'mirror' AND datname = current_database()"
            )
            writer.run("UPDATE counter SET n = n + 1")
            reader.read_until(lambda: reader.counts[Reason.NOT_FOLLOWED] > 0)
            reader.read_fresh()
            after = reader.freshness.published()
            assert after is not None and after.epoch > before.epoch and after.run == before.run
            reader.counts.clear()


def test_another_mirror_takes_the_source_over(counter: MirrorProcess, writer: Writer) -> None:
    """Ours notices that with its next commit, and ends: then nothing is read from Postgres by what it has published."""
    with Reader(counter) as reader:
        reader.read_fresh()
        reader.postgres.execute("UPDATE mirror.sources SET epoch = epoch + 1")
        writer.run("UPDATE counter SET n = n + 1")
        reader.read_until(lambda: reader.counts[Reason.NOT_FOLLOWED] > 0)
    assert counter.ends_within(LIMIT)


def test_what_is_followed_may_be_wrong(counter: MirrorProcess, writer: Writer, database: Path) -> None:
    """The file was overwritten in place: nothing is proved from when the mirror notices that until it was put right."""
    writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
    counter.wait_applied()
    freshness = Freshness(counter.sources[0], counter.state_dir)
    assert freshness.prepare(LIMIT)
    right = database.read_bytes()
    overwrite(database, os.urandom(len(right)))
    until(lambda: freshness.begin().reason is Reason.NOT_FOLLOWED)
    overwrite(database, right)
    assert freshness.prepare(LIMIT)
    freshness.close()


@pytest.mark.slow
def test_the_state_directory_is_deleted(counter: MirrorProcess, writer: Writer, database: Path) -> None:
    """While the mirror runs: it makes it again, and readers find the new file."""
    with Reader(counter) as reader:
        reader.read_fresh()
        published = source_folder(counter.state_dir, counter.sources[0]) / POSITION_FILE
        shutil.rmtree(counter.state_dir)
        reader.read_until(lambda: reader.counts[Reason.NOT_FOLLOWED] > 0)
        writer.run("UPDATE counter SET n = n + 1")
        until(published.exists, alive=lambda: counter.alive)
        reader.read_fresh()
        before = reader.counts[Reason.NOT_FOLLOWED]
        published.unlink()
        reader.read_until(lambda: reader.counts[Reason.NOT_FOLLOWED] > before)
        reader.read_fresh()


def test_a_database_without_a_wal(make_mirror: Callable[..., MirrorProcess], database: Path) -> None:
    with Writer(database) as writer:
        writer.run("CREATE TABLE counter(n INTEGER NOT NULL)", "INSERT INTO counter VALUES (0)")
        mirror = make_mirror(database)
        mirror.start()
        mirror.settle()
        with Reader(mirror, prepared=False) as reader:
            assert {reader.read() for _ in range(3)} == {Reason.NO_INDEX}


def test_tokens(counter: MirrorProcess, writer: Writer) -> None:
    """What one session has written, another one elsewhere reads: there only the position row counts."""
    elsewhere = Session()
    with Reader(counter) as reader:
        before = reader.query()[0]
        for turn in range(1, 20):
            writer.run("UPDATE counter SET n = n + 1")
            reader.session.saw_sqlite()
            token = reader.session.token()
            assert not token.reached_by(before)
            while elsewhere.judge_at(token, reader.query()[0]) is not Reason.TOKEN:
                time.sleep(0.001)
            assert reader.query()[1] == turn
            assert elsewhere.judge_at(Token(token.lineage, before.lsn), before) is Reason.SESSION
        reader.read_fresh()
        token = reader.session.token()
        assert token.reached_by(reader.query()[0])
        assert elsewhere.token() <= token
    counter.stop()
    shutil.rmtree(counter.state_dir)
    counter.start()
    counter.settle()
    with Reader(counter) as reader, pytest.raises(TokenError, match="another copy"):
        token.reached_by(reader.query()[0])
