"""The mirror's sessions in Postgres: what is set in them, why they ended, and that they are its own."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from mirror.core.errors import FencedError, SinkError
from mirror.postgres.failures import translated
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sessions import Session, connect, placeholders
from mirror.postgres.settings import LEFT, SET
from mirror.postgres.sink import Sink
from tests.support.commands import CommandLine
from tests.support.hostile import HOSTILE, make_hostile
from tests.support.pooler import Pooler
from tests.support.source import Writer


def test_each_setting_of_the_server_is_decided(dsn: str) -> None:
    """Those that a role or a database may set. One that a later Postgres adds must be looked at."""
    decided = [*SET, *(name for names in LEFT.values() for name in names)]
    assert len(decided) == len(set(decided))
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT name FROM pg_settings WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')"
            " AND name NOT LIKE '%.%'"
        ).fetchall()
    assert {str(row[0]) for row in found} <= set(decided)
    assert set(SET) <= set(HOSTILE)


@pytest.mark.parametrize("raw", [False, True])
def test_what_the_database_sets_is_set_otherwise(dsn: str, raw: bool) -> None:
    made = make_hostile(dsn)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SHOW quote_all_identifiers").fetchone() == ("on",)
    with connect(dsn, raw=raw) as session:
        found = {name: session.execute(f"SHOW {name}".encode()).fetchone() for name in made if name in SET}
    units = {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"}
    expected = {name: (value,) for name, value in SET.items() if name in found and name not in units}
    # (Those of TCP are 0 on a Unix socket, and a longer unit elsewhere.)
    assert {name: value for name, value in found.items() if name not in units} == expected
    assert len(expected) > 25


def test_placeholders_are_those_of_before_also_after_an_error(dsn: str) -> None:
    with connect(dsn) as session:
        with pytest.raises(psycopg.errors.DivisionByZero), placeholders(session, psycopg.RawCursor):
            session.execute("SELECT 1 / $1::int", ("0",))
        assert session.execute("SELECT %s", ("a",)).fetchone() == ("a",)


def test_a_setting_of_superusers_that_cannot_be_set_is_named(dsn: str) -> None:
    database = str(conninfo_to_dict(dsn)["dbname"])
    clerk = Identifier(f"{database}_clerk")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN").format(clerk))
        connection.execute(SQL("ALTER ROLE {} SET session_replication_role = replica").format(clerk))
        theirs = make_conninfo(dsn, user=f"{database}_clerk")
        with pytest.raises(SinkError, match="session_replication_role is replica") as refused:
            connect(theirs)
        assert "RESET session_replication_role" in refused.value.next_step and not refused.value.retryable
        connection.execute(SQL("GRANT SET ON PARAMETER session_replication_role TO {}").format(clerk))
        with connect(theirs) as session:
            assert session.execute("SHOW session_replication_role").fetchone() == ("origin",)
        connection.execute(SQL("REVOKE SET ON PARAMETER session_replication_role FROM {}").format(clerk))


def copying(session: Session) -> None:
    session.execute("SET transaction_timeout = '100ms'" if session.info.server_version >= 170000 else "SELECT 1")
    with session.cursor().copy("COPY t FROM STDIN") as copy:
        for _ in range(1_000_000):
            copy.write_row(("x" * 1000,))
            if session.info.server_version < 170000:
                ended(session)


def ended(session: Session) -> None:
    """End it as an administrator does."""
    with psycopg.connect(session.info.dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [session.info.backend_pid])


def asked_afterwards(session: Session) -> None:
    ended(session)
    session.execute("SELECT 1")


def piped_afterwards(session: Session) -> None:
    ended(session)
    with session.pipeline():
        session.execute("SELECT 1")
        session.execute("SELECT 2")


def hung_up(session: Session) -> None:
    """psycopg may see that first, while libpq still counts the connection as good."""

    def waiting() -> Generator[int, int, None]:
        raise psycopg.OperationalError("connection socket closed")
        yield 0

    with session.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write_row(("x",))
        ended(session)
        session.wait(waiting())


def idle_for_long(session: Session) -> None:
    session.execute("SET idle_session_timeout = '50ms'")
    with psycopg.connect(session.info.dsn, autocommit=True) as other:
        found = (1,)
        while found != (0,):
            query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            found = other.execute(query, [session.info.backend_pid]).fetchone() or (0,)
            time.sleep(0.01)
    with session.pipeline():
        session.execute("SELECT 1")


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (copying, "transaction timeout|administrator command"),
        (asked_afterwards, "administrator command"),
        (piped_afterwards, "administrator command"),
        (hung_up, "administrator command"),
        (idle_for_long, "idle-session timeout"),
    ],
)
def test_the_servers_last_message_is_the_reason(
    dsn: str, ends: object, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not "server closed the connection unexpectedly", which is all that libpq knows when it was writing."""
    assert callable(ends)
    with connect(dsn) as session:
        session.execute("CREATE TEMP TABLE t(x text)")
        with pytest.raises(SinkError, match=told) as reported, translated("load a source"):
            ends(session)
    assert reported.value.sqlstate in ("25P04", "57P01", "57P05")
    assert reported.value.retryable
    assert "is up" not in reported.value.next_step
    assert not caplog.records, "nothing of psycopg's own about a COPY that it could not end"


