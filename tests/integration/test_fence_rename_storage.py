"""Programs on storage adapters while their file has another name: no call fails, also of one that starts then."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mirror import get_storage_adapter
from mirror.core.place import is_stand_in
from mirror.storage.adapters import SQLiteAdapter
from tests.support.commands import CommandLine
from tests.support.memustore import create_dashboard, create_store
from tests.support.waiting import LIMIT, until


class Program(threading.Thread):
    """Makes items and reads them back until it is stopped."""

    def __init__(self, config: Path, made: list[str]) -> None:
        super().__init__(daemon=True)
        self.config, self.made = config, made
        self.errors: list[BaseException] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            with get_storage_adapter(self.config) as storage:
                while not self.stopping.wait(0.002):
                    item = storage.memory.create_item(memory_type="event", summary=f"number {len(self.made)}")
                    self.made.append(item.id)
                    assert storage.memory.get_item(item.id) is not None
        except BaseException as error:
            self.errors.append(error)


@pytest.fixture
def config(folder: Path, dsn: str) -> Path:
    create_store(folder / "memory.db").close()
    create_dashboard(folder / "dashboard.db").close()
    path = folder / "argent" / "mirror.json"
    path.parent.mkdir()
    storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": dsn}}
    path.write_text(json.dumps({"sources": ["../memory.db"], "storage": storage}))
    return path


def move(cli: CommandLine, command: str, source: Path) -> None:
    more = ("--acknowledge", "backups", "--fence", "rename") if command == "advance" else ()
    done = cli.run("cutover", command, source, *more)
    assert done.code == 0, done


def test_programs_that_run_and_one_that_starts_meanwhile(folder: Path, dsn: str, config: Path) -> None:
    source, cli = folder / "memory.db", CommandLine(folder, dsn)
    made: list[list[str]] = [[], []]
    programs = [Program(config, made[0])]

    def go_on() -> None:
        before = [len(one) for one in made]
        until(
            lambda: (
                all(len(one) > n + 20 for one, n in zip(made[: len(programs)], before, strict=False))
                or any(program.errors for program in programs)
            )
        )
        assert not any(program.errors for program in programs), [program.errors for program in programs]

    with cli.up(source):
        assert cli.run("parity").code == 0
        programs[0].start()
        move(cli, "advance", source)
        move(cli, "advance", source)
        assert is_stand_in(source)
        go_on()
        programs.append(Program(config, made[1]))
        programs[1].start()
        go_on()
        move(cli, "rollback", source)
        go_on()
        for program in programs:
            program.stopping.set()
        for program in programs:
            program.join(LIMIT)
            assert not program.errors, program.errors
        with SQLiteAdapter(config) as sqlite:
            assert {item.id for item in sqlite.memory.list_items(limit=100_000)} == {*made[0], *made[1]}
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0


def test_a_program_that_starts_when_one_of_two_files_has_another_name(folder: Path, dsn: str, config: Path) -> None:
    """The configuration says dual until both are moved."""
    memory, dashboard, cli = folder / "memory.db", folder / "dashboard.db", CommandLine(folder, dsn)
    document = json.loads(config.read_text())
    config.write_text(json.dumps(document | {"sources": ["../memory.db", "../dashboard.db"]}))
    with cli.up(memory, dashboard):
        assert cli.run("parity").code == 0
        for source in (memory, dashboard, memory):
            move(cli, "advance", source)
        assert is_stand_in(memory) and not is_stand_in(dashboard)
        with get_storage_adapter(config) as adapter:
            item = adapter.memory.create_item(memory_type="event", summary="Met Ada")
            task = adapter.tasks.create("Buy tea")
            assert adapter.memory.get_item(item.id) == item and adapter.tasks.get(task.id) == task
            move(cli, "rollback", memory)
            other = adapter.memory.create_item(memory_type="event", summary="Met Bob")
            assert {one.id for one in adapter.memory.list_items()} == {item.id, other.id}
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0
