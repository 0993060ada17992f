"""The adapter that follows the configuration: on SQLite, on both, on Postgres, beside a real mirror."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

import mirror
from mirror.core.errors import ConfigError, ControlError, MirrorError, SinkError, SourceError, StorageError, TokenError
from mirror.core.folders import source_folder
from mirror.core.published import PublishedReader
from mirror.storage import adapters, newest
from mirror.storage.adapters import PostgresAdapter
from mirror.storage.on_postgres import store, store_async
from mirror.storage.on_postgres.session import alone
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_postgres.store_async import AsyncPostgresStore
from mirror.storage.operations.base import Context
from mirror.storage.operations.items import count_items
from mirror.storage.reads import READS
from tests.support.commands import CommandLine
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess
from tests.support.waiting import LIMIT, until

NOWHERE = "host=127.0.0.1 port=1 dbname=nothing connect_timeout=1"

#: Changes one of the two copies of the header of a WAL index, as a program leaves them that is killed in between.
HALF_WRITTEN = """
import os, sys
index = os.open(sys.argv[1], os.O_RDWR)
(changes,) = os.pread(index, 1, 8)
os.pwrite(index, bytes([changes ^ 1]), 8)
"""


class Program:
    """A configuration, with the files that it names and their mirror."""

    def __init__(self, folder: Path, dsn: str, mirror_process: MirrorProcess) -> None:
        self.config = folder / "mirror.json"
        self.dsn = dsn
        self.mirror = mirror_process
        self.storage: dict[str, Any] = {"backend": "dual", "readFrom": "sqlite"}
        self._folder = folder

    def configure(self, **storage: Any) -> None:
        self.storage |= storage
        value = {
            "sources": ["memory.db", "dashboard.db"],
            "stateDir": str(self._folder / "state"),
            "storage": {"postgres": {"connectionString": self.dsn}} | self.storage,
        }
        made = self.config.with_suffix(".new")
        made.write_text(json.dumps(value))
        made.replace(self.config)

    def published(self) -> bool:
        """Whether the mirror has said where it is in the memory."""
        reader = PublishedReader(source_folder(self._folder / "state", self.mirror.sources[0]))
        try:
            found = reader.read()
        finally:
            reader.close()
        return found is not None and found.following and found.source_id != 0


@pytest.fixture
def program(folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess]) -> Program:
    create_store(folder / "memory.db").close()
    create_dashboard(folder / "dashboard.db").close()
    process = make_mirror(folder / "memory.db", folder / "dashboard.db")
    made = Program(folder, dsn, process)
    made.configure()
    process.start()
    process.wait_applied()
    return made


def count(key: str) -> int:
    """Reads answered so far by a store for a reason, as in ``postgres:fresh``."""
    return {f"{store}:{reason}": number for (store, reason), number in READS.values().items()}.get(key, 0)


def until_counted(key: str, read: Callable[[], object]) -> None:
    """Read until one more is answered that way."""
    before = count(key)

    def looked() -> bool:
        read()
        return count(key) > before

    until(looked)


def test_reads_move_to_postgres_and_back(program: Program) -> None:
    with mirror.get_storage_adapter(config=program.config) as adapter:
        assert adapter.is_ready()
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        assert adapter.memory.get_item(made.id) == made
        program.configure(readFrom="postgres")
        until_counted("postgres:fresh", lambda: adapter.memory.get_item(made.id))
        for number in range(200):
            one = adapter.memory.create_item(memory_type="event", summary=f"number {number}")
            assert adapter.memory.get_item(one.id) == one
        program.configure(readFrom="sqlite")
        until_counted("sqlite:setting", lambda: adapter.memory.get_item(made.id))
        assert adapter.memory.count_items() == 201
    assert not adapter.is_ready()


def test_sqlite_answers_while_there_is_no_mirror(program: Program) -> None:
    program.configure(readFrom="postgres")
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        program.mirror.kill()
        for number in range(20):
            one = adapter.memory.create_item(memory_type="event", summary=f"alone {number}")
            assert adapter.memory.get_item(one.id) == one
        program.mirror.start()
        until_counted("postgres:fresh", adapter.memory.count_items)
        assert adapter.memory.count_items() == 20


def test_the_emergency_switches(program: Program) -> None:
    program.configure(readFrom="postgres", reads={"alwaysSqlite": True})
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("sqlite:setting", adapter.memory.count_items)
        program.configure(reads={"neverWait": True})
        until_counted("postgres:fresh", adapter.memory.count_items)


def test_postgres_is_away(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """Reads go on from SQLite, also where Postgres was never reached; that is logged once, and so is its return."""
    caplog.set_level(logging.INFO, "mirror")
    with mirror.get_storage_adapter(config=program.config) as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="here")
        program.configure(readFrom="postgres", postgres={"connectionString": NOWHERE})
        until_counted("sqlite:failed", lambda: adapter.memory.get_item(made.id))
        assert adapter.memory.get_item(made.id) == made
        for _ in range(3):
            until_counted("sqlite:failed", lambda: adapter.memory.get_item(made.id))
        program.configure(postgres={"connectionString": program.dsn})
        until_counted("postgres:fresh", adapter.memory.count_items)
    said = [record.getMessage() for record in caplog.records if "Postgres" in record.getMessage()]
    assert len([text for text in said if text.startswith("reads go to SQLite for now: ")]) == 1
    assert said[-1] == "Postgres answers reads again"
    assert not [record for record in caplog.records if record.name == "psycopg.pool" and record.levelno > logging.INFO]


def test_sqlite_answers_what_postgres_cannot_hold(program: Program) -> None:
    """While a row is rejected no answer of Postgres is complete; once it is corrected they are again."""
    program.configure(readFrom="postgres")
    with mirror.get_storage_adapter(config=program.config) as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="of another program")
        other = adapter.memory.create_item(memory_type="event", summary="no NUL")
        with adapter._files.stores["memory"]._session() as session:
            nul = "UPDATE memory_items SET summary = 'a NUL' || char(0) || ' in it' WHERE id = ?"
            session.connection.execute(nul, [made.id])
        until_counted("sqlite:incomplete", adapter.memory.count_items)
        program.configure(backend="postgres")
        until(lambda: adapter._settings().backend == "postgres")
        rejected = pytest.raises(StorageError, match=r"rows that Postgres has rejected.*rejects list")
        with mirror.get_storage_adapter(config=program.config) as alone, rejected:
            alone.memory.count_items()
        program.configure(backend="dual")
        until(lambda: adapter._settings().backend == "dual")
        found = adapter.memory.get_item(made.id)
        assert found is not None and found.summary == "a NUL\0 in it" and adapter.memory.count_items() == 2
        assert adapter.memory.delete_item(made.id)
        until_counted("postgres:fresh", lambda: adapter.memory.get_item(other.id))
        assert adapter.memory.list_items() == [other]


async def later(answer: Awaitable[int]) -> int | None:
    """An answer; None if Postgres was not that far in time."""
    try:
        return await answer
    except StorageError as error:
        if not error.retryable:
            raise
        return None


def test_an_argument_that_postgres_does_not_take(program: Program) -> None:
    """Its error is none of the server: SQLite answers, and the next read is answered by Postgres."""
    program.configure(readFrom="postgres", reads={"maxWaitMs": 30_000})
    with mirror.get_storage_adapter(config=program.config) as adapter:
        memory = adapter.memory
        made = memory.create_item(memory_type="event", summary="here")
        until_counted("postgres:fresh", lambda: memory.get_item(made.id))
        reads: list[Callable[[], object]] = [
            lambda: memory.get_item("a NUL\0 in it"),
            lambda: memory.list_items(where={"reinforcement_count": {"gt": 10**30}}),
            lambda: memory.list_items(where={"summary": "a NUL\0 in it"}),
        ]
        for read in reads:
            failed = count("sqlite:failed")
            with suppress(ConfigError):
                assert not read()
            before = count("postgres:fresh")
            assert memory.get_item(made.id) == made
            assert count("postgres:fresh") == before + 1 and count("sqlite:failed") == failed
        before = count("postgres:fresh")
        many = [f"id {number}" for number in range(70_000)]
        assert memory.get_items([*many, made.id]) == [made]
        assert count("postgres:fresh") == before + 1
    with PostgresAdapter(program.config) as alone_:
        for wrong in ("a NUL\0 in it", "half \ud800"):
            with pytest.raises(ConfigError):
                alone_.memory.get_item(wrong)
        assert alone_.memory.get_item(made.id) == made


def test_all_connections_are_in_use(program: Program) -> None:
    """Postgres is not taken for failed: SQLite answers until a connection is free again, and no longer."""
    program.configure(readFrom="postgres", postgres={"connectionString": program.dsn, "maxConnections": 1})
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        store = adapter._pools.get(adapter._files.schema)
        failed = count("sqlite:failed")
        with store._connection("test"):
            until_counted("sqlite:busy", adapter.memory.count_items)
        program.configure(reads={"maxWaitMs": 30_000})
        until(lambda: adapter._settings().reads.max_wait_ms == 30_000)
        before = count("postgres:fresh")
        adapter.memory.count_items()
        assert count("postgres:fresh") == before + 1 and count("sqlite:failed") == failed


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("dsn", "cause"),
    [(NOWHERE, "refused"), ("host=/nowhere dbname=nothing", "No such file"), ("user=x nonsense", "nonsense")],
)
def test_why_there_is_no_connection(dsn: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what libpq says, and how long was waited."""
    for module in (store, store_async):
        monkeypatch.setattr(module, "CONNECT_SECONDS", 1.5)
    one = PostgresStore(dsn)
    with pytest.raises(MirrorError, match=cause):
        one.open()
    with pytest.raises(SinkError, match=rf"within 0\.02 s.*{cause}"), one._connection("read", 0.02):
        pass
    one.close()

    async def asynchronous() -> None:
        other = AsyncPostgresStore(dsn)
        with pytest.raises(MirrorError, match=cause):
            await other.open()
        await other.close()

    asyncio.run(asynchronous())