@pytest.mark.parametrize("idle", [0, 1, 4])
def test_a_pooler_in_transaction_mode_is_refused(dsn: str, idle: int) -> None:
    with Pooler(dsn, "transaction", idle=idle) as pooler:
        with pytest.raises(SinkError, match="pooler in transaction mode") as refused:
            Sink.open(pooler.dsn, "/source.db", "public", PROFILES)
        assert not refused.value.retryable and "session mode" in refused.value.next_step
        # Nothing was set in a session that others use.
        with psycopg.connect(pooler.dsn, autocommit=True) as program:
            for _ in range(idle + 2):
                assert program.execute("SHOW search_path", prepare=False).fetchone() == ('"$user", public',)


def test_a_pooler_in_session_mode_is_none(dsn: str) -> None:
    """Each client has a session of its own, and the lease holds."""
    with Pooler(dsn, "session", idle=2) as pooler:
        with Sink.open(pooler.dsn, "/source.db", "public", PROFILES):
            with pytest.raises(FencedError, match="another mirror holds it"):
                Sink.open(pooler.dsn, "/source.db", "public", PROFILES)
            with pytest.raises(FencedError):
                Sink.open(dsn, "/source.db", "public", PROFILES)
        Sink.open(pooler.dsn, "/source.db", "public", PROFILES).close()


def test_a_pooler_that_clears_nothing(dsn: str) -> None:
    """What the client before has left in a server's process is in nobody's way."""
    with Pooler(dsn, "session", idle=2) as pooler:
        for number in range(2):
            with psycopg.connect(pooler.dsn, autocommit=True) as program:
                program.execute("SELECT 1", prepare=True)
                program.execute("CREATE TEMP TABLE pg_class(x int)")
                program.execute("SELECT pg_advisory_lock(7, %s)", (number,))
        for _ in range(3):
            with connect(pooler.dsn) as session:
                assert session.execute("SELECT 2", prepare=True).fetchone() == (2,)
                assert session.execute("SELECT to_regclass('pg_temp.pg_class')").fetchone() == (None,)
                held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                assert session.execute(held).fetchone() == (0,)


def test_the_commands_refuse_a_pooler_in_transaction_mode(
    dsn: str, folder: Path, writer: Writer, database: Path
) -> None:
    """`mirror up` does not begin, and `mirror doctor` says it before."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 2)")
    with Pooler(dsn, "transaction") as pooler:
        cli = CommandLine(folder, pooler.dsn)
        done = cli.run("doctor", database, "--json")
        assert done.code == 1, done
        (report,) = json.loads(done.out)["reports"]
        (told,) = [found for found in report["findings"] if found["code"] == "postgres"]
        assert "pooler in transaction mode" in str(told) and "session mode" in str(told)
        done = cli.run("up", database, "--once")
        assert done.code == 2 and "Traceback" not in done.err, done
        assert "pooler in transaction mode" in done.err and "session mode" in done.err
