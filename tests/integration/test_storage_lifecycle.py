"""What an adapter outlives, and what ends it: forks, replaced files, other settings, closing."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import mirror
from mirror.core.errors import ControlError, SourceError, StorageError
from mirror.storage.adapters import Adapter, AsyncStorageAdapter
from mirror.storage.on_postgres.attempts import CONNECT_SECONDS
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.operations import items
from mirror.storage.operations.base import Context
from mirror.storage.sessions import TOKEN_SECONDS
from mirror.storage.statements import Op
from tests.integration.test_storage_adapter import NOWHERE, Program, program, until_counted
from tests.support.memustore import create_store
from tests.support.waiting import LIMIT, until

__all__ = ["program"]

#: Seconds after which a child counts as one that hangs.
CHILD_SECONDS = 60


def in_child(work: Callable[[], object]) -> int:
    """Fork, and run ``work`` there; the child's status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(CHILD_SECONDS, exit=True)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@pytest.mark.slow
def test_forks_while_threads_read(program: Program) -> None:
    """Whatever a thread of the parent has at that moment, the child reads and writes."""
    program.configure(readFrom="postgres")
    ended = threading.Event()
    errors: list[BaseException] = []
    with mirror.get_storage_adapter(config=program.config) as adapter:
        ids = [adapter.memory.create_item("event", f"number {number}").id for number in range(4)]
        until_counted("postgres:fresh", adapter.memory.count_items)

        def work(number: int) -> None:
            try:
                while not ended.is_set():
                    assert adapter.memory.get_item(ids[number]) is not None
                    adapter.tasks.list(limit=1)
            except BaseException as error:
                errors.append(error)

        def child() -> None:
            made = adapter.memory.create_item("event", "of a child")
            assert adapter.memory.get_item(made.id) == made and adapter.memory.get_item(ids[0]) is not None
            adapter.tasks.list(limit=1)
            with mirror.get_storage_adapter(config=program.config) as other:
                assert other.memory.get_item(made.id) == made

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            statuses = [in_child(child) for _ in range(60)]
        finally:
            ended.set()
            for thread in threads:
                thread.join(LIMIT)
        assert statuses == [0] * 60 and not errors
        assert adapter.memory.count_items() == 64


def test_a_file_that_is_replaced(folder: Path) -> None:
    """What is written after that is in the new file, whatever the adapter had open, and a file that is gone is one
    that cannot be written.
    """
    database, config = folder / "memory.db", folder / "mirror.json"
    create_store(database).close()
    config.write_text(json.dumps({"sources": ["memory.db"], "stateDir": str(folder / "state")}))
    with mirror.get_storage_adapter(config=config) as adapter:
        adapter.memory.create_item("event", "in the old file")
        for name in ("memory.db-wal", "memory.db-shm"):
            (folder / name).unlink()
        create_store(folder / "new.db").close()
        os.replace(folder / "new.db", database)
        made = [adapter.memory.create_item("event", "first")]
        with mirror.get_storage_adapter(config=config) as other:
            made.append(other.memory.create_item("event", "second"))
        made += adapter.memory.create_items([{"memory_type": "event", "summary": "third"}])
        assert sorted(item.id for item in adapter.memory.list_items()) == sorted(item.id for item in made)
        os.replace(database, folder / "away.db")
        with pytest.raises(SourceError, match="No such file"):
            adapter.memory.create_item("event", "nowhere")
        os.replace(folder / "away.db", database)
        assert adapter.memory.count_items() == 3
    with mirror.get_storage_adapter(config=config) as adapter:
        assert sorted(item.id for item in adapter.memory.list_items()) == sorted(item.id for item in made)


def test_a_write_is_not_committed_to_a_file_that_was_replaced_meanwhile(folder: Path) -> None:
    database = folder / "memory.db"
    create_store(database).close()
    create_store(folder / "new.db").close()
    store = SQLiteStore(database)

    def replacing(ctx: Context) -> Op[None]:
        yield from items.create_item.make(ctx, "event", "half-way")
        os.replace(folder / "new.db", database)

    operation = replace(items.create_item, make=replacing, many=True)
    with pytest.raises(SourceError, match="replaced meanwhile"):
        store.run(Context("argent"), operation, (), {})
    assert store.run(Context("argent"), items.count_items, (), {}) == 0
    store.close()


def test_nothing_stays_open_of_an_adapter_that_is_closed(program: Program) -> None:
    """But for the index of each database, which may never be closed."""
    program.configure(readFrom="postgres")

    def used() -> list[str]:
        with mirror.get_storage_adapter(config=program.config) as adapter:
            until_counted("postgres:fresh", adapter.memory.count_items)
            until_counted("postgres:fresh", adapter.tasks.list)
        return sorted(
            path
            for descriptor in os.listdir("/proc/self/fd")
            if (path := opened(descriptor)).startswith(str(program.config.parent)) and not path.endswith("-shm")
        )

    assert [used() for _ in range(3)] == [[]] * 3


def opened(descriptor: str) -> str:
    """The path behind a descriptor of this process; nothing for one that is closed by now."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


#: A program that does not close its adapter, with reads under way when it ends, or without; many times.
FORGETFUL = """
import asyncio, sys
import mirror

async def main(reading):
    adapter = await mirror.get_async_storage_adapter(config=sys.argv[1])
    if reading:
        tasks = [asyncio.create_task(adapter.memory.count_items()) for _ in range(20)]
        await tasks[0]

for number in range(30):
    asyncio.run(main(number % 2))
