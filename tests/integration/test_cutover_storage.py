"""Programs on storage adapters while their source is moved to Postgres and back: no call fails, nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from mirror import get_storage_adapter
from mirror.core.published import Publisher
from mirror.postgres.moving import take
from mirror.postgres.sessions import connect
from mirror.storage import routing
from mirror.storage.adapters import PostgresAdapter, SQLiteAdapter
from mirror.storage.on_postgres.store import PostgresStore
from mirror.storage.operations.base import Context
from tests.support.commands import CommandLine
from tests.support.memustore import create_dashboard, create_store
from tests.support.mirrors import MirrorProcess
from tests.support.waiting import LIMIT, until


class Program(threading.Thread):
    """Makes items and reads them back until it is stopped.

    It rests for longer than it works: on a busy machine no mirror follows programs that write as fast as they can.
    """

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
                    took = time.monotonic() - begun
                    time.sleep(min(0.1, max(0.002, 3 * took)))
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
            deadline = time.monotonic() + LIMIT
            while any(len(p.made) < n + 20 for p, n in zip(programs, before, strict=True)):
                assert not any(program.errors for program in programs), [program.errors for program in programs]
                assert time.monotonic() < deadline, "the programs stand still"
                time.sleep(0.01)
        for program in programs:
            program.stopping.set()
        for program in programs:
            program.join(LIMIT)
            assert not program.errors, program.errors
        made = {item for program in programs for item in program.made}
        with PostgresAdapter(config) as postgres:
            assert {item.id for item in postgres.memory.list_items(limit=100_000)} == made
        assert cli.run("cutover", "rollback", source).code == 0
        with SQLiteAdapter(config) as sqlite:
            assert {item.id for item in sqlite.memory.list_items(limit=100_000)} == made
        assert cli.run("parity").code == 0


HARNESS = Path(__file__).parents[1] / "support" / "move_process.py"
HELD = HARNESS.with_name("held_move_process.py")


@pytest.mark.parametrize("seam", ["before again", "before seal", "in seal", "before flip"])
def test_a_move_that_is_killed_leaves_programs_in_one_place(folder: Path, dsn: str, seam: str) -> None:
    """With the command its lock on the file ends: programs write nothing there, if Postgres is the original."""
    source, config = folder / "memory.db", folder / "argent" / "mirror.json"
    create_store(source).close()
    config.parent.mkdir()
    storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": dsn}}
    config.write_text(json.dumps({"sources": [str(source)], "storage": storage}))
    cli = CommandLine(folder, dsn)
    program = Program(config)
    with cli.up(source):
        assert cli.run("parity").code == 0
        assert cli.run("cutover", "advance", source, "--acknowledge", "backups").code == 0
        program.start()
        until(lambda: len(program.made) > 20)
        killed = subprocess.run(
            [sys.executable, str(HARNESS), f"cutover:{seam}", "cutover", "advance", str(source), "--acknowledge",
             "backups"],
            env=cli.environment(), cwd=folder, capture_output=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed
        made = len(program.made)
        until(lambda: len(program.made) > made + 20 or program.errors)
        sealed = seam in ("in seal", "before flip")
        status = json.loads(cli.run("status", "--json").out)["sources"][0]
        assert (status["phase"] == "carrying back") == sealed
        if sealed:
            assert status["reverse"]["strays"] == 0
        command = ("advance", source, "--acknowledge", "backups") if not sealed else ("rollback", source)
        done = cli.run("cutover", *command)
        assert done.code == 0, done
        if not sealed:
            assert cli.run("cutover", "rollback", source).code == 0
        program.stopping.set()
        program.join(LIMIT)
        assert not program.errors, program.errors
        with SQLiteAdapter(config) as sqlite:
            assert {item.id for item in sqlite.memory.list_items(limit=100_000)} == set(program.made)
        assert cli.run("parity").code == 0


@pytest.mark.parametrize("seam", ["before seal", "in seal"])
def test_a_move_that_is_killed_with_its_mirror(
    folder: Path, dsn: str, seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says any more where programs write, and nobody has the file's lock: they ask Postgres, and go on."""
    monkeypatch.setattr(routing, "BUSY_SECONDS", LIMIT)  # the machine may be busy
    source, config = folder / "memory.db", folder / "argent" / "mirror.json"
    create_store(source).close()
    config.parent.mkdir()
    storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": dsn}}
    config.write_text(json.dumps({"sources": [str(source)], "storage": storage}))
    cli, program = CommandLine(folder, dsn), Program(config)
    mirror = MirrorProcess([source], dsn, cli.state_dir)
    try:
        mirror.start()
        mirror.wait_applied()
        assert cli.run("parity").code == 0
        assert cli.run("cutover", "advance", source, "--acknowledge", "backups").code == 0
        program.start()
        until(lambda: len(program.made) > 20)
        go = folder / "move"
        go.mkdir()
        moving = subprocess.Popen(
            [sys.executable, str(HELD), f"cutover:{seam}", str(go), "cutover", "advance", str(source), "--acknowledge",
             "backups"],
            env=cli.environment(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until((go / "reached").exists, alive=lambda: moving.poll() is None)
        mirror.kill()
        moving.kill()
        moving.wait()
        made = len(program.made)
        until(lambda: len(program.made) > made + 20 or program.errors)
        assert not program.errors, program.errors
        with closing(Publisher(cli.source_folder(source))):  # one that has only begun does not know it either
            made = len(program.made)
            until(lambda: len(program.made) > made + 20 or program.errors)
            assert not program.errors, program.errors
        mirror.start()
        phase = mirror.status_when(lambda status: status["phase"] in ("following", "carrying back"))["phase"]
        assert (phase == "carrying back") == (seam == "in seal")
        until(lambda: len(program.made) > made + 60 or program.errors)
        with psycopg.connect(dsn) as postgres:
            assert postgres.execute("SELECT count(*) FROM mirror.strays").fetchone() == (0,)
        program.stopping.set()
        program.join(LIMIT)
        assert not program.errors, program.errors
        if seam == "before seal":
            assert cli.run("wait", "--timeout", LIMIT).code == 0 and cli.run("parity").code == 0
        done = cli.run("cutover", "rollback", source)
        assert done.code == 0, done
        with SQLiteAdapter(config) as sqlite:
            assert {item.id for item in sqlite.memory.list_items(limit=100_000)} == set(program.made)
    finally:
        mirror.end()


def test_one_source_after_the_other(folder: Path, dsn: str) -> None:
    """A program uses two files: one is moved first. The configuration says postgres once both are."""
    memory, dashboard, config = folder / "memory.db", folder / "dashboard.db", folder / "argent" / "mirror.json"
    create_store(memory).close()
    create_dashboard(dashboard).close()
    config.parent.mkdir()
    storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": dsn}}
    config.write_text(json.dumps({"sources": [str(memory), str(dashboard)], "storage": storage}))
    cli = CommandLine(folder, dsn)

    def move(command: str, source: Path) -> None:
        done = cli.run("cutover", command, source, *(("--acknowledge", "backups") if command == "advance" else ()))
        assert done.code == 0, done

    def backend() -> object:
        return json.loads(config.read_text())["storage"]["backend"]

    with cli.up(memory, dashboard), get_storage_adapter(config) as adapter:
        assert cli.run("parity").code == 0
        for source in (memory, dashboard):
            move("advance", source)
        move("advance", memory)
        assert backend() == "dual"
        item = adapter.memory.create_item(memory_type="event", summary="Met Ada")
        task = adapter.tasks.create("Buy tea")
        with psycopg.connect(dsn) as postgres:
            assert postgres.execute("SELECT summary FROM memory_items").fetchall() == [("Met Ada",)]
        assert cli.run("wait", dashboard).code == 0 and cli.run("parity", dashboard).code == 0
        assert adapter.memory.get_item(item.id) == item and adapter.tasks.get(task.id) == task
        move("advance", dashboard)
        assert backend() == "postgres"
        other = adapter.tasks.create("Drink it")
        (status, _) = json.loads(cli.run("cutover", "status", "--json").out)["sources"]
        assert status["configuration"] == ""
        move("rollback", memory)
        assert backend() == "dual"
        again = adapter.memory.create_item(memory_type="event", summary="Met Bob")
        assert {one.id for one in adapter.memory.list_items()} == {item.id, again.id}
        assert {one.id for one in adapter.tasks.list()} == {task.id, other.id}
        move("rollback", dashboard)
        assert {one.id for one in adapter.tasks.list()} == {task.id, other.id}
        assert cli.run("wait").code == 0 and cli.run("parity").code == 0


def test_a_command_that_was_killed_while_it_sealed_the_source(folder: Path, dsn: str) -> None:
    """Its session may be in that transaction yet: whoever asks does not write to the file until it is over."""
    source = folder / "memory.db"
    create_store(source).close()
    seal = "INSERT INTO mirror.phase (source_id, phase, sealed_at) SELECT source_id, 3, now() FROM mirror.sources"
    with CommandLine(folder, dsn).up(source), closing(PostgresStore(dsn)) as store, connect(dsn, raw=True) as command:
        ((number, agent),) = command.execute("SELECT source_id, agent_id FROM mirror.sources").fetchall()
        context = Context(agent)
        assert take(command, number) and not store.is_sealed(context, number), "it only waits"
        command.execute("BEGIN")
        command.execute(seal)
        assert store.is_sealed(context, number)
        command.execute("ROLLBACK")
        assert not store.is_sealed(context, number)
        command.execute(seal)
        assert store.is_sealed(context, number)
        command.execute("DELETE FROM mirror.phase")


@pytest.mark.parametrize("listed", [True, False])
def test_a_store_that_programs_could_not_open_in_postgres(folder: Path, dsn: str, listed: bool) -> None:
    """Found before anything moves: without its version the mirror takes it for any other file."""
    source, config = folder / "memory.db", folder / "argent" / "mirror.json"
    with create_store(source) as writer:
        writer.run("DELETE FROM memu_meta")
    config.parent.mkdir()
    config.write_text(json.dumps({"sources": [str(source)] if listed else [], "storage": {"backend": "dual"}}))
    cli = CommandLine(folder, dsn)
    with cli.up(source):
        assert cli.run("parity", source).code == 0
        done = cli.run("cutover", "plan", source, "--acknowledge", "backups", "--json")
        (verdict,) = json.loads(done.out)["sources"]
        rails = {rail["name"]: rail for rail in verdict["rails"]}
        advanced = cli.run("cutover", "advance", source, "--acknowledge", "backups")
        if listed:
            assert not rails["storage adapters"]["passed"] and done.code == 1
            assert "schema_version" in rails["storage adapters"]["next_step"]
            assert advanced.code == 1 and "storage adapters" in advanced.err
        else:
            assert "storage adapters" not in rails and (done.code, advanced.code) == (0, 0), done


def test_a_store_whose_agent_is_another(folder: Path, dsn: str) -> None:
    source, config = folder / "memory.db", folder / "argent" / "mirror.json"
    create_store(source).close()
    config.parent.mkdir()
    config.write_text(json.dumps({"sources": [{"path": str(source), "agent": "otto"}], "storage": {"backend": "dual"}}))
    cli = CommandLine(folder, dsn)
    with cli.up(source):
        rail = _adapters(cli, source)
        assert rail["level"] == "ok", rail
        config.write_text(config.read_text().replace("otto", "maya"))
        rail = _adapters(cli, source)
        assert rail["level"] == "problem" and "does not have this agent" in rail["detail"]
        config.write_text(config.read_text().replace("maya", "otto"))


def _adapters(cli: CommandLine, source: Path) -> dict[str, str]:
    (verdict,) = json.loads(cli.run("cutover", "plan", source, "--json").out)["sources"]
    (rail,) = [rail for rail in verdict["rails"] if rail["name"] == "storage adapters"]
    assert isinstance(rail, dict)
    return rail
