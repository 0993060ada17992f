"""Shadow reads beside a real mirror: no false alarm, however busy the program is; and what differs is found."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import mirror
from mirror.storage import shadow_reads
from mirror.storage.adapters import Adapter
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.on_sqlite.store import SQLiteStore
from mirror.storage.reads import READS, Reason, Shadow
from tests.support import busy_memory_process
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.storage import create_files, write_config
from tests.support.waiting import LIMIT, until


class Program:
    """A program with a mirror and an adapter on both stores, whose reads are all shadowed."""

    def __init__(self, folder: Path, dsn: str, process: MirrorProcess) -> None:
        self.folder, self.dsn, self.mirror = folder, dsn, process
        self.database = folder / "memory.db"
        self.config = write_config(folder, dsn, backend="dual", reads={"shadowPercent": 100})
        self.cli = CommandLine(folder, dsn)

    @contextmanager
    def adapter(self) -> Iterator[Adapter]:
        """An adapter; what its shadow reads find is counted in :meth:`counts` from here on."""
        self._before = Counter(READS.shadows())
        with mirror.get_storage_adapter(config=self.config) as adapter:
            for freshness in adapter._files.freshness.values():
                assert freshness.prepare(LIMIT), freshness.error
            yield adapter

    def counts(self) -> dict[str, int]:
        """By result, and ``result:reason`` where there is one."""
        found = Counter(READS.shadows()) - self._before
        return {f"{result}:{reason}" if reason else str(result): number for (result, reason), number in found.items()}

    def owner(self, sql: str) -> list[tuple[Any, ...]]:
        """Behind the mirror's back, in Postgres."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def differences(self) -> list[tuple[Any, ...]]:
        return self.owner(
            "SELECT method, kind, arguments, sqlite, postgres, count FROM mirror.read_differences"
            " ORDER BY difference_id"
        )

    def command(self, *words: str) -> str:
        """Run a command for the source; its output."""
        done = self.cli.run(*words, self.database, "--config", self.config)
        assert "Traceback" not in done.err and done.code in (0, 1), done
        return done.out

    def rail(self) -> dict[str, Any]:
        (verdict,) = json.loads(self.command("cutover", "plan", "--json"))["sources"]
        (rail,) = [rail for rail in verdict["rails"] if rail["code"] == "mirror.read-differences"]
        assert isinstance(rail, dict)
        return rail


@pytest.fixture
def program(
    folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess], monkeypatch: pytest.MonkeyPatch
) -> Program:
    # What is counted here is counted on a busy machine, too.
    monkeypatch.setattr(shadow_reads, "WAIT_SECONDS", LIMIT)
    monkeypatch.setattr(shadow_reads, "READ_SECONDS", LIMIT)
    create_files(folder)
    process = make_mirror(folder / "memory.db", folder / "dashboard.db")
    process.start()
    process.wait_applied()
    return Program(folder, dsn, process)


def settle(adapter: Adapter) -> None:
    assert adapter._backing.shadow.wait_idle(LIMIT)