"""


@pytest.mark.few(1)
@pytest.mark.parametrize("server", ["there", "away"])
def test_an_asynchronous_program_that_does_not_close_its_adapter_ends(program: Program, server: str) -> None:
    program.configure(readFrom="postgres")
    if server == "away":
        program.configure(postgres={"connectionString": NOWHERE}, reads={"maxWaitMs": 1})
    ran = subprocess.run(
        [sys.executable, "-c", FORGETFUL, str(program.config)], timeout=LIMIT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_an_adapter_over_both_stores_does_not_wait_for_postgres(program: Program) -> None:
    """As long as it would wait for a connection that it needs: with `postgres` alone it does."""
    program.configure(readFrom="postgres", postgres={"connectionString": NOWHERE})
    begin = time.monotonic()
    for _ in range(4):
        with mirror.get_storage_adapter(config=program.config) as adapter:
            assert adapter.memory.count_items() == 0
    assert time.monotonic() - begin < 3 * CONNECT_SECONDS


CLOSED = "the adapter: it is closed"


def token_of(adapter: Adapter) -> str:
    """On a busy machine the mirror may not follow for a moment."""

    def ask() -> str:
        with suppress(ControlError):
            return adapter.token()
        return ""

    return until(ask)


def test_an_adapter_that_is_closed_does_nothing_more(program: Program) -> None:
    """Nor do those that it made. Closing again is no error, and other adapters go on."""
    with mirror.get_storage_adapter(config=program.config) as other:
        adapter = mirror.get_storage_adapter(config=program.config)
        made = adapter.memory.create_item("event", "before")
        token, agents = token_of(adapter), adapter.for_agent("argent")
        reader = adapter.read(at=token)
        adapter.close()
        adapter.close()
        for call in (
            adapter.memory.count_items,
            lambda: adapter.memory.create_item("event", "after"),
            adapter.tasks.list,
            adapter.jobs.list_templates,
            adapter.token,
            adapter.init,
            adapter.__enter__,
            reader.memory.count_items,
            agents.memory.count_items,
            agents.token,
            lambda: adapter.read(at=token),
            lambda: adapter.for_agent("argent"),
        ):
            with pytest.raises(StorageError, match=CLOSED):
                call()
        assert not (adapter.is_ready() or agents.is_ready())
        assert other.memory.list_items() == [made]

    async def main() -> None:
        adapter = await mirror.get_async_storage_adapter(config=program.config)
        agents = adapter.for_agent("argent")
        assert await adapter.memory.count_items() == await agents.memory.count_items() == 1
        await adapter.close()
        await adapter.close()
        for call in (adapter.memory.count_items, agents.memory.count_items, adapter.init, adapter.__aenter__):
            with pytest.raises(StorageError, match=CLOSED):
                await call()

    asyncio.run(main())


def test_a_token_holds_nobody_up(program: Program) -> None:
    """Beside a mirror that does not answer it takes a second, in which other threads and tasks go on."""
    program.configure(readFrom="postgres", reads={"maxWaitMs": 1})
    process = psutil.Process(program.mirror.pid)
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        adapter.tasks.create("Buy tea")
        made = adapter.memory.create_item("event", "Met Ada")
        took: list[float] = []

        def ask() -> None:
            begin = time.monotonic()
            with pytest.raises(ControlError):
                adapter.token()
            took.append(time.monotonic() - begin)

        async def main() -> int:
            ticks = 0
            async with await mirror.get_async_storage_adapter(config=program.config) as other:
                await other.memory.get_item(made.id)
                token = asyncio.create_task(other.token())
                while not token.done():
                    await asyncio.sleep(0.01)
                    ticks += 1
                with pytest.raises(ControlError):
                    await token
            return ticks

        process.suspend()
        try:
            thread = threading.Thread(target=ask)
            thread.start()
            reads = 0
            while thread.is_alive():
                assert adapter.memory.get_item(made.id) == made
                reads += 1
            assert reads > 2 and took and took[0] < 4 * TOKEN_SECONDS
            assert asyncio.run(main()) > 2
        finally:
            process.resume()
        until(lambda: asked(adapter))


def asked(adapter: Adapter) -> str | None:
    """A token; None while the mirror does not say."""
    try:
        return adapter.token()
    except ControlError:
        return None


def test_what_is_of_which_interface_is_not_guessed(folder: Path) -> None:
    """Both kinds of adapters have methods of the same names, so that by them each would be of both interfaces."""
    create_store(folder / "memory.db").close()
    config = folder / "mirror.json"
    config.write_text(json.dumps({"sources": ["memory.db"], "stateDir": str(folder / "state")}))
    with mirror.get_storage_adapter(config=config) as adapter, pytest.raises(TypeError):
        isinstance(adapter, AsyncStorageAdapter)


def test_other_sources(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new adapter has them; one that is open keeps to its own, and it is logged once that this is so."""
    config = folder / "mirror.json"

    def configure(source: str, **storage: str) -> None:
        value = {"sources": [source], "stateDir": str(folder / "state"), "storage": storage}
        aside = config.with_suffix(".new")
        aside.write_text(json.dumps(value))
        aside.replace(config)

    for name in ("memory.db", "second.db"):
        create_store(folder / name).close()
    configure("memory.db")
    with mirror.get_storage_adapter(config=config) as adapter, caplog.at_level("WARNING", "mirror"):
        made = adapter.memory.create_item("event", "in the first")
        configure("second.db")
        with mirror.get_storage_adapter(config=config) as other:
            assert other.memory.list_items() == []
            other.memory.create_item("event", "in the second")
        until(lambda: caplog.records)
        configure("second.db", backend="dual")
        until(lambda: adapter._settings().backend == "dual")
        assert [record.message for record in caplog.records if "`sources`" not in record.message] == []
        assert len(caplog.records) == 1 and "restart the program" in caplog.records[0].message
        assert adapter.memory.list_items() == [made]