@pytest.mark.slow
def test_the_extension_is_in_another_schema(folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess]) -> None:
    """As some hosts have it, and as the first of several mirrors with schemas of their own makes it."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute('CREATE SCHEMA "The Extensions"')
        conn.execute('CREATE EXTENSION vector SCHEMA "The Extensions"')
        create_store(folder / "memory.db").close()
        mirrored = make_mirror(folder / "memory.db", schema="ada")
        config = folder / "mirror.json"
        source = {"path": "memory.db", "schema": "ada"}
        storage = {"backend": "dual", "readFrom": "postgres", "postgres": {"connectionString": dsn}}
        config.write_text(json.dumps({"sources": [source], "stateDir": str(folder / "state"), "storage": storage}))
        mirrored.start()
        mirrored.wait_applied()
        with mirror.get_storage_adapter(config=config) as adapter:
            [made] = adapter.memory.create_items([{"memory_type": "event", "summary": "x", "embedding": [1.0, 0.5]}])
            until_counted("postgres:fresh", lambda: adapter.memory.search_by_vector([1.0, 0.5]))
            assert [one.item for one in adapter.memory.search_by_vector([1.0, 0.5])] == [made]
            assert [one.item for one in adapter.memory.search_items("x", [1.0, 0.5])] == [made]
            until_counted("postgres:fresh", lambda: adapter.memory.search_items("x", [1.0, 0.5]))
        mirrored.check()
        conn.execute('REVOKE USAGE ON SCHEMA "The Extensions" FROM argent_app')
        with pytest.raises(ConfigError, match='GRANT USAGE ON SCHEMA "The Extensions" TO argent_app'):
            PostgresStore(dsn, "ada").open()


def test_an_agent_or_a_schema_that_is_not_there(program: Program) -> None:
    """With Postgres alone they would have no rows, or those of the schema public."""
    program.configure(backend="postgres", readFrom="postgres")

    async def asynchronous() -> None:
        async with await mirror.get_async_storage_adapter(program.config, agent="argnet") as adapter:
            with pytest.raises(ConfigError, match="does not have this agent"):
                await adapter.memory.count_items()

    with mirror.get_storage_adapter(program.config, agent="argnet") as adapter:
        for use in (
            adapter.memory.count_items,
            adapter.tasks.list,
            lambda: adapter.jobs.create_template("x", "y"),
            lambda: adapter.memory.create_item(memory_type="event", summary="x"),
        ):
            with pytest.raises(ConfigError, match=r"agent argnet.*does not have this agent.*correct the agent"):
                use()
    asyncio.run(asynchronous())
    with pytest.raises(ConfigError, match=r"schema publik.*no memory_items; there are some in public"):
        PostgresStore(program.dsn, "publik").open()
    with psycopg.connect(program.dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA other")
        conn.execute("CREATE TABLE other.memory_items (LIKE public.memory_items)")
        conn.execute("CREATE TABLE other.agents (LIKE public.agents)")
        conn.execute("GRANT USAGE ON SCHEMA other TO argent_app")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA other TO argent_app")
    with pytest.raises(ConfigError, match=r"the schema other does not have.*its files in public"):
        PostgresStore(program.dsn, "other").read(Context("argent"), count_items, (), {}, None)


def test_asynchronous(program: Program) -> None:
    program.configure(readFrom="postgres")

    async def main() -> None:
        async with mirror.get_async_storage_adapter(config=program.config) as adapter:
            assert adapter.is_ready()
            made = await asyncio.gather(
                *(adapter.memory.create_item(memory_type="event", summary=f"number {n}") for n in range(20))
            )
            before = count("postgres:fresh")
            while count("postgres:fresh") == before:
                assert await adapter.memory.count_items() == 20
            found = await asyncio.gather(*(adapter.memory.get_item(one.id) for one in made))
            assert found == made
            reader = adapter.read(at=await adapter.token())
            while (count_at := await later(reader.memory.count_items())) is None:
                pass
            assert count_at == 20

    asyncio.run(main())


def test_a_token_for_another_host(program: Program, folder: Path) -> None:
    """A host without the files reads from Postgres what the token's holder has written."""
    away = folder / "away"
    away.mkdir()
    storage = {"backend": "postgres", "postgres": {"connectionString": program.dsn}, "reads": {"maxWaitMs": 20_000}}
    (away / "mirror.json").write_text(json.dumps({"storage": storage}))
    with (
        mirror.get_storage_adapter(config=program.config) as adapter,
        PostgresAdapter(away / "mirror.json") as other,
    ):
        for number in range(50):
            made = adapter.memory.create_item(memory_type="event", summary=f"number {number}")
            token = adapter.token()
            assert other.read(at=token).memory.get_item(made.id) == made
        with pytest.raises(StorageError, match="does nothing else"):
            other.read(at=token).memory.delete_item(made.id)
        with pytest.raises(TokenError):
            other.read(at="m1.nothing")
        strange = f"m1.00000000-0000-0000-0000-000000000001.{token.split('.', 2)[2]}"
        with pytest.raises(TokenError, match="does not have this copy"):
            other.read(at=strange).memory.get_item(made.id)
        with pytest.raises(StorageError, match="no such SQLite file"):
            other.token()
        assert token.startswith("m1.") and "+" not in token  # nothing else was used
        with pytest.raises(TokenError, match="not of the dashboard source"):
            other.read(at=token).tasks.list()
        task = adapter.tasks.create("Buy tea")
        both = other.read(at=adapter.token())
        assert both.tasks.get(task.id) == task and both.memory.get_item(made.id) == made
        tasks_alone = adapter.token().split("+")[1]
        assert other.read(at=tasks_alone).tasks.get(task.id) == task
        with pytest.raises(TokenError, match="not of the memory source"):
            other.read(at=tasks_alone).memory.get_item(made.id)


