"""An adapter's connections to Postgres: when none is ready, when the role does not fit, when one is lost."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mirror.core.errors import BusyError, SinkError
from mirror.storage.on_postgres import attempts
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_postgres.store_async import AsyncPostgresStore
from tests.support.storage import fill_postgres
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
