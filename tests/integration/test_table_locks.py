"""Locks on many tables beside programs that have some of them for long, and short pauses between."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from mirror.core.errors import SinkError
from mirror.postgres.table_locks import TableLocks
from tests.support.waiting import until

TABLES = [("public", f"t{number}") for number in range(6)]


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as conn:
        for _, name in TABLES:
            conn.execute(f"CREATE TABLE {name}(id int)".encode())
        yield conn


def locked(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT relation::regclass::text FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted ORDER BY 1"
        )
        return [name for (name,) in rows]


def test_the_next_attempt_begins_with_what_this_one_did_not_get(
    conn: psycopg.Connection[tuple[object, ...]], dsn: str
) -> None:
    """It waits for that with nothing else locked, so that other programs go on."""
    locks = TableLocks()
    with psycopg.connect(dsn) as program:
        program.execute("INSERT INTO t4 VALUES (1)")
        said = r"lock a table \(public\.t4\): transactions of programs have it"
        with pytest.raises(SinkError, match=said) as error, conn.transaction():
            locks.take(conn, TABLES, "SHARE ROW EXCLUSIVE")
        assert error.value.retryable and not locked(dsn)
        seen: list[list[str]] = []

        def again() -> None:
            with pytest.raises(SinkError), conn.transaction():
                locks.take(conn, TABLES, "SHARE ROW EXCLUSIVE")

        attempt = threading.Thread(target=again)
        attempt.start()
        while attempt.is_alive():
            seen.append(locked(dsn))
        attempt.join()
        assert seen and not any(seen)
    with conn.transaction():
        locks.take(conn, TABLES, "SHARE ROW EXCLUSIVE")
        assert locked(dsn) == [name for _, name in TABLES]


def test_two_programs_that_hardly_ever_rest(conn: psycopg.Connection[tuple[object, ...]], dsn: str) -> None:
    """Each has a table nearly all the time, not at the same times: both are got in the end."""
    locks, stop = TableLocks(), threading.Event()

    def hold(table: str) -> None:
        with psycopg.connect(dsn) as program:
            while not stop.is_set():
                program.execute(f"INSERT INTO {table} VALUES (1)".encode())
                stop.wait(0.7)
                program.commit()
                stop.wait(0.1)

    def attempt() -> bool:
        try:
            with conn.transaction():
                locks.take(conn, TABLES, "SHARE ROW EXCLUSIVE")
                return True
        except SinkError:
            return False

    programs = [threading.Thread(target=hold, args=(name,)) for name in ("t1", "t4")]
    for program in programs:
        program.start()
    try:
        until(attempt)
    finally:
        stop.set()
        for program in programs:
            program.join()
