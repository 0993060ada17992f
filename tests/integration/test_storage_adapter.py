"""The adapter that follows the configuration: on SQLite, on both, on Postgres, beside a real mirror."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mirror
from mirror.storage.adapters import StorageAdapter
from mirror.storage.reads import READS
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess
from tests.support.waiting import until


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
            "storage": self.storage | {"postgres": {"connectionString": self.dsn}},
        }
        self.config.write_text(json.dumps(value))


@pytest.fixture
def program(folder: Path, dsn: str, make_mirror: Callable[..., MirrorProcess]) -> Iterator[Program]:
    create_store(folder / "memory.db").close()
    create_dashboard(folder / "dashboard.db").close()
    process = make_mirror(folder / "memory.db", folder / "dashboard.db")
    made = Program(folder, dsn, process)
    made.configure()
    process.start()
    process.wait_applied()
    yield made


def counts() -> dict[str, int]:
    return {f"{store}:{reason}": number for (store, reason), number in READS.values().items()}


def test_reads_move_to_postgres_and_back(program: Program) -> None:
    with mirror.get_storage_adapter(config=program.config) as adapter:
        assert isinstance(adapter, StorageAdapter) and adapter.is_ready()
        made = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        assert adapter.memory.get_item(made.id) == made
        program.configure(readFrom="postgres")
        before = counts()

        def from_postgres() -> bool:
            assert adapter.memory.get_item(made.id) == made
            return counts().get("postgres:fresh", 0) > before.get("postgres:fresh", 0)

        until(from_postgres)
        for number in range(200):
            one = adapter.memory.create_item(memory_type="event", summary=f"number {number}")
            assert adapter.memory.get_item(one.id) == one, (number, counts())
        print(counts(), adapter.token())
        program.mirror.kill()
        assert adapter.memory.count_items() == 201
        one = adapter.memory.create_item(memory_type="event", summary="alone")
        assert adapter.memory.get_item(one.id) == one
        program.configure(readFrom="sqlite")
        program.mirror.start()
