"""An adapter's connections to Postgres: when none is ready, when the role does not fit, when one is lost."""

from __future__ import annotations

import asyncio
import socket

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mirror.core.errors import BusyError, SinkError
from mirror.storage.on_postgres import attempts, store, store_async
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_postgres.store_async import AsyncPostgresStore
from mirror.storage.operations import items as operations
from mirror.storage.operations.base import Context
from tests.support.storage import AGENT, fill_postgres
from tests.support.waiting import until


def test_a_burst_at_the_start(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That connections are not made yet does not mean that Postgres has failed; an attempt that does not end does."""
    fill_postgres(dsn)
    one = PostgresStore(dsn)
    with pytest.raises(BusyError), one._connection("read", 1e-6):
        pass
    one.open()
    one.close()

    async def burst() -> None:
        other = AsyncPostgresStore(dsn)

        async def read() -> None:
            async with other._connection("read", 1e-6):
                pass

        found = await asyncio.gather(*(read() for _ in range(60)), return_exceptions=True)
        assert {type(each) for each in found} == {BusyError}
        await other.open()
        await other.close()

    asyncio.run(burst())
    monkeypatch.setattr(attempts, "HANGING_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = PostgresStore(f"host=127.0.0.1 port={silent.getsockname()[1]} connect_timeout=30 dbname=x")

        def failed() -> bool:
            try:
                hangs.open(0.01)
            except BusyError:
                return False
            except SinkError:
                return True
            raise AssertionError("nobody answers there")

        until(failed)
    hangs.close()


@pytest.mark.parametrize("owner", [True, False], ids=["an owner", "a stranger"])
def test_a_user_without_the_role(dsn: str, owner: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mirror's user would need is not what an adapter's does."""
    for module in (store, store_async):
        monkeypatch.setattr(module, "CONNECT_SECONDS", 1.5)
    fill_postgres(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE somebody LOGIN")
        try:
            if owner:
                connection.execute("ALTER TABLE memory_items OWNER TO somebody")
            else:
                connection.execute("GRANT SELECT ON memory_items, agents TO somebody")
            theirs = make_conninfo(dsn, user="somebody")

            async def asynchronous() -> None:
                other = AsyncPostgresStore(theirs)
                with pytest.raises(SinkError, match="GRANT argent_app TO the user"):
                    await other.position(Context(AGENT), 1)
                await other.close()

            one = PostgresStore(theirs)
            with pytest.raises(SinkError, match=r"permission denied.*GRANT argent_app TO the user"):
                one.position(Context(AGENT), 1)
            one.close()
            asyncio.run(asynchronous())
        finally:
            connection.execute("REASSIGN OWNED BY somebody TO current_user")
            connection.execute("DROP OWNED BY somebody")
            connection.execute("DROP ROLE somebody")


def test_a_read_whose_connection_was_ended_is_sent_once_more(dsn: str) -> None:
    """As by a restart of the server: of all connections of the pool."""
    fill_postgres(dsn)
    ctx, count = Context(AGENT), operations.count_items

    async def asynchronous() -> None:
        other = AsyncPostgresStore(dsn)
        await asyncio.gather(*(other.run(ctx, count, (), {}) for _ in range(20)))
        end_all(dsn)
        assert await other.run(ctx, count, (), {}) == 0
        assert (await other.read(ctx, operations.get_item_history, ("x",), {}, None))[0] == []
        await other.close()

    one = PostgresStore(dsn)
    with one._connection("a"), one._connection("b"), one._connection("c"):
        pass
    end_all(dsn)
    assert one.run(ctx, count, (), {}) == 0
    one.close()
    asyncio.run(asynchronous())


def end_all(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = %s", [store.NAME]
        ).fetchall()
    assert ended and all(row == (True,) for row in ended)
