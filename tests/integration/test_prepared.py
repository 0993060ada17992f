"""Statements without a cursor: they do what psycopg's would, and a table may change under them."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from mirror.postgres.prepared import MOST_NAMES, PreparedStatements
from mirror.postgres.sessions import Session, connect

INSERT = b"INSERT INTO public.t VALUES ($1, $2, $3)"


@pytest.fixture
def conn(dsn: str) -> Iterator[Session]:
    with connect(dsn, raw=True) as conn:
        conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v text, b bytea)")
        yield conn


def rows(conn: Session) -> list[tuple[object, ...]]:
    return conn.execute("SELECT * FROM public.t ORDER BY id").fetchall()


def names(conn: Session) -> int:
    query = "SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE name LIKE 'mirror%'"
    [(number,)] = conn.execute(query).fetchall()
    return int(number)


def test_what_is_sent_arrives(conn: Session) -> None:
    statements = PreparedStatements(conn)
    statements.run([(b"BEGIN", ()), *((INSERT, (str(n), f"ä{n}", bytes([n, 0]))) for n in range(3)), (b"COMMIT", ())])
    statements.run([(INSERT, ("3", None, "\\x00ff"))])
    statements.run([(INSERT, ("4", "", None))])
    assert rows(conn) == [
        (0, "ä0", b"\0\0"), (1, "ä1", b"\1\0"), (2, "ä2", b"\2\0"), (3, None, b"\0\xff"), (4, "", None)
    ]  # fmt: skip
    assert names(conn) == 3


@pytest.mark.parametrize("before", [[], [(b"BEGIN", ())]])
def test_after_an_error_nothing_of_it_is_there(conn: Session, before: list[tuple[bytes, tuple[str, ...]]]) -> None:
    statements = PreparedStatements(conn)
    with pytest.raises(errors.UniqueViolation, match="duplicate key"):
        statements.run([*before, *[(INSERT, ("1", "one", None))] * 2, (b"SELECT 1", ())])
    assert conn.info.transaction_status in (TransactionStatus.IDLE, TransactionStatus.INERROR)
    conn.rollback()
    assert rows(conn) == []
    statements.run([(INSERT, ("1", "again", None))])
    assert rows(conn) == [(1, "again", None)]


def test_a_single_statement_that_fails(conn: Session) -> None:
    statements = PreparedStatements(conn)
    for _ in range(2):
        statements.run([(b"INSERT INTO public.t VALUES ($1) ON CONFLICT DO NOTHING", ("1",))])
        with pytest.raises(errors.InvalidTextRepresentation):
            statements.run([(b"INSERT INTO public.t VALUES ($1) ON CONFLICT DO NOTHING", ("one",))])
    assert rows(conn) == [(1, None, None)]


def test_what_cannot_be_sent(conn: Session) -> None:
    statements = PreparedStatements(conn)
    with pytest.raises(psycopg.DataError, match="NUL"):
        statements.run([(INSERT, ("1", "a\0b", None))])
    with pytest.raises(UnicodeEncodeError):
        statements.run([(INSERT, ("1", "\ud800", None))])
    assert rows(conn) == [] and conn.info.transaction_status == TransactionStatus.IDLE


def test_a_table_that_has_changed(conn: Session) -> None:
    """The types of parameters are those of when a statement was prepared."""
    statements = PreparedStatements(conn)
    statements.run([(INSERT, ("1", "one", None))])
    conn.execute("ALTER TABLE public.t ALTER id TYPE numeric")
    statements.forget()
    statements.run([(INSERT, ("1.5", "more", None))])
    assert [str(key) for key, *_ in rows(conn)] == ["1", "1.5"]
    assert names(conn) == 1


def test_names_are_given_back(conn: Session) -> None:
    statements = PreparedStatements(conn)
    for n in range(MOST_NAMES + 10):
        statements.run([(b"INSERT INTO public.t VALUES (%d, $1)" % n, ("v",))])
    assert len(rows(conn)) == MOST_NAMES + 10 and names(conn) <= 10


def test_a_session_that_is_ended(conn: Session, dsn: str) -> None:
    """What the server said comes, also where a queue is under way; and the connection is closed."""
    statements = PreparedStatements(conn)
    pid = conn.info.backend_pid
    kill = f"SELECT pg_terminate_backend({pid})".encode()
    with pytest.raises(errors.AdminShutdown):
        statements.run([(b"BEGIN", ()), (kill, ()), (INSERT, ("1", "one", None)), (b"COMMIT", ())])
    assert conn.closed
    with connect(dsn, raw=True) as other:
        assert rows(other) == []


def test_no_answer_is_no_success(conn: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for one statement nor for a queue: then nothing says that it was run."""
    statements = PreparedStatements(conn)
    statements.run([(INSERT, ("1", "one", None))])

    def nothing(pgconn: object) -> Generator[object, object, list[object]]:
        return []
        yield

    monkeypatch.setattr("mirror.postgres.prepared.generators.execute", nothing)
    with pytest.raises(psycopg.OperationalError, match="not answered"):
        statements.run([(INSERT, ("2", "two", None))])
    assert conn.closed
    with pytest.raises(psycopg.OperationalError):
        statements.run([(INSERT, ("2", "two", None))])