def test_a_token_waits_for_a_mirror_that_has_only_begun(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "TOKEN_SECONDS", LIMIT)
    with mirror.get_storage_adapter(config=program.config) as adapter:
        program.mirror.stop()
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        starting = threading.Thread(target=program.mirror.start)
        starting.start()
        token = adapter.token()
        starting.join()
        program.mirror.wait_applied()
        assert adapter.read(at=token).memory.get_item(made.id) == made


def test_a_token_of_no_mirror(program: Program) -> None:
    with mirror.get_storage_adapter(config=program.config) as adapter:
        program.mirror.stop()
        adapter.memory.create_item(memory_type="event", summary="Met Ada")
        with pytest.raises(ControlError) as caught:
            adapter.token()
        assert caught.value.retryable
        program.mirror.start()


def test_in_a_child_of_fork(program: Program) -> None:
    program.configure(readFrom="postgres")
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                one = adapter.memory.create_item(memory_type="event", summary="of the child")
                assert adapter.memory.get_item(one.id) == one
                until_counted("postgres:fresh", adapter.memory.count_items)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert [item.summary for item in adapter.memory.list_items()] == ["of the child"]


def test_one_backing_for_each_configuration(program: Program) -> None:
    with mirror.get_storage_adapter(config=program.config) as one, mirror.get_storage_adapter(program.config) as two:
        assert one._backing is two._backing and one is not two
        one.close()
        assert two.memory.count_items() == 0
    with mirror.get_storage_adapter(config=program.config) as three:
        assert three._backing is not two._backing