@contextmanager
def busy(database: Path, rate: int) -> Iterator[None]:
    """A program that writes items; ``rate``: commits a second, 0: as many as it can."""
    command = [sys.executable, busy_memory_process.__file__, str(database), str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0


def read_all(adapter: Adapter, chance: random.Random) -> None:
    """A read of each kind, of items that change all the time."""
    memory, key = adapter.memory, f"item {chance.randrange(busy_memory_process.MOST)}"
    memory.get_item(key)
    memory.get_items([key, "item 1", "item 2", "nothing"])
    memory.list_items(limit=20)
    memory.list_items(where={"extra.topic": chance.randrange(3), "reinforcement_count": {"gt": 1}})
    memory.list_items(where={"summary": {"contains": "coffee"}}, limit=5, offset=3)
    memory.count_items(memory_type="event")
    memory.get_item_history(key)
    memory.search_by_keyword("coffee", limit=5)
    memory.search_items_by_keyword("changed numbers of tea")
    memory.search_by_keyword_shared("tea")
    vector = [chance.uniform(-1, 1) for _ in range(busy_memory_process.DIMENSIONS)]
    memory.search_by_vector(vector, limit=5)
    memory.search_items("coffee", vector, limit=5, explain=True)
    memory.search_items(embedding=vector, scoring="identity")
    memory.get_stats()


@pytest.mark.parametrize(
    ("rate", "least"),
    [
        pytest.param(0, 500, marks=pytest.mark.slow),
        pytest.param(1000, 300, marks=pytest.mark.slow),
        pytest.param(100, 3000, marks=pytest.mark.slow),
    ],
)
def test_a_busy_writer_gives_no_false_alarm(program: Program, rate: int, least: int) -> None:
    """Rows come, change, go and expire, while thousands of reads are compared."""
    chance = random.Random(rate)
    with program.adapter() as adapter:

        def compared() -> bool:
            for _ in range(5):
                read_all(adapter, chance)
            adapter._backing.shadow.wait_idle(0.05)
            return program.counts().get(Shadow.EQUAL, 0) >= least

        with busy(program.database, rate):
            # Without a limit, the mirror may compare pages most of the time, when nothing can be said.
            until(lambda: compared() or sum(program.counts().values()) >= 10 * least)
        until(compared)
        settle(adapter)
    counts = program.counts()
    print(rate, counts)
    assert Shadow.DIFFERENT not in counts and program.differences() == [], counts
    ((noted, different),) = program.owner("SELECT compared, different FROM mirror.shadow_reads")
    assert noted == counts[Shadow.EQUAL] and different == 0
    program.mirror.settle()


def test_an_idle_source_is_compared_after_its_wal_was_reset(program: Program) -> None:
    with program.adapter() as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        program.mirror.wait_applied()
        for mode in ("RESTART", "TRUNCATE"):
            with adapter._files.stores["memory"]._session() as session:
                session.connection.execute(f"PRAGMA wal_checkpoint({mode})")
            before = program.counts().get(Shadow.EQUAL, 0)

            def compared(before: int = before) -> bool:
                adapter.memory.get_item(made.id)
                settle(adapter)
                return program.counts().get(Shadow.EQUAL, 0) > before

            until(compared)
    assert Shadow.DIFFERENT not in program.counts()


@pytest.mark.slow
def test_a_difference_is_found_kept_once_shown_and_forgotten(program: Program) -> None:
    with program.adapter() as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada, token=hunter2")
        other = adapter.memory.create_item(memory_type="event", summary="Met Bob")
        program.mirror.wait_applied()
        assert program.rail()["level"] == "note", "no reads were compared"
        adapter.memory.get_item(made.id)
        settle(adapter)
        assert program.rail()["level"] == "ok" and "of 1 reads compared" in program.rail()["detail"]
        program.owner(f"UPDATE memory_items SET summary = 'Met Eve, token=hunter3' WHERE id = '{made.id}'")
        for _ in range(3):
            assert adapter.memory.get_item(made.id) == made
            assert adapter.memory.get_item(other.id) == other
        settle(adapter)
        ((method, kind, arguments, sqlite, postgres, count),) = program.differences()
        assert (method, kind, count) == ("items.get_item", "values", 3)
        assert json.loads(arguments.partition(" ")[2]) == {"item_id": made.id}
        shown = json.loads(sqlite), json.loads(postgres)
        assert [one["id"] for one in shown] == [made.id, made.id]
        assert shown[0]["summary"].startswith("Met Ada") and shown[1]["summary"].startswith("Met Eve")
        assert "hunter" not in sqlite + postgres
        adapter.memory.list_items(limit=2)
        settle(adapter)
        assert [one[:2] for one in program.differences()] == [
            ("items.get_item", "values"), ("items.list_items", "values"),
        ]  # fmt: skip
    assert program.counts() == {Shadow.EQUAL: 4, Shadow.DIFFERENT: 4}
    program.mirror.status_when(lambda status: status["read_differences"] == 2)
    (status,) = json.loads(program.command("status", "--json"))["sources"]
    assert status["read_differences"] == 2
    assert any("mirror differences list" in step for step in status["next_steps"])
    assert "2 reads answered differently by SQLite and Postgres" in program.command("status")
    rail = program.rail()
    assert not rail["passed"] and rail["detail"] == "2 kept, of 8 reads compared"
    acknowledged = json.loads(program.command("cutover", "plan", "--json", "--acknowledge", "read differences"))
    assert all(rail["passed"] for rail in acknowledged["sources"][0]["rails"] if rail["name"] == "read differences")
    # The next steps work, one after the other.
    listed = json.loads(program.command("differences", "list", "--json"))["differences"]
    assert {(one["method"], one["count"]) for one in listed} == {("items.get_item", 3), ("items.list_items", 1)}
    assert "items.get_item" in program.command("differences", "list")
    program.command("parity", "--repair", "--replace-rows")
    assert "1 difference forgotten" in program.command("differences", "forget", "--id", str(listed[0]["id"]))
    assert not program.rail()["passed"]
    assert "1 difference forgotten" in program.command("differences", "forget")
    assert program.rail()["passed"] and "no differences" in program.command("differences", "list")
    program.mirror.status_when(lambda status: status["read_differences"] == 0)
    with program.adapter() as adapter:
        adapter.memory.get_item(made.id)
        settle(adapter)
    assert program.counts() == {Shadow.EQUAL: 1}


@pytest.mark.slow
def test_searches(program: Program) -> None:
    """Ranks may differ; what is found, and its rows, may not."""
    with program.adapter() as adapter:
        memory = adapter.memory
        made = [
            memory.create_item(memory_type="event", summary=f"{'tea ' * (at % 4 + 1)}{'and more ' * (at % 7)}{at}")
            for at in range(40)
        ]
        for at, one in enumerate(made):
            memory.update_item_embedding(one.id, [1, at, at % 5])

        def search() -> None:
            memory.search_by_keyword("tea")
            memory.search_by_vector([1, 2, 3], limit=8)
            memory.search_items("tea", [1, 2, 3])
            memory.search_by_keyword("the")
            settle(adapter)

        program.mirror.wait_applied()
        search()
        assert program.counts()[Shadow.EQUAL] == 4, program.differences()
        program.owner(f"DELETE FROM memory_items WHERE id IN ({', '.join(repr(one.id) for one in made[:20])})")
        search()
        assert [(method, kind) for method, kind, *_ in program.differences()] == [
            ("search.search_by_keyword", "overlap"), ("search.search_by_vector", "overlap"),
            ("search.search_items", "overlap"),
        ]  # fmt: skip
        program.command("parity", "--repair", "--replace-rows")
        program.command("differences", "forget")
        program.owner("UPDATE memory_items SET embedding = '[3, 2, 1]'")
        search()
        assert {kind for _, kind, *_ in program.differences()} <= {"values", "overlap"}
        program.command("parity", "--repair", "--replace-rows")
        before = program.counts()[Shadow.EQUAL]
        search()
        assert program.counts()[Shadow.EQUAL] == before + 4


def test_rows_that_only_one_store_has(program: Program) -> None:
    with program.adapter() as adapter:
        made = [adapter.memory.create_item(memory_type="event", summary=f"number {at}") for at in range(3)]
        program.mirror.wait_applied()
        program.owner(f"DELETE FROM memory_items WHERE id = '{made[1].id}'")
        adapter.memory.get_item(made[1].id)
        adapter.memory.list_items()
        adapter.memory.count_items()
        settle(adapter)
        assert [(method, kind) for method, kind, *_ in program.differences()] == [
            ("items.get_item", "rows"), ("items.list_items", "rows"), ("items.count_items", "values"),
        ]  # fmt: skip
    program.command("parity", "--repair", "--replace-rows")


def test_an_error_of_one_store_alone(program: Program) -> None:
    """And the caller gets its answer from SQLite, also if the arguments can be read only once."""
    with program.adapter() as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        program.mirror.wait_applied()
        program.owner("ALTER TABLE memory_items RENAME COLUMN lesson TO other")
        try:
            assert adapter.memory.get_items(iter([made.id])) == [made]
            settle(adapter)
            write_config(program.folder, program.dsn, backend="dual", readFrom="postgres")
            before = READS.values().get(("sqlite", Reason.FAILED), 0)

            def failed() -> bool:  # on a busy machine a connection may take longer than a read waits for one
                assert adapter.memory.get_items(iter([made.id])) == [made]
                return READS.values().get(("sqlite", Reason.FAILED), 0) == before + 1

            until(failed)
        finally:
            program.owner("ALTER TABLE memory_items RENAME COLUMN other TO lesson")
        ((method, kind, arguments, sqlite, postgres, _),) = program.differences()
        assert (method, kind, json.loads(arguments.partition(" ")[2])) == (
            "items.get_items",
            "error",
            {"item_ids": [made.id]},
        )
        assert sqlite == '"an answer"' and "lesson" in postgres


def test_the_caller_does_nothing_on_the_other_store(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements are counted by the thread that runs them."""
    by_thread: Counter[tuple[str, str]] = Counter()

    def counted(kind: type[Any], name: str, store: str) -> None:
        run = getattr(kind, name)

        @contextmanager
        def counting(*args: Any, **kwargs: Any) -> Iterator[Any]:
            by_thread[store, threading.current_thread().name] += 1
            with run(*args, **kwargs) as found:
                yield found

        monkeypatch.setattr(kind, name, counting)

    with program.adapter() as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        program.mirror.wait_applied()
        counted(PostgresStore, "_connection", "postgres")
        counted(SQLiteStore, "_session", "sqlite")
        for _ in range(50):
            assert adapter.memory.get_item(made.id) == made
        settle(adapter)
        assert program.counts() == {Shadow.EQUAL: 50}
        caller, shadow = threading.current_thread().name, "mirror shadow reads"
        assert by_thread["sqlite", caller] == 50 and by_thread["postgres", caller] == 0
        assert by_thread["sqlite", shadow] >= 50 and by_thread["postgres", shadow] >= 50
        assert {thread for _, thread in by_thread} == {caller, shadow}


def test_nothing_is_shadowed_unless_it_is_asked_for(program: Program) -> None:
    write_config(program.folder, program.dsn, backend="dual", reads={"shadowPercent": 0})
    with program.adapter() as adapter:
        adapter.memory.count_items()
        assert adapter._backing.shadow._thread is None
        write_config(program.folder, program.dsn, backend="dual", reads={"shadowPercent": 100})

        def shadowed() -> bool:
            adapter.memory.count_items()
            settle(adapter)
            return program.counts().get(Shadow.EQUAL, 0) > 0

        until(shadowed)  # within a second, in a program that runs
        write_config(program.folder, program.dsn, backend="sqlite", reads={"shadowPercent": 100})
        until(lambda: adapter._backing.settings().backend == "sqlite")
        settle(adapter)
        before = program.counts()
        adapter.memory.count_items()
        settle(adapter)
        assert program.counts() == before


def test_without_a_mirror_nothing_is_compared(program: Program) -> None:
    with program.adapter() as adapter:
        program.mirror.stop()
        assert adapter.memory.count_items() == 0
        settle(adapter)
        assert program.counts() == {f"{Shadow.NOT_COMPARED}:{Reason.NOT_FOLLOWED}": 1}
        assert f'{{result="not_compared",reason="{Reason.NOT_FOLLOWED}"}}' in READS.text()
    program.mirror.start()


def test_in_a_child_of_fork(program: Program) -> None:
    with program.adapter() as adapter:
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        program.mirror.wait_applied()
        adapter.memory.get_item(made.id)
        settle(adapter)
        child = os.fork()
        if not child:
            try:
                before = READS.shadows().get((Shadow.EQUAL, ""), 0)
                adapter.memory.get_item(made.id)
                settle(adapter)
                os._exit(0 if READS.shadows()[Shadow.EQUAL, ""] == before + 1 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        adapter.memory.get_item(made.id)
        settle(adapter)
        assert program.counts() == {Shadow.EQUAL: 2}


async def _read(program: Program) -> None:
    async with await mirror.get_async_storage_adapter(config=program.config) as adapter:
        await adapter.memory.count_items()
        assert adapter._backing.shadow.wait_idle(LIMIT)


def test_asynchronous_adapters_offer_their_reads_too(program: Program) -> None:
    import asyncio

    with program.adapter():
        asyncio.run(_read(program))
    assert program.counts() == {Shadow.EQUAL: 1}


def test_programs_count_reads_of_their_own_sources_alone(program: Program) -> None:
    """And write nothing else: keeping differences is tested beside the tables (test_native_tables.py)."""
    with psycopg.connect(program.dsn, autocommit=True) as app:
        app.execute("SET ROLE argent_app")
        ((number,),) = program.owner(f"SELECT source_id FROM mirror.sources WHERE path = '{program.mirror.sources[0]}'")

        def count(agent: str, compared: int) -> int | None:
            app.execute("SELECT set_config('app.agent_id', %s, false)", (agent,))
            row = app.execute("SELECT mirror.count_shadow_reads(%s, %s, 0)", (number, compared)).fetchone()
            assert row is not None
            return row[0]  # type: ignore[no-any-return]

        assert count("mallory", 1) is None and count("", 1) is None
        assert count("argent", 3) == 3 and count("argent", -5) == 3 and count("argent", 4) == 7
        for command in ("SELECT * FROM mirror.shadow_reads", "INSERT INTO mirror.shadow_reads VALUES (1, 1, 1)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(command.encode())
