"""Programs on storage adapters while their source is moved to Postgres and back: no call fails, nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from mirror import get_storage_adapter
from mirror.storage.adapters import PostgresAdapter, SQLiteAdapter
from tests.support.commands import CommandLine
from tests.support.memustore import create_store


class Program(threading.Thread):
    """Makes items and reads them back until it is stopped."""

    def __init__(self, config: Path) -> None:
        super().__init__(daemon=True)
        self.config = config
        self.made: list[str] = []
        self.errors: list[BaseException] = []
        self.worst = 0.0
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            with get_storage_adapter(self.config) as storage:
                while not self.stopping.is_set():
                    begun = time.monotonic()
                    item = storage.memory.create_item(memory_type="event", summary=f"number {len(self.made)}")
                    self.made.append(item.id)
                    self.worst = max(self.worst, time.monotonic() - begun)
                    assert storage.memory.get_item(item.id) is not None
                    time.sleep(0.002)
        except BaseException as error:
            self.errors.append(error)


def test_no_call_fails_and_nothing_is_lost(folder: Path, dsn: str) -> None:
    source = folder / "memory.db"
    create_store(source).close()
    config = folder / "argent" / "mirror.json"
    config.parent.mkdir()
    storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": dsn}}
    config.write_text(json.dumps({"sources": [str(source)], "storage": storage}))
    cli = CommandLine(folder, dsn)
    programs = [Program(config) for _ in range(3)]
    with cli.up(source):
        assert cli.run("parity").code == 0
        for program in programs:
            program.start()
        for command in ("advance", "advance", "rollback", "rollback", "advance", "advance"):
            more = ("--acknowledge", "backups") if command == "advance" else ()
            if command == "advance":
                assert cli.run("parity").code == 0  # there may be a gap since the last one: the log was not followed
            done = cli.run("cutover", command, source, *more)
            assert done.code == 0, (command, done, [program.errors for program in programs])
            before = [len(program.made) for program in programs]
            deadline = time.monotonic() + 60
            while any(len(p.made) < n + 20 for p, n in zip(programs, before, strict=True)):
                assert not any(program.errors for program in programs), [program.errors for program in programs]
                assert time.monotonic() < deadline, "the programs stand still"
                time.sleep(0.01)
        for program in programs:
            program.stopping.set()
        for program in programs:
            program.join(60)
            assert not program.errors, program.errors
        made = {item for program in programs for item in program.made}
        with PostgresAdapter(config) as postgres:
            assert {item.id for item in postgres.memory.list_items(limit=100_000)} == made
        assert cli.run("cutover", "rollback", source).code == 0
        with SQLiteAdapter(config) as sqlite:
            assert {item.id for item in sqlite.memory.list_items(limit=100_000)} == made
        assert cli.run("parity").code == 0
