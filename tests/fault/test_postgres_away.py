"""Postgres is cut off, refuses, hangs or does not let the mirror write: it waits, says why, and converges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink
from tests.support.mirrors import MirrorProcess
from tests.support.proxy import Proxy, Trap
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT

FILL = filling("i, 'row ' || i || hex(randomblob(20)), i")
#: So many rows of one transaction go by COPY into a temporary table.
MANY = 20_000


@pytest.fixture
def proxy(dsn: str, mirror: MirrorProcess) -> Iterator[Proxy]:
    """The mirror's way to Postgres; parity goes to it directly."""
    with Proxy(dsn) as proxy:
        mirror.its_dsn = proxy.dsn
        yield proxy
        if mirror.alive:
            mirror.check()
        mirror.end()


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, v)", FILL.format(1, 2000))
    return writer


def wait_waiting(mirror: MirrorProcess, told: str = "") -> dict[str, object]:
    """Until the mirror says that it waits (for this reason); its status."""

    def waits(status: dict[str, Any]) -> bool:
        assert status["phase"] != "failed", status
        return status["phase"] == "waiting" and told in status["last_error"]

    status = mirror.status_when(waits)
    assert any("by itself" in step for step in status["next_steps"])
    return status


def restart_and_check(mirror: MirrorProcess, writer: Writer) -> None:
    """Killed and started again it is equal, too, and goes on."""
    mirror.kill()
    writer.run("UPDATE t SET v = 'after the kill' WHERE id = 5")
    mirror.start()
    mirror.check()


@pytest.mark.few(1)
@pytest.mark.parametrize("more", [0, 1, 50_000])
def test_cut_in_the_snapshots_copy(mirror: MirrorProcess, proxy: Proxy, filled: Writer, more: int) -> None:
    filled.run(FILL.format(10_000, 10_000 + MANY))
    sprung = proxy.set_trap(Trap(True, b"COPY ", more))
    mirror.start()
    assert sprung.wait(LIMIT)
    filled.run("DELETE FROM t WHERE id < 100")
    mirror.check()
    restart_and_check(mirror, filled)


@pytest.mark.few(1)
@pytest.mark.parametrize("more", [0, 50_000])
def test_cut_in_the_copy_of_a_live_transaction(mirror: MirrorProcess, proxy: Proxy, filled: Writer, more: int) -> None:
    mirror.start()
    mirror.wait_applied()
    sprung = proxy.set_trap(Trap(True, b"COPY ", more))
    filled.transaction(FILL.format(10_000, 10_000 + MANY), "DELETE FROM t WHERE id < 100")
    assert sprung.wait(LIMIT)
    mirror.check()
    restart_and_check(mirror, filled)


@pytest.mark.few(1)
@pytest.mark.parametrize("leave_server", [False, True])
@pytest.mark.parametrize("load", [False, True])
def test_cut_before_the_answer_to_a_commit(
    mirror: MirrorProcess, proxy: Proxy, filled: Writer, dsn: str, load: bool, leave_server: bool
) -> None:
    """It was committed, and the mirror cannot know: it asks for the position instead of applying twice.

    With the server's side left open, the lost connection's backend still holds the source.
    """
    trap = Trap(False, b"COMMIT\0", -len(b"COMMIT\0"), leave_server)
    if not load:
        mirror.start()
        mirror.wait_applied()
        _count_writes(dsn)
        sprung = proxy.set_trap(trap)
        filled.transaction("INSERT INTO t VALUES (5000, 'once', 1)", "DELETE FROM t WHERE id = 7")
    else:
        # The migrations commit too: the trap is for the load's.
        mirror.start()
        mirror.wait_applied()
        mirror.stop()
        _forget_snapshot(mirror)
        sprung = proxy.set_trap(trap)
        mirror.start()
    assert sprung.wait(LIMIT)
    filled.run("INSERT INTO t VALUES (5001, 'afterwards', 1)")
    mirror.check()
    if not load:
        assert _writes_of(dsn, 5000) == 1
    restart_and_check(mirror, filled)


def _forget_snapshot(mirror: MirrorProcess) -> None:
    for folder in (mirror.state_dir / "sources").iterdir():
        (folder / "shadow.json").unlink()


