"""``mirror up`` and a program's sidecar with several sources, of which one ends: what is said, and what goes on."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.control import wait_for_mirror
from mirror.core.folders import holder, resolve, source_folder
from mirror.core.source_settings import remember_schema
from mirror.parity.compare import compare
from tests.support.commands import CommandLine, stop
from tests.support.gateway import Gateway
from tests.support.house import until
from tests.support.source import Writer

NAMES = ("bad", "good")


@pytest.fixture
def writers(folder: Path) -> Iterator[dict[str, Writer]]:
    """The programs of two sources, by name; the file of each is named as it is."""
    made = {name: Writer(folder / f"{name}.db") for name in NAMES}
    for name, writer in made.items():
        writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE t_{name}(id INTEGER PRIMARY KEY, v)")
        writer.run(f"INSERT INTO t_{name} VALUES (1, 'first')")
    yield made
    for writer in made.values():
        writer.close()


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def count(dsn: str, name: str) -> int:
    with psycopg.connect(dsn) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM t_{name}".encode()).fetchone() or (0,)
    return int(found)


def take_away(dsn: str, source: Path) -> None:
    """Take a source's place in Postgres away: its mirror ends at the next commit, for good."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM mirror.sources WHERE path = %s", (str(resolve(source)),))


def is_mirrored(folder: Path) -> bool:
    """Whether a process has the lock of a source's folder."""
    with open(folder / "lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_error_of_one_is_told_and_the_others_are_drained(
    cli: CommandLine, writers: dict[str, Writer], folder: Path, dsn: str
) -> None:
    """At the end of standard input: the source that has failed after it had caught up is not asked any more."""
    bad, good = (folder / f"{name}.db" for name in NAMES)
    process = cli.start("up", bad, good, "--until-eof", stdin=subprocess.PIPE)
    for source in (bad, good):
        assert cli.run("wait", source, "--timeout", 60).code == 0
    take_away(dsn, bad)
    writers["bad"].run("INSERT INTO t_bad VALUES (2, 'nowhere to go')")
    until(lambda: not is_mirrored(cli.source_folder(bad)))
    writers["good"].run("INSERT INTO t_good VALUES (2, 'the last one')")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert "is held by epoch" in error.splitlines()[-1] and "bad.db" in error.splitlines()[-1], error
    assert "Traceback" not in error
    assert count(dsn, "good") == 2


def test_the_last_one_to_fail_ends_it(cli: CommandLine, writers: dict[str, Writer], folder: Path, dsn: str) -> None:
    """When none is at work any more, the command ends, with the errors of all and the exit code."""
    sources = [folder / f"{name}.db" for name in NAMES]
    process = cli.start("up", *sources)
    for source in sources:
        assert cli.run("wait", source, "--timeout", 60).code == 0
    for name in NAMES:
        assert process.poll() is None
        take_away(dsn, folder / f"{name}.db")
        writers[name].run(f"INSERT INTO t_{name} VALUES (2, 'nowhere to go')")
        until(lambda name=name: not is_mirrored(cli.source_folder(folder / f"{name}.db")))  # type: ignore[misc]
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert {line.partition("(")[2].partition(")")[0] for line in error.splitlines()[-2:]} == set(map(str, sources))