def test_postgres_alone_does_not_write_what_a_mirror_fills(program: Program) -> None:
    """A write is refused, and nothing is written, until the mirror has stopped; what only Postgres has is written."""
    program.configure(backend="postgres", readFrom="postgres")

    async def asynchronous() -> None:
        async with await mirror.get_async_storage_adapter(config=program.config) as adapter:
            with pytest.raises(StorageError, match="stop the mirror first"):
                await adapter.memory.create_item(memory_type="event", summary="of Postgres")

    asyncio.run(asynchronous())
    with mirror.get_storage_adapter(config=program.config) as adapter:
        writes: list[Callable[[], object]] = [
            lambda: adapter.memory.create_item(memory_type="event", summary="of Postgres"),
            lambda: adapter.memory.create_items([{"memory_type": "event", "summary": "of Postgres"}]),
            lambda: adapter.tasks.create(title="of Postgres"),
            adapter.jobs.ensure_due_tasks,
        ]
        for write in writes:
            with pytest.raises(StorageError, match=r"(memory|dashboard)\.db.*stop the mirror first"):
                write()
        assert adapter.memory.list_items() == [] and adapter.tasks.list() == []
        assert adapter.jobs.create_template("x", "y").name == "x"
        program.mirror.stop()
        until(lambda: _written(writes[0]))
        for write in writes[1:]:
            write()
        assert len(adapter.memory.list_items()) == 2 and len(adapter.tasks.list()) == 1
        adapter.memory.delete_items([item.id for item in adapter.memory.list_items()])
        adapter.tasks.delete(adapter.tasks.list()[0].id)