def _count_writes(dsn: str) -> None:
    """Have Postgres write down each row that is written into the table t, in a schema that is nobody else's."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE SCHEMA seen")
        connection.execute("CREATE TABLE seen.writes(id bigint)")
        connection.execute(
            "CREATE FUNCTION seen.note() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO seen.writes VALUES (NEW.id); RETURN NEW; END'"
        )
        connection.execute("CREATE TRIGGER note BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION seen.note()")


def _writes_of(dsn: str, key: int) -> int:
    with psycopg.connect(dsn) as connection:
        (count,) = connection.execute("SELECT count(*) FROM seen.writes WHERE id = %s", (key,)).fetchone() or (0,)
        return int(count)


def test_refuses_for_a_while(mirror: MirrorProcess, proxy: Proxy, filled: Writer) -> None:
    mirror.start()
    mirror.wait_applied()
    for turn in range(3):
        proxy.refuse()
        for step in range(50):
            filled.run(f"INSERT INTO t(name, v) VALUES ('new {turn} {step}', 1)", f"DELETE FROM t WHERE id = {step}")
        assert proxy.refused.wait(LIMIT)
        status = wait_waiting(mirror)
        assert "connect" in str(status["last_error"])
        if turn == 1:
            mirror.kill()
            mirror.start()
            wait_waiting(mirror)
        proxy.accept()
        mirror.check()
    assert mirror.status()["gaps"] == []


@pytest.mark.few(1)
@pytest.mark.parametrize("then", ["flows again", "is cut"])
def test_hangs(mirror: MirrorProcess, proxy: Proxy, filled: Writer, then: str) -> None:
    """The mirror waits for an answer that does not come; status shows the lag meanwhile, and it can be stopped."""
    mirror.start()
    mirror.wait_applied()
    proxy.hang()
    filled.run("INSERT INTO t VALUES (5000, 'during', 1)")
    assert proxy.swallowed.wait(LIMIT)
    status = mirror.status_when(lambda status: status["behind_since"] is not None)
    assert status["lag_seconds"] >= 0
    filled.run("DELETE FROM t WHERE id = 5000", "INSERT INTO t VALUES (5001, 'during', 1)")
    proxy.flow() if then == "flows again" else proxy.cut()
    mirror.check()
    restart_and_check(mirror, filled)


def test_is_killed_and_stopped_while_it_hangs(mirror: MirrorProcess, proxy: Proxy, filled: Writer) -> None:
    mirror.stop_seconds = None
    mirror.start()
    mirror.wait_applied()
    for end in (mirror.kill, mirror.stop):
        proxy.hang()
        filled.run("INSERT INTO t(v) VALUES ('during')")
        assert proxy.swallowed.wait(LIMIT)
        end()
        proxy.cut()
        filled.run("DELETE FROM t WHERE id % 5 = 0")
        mirror.start()
        mirror.check()


def test_database_is_read_only_for_a_while(mirror: MirrorProcess, filled: Writer, dsn: str) -> None:
    """As a server that was a standby's primary, or one that is about to be upgraded."""
    mirror.start()
    mirror.wait_applied()
    with admin(dsn) as connection:
        connection.execute(about(dsn, "ALTER DATABASE {database} SET default_transaction_read_only = on"))
        end_sessions(connection)
        filled.run("INSERT INTO t VALUES (5000, 'while it is read-only', 1)")
        status = wait_waiting(mirror, "read-only")
        assert "default_transaction_read_only" in str(status["last_error"])
        connection.execute(about(dsn, "ALTER DATABASE {database} RESET default_transaction_read_only"))
        mirror.check()
    restart_and_check(mirror, filled)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("deny", "allow", "told", "step"),
    [
        (
            "ALTER DATABASE {database} CONNECTION LIMIT 0",
            "ALTER DATABASE {database} CONNECTION LIMIT -1",
            "too many connections",
            "lets this user in",
        ),
        (
            "REVOKE ALL ON SCHEMA mirror FROM {clerk}",
            "GRANT ALL ON SCHEMA mirror TO {clerk}",
            "permission denied",
            "grant the mirror's user",
        ),
        ("ALTER ROLE {clerk} NOLOGIN", "ALTER ROLE {clerk} LOGIN", "not permitted to log in", "lets this user in"),
    ],
    ids=["no connections left", "rights missing", "may not log in"],
)
def test_denied_for_a_while(
    mirror: MirrorProcess, filled: Writer, dsn: str, deny: LiteralString, allow: LiteralString, told: str, step: str
) -> None:
    mirror.its_dsn = as_clerk(dsn)
    with admin(dsn) as connection:
        mirror.start()
        mirror.wait_applied()
        connection.execute(about(dsn, deny))
        end_sessions(connection)
        filled.run("INSERT INTO t VALUES (5000, 'while it was denied', 1)")
        status = wait_waiting(mirror, told)
        assert step in str(status["last_error"])
        connection.execute(about(dsn, allow))
        mirror.check()
    restart_and_check(mirror, filled)


def admin(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(dsn, autocommit=True)


def about(dsn: str, command: LiteralString) -> sql.Composed:
    """A command about the test's own database, or its clerk."""
    database = str(conninfo_to_dict(dsn)["dbname"])
    return sql.SQL(command).format(database=sql.Identifier(database), clerk=sql.Identifier(clerk_of(database)))


def clerk_of(database: str) -> str:
    """A role of this database alone: roles are the server's, which other tests use at the same time."""
    return f"{database}_clerk"


def end_sessions(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """End the mirror's sessions, as an administrator does."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'mirror'"
    )


def as_clerk(dsn: str) -> str:
    """A role that is no superuser, and owns the database."""
    with admin(dsn) as connection:
        connection.execute(about(dsn, "CREATE ROLE {clerk} LOGIN"))
        connection.execute(about(dsn, "ALTER DATABASE {database} OWNER TO {clerk}"))
    return make_conninfo(dsn, user=clerk_of(str(conninfo_to_dict(dsn)["dbname"])))


def test_the_kernel_is_told_how_long_to_wait_for_a_network_that_drops_everything(proxy: Proxy) -> None:
    """Without this, data that nobody acknowledges is sent again for a quarter of an hour."""
    with Sink.open(proxy.dsn, "/source.db", "public", PROFILES) as sink:
        told = sink._conn.info.get_parameters()
    assert told["tcp_user_timeout"] == "60000"
    assert int(told["keepalives_idle"]) + int(told["keepalives_interval"]) * int(told["keepalives_count"]) == 60