@pytest.mark.slow
def test_one_that_does_not_get_on_is_given_up_alone(
    cli: CommandLine, writers: dict[str, Writer], folder: Path, dsn: str
) -> None:
    """With ``--once``: another process has its spool. The others are mirrored all the same."""
    bad, good = (folder / f"{name}.db" for name in NAMES)
    spool = cli.source_folder(bad) / "spool"
    spool.mkdir(parents=True)
    with open(spool / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cli.run("up", bad, good, "--once")
    assert done.code == 2, done
    assert "another process holds its lock" in done.err.splitlines()[-1] and "bad.db" in done.err.splitlines()[-1]
    assert count(dsn, "good") == 1
    assert cli.run("up", bad, good, "--once").code == 0
    assert count(dsn, "bad") == 1


@pytest.mark.slow
def test_one_that_has_ended_in_a_programs_sidecar_gets_its_own(
    writers: dict[str, Writer], folder: Path, dsn: str
) -> None:
    """The sidecar goes on for the other source; and neither is started twice."""
    bad, good = (folder / f"{name}.db" for name in NAMES)
    with Gateway(good, dsn) as program:
        sources = [str(bad), str(good)]
        program.do(
            "import mirror\n"
            f"m = mirror.enable_mirror({sources!r}, postgres={dsn!r}, state_dir={str(program.state_dir)!r},"
            " sidecar='follows')"
        )

        def pid_of(source: Path) -> int:
            return holder(source_folder(program.state_dir, resolve(source))) or 0

        def wait(source: Path) -> None:
            with wait_for_mirror(source_folder(program.state_dir, resolve(source)), 60.0) as client:
                assert client.wait(60.0)

        for source in (bad, good):
            wait(source)
        first = pid_of(good)
        assert pid_of(bad) == first == program.do("answer = m.status()['sidecar']['pid']")
        take_away(dsn, bad)
        writers["bad"].run("INSERT INTO t_bad VALUES (2, 'nowhere to go')")
        until(lambda: not is_mirrored(source_folder(program.state_dir, resolve(bad))))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP TABLE t_bad")  # what is there and not the mirror's would be left alone
        until(lambda: pid_of(bad) != first and is_mirrored(source_folder(program.state_dir, resolve(bad))))
        wait(bad)
        assert count(dsn, "bad") == 2
        assert pid_of(good) == first, "the other source's sidecar has gone on"
        writers["good"].run("INSERT INTO t_good VALUES (2, 'it goes on')")
        wait(good)
        status = program.do("answer = m.status()['sidecar']")
        assert status == {"pid": first, "error": None}
        second = pid_of(bad)
        with wait_for_mirror(source_folder(program.state_dir, resolve(bad)), 30.0) as client:
            with psycopg.connect(dsn) as connection:
                report = compare(bad, connection, "public", client)
            assert report.verdict == "equal" and report.tables, report.to_json()
        os.kill(second, 0)
        assert pid_of(bad) == second and pid_of(good) == first
    until(lambda: not any(map(is_mirrored, (source_folder(program.state_dir, resolve(each)) for each in (bad, good)))))


@contextmanager
def beside(cli: CommandLine, sources: list[Path], log: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    """``mirror up`` with its log in a file."""
    with open(log, "w") as file:
        process = cli.start("up", *sources, *options, stdout=subprocess.DEVNULL, stderr=file)
        try:
            yield process
        finally:
            if process.poll() is None:
                stop(process)


def status_of(cli: CommandLine, source: Path) -> dict[str, Any]:
    (report,) = json.loads(cli.run("status", source, "--json").out)["sources"]
    return dict(report)


def wait(cli: CommandLine, source: Path) -> None:
    done = cli.run("wait", source, "--timeout", 60)
    assert done.code == 0, done


def errors_of(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if " ERROR " in line]


def test_one_that_is_missing_at_the_start_begins_when_it_is_there(
    cli: CommandLine, writers: dict[str, Writer], folder: Path, dsn: str
) -> None:
    bad, good, log = folder / "bad.db", folder / "good.db", folder / "log"
    writers["bad"].run("PRAGMA wal_checkpoint(TRUNCATE)")
    writers["bad"].close()
    os.rename(bad, folder / "away")
    assert cli.run("up", bad, good, "--once").code == 2
    assert count(dsn, "good") == 1
    state = ("--state-dir", cli.state_dir)
    with beside(cli, [bad, good], log, *state) as process:
        wait(cli, good)
        report = until(lambda: (found := status_of(cli, bad))["phase"] == "waiting" and found)
        assert report and "no such file" in report["last_error"]
        os.rename(folder / "away", bad)
        wait(cli, bad)
        assert count(dsn, "bad") == 1
        assert not errors_of(log)
        writers["good"].run("INSERT INTO t_good VALUES (2, 'it goes on')")
        wait(cli, good)
        assert process.poll() is None
    writers["bad"] = Writer(bad)


@pytest.mark.slow
def test_one_that_another_mirror_has_at_the_start_begins_when_that_ends(
    cli: CommandLine, writers: dict[str, Writer], folder: Path, dsn: str
) -> None:
    bad, good, log = folder / "bad.db", folder / "good.db", folder / "log"
    with cli.up(bad) as first:
        done = cli.run("up", bad, good, "--once")
        assert done.code == 2 and f"pid {first.pid}" in done.err.splitlines()[-1], done
        assert count(dsn, "good") == 1
        with beside(cli, [bad, good], log) as second:
            wait(cli, good)
            until(lambda: errors_of(log))
            (line,) = errors_of(log)
            assert f"pid {first.pid}" in line and f"--state-dir {shlex.quote(str(cli.state_dir))}`" in line
            assert status_of(cli, bad)["phase"] == "following", "the other mirror says so"
            assert stop(first) == 0
            until(lambda: holder(cli.source_folder(bad)) == second.pid)
            writers["bad"].run("INSERT INTO t_bad VALUES (2, 'to the second')")
            wait(cli, bad)
            assert count(dsn, "bad") == 2
            assert len(errors_of(log)) == 1
            assert stop(second) == 0


def test_one_with_damaged_settings_at_the_start_begins_when_they_are_put_right(
    cli: CommandLine, writers: dict[str, Writer], folder: Path, dsn: str
) -> None:
    """Meanwhile nothing of it is copied into another schema, and every other command works on the others."""
    bad, good, log = folder / "bad.db", folder / "good.db", folder / "log"
    settings = cli.source_folder(bad) / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text("{")
    done = cli.run("up", bad, good, "--once")
    assert done.code == 2 and "it is damaged" in done.err.splitlines()[-1], done
    assert count(dsn, "good") == 1
    with beside(cli, [bad, good], log) as process:
        wait(cli, good)
        until(lambda: errors_of(log))
        (line,) = errors_of(log)
        assert "it is damaged" in line and f"mirror up {bad}" in line
        report = status_of(cli, bad)
        assert report["phase"] == "failed" and "it is damaged" in report["last_error"]
        assert [step for step in report["next_steps"] if "--schema" in step]
        remember_schema(settings.parent, "its own")
        wait(cli, bad)
        assert status_of(cli, bad)["schema"] == "its own"
        assert len(errors_of(log)) == 1
        assert process.poll() is None


def test_none_that_can_begin_ends_it_at_once(cli: CommandLine, writers: dict[str, Writer], folder: Path) -> None:
    bad, good = folder / "bad.db", folder / "good.db"
    assert "no such file" in cli.run("up", folder / "none.db", folder / "nor this.db", "--once").error
    for source in (bad, good):
        (folder_of := cli.source_folder(source)).mkdir(parents=True)
        (folder_of / "settings.json").write_text("{")
    assert "it is damaged" in cli.run("up", bad).error
    done = cli.run("up", bad, good)
    assert done.code == 2 and done.err.count("it is damaged") == 2, done


def test_status_asks_all_at_once(cli: CommandLine, folder: Path, dsn: str) -> None:
    """A mirror that does not answer costs its time once, however many sources it has."""
    sources = [folder / f"{number}.db" for number in range(8)]
    for source in sources:
        with Writer(source) as writer:
            writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE t_{source.stem}(id INTEGER PRIMARY KEY)")
    with cli.up(*sources) as process:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            done = cli.run("status", "--json", timeout=120)
            seconds = time.monotonic() - begun
        finally:
            os.kill(process.pid, signal.SIGCONT)
    assert [report["phase"] for report in json.loads(done.out)["sources"]] == ["not answering"] * 8
    assert seconds < 30, "5 seconds each"


def test_sources_of_one_name_are_told_apart(cli: CommandLine, folder: Path) -> None:
    """By as much of their paths as it takes."""
    for name in ("x", "y"):
        (folder / name).mkdir()
        with Writer(folder / name / "m.db") as writer:
            writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE t_{name}(id INTEGER PRIMARY KEY)")
    assert cli.run("up", folder / "x" / "m.db", folder / "y" / "m.db", "--once").code == 0
    lines = cli.run("status", env={"COLUMNS": "200"}).out.splitlines()
    for name in ("x/m.db", "y/m.db"):
        assert [line for line in lines if line.split()[:1] == [name]], "in the table"
        assert [line for line in lines if line.startswith(f"{name}: next: ")], "in the notes"