def test_a_mirror_that_starts_waits_for_a_write_of_postgres_alone(program: Program) -> None:
    """The write has the shared lock of its sources until its transaction ends."""
    program.mirror.stop()
    with psycopg.connect(program.dsn, cursor_factory=psycopg.RawCursor) as conn:
        assert conn.execute(*alone("argent", "memory")).fetchone() == (None, True, False)
        other = psycopg.connect(program.dsn, autocommit=True)
        take = "SELECT bool_or(pg_try_advisory_lock(1835627122, source_id::int)) FROM mirror.sources"
        take += " WHERE path LIKE '%memory.db'"
        assert other.execute(take).fetchone() == (False,)
        conn.commit()
        assert other.execute(take).fetchone() == (True,)
        found = conn.execute(*alone("argent", "memory")).fetchone()
        assert found is not None and "memory.db" in found[0] and "dashboard.db" not in found[0]
        other.close()


@pytest.mark.slow
def test_a_mirror_does_not_undo_what_was_written_to_postgres_alone(program: Program, folder: Path) -> None:
    """Nor does it call both equal because the file has not changed: it asks first."""
    cli = CommandLine(folder, program.dsn)
    up = "up", folder / "memory.db", folder / "dashboard.db", "--state-dir", folder / "state", "--once"
    with mirror.get_storage_adapter(config=program.config) as adapter:
        kept = adapter.memory.create_item(memory_type="event", summary="of both")
        gone = adapter.memory.create_item(memory_type="event", summary="deleted in Postgres")
    program.mirror.wait_applied()
    program.mirror.stop()
    assert cli.run(*up).code == 0
    program.configure(backend="postgres", readFrom="postgres")
    with mirror.get_storage_adapter(config=program.config) as adapter:
        adapter.memory.update_item_summary(kept.id, "edited in Postgres")
        adapter.memory.delete_item(gone.id)
        adapter.memory.create_item(memory_type="event", summary="of Postgres")
    for _ in range(2):
        ended = cli.run(*up)
        assert ended.code == 2 and "Postgres alone since" in ended.err and "--discard-writes" in ended.err
    with psycopg.connect(program.dsn) as conn:
        assert conn.execute("SELECT summary FROM memory_items ORDER BY 1").fetchall() == [
            ("edited in Postgres",), ("of Postgres",)
        ]  # fmt: skip
    assert cli.run(*up, "--discard-writes").code == 0
    program.configure(backend="dual", readFrom="postgres")
    program.mirror.start()
    program.mirror.check()
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        assert adapter.memory.list_items() == [gone, kept]


def test_an_adapter_that_moves_to_postgres_does_not_go_back(program: Program) -> None:
    """What it has written is there, or it is an error, beside a stopped mirror, too."""
    with mirror.get_storage_adapter(config=program.config) as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="before")
        until(program.published)
        program.mirror.kill()
        late = adapter.memory.create_item(memory_type="event", summary="late")
        program.configure(backend="postgres", readFrom="postgres")
        until(lambda: adapter._settings().backend == "postgres")
        with pytest.raises(StorageError, match="before storage\\.backend was") as caught:
            adapter.memory.get_item(late.id)
        assert caught.value.retryable
        with pytest.raises(StorageError, match="before storage\\.backend was"):
            adapter.memory.create_item(memory_type="event", summary="after")
        with mirror.get_storage_adapter(config=program.config) as other:  # it has seen nothing, but the file shows it
            for use in (other.memory.count_items, lambda: other.memory.create_item("event", "over it")):
                with pytest.raises(StorageError, match="no mirror has brought them yet"):
                    use()
        program.mirror.start()
        until(lambda: _written(lambda: adapter.memory.get_item(late.id)))
        assert adapter.memory.get_item(late.id) == late and adapter.memory.get_item(made.id) == made
        program.mirror.stop()
        assert adapter.memory.count_items() == 2


