"""The mirror starts before the program, and ends after it: it waits and says so, and names what stays in the log."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.cli import running
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, SourceError
from mirror.sidecar.supervisor import Supervisor
from tests.support.commands import CommandLine, stop
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

NOT_THERE = "there is no such file yet"
EMPTY = "the file is empty"


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@contextmanager
def up(cli: CommandLine, source: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """``mirror up``, with its output in a file, ended with the block."""
    with log.open("w") as out:
        process = cli.start("up", source, stdout=out, stderr=out)
    try:
        yield process
    finally:
        if process.poll() is None:
            stop(process)


def status(cli: CommandLine, source: Path) -> dict[str, Any]:
    done = cli.run("status", source, "--json")
    return dict(json.loads(done.out)["sources"][0]) if done.code == 0 else {}


def waits(cli: CommandLine, source: Path, why: str, process: subprocess.Popen[str]) -> None:
    """Until it waits, for this reason."""

    def said() -> bool:
        report = status(cli, source)
        return report.get("phase") == "waiting" and why in report["last_error"]

    until(said, alive=lambda: process.poll() is None)


@pytest.mark.few(1)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("why", [NOT_THERE, EMPTY])
def test_the_mirror_starts_first(cli: CommandLine, folder: Path, dsn: str, why: str, mode: str) -> None:
    source, log = folder / "app.db", folder / "log"
    if why == EMPTY:
        source.touch()
    with up(cli, source, log) as process:
        waits(cli, source, why, process)
        assert cli.run("wait", source, "--timeout", 0.5).code == 1, "nothing is in Postgres"
        assert not list(folder.glob("app.db-*")), "the mirror makes nothing"
        with Writer(source) as program:
            program.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
            program.run("INSERT INTO t VALUES (1)")
            assert cli.run("wait", source, "--timeout", LIMIT).code == 0
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT id FROM t").fetchall() == [(1,)]
            assert cli.run("parity", source).code == 0
        assert why in log.read_text() and "the mirror waits for that" in log.read_text()
        assert stop(process) == 0


def test_a_copy_that_comes_is_taken_whole(cli: CommandLine, folder: Path, dsn: str, database: Path) -> None:
    """With its log, which comes after it: nothing of the mirror's gets in its way."""
    with Writer(database) as program:
        program.run("PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
        program.run("PRAGMA wal_checkpoint(TRUNCATE)", "INSERT INTO t VALUES (1)")
        for name in ("source.db", "source.db-wal"):
            shutil.copyfile(folder / name, folder / f"kept-{name}")
    source = folder / "app.db"
    with up(cli, source, folder / "log") as process:
        waits(cli, source, NOT_THERE, process)
        shutil.copyfile(folder / "kept-source.db", source)
        shutil.copyfile(folder / "kept-source.db-wal", f"{source}-wal")
        assert cli.run("wait", source, "--timeout", LIMIT).code == 0
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT id FROM t").fetchall() == [(1,)]


def test_no_table_yet(cli: CommandLine, folder: Path) -> None:
    source, log = folder / "app.db", folder / "log"
    with Writer(source) as program, up(cli, source, log) as process:
        program.run("PRAGMA journal_mode=WAL", "PRAGMA user_version=1")
        until(lambda: "it has no table yet" in log.read_text(), alive=lambda: process.poll() is None)
        assert cli.run("wait", source, "--timeout", LIMIT).code == 0
        assert "it has no table yet" in cli.run("status", source).out
        program.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        until(lambda: "1 table in Postgres" in log.read_text(), alive=lambda: process.poll() is None)
        assert "no table yet" not in cli.run("status", source).out


@pytest.mark.few(1)
def test_a_name_that_is_misspelt(cli: CommandLine, folder: Path) -> None:
    """It is waited for, as any file that its program has yet to make; but a file of nearly that name is named."""
    for name in ("shop.db", "shop.db-wal", "shq.txt"):
        (folder / name).touch()
    with up(cli, folder / "shp.db", folder / "log") as process:
        waits(cli, folder / "shp.db", f"{NOT_THERE}; did you mean shop.db?", process)
        until(lambda: (folder / "log").read_text().count("did you mean shop.db?") == 1)


def test_once_does_not_wait(cli: CommandLine, folder: Path) -> None:
    assert "no such file" in cli.run("up", folder / "none.db", "--once").error
    assert "it is a directory" in cli.run("up", folder).error


def lose(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    """Mirror a file, and delete it while the mirror is down."""
    writer.run("CREATE TABLE t(v)")
    mirror.start()
    mirror.wait_applied()
    mirror.stop()
    writer.close()
    for name in ("", "-wal", "-shm"):
        Path(f"{database}{name}").unlink(missing_ok=True)


def test_gone_while_the_mirror_was_down(mirror: MirrorProcess, writer: Writer, database: Path) -> None:
    """A comparison alone does not wait for it."""
    lose(mirror, writer, database)
    cli = CommandLine(database.parent, mirror.dsn)
    done = cli.run("parity", database, "--state-dir", mirror.state_dir)
    assert done.code == 2 and "no such file" in done.err + done.out


def test_its_error_is_told_when_it_ends_during_a_conversation(
    mirror: MirrorProcess, writer: Writer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(mirror, writer, database)

    def late(supervisor: Supervisor, client: ControlClient) -> None:
        until(lambda: supervisor.pipelines[0].error)
        raise ControlError("ask the mirror", detail="it has ended")

    monkeypatch.setattr(running, "_catch_up", late)
    gate = running.gate_of(database, mirror.dsn, mirror.state_dir, "public")
    with pytest.raises(SourceError, match="no such file"), gate:
        pass


@pytest.mark.few(1)
@pytest.mark.parametrize("program", ["ended", "goes on", "has moved them"])
def test_what_stays_in_the_log_is_named_at_the_end(cli: CommandLine, folder: Path, program: str) -> None:
    source, log = folder / "app.db", folder / "log"
    writer = Writer(source)
    writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT)")
    with up(cli, source, log) as process:
        assert cli.run("wait", source, "--timeout", LIMIT).code == 0
        writer.run("INSERT INTO t(s) VALUES ('b')")
        if program == "has moved them":
            writer.run("PRAGMA wal_checkpoint(PASSIVE)")
        if program != "goes on":
            writer.close()
        assert cli.run("wait", source, "--timeout", LIMIT).code == 0
        assert stop(process) == 0
    said = "app.db-wal still holds commits that app.db alone lacks" in log.read_text()
    assert said == (program == "ended"), log.read_text()
    if program == "goes on":
        writer.close()
        return
    copy = folder / "backup.db"
    if said:  # as it says
        with Writer(source) as other:
            other.run("SELECT count(*) FROM t")
    shutil.copyfile(source, copy)
    with Writer(copy) as other:
        assert other.run("SELECT count(*) FROM t") == [[1]]
