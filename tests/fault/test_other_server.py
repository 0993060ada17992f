"""Postgres is away when a program starts, another server is named, or a pooler is between: SQLite answers meanwhile."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import mirror
from mirror.core.errors import ConfigError, SinkError
from mirror.storage.adapters import PostgresAdapter
from mirror.storage.on_postgres import session
from tests.fault.test_standby import until_counted, write_and_read
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs
from tests.support.waiting import until

NOWHERE = "host=127.0.0.1 port=1 dbname=nothing connect_timeout=1"
#: Where it is installed, programs are run through it, too.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@pytest.fixture
def programs(dsn: str, folder: Path) -> Iterator[Programs]:
    """Programs that read from Postgres, not started yet; their mirror runs."""
    with Programs(folder, dsn, 4) as programs:
        programs.read_from = "postgres"
        programs.configure()
        programs.mirror.start()
        programs.mirror.wait_applied()
        yield programs


@pytest.mark.slow
def test_a_program_starts_while_postgres_is_away(programs: Programs, dsn: str) -> None:
    programs.dsn = NOWHERE
    programs.configure()
    with mirror.get_storage_adapter(config=programs.config) as adapter:
        write_and_read(adapter, 5)

        async def main() -> None:
            async with await mirror.get_async_storage_adapter(config=programs.config) as other:
                assert await other.memory.count_items() == 5

        asyncio.run(main())
        programs.dsn = dsn
        programs.configure()
        until_counted("postgres:fresh", adapter.memory.count_items)
        write_and_read(adapter, 5)
    programs.dsn = NOWHERE
    programs.configure()
    with PostgresAdapter(programs.config) as alone, pytest.raises(SinkError):
        alone.init()


def test_a_server_that_does_not_have_the_tables_yet(programs: Programs, postgres_server: PostgresServer) -> None:
    """It is named before the mirror is: no error, and reads from it once the mirror has filled it."""
    other = postgres_server.create_database()
    try:
        with mirror.get_storage_adapter(config=programs.config) as adapter:
            until_counted("postgres:fresh", adapter.memory.count_items)
            write_and_read(adapter, 5)
            programs.dsn = other
            programs.configure()
            until_counted("sqlite:failed", lambda: write_and_read(adapter, 1))
            for _ in range(5):
                until_counted("sqlite:failed", lambda: write_and_read(adapter, 1))
            programs.mirror.stop()
            programs.mirror.dsn = programs.mirror.its_dsn = other
            programs.mirror.state_dir = programs.folder / "state"
            programs.mirror.start()
            programs.mirror.wait_applied()
            until_counted("postgres:fresh", lambda: write_and_read(adapter, 1))
            programs.mirror.check()
    finally:
        programs.mirror.end()
        postgres_server.drop_database(other)


def test_what_a_pooler_is_known_by(dsn: str) -> None:
    """The server that answers is not the one that the connection began with, as a pooler makes its own numbers."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(session.BACKEND).fetchone()
        assert not session.is_pooled(row, conn.info.backend_pid)
        assert session.is_pooled(row, conn.info.backend_pid + 1)
        with pytest.raises(ConfigError, match="a pooler is between"):
            session.require_own_session(["public"], bound=False)
        with pytest.raises(ConfigError, match="a pooler is between"):
            session.require_own_session(["ada", "public"], bound=True)
        session.require_own_session(["public"], bound=True)


if PGBOUNCER is not None:

    @pytest.fixture
    def pooler(dsn: str, folder: Path) -> Iterator[str]:
        """A PgBouncer in transaction mode that has fewer connections than there are programs."""
        known = conninfo_to_dict(dsn)
        place = folder / "pooler"
        place.mkdir()
        (place / "users").write_text('"argent_app" ""\n"postgres" ""\n')
        port = 20_000 + os.getpid() % 20_000
        (place / "pgbouncer.ini").write_text(
            f"[databases]\n{known['dbname']} = host={known['host']} port={known.get('port', 5432)}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {place / 'users'}\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 1000\n"
        )
        folder.chmod(0o755)
        more = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("pgserver")
            more = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
        process = subprocess.Popen([str(PGBOUNCER), "-q", str(place / "pgbouncer.ini")], **more)
        try:
            yield make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        finally:
            process.terminate()
            process.wait()

    def test_programs_through_a_pooler(programs: Programs, pooler: str) -> None:
        programs.dsn = programs.tokens_dsn = make_conninfo(pooler, user="argent_app")
        programs.configure()

        def connects() -> bool:
            try:
                psycopg.connect(programs.dsn).close()
            except psycopg.OperationalError:
                return False
            return True

        until(connects)
        programs.begin()
        for _ in range(5):
            programs.wait_answered("postgres", "fresh")
        programs.finish()
        programs.prove()

    def test_a_role_would_be_lost_in_a_pooler(programs: Programs, pooler: str) -> None:
        with PostgresAdapter(programs.config) as adapter:
            adapter.init()
        programs.dsn = pooler
        programs.configure()
        with PostgresAdapter(programs.config) as adapter, pytest.raises(ConfigError, match="a pooler is between"):
            adapter.init()