@pytest.mark.few(1)
@pytest.mark.parametrize("why", ["as many indexes open as it may", "half-written"])
def test_a_program_that_cannot_look_at_the_file_does_not_begin_with_postgres(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """It does not know what is in the file beside a killed mirror."""
    if why != "half-written":
        monkeypatch.setattr(newest, "MOST_INDEXES", len(newest._opened))
    with mirror.get_storage_adapter(config=program.config) as adapter:
        program.mirror.kill()
        adapter.memory.create_item(memory_type="event", summary="late")
        if why == "half-written":  # by another process: closing a descriptor here would drop this one's locks
            subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(folder / "memory.db-shm")], check=True)
        program.configure(backend="postgres", readFrom="postgres")
        until(lambda: adapter._settings().backend == "postgres")
        with mirror.get_storage_adapter(config=program.config) as other:
            for use in (other.memory.count_items, lambda: other.memory.create_item("event", "over it")):
                with pytest.raises(StorageError, match="its WAL index cannot be read") as caught:
                    use()
                assert caught.value.retryable
            monkeypatch.undo()
            program.mirror.start()
            until(lambda: _written(other.memory.count_items))
            assert other.memory.count_items() == 1
            program.mirror.stop()


def test_an_adapter_moves_to_postgres_after_its_mirror_has_ended(program: Program) -> None:
    """All was applied before, as its own knowledge of the WAL shows."""

    async def asynchronous() -> None:
        async with await mirror.get_async_storage_adapter(config=program.config) as other:
            late = await other.memory.create_item(memory_type="event", summary="late")
            program.mirror.wait_applied()
            program.configure(backend="postgres")
            until(lambda: other._settings().backend == "postgres")
            assert await other.memory.get_item(late.id) == late

    program.configure(readFrom="postgres")
    with mirror.get_storage_adapter(config=program.config) as adapter:
        until_counted("postgres:fresh", adapter.memory.count_items)
        asyncio.run(asynchronous())
        program.configure(backend="dual")
        until(lambda: adapter._settings().backend == "dual")
        made = adapter.memory.create_item(memory_type="event", summary="before")
        program.mirror.wait_applied()
        program.mirror.stop()
        program.configure(backend="postgres")
        until(lambda: adapter._settings().backend == "postgres")
        assert adapter.memory.get_item(made.id) == made


def _written(write: Callable[[], object]) -> bool:
    """Whether a write was done: a server notices a little later that a mirror has gone."""
    try:
        write()
    except StorageError:
        return False
    return True


def test_what_cannot_be_opened(folder: Path, dsn: str) -> None:
    config = folder / "mirror.json"

    def configured(**values: Any) -> Path:
        config.write_text(json.dumps(values))
        return config

    with pytest.raises(ConfigError, match="none of its sources is a MemuStore"):
        mirror.get_storage_adapter(configured(sources=[]))
    with pytest.raises(SourceError, match="no such file"):
        mirror.get_storage_adapter(configured(sources=["memory.db"]))
    create_store(folder / "memory.db").close()
    create_store(folder / "second.db").close()
    with pytest.raises(ConfigError, match="two files of one kind"):
        mirror.get_storage_adapter(configured(sources=["memory.db", "second.db"]))
    both = ["memory.db", {"path": "second.db", "agent": "ada"}]
    with pytest.raises(ConfigError, match="several agents: ada, argent"):
        mirror.get_storage_adapter(configured(sources=both))
    with mirror.get_storage_adapter(configured(sources=both), agent="ada") as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="Ada's")
        assert adapter.for_agent("argent").memory.get_item(made.id) is None
        with pytest.raises(ConfigError, match="known agents: ada, argent"):
            adapter.for_agent("bob")
        with pytest.raises(ConfigError, match="for_agent"):
            adapter.memory.create_item(memory_type="event", summary="x", agent_id="argent")
    configured(storage={"backend": "postgres", "postgres": {"connectionString": dsn}})
    with pytest.raises(ConfigError, match="no memory_items"):
        mirror.get_storage_adapter(config)
