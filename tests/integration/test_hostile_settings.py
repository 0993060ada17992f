"""A database whose settings are against the mirror in every point: it copies, follows and compares as in any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.commands import CommandLine
from tests.support.hostile import LIMIT_MS, make_hostile
from tests.support.memustore import create_store
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT, until

#: Values that are another one in another form, or mean something as a statement's text.
TELLING = (
    "1, 0.1, '2024-02-03 04:05:06', 'it''s a \\\\ \"quote\" — ü €', x'00ff5c27', NULL",
    "2, 1e300, '03.02.2024', 'NULL', x'', 1",
    "3, 123456789.123456789, 'BRST', '{NULL}', x'27', 'text'",
)


@pytest.fixture
def hostile(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The test's database made hostile; a connection to another one, to look at the server from."""
    make_hostile(dsn)
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        yield connection


def session_of(looking: psycopg.Connection[tuple[object, ...]], dsn: str, condition: str) -> Callable[[], object]:
    """Looks for the mirror's own session under a condition; its process id."""
    database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    query = f"SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'mirror' AND {condition}"
    return lambda: looking.execute(query.encode(), [database]).fetchone()


def test_copied_followed_and_compared(
    dsn: str,
    folder: Path,
    writer: Writer,
    database: Path,
    mirror: MirrorProcess,
    hostile: psycopg.Connection[tuple[object, ...]],
) -> None:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, real REAL, at DATETIME, text TEXT, raw BLOB, any)")
    writer.run("CREATE TABLE pad(id INTEGER PRIMARY KEY, v)")
    writer.run(*(f"INSERT INTO t VALUES ({values})" for values in TELLING))
    writer.run(filling("i, hex(randomblob(200))").replace("INTO t", "INTO pad").format(1, 20_000))
    mirror.start()
    mirror.wait_applied()
    cli = CommandLine(folder, dsn)

    # Longer idle than a session may be, and it is the same one afterwards.
    idle = until(session_of(hostile, dsn, f"state = 'idle' AND now() - state_change > interval '{3 * LIMIT_MS} ms'"))
    # Longer in a statement and in a transaction than both may be, because somebody has a lock.
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SET statement_timeout = 0")
        other.execute("SET idle_in_transaction_session_timeout = 0")
        other.execute("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'")
        other.execute("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        writer.run("UPDATE t SET text = text || ' changed'")
        long = f"wait_event_type = 'Lock' AND clock_timestamp() - xact_start > interval '{3 * LIMIT_MS} ms'"
        assert until(session_of(hostile, dsn, long)) == idle
        other.execute("ROLLBACK")
    # A batch by COPY, one that makes a column jsonb, and one that changes the tables.
    writer.run(filling("i, 'again ' || i").replace("INTO t", "INTO pad").format(1, 20_000))
    writer.run("INSERT INTO t VALUES (10, 'no number', x'00', x'01', 'no blob', 1.0)")
    writer.run("ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'it''s \\ more'", "CREATE TABLE late(a PRIMARY KEY, b)")
    writer.run("INSERT INTO late VALUES (1, 2), ('1', -0.0), (x'01', 9e999)")
    mirror.wait_applied()
    assert until(session_of(hostile, dsn, "state = 'idle'")) == idle, "one session all the time"

    done = cli.run("parity", database, "--state-dir", mirror.state_dir)
    assert done.code == 0 and "equal" in done.out, done
    methods = "SELECT DISTINCT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE relkind = 'r'"
    with psycopg.connect(dsn, autocommit=True) as other:
        assert other.execute(f"{methods} AND relnamespace <> 'pg_catalog'::regnamespace".encode()).fetchall() == [
            ("heap",)
        ]
    assert mirror.status()["last_error"] is None
    # The others of its connections, too.
    assert cli.run("rejects", "list", "--state-dir", mirror.state_dir).code == 0
    assert "✓ Postgres: version" in cli.run("doctor", database, "--state-dir", mirror.state_dir).out
    mirror.stop()


@pytest.mark.slow
def test_a_memustore(
    dsn: str, folder: Path, make_mirror: Callable[..., MirrorProcess], hostile: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Its tables have functions, triggers and policies, and are indexed by a connection of their own."""
    store = folder / "memory.db"
    create_store(store)
    mirror = make_mirror(store)
    mirror.agents[store] = "agent one"
    mirror.start()
    mirror.wait_applied()
    done = CommandLine(folder, dsn).run("parity", store, "--state-dir", mirror.state_dir, timeout=LIMIT)
    assert done.code == 0 and "equal" in done.out, done
    assert mirror.status()["index_error"] is None
    mirror.stop()
