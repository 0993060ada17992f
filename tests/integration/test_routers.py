"""Read routers: an application's own object mapper, over SQLite and the tables that a mirror fills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.errors import SourceError
from mirror.core.folders import resolve, source_folder
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.published import Publisher
from mirror.storage.routers.choosing import Choice
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.postgres import PostgresServer
from tests.support.routed_process import KINDS
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

TABLES = (
    "CREATE TABLE counter(id {key}, n INTEGER NOT NULL)",
    "CREATE TABLE label(id {key}, counter_id bigint NOT NULL REFERENCES counter(id), text TEXT NOT NULL)",
    "CREATE TABLE owner(id {key}, n INTEGER NOT NULL)",
    "CREATE TABLE apart(id {key}, owner_id bigint NOT NULL REFERENCES owner(id), n INTEGER NOT NULL)",
)
IN_SQLITE = [table.format(key="INTEGER PRIMARY KEY") for table in TABLES]
IN_POSTGRES = [table.format(key="bigint PRIMARY KEY") for table in TABLES]
ROWS = (
    "INSERT INTO counter VALUES (1, 0)",
    "INSERT INTO label VALUES (1, 1, 'a')",
    "INSERT INTO owner VALUES (1, 7)",
    "INSERT INTO apart VALUES (1, 1, 7)",
)


def write_flag(config: Path, store: str, **reads: int) -> Path:
    """Write where reads are to go into a mirror.json."""
    new = config.with_suffix(".new")
    new.write_text(json.dumps({"storage": {"backend": "dual", "readFrom": store, "reads": reads}}))
    os.replace(new, config)
    return config


class Routed:
    """A program with a router, and its mirror."""

    def __init__(self, kind: str, folder: Path, dsn: str, mirror: MirrorProcess, writer: Writer) -> None:
        self.kind = kind
        self.mirror = mirror
        self.writer = writer
        self.dsn = dsn
        self.config = write_flag(folder / "mirror.json", "postgres")
        command = [sys.executable, "-m", "tests.support.routed_process", kind]
        self.process = subprocess.Popen(
            [*command, str(mirror.sources[0]), dsn, str(mirror.state_dir), str(self.config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def read_from(self, store: str, **reads: int) -> None:
        write_flag(self.config, store, **reads)

    def send(self, method: str, *args: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([method, *args]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)

    def ask(self, method: str, *args: Any) -> Any:
        self.send(method, *args)
        return self.answer()

    def seen(self, *call: Any) -> Any:
        """A read's value and where it came from."""
        return self.ask("seen", *call)

    def until_from(self, where: str, *call: Any) -> Any:
        """The value of the first read that comes from there."""

        def look() -> list[Any] | None:
            value, *found = self.seen(*call)
            return [value] if found == [where] else None

        return until(look)[0]

    def close(self) -> None:
        self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0


@contextmanager
def routed(kind: str, folder: Path, dsn: str, mirror: MirrorProcess, writer: Writer) -> Iterator[Routed]:
    """The application, adopted and mirrored, whose reads come from Postgres by now."""
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
    if kind != "langgraph":
        writer.run(*IN_SQLITE, *ROWS)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for table in IN_POSTGRES:
                connection.execute(table.encode())
            connection.execute("INSERT INTO owner VALUES (1, 7); INSERT INTO apart VALUES (1, 1, -1)")
    program = Routed(kind, folder, dsn, mirror, writer)
    try:
        adopted = CommandLine(folder, dsn).run("adopt", mirror.sources[0], "--exclude", "apart*")
        assert adopted.code == 0, adopted.out + adopted.err
        mirror.start()
        program.ask("write", 1)
        assert program.until_from("postgres fresh") == 1
        yield program
    finally:
        program.close()


every_kind = pytest.mark.parametrize("program", KINDS, indirect=True)
#: What a coroutine's session does otherwise than another one is tested in ``test_what_else_the_program_does``.
few_kinds = pytest.mark.parametrize(
    "program",
    [pytest.param(kind, marks=pytest.mark.slow) if kind == "sqlalchemy-async" else kind for kind in KINDS],
    indirect=True,
)


@pytest.fixture(scope="module")
def program(request: Any, postgres_server: PostgresServer) -> Iterator[Routed]:
    """One for all tests of its kind: each leaves it with reads that come from Postgres."""
    dsn = postgres_server.create_database()
    folder = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
    mirror = MirrorProcess([folder / "app.db"], dsn, folder / "state")
    try:
        with Writer(folder / "app.db") as writer, routed(request.param, folder, dsn, mirror, writer) as program:
            yield program
            mirror.check()
    finally:
        mirror.end()
        postgres_server.drop_database(dsn)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def stopped(mirror: MirrorProcess) -> Iterator[list[int]]:
    """Both of its processes do nothing, unless somebody else lets them."""
    processes = mirror.processes()
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@few_kinds
def test_what_was_written_is_read(program: Routed) -> None:
    """By the program itself, under load and with a mirror that stands still at times; and by another program."""
    counts: dict[str, int] = {}
    if program.kind == "langgraph":
        program.writer.send(*["UPDATE store SET key = key"] * 200)
    else:
        program.writer.send(*["UPDATE label SET text = text || 'a'", "UPDATE label SET text = 'a'"] * 100)
    for start in range(100, 600, 100):
        for first, times in ((start, 80), (start + 80, 20)):
            with stopped(program.mirror) if times == 20 else nullcontext():
                found = program.ask("count", first, times)
            assert found.pop("wrong") == []
            for why, number in found.items():
                counts[why] = counts.get(why, 0) + number
    program.writer.answer()
    assert counts["postgres fresh"] > 0 and sum(counts.values()) - counts["postgres fresh"] >= 100, counts
    for number in range(1, 50):
        if program.kind == "langgraph":
            program.writer.run(f"UPDATE store SET value = json_object('n', {number})")
        else:
            program.writer.run(f"UPDATE counter SET n = {number}")
        assert program.ask("read") == number
    assert program.until_from("postgres fresh") == 49


