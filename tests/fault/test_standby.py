"""Reads from a standby, and from a Postgres that a standby has become, do not see the past."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import mirror
from mirror.core.errors import StorageError
from mirror.storage.adapters import Adapter, PostgresAdapter
from mirror.storage.reads import READS
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs
from tests.support.proxy import Proxy
from tests.support.standby import Standby
from tests.support.waiting import until


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A Postgres of the test's own, for all of which there is a standby."""
    server = PostgresServer(own=True)
    yield server
    server.stop()


@pytest.fixture
def programs(server: PostgresServer, folder: Path) -> Iterator[Programs]:
    """Four programs that read from Postgres, not started yet; their mirror runs."""
    with Programs(folder, server.create_database(), 4) as programs:
        programs.read_from = "postgres"
        programs.mirror.start()
        programs.mirror.wait_applied()
        yield programs


@pytest.fixture
def standby(server: PostgresServer, programs: Programs) -> Iterator[Standby]:
    """A standby, from which the programs read."""
    with Standby(server) as standby:
        programs.dsn = programs.tokens_dsn = standby.of(programs.dsn)
        programs.configure()
        yield standby


def count(key: str) -> int:
    """Reads answered so far by a store for a reason, as in ``postgres:fresh``."""
    return {f"{store}:{reason}": number for (store, reason), number in READS.values().items()}.get(key, 0)


def until_counted(key: str, read: Callable[[], object]) -> None:
    before = count(key)

    def looked() -> bool:
        read()
        return count(key) > before

    try:
        until(looked)
    except AssertionError as error:
        threads = [thread.name for thread in threading.enumerate()]
        raise AssertionError(f"{key}: {error}; counted: {READS.values()}; threads: {threads}") from error


def write_and_read(adapter: Adapter, number: int) -> None:
    """After each write, reads have it."""
    before = adapter.memory.count_items()
    for step in range(number):
        made = adapter.memory.create_item(memory_type="event", summary=f"number {step}")
        assert adapter.memory.get_item(made.id) == made
        assert adapter.memory.count_items() == before + step + 1


def test_a_standby_that_pauses(programs: Programs, standby: Standby) -> None:
    with mirror.get_storage_adapter(config=programs.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        standby.pause()
        write_and_read(adapter, 1)
        programs.mirror.wait_applied()
        until_counted("sqlite:older", lambda: write_and_read(adapter, 1))
        write_and_read(adapter, 20)
        standby.resume()
        until_counted("postgres:fresh", adapter.memory.count_items)
        write_and_read(adapter, 20)
        until_counted("postgres:fresh", adapter.memory.list_items)


def test_a_standby_that_pauses_asynchronously(programs: Programs, standby: Standby) -> None:
    async def main() -> None:
        async with await mirror.get_async_storage_adapter(config=programs.config) as adapter:

            async def until_counted(key: str) -> None:
                before = count(key)
                while count(key) == before:
                    made = await adapter.memory.create_item(memory_type="event", summary="one more")
                    for _ in range(5):
                        assert await adapter.memory.get_item(made.id) == made

            await until_counted("postgres:fresh")
            standby.pause()
            await until_counted("sqlite:older")
            standby.resume()
            await until_counted("postgres:fresh")

    asyncio.run(main())


def test_a_token_on_a_standby(programs: Programs, standby: Standby, folder: Path) -> None:
    """What it does not have yet is waited for, and then it is an error that says so."""
    storage = {"backend": "postgres", "postgres": {"connectionString": standby.of(programs.mirror.dsn)}}
    away = folder / "elsewhere.json"
    away.write_text(json.dumps({"storage": storage}))
    with mirror.get_storage_adapter(config=programs.config) as adapter, PostgresAdapter(away) as other:
        other.init()
        standby.pause()
        made = adapter.memory.create_item(memory_type="event", summary="not on the standby")
        token = adapter.token()
        programs.mirror.wait_applied()
        with pytest.raises(StorageError, match="older than the token") as error:
            other.read(at=token).memory.get_item(made.id)
        assert error.value.retryable
        assert other.memory.get_item(made.id) is None
        standby.resume()

        def found() -> bool:
            try:
                return other.read(at=token).memory.get_item(made.id) == made
            except StorageError:
                return False

        until(found)


@pytest.mark.slow
def test_programs_on_a_standby(programs: Programs, standby: Standby) -> None:
    """Many sessions at once, whose history is checked."""
    programs.begin()
    programs.wait_answered("postgres", "fresh")
    for _ in range(2):
        standby.pause()
        programs.wait_answered("sqlite", "older")
        standby.resume()
        programs.wait_answered("postgres", "fresh")
    programs.finish()
    programs.prove()


@pytest.mark.few(1)
@pytest.mark.parametrize("mirror_is", ["started again", "left running"])
@pytest.mark.parametrize("lacks", [pytest.param("nothing", marks=pytest.mark.slow), "the last commits"])
def test_failover(server: PostgresServer, programs: Programs, standby: Standby, mirror_is: str, lacks: str) -> None:
    """The standby becomes the primary; mirror and programs go on with it, whether it has all that the old one had.

    A mirror that is left running connects again to the same address, behind which is another server.
    """
    old, new = programs.mirror.dsn, standby.of(programs.mirror.dsn)
    with Proxy(old) as way, Proxy(new) as its_way:
        if mirror_is == "left running":
            programs.mirror.stop()
            programs.mirror.its_dsn = way.dsn
            programs.mirror.start()
        programs.begin()
        programs.wait_answered("postgres", "fresh")
        if lacks == "the last commits":
            standby.cut_off()
            until(lambda: position(old) > position(new))
            programs.wait_answered("sqlite", "older")
        if mirror_is == "left running":
            way.refuse()
        else:
            programs.mirror.kill()
        server.stop()
        standby.promote()
        programs.mirror.dsn = new
        if mirror_is == "left running":
            way._target = its_way._target
            way.accept()
        else:
            programs.mirror.its_dsn = new
            programs.mirror.start()
        programs.wait_answered("postgres", "fresh")
        programs.finish()
        programs.prove()


def position(dsn: str) -> list[object]:
    """What Postgres has of each source."""
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT source_id, generation, frame FROM mirror.sources ORDER BY 1").fetchall()