@few_kinds
def test_the_flag_and_the_mirror(program: Routed) -> None:
    """Both may go and come while the program runs."""
    program.ask("write", 2)
    program.read_from("sqlite")
    assert program.until_from("sqlite setting") == 2
    program.ask("write", 3)
    program.read_from("postgres")
    assert program.until_from("postgres fresh") == 3
    assert program.mirror.stop() == 0
    program.ask("write", 4)
    assert program.seen() == [4, "sqlite not_followed"]
    program.mirror.start()
    assert program.until_from("postgres fresh") == 4
    program.mirror.kill()
    program.ask("write", 5)
    assert program.seen()[0] == 5
    assert program.until_from("sqlite not_followed") == 5
    program.mirror.start()
    assert program.until_from("postgres fresh") == 5


@every_kind
def test_what_else_the_program_does(program: Routed) -> None:
    """Transactions, joins, tables that are left out, coroutines: as its object mapper has them."""
    program.ask("write", 6)
    fresh, left_out = "postgres fresh", "sqlite incomplete"
    if program.kind != "sqlalchemy":
        assert program.until_from(fresh, "read_async") == 6
    if program.kind in ("django", "sqlalchemy"):
        assert program.ask("in_transaction", 7) == 6
        assert program.until_from(fresh, "joined") == 6
        assert program.until_from(left_out, "left_out") == 7
        assert program.until_from(left_out, "leads_to_left_out") == 1
    if program.kind == "django":
        assert program.ask("mixed", 8) == 8
    if program.kind == "sqlalchemy":
        for kind in ("table", "count", "join"):
            assert program.until_from(fresh, "core", kind) == (1 if kind == "count" else 6)
        assert program.until_from(left_out, "core", "subquery") == 6
        for kind in ("text", "only text", "update", "function", "savepoint"):
            assert program.seen("core", kind) == [3 if kind == "function" else 6]
    if program.kind == "langgraph":
        assert program.until_from(fresh, "search", None) == [6]
        assert program.until_from(fresh, "namespaces") == [["app"]]
        assert program.until_from(fresh, "ages") == [True] * 4
        assert program.seen("search", "tea") == [[6]]
        assert program.seen("refreshing") == [6]
        assert program.seen("batch", 7) == [6]
        program.read_from("sqlite")
        assert program.until_from("sqlite setting", "ages") == [True] * 4
        program.read_from("postgres")
    if program.kind == "sqlalchemy-async":
        program.read_from("postgres", maxWaitMs=60_000)

        def look() -> bool:
            """A read waits for a mirror that only another coroutine lets go on."""
            program.ask("write", 9)
            with stopped(program.mirror) as pids:
                return bool(program.seen("read_and_let_go_on", pids) == [9, fresh])

        until(look)
        program.read_from("postgres")


@few_kinds
def test_rows_that_postgres_rejects(program: Routed) -> None:
    """Rows that Postgres rejects take its answers away, all of them; they come back with the row."""
    if program.kind == "langgraph":
        program.writer.run("INSERT INTO store (prefix, key, value) VALUES ('bad', 'row', '{')")
    else:
        program.writer.run("INSERT INTO label VALUES (2, 1, CAST(x'6100' AS TEXT))")
    program.ask("write", 10)
    assert program.until_from("sqlite incomplete") == 10
    bad = "store WHERE prefix = 'bad'" if program.kind == "langgraph" else "label WHERE id = 2"
    program.writer.run(f"DELETE FROM {bad}")
    assert program.until_from("postgres fresh") == 10


@few_kinds
def test_without_postgres(program: Routed) -> None:
    """SQLite answers, and Postgres again once it does."""
    with psycopg.connect(program.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    program.ask("write", 11)
    assert program.seen()[0] == 11
    assert program.until_from("postgres fresh") == 11


def test_once_the_source_was_moved(folder: Path) -> None:
    """Everything goes to Postgres, back to the file when it is moved back, and nowhere while it is being moved."""
    source = folder / "app.db"
    at = source_folder(folder / "state", resolve(source))
    at.mkdir(parents=True)
    publisher = Publisher(at)
    choice = Choice(source, folder / "state", write_flag(folder / "mirror.json", "sqlite"))

    def no_question(sql: str) -> list[Any]:
        raise AssertionError(sql)

    assert (choice.write(no_question), choice.read({"t"}, no_question)) == (False, False)
    publisher.say_moved(sealed=True, source_id=1)
    assert (choice.write(no_question), choice.read({"t"}, no_question)) == (True, True)
    publisher.say_moved(sealed=False)
    assert (choice.write(no_question), choice.read({"t"}, no_question)) == (False, False)
    publisher.moving = True
    publisher.publish(1, 1, None, Position(Lsn(1, 1), Salts(1, 1), 0.0), wal=True, in_phases=True)
    with pytest.raises(SourceError, match="being moved") as caught:
        choice.write(no_question)
    assert caught.value.retryable
    publisher.close()  # as one does that is interrupted: only Postgres knows what came of it
    row = [1, 1, 1, 1, "", True, True]
    assert (choice.write(lambda _: [row]), choice.write(lambda _: [[*row[:6], False]])) == (True, False)
    choice.close()
