"""``mirror down``: the mirror ends in order, whoever has started it, and is waited for."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.cli.service.render import unit_name
from tests.support.commands import CommandLine, Done, processes_about, stop
from tests.support.gateway import Gateway
from tests.support.source import Writer
from tests.support.stubs import Stubs
from tests.support.waiting import LIMIT, ended, until


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def two(folder: Path) -> Iterator[tuple[Writer, Writer]]:
    """The programs of two sources."""
    with Writer(folder / "a.db") as first, Writer(folder / "b.db") as second:
        for name, writer in (("a", first), ("b", second)):
            writer.run("PRAGMA journal_mode=WAL", f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, v TEXT)")
            writer.run(f"INSERT INTO {name}(v) VALUES ('one')")
        yield first, second


def is_not_running(done: Done) -> bool:
    """Whether a command given with ``--json`` has ended because no mirror runs."""
    return done.code != 0 and json.loads(done.out)["error"]["code"] == "control.not_running"


def steps(text: str) -> list[list[str]]:
    """The commands between back-ticks, without the name of the program."""
    return [shlex.split(each)[1:] for each in text.split("`")[1::2] if each.startswith("mirror ")]


def test_all_that_runs(cli: CommandLine, two: tuple[Writer, Writer], folder: Path) -> None:
    """It has ended by the answer, with 0; nothing is lost; a second one finds none; its step goes on."""
    assert is_not_running(cli.run("down", "--json"))
    process = cli.start("up", folder / "a.db", folder / "b.db")
    assert cli.run("wait", folder / "a.db", folder / "b.db", "--timeout", LIMIT).code == 0
    two[0].run("INSERT INTO a(v) VALUES ('two')")
    done = cli.run("down")
    assert done.code == 0 and f"the mirror (pid {process.pid}) of a.db, b.db has ended" in done.out, done
    assert process.wait(LIMIT) == 0
    assert is_not_running(cli.run("down", "--json")) and is_not_running(cli.run("down", folder / "a.db", "--json"))
    two[1].run("INSERT INTO b(v) VALUES ('while it was down')")
    (again,) = steps(done.out)
    assert cli.run(*again, "--once").code == 0
    assert cli.run("parity", folder / "a.db", folder / "b.db").code == 0


def test_one_of_two_that_a_process_mirrors(cli: CommandLine, two: tuple[Writer, Writer], folder: Path) -> None:
    """It is refused, with the steps for one; a mirror of its own ends alone."""
    process = cli.start("up", folder / "a.db")
    other = cli.start("up", folder / "b.db")
    for name in ("a.db", "b.db"):
        assert cli.run("wait", folder / name, "--timeout", LIMIT).code == 0
    assert cli.run("down", folder / "b.db").code == 0 and other.wait(LIMIT) == 0
    assert cli.run("add", folder / "b.db").code == 0
    refused = cli.run("down", folder / "b.db").error
    assert "mirrors a.db as well" in refused and process.poll() is None
    assert [step[0] for step in steps(refused)] == ["remove", "pause", "down"]
    ended_both = json.loads(cli.run("down", folder / "b.db", folder / "a.db", "--json").out)["ended"]
    assert [each["pid"] for each in ended_both] == [process.pid] and process.wait(LIMIT) == 0


def test_two_at_once(cli: CommandLine, two: tuple[Writer, Writer], folder: Path) -> None:
    """Both end well, and so does the mirror; also while it waits for Postgres."""
    process = cli.start("up", folder / "a.db", env={"ARGENT_PG_URL": "host=127.0.0.1 port=1 connect_timeout=2"})
    until(lambda: not is_not_running(cli.run("down", "--json")) or process.poll() is not None)
    assert process.wait(LIMIT) == 0
    process = cli.start("up", folder / "a.db")
    assert cli.run("wait", folder / "a.db", "--timeout", LIMIT).code == 0
    both = [cli.start("down"), cli.start("down", "--json")]
    codes = [each.wait(LIMIT) for each in both]
    assert process.wait(LIMIT) == 0 and 0 in codes
    for each in both:
        each.communicate()


def test_a_sidecar_of_a_program(database: Path, dsn: str, cli: CommandLine) -> None:
    """While the program runs it is told that this one starts another; afterwards it ends for good."""
    with Gateway(database, dsn) as program:
        program.do(
            f"c = connect({str(database)!r}); c.execute('PRAGMA journal_mode=WAL').fetchall();"
            " c.execute('CREATE TABLE t(id INTEGER PRIMARY KEY)'); c.execute('INSERT INTO t VALUES (1)')"
        )
        program.enable(sidecar="outlives")
        first = program.sidecar_pid()
        state = ("--state-dir", program.state_dir)
        done = cli.run("down", *state)
        assert done.code == 0 and f"pid {program.pid})" in done.out and "starts a mirror again" in done.out, done
        assert ended(first)
        program.await_following()
        second = program.sidecar_pid()
        assert second != first
        program.check()
        program.kill()
        done = cli.run("down", *state)
        assert done.code == 0 and "starts a mirror again" not in done.out and ended(second), done
        assert is_not_running(cli.run("down", *state, "--json"))


def test_the_embedded_postgres_stops_too(two: tuple[Writer, Writer], folder: Path) -> None:
    """It is said where its data stays, and how to look at it: that works, and leaves nothing running."""
    cli = CommandLine(folder)
    source = folder / "a.db"
    process = cli.start("up", source)
    until(lambda: cli.run("wait", source, "--timeout", 5).code == 0, alive=lambda: process.poll() is None)
    look = ("psql", source, "--", "-Atc", "SELECT v FROM a")
    assert cli.run(*look).out == "one\n", "while it runs"
    done = cli.run("down")
    assert done.code == 0 and f"its data stays in {cli.state_dir / 'postgres'}" in done.out
    assert process.wait(LIMIT) == 0
    two_writers = {two[0].pid, two[1].pid}
    assert not processes_about(folder, *two_writers)
    assert cli.run(*look).out == "one\n", "started for it"
    assert not processes_about(folder, *two_writers)
    two[0].run("INSERT INTO a(v) VALUES ('two')")
    assert cli.run("up", source, "--once").code == 0
    assert cli.run("parity", source).code == 0


def test_a_service(cli: CommandLine, two: tuple[Writer, Writer], folder: Path) -> None:
    """What its manager will do is told, with the step that ends that, too."""
    unit = folder / ".config" / "systemd" / "user" / unit_name("mirror")
    unit.parent.mkdir(parents=True)
    unit.touch()
    process = cli.start("up", folder / "a.db")
    assert cli.run("wait", folder / "a.db", "--timeout", LIMIT).code == 0
    stubs = Stubs(folder)
    stubs.add("systemctl", f"printf 'ActiveState=active\\nMainPID={process.pid}\\n'")
    done = cli.run("down", env={"PATH": str(stubs.bin), "XDG_CONFIG_HOME": str(folder / ".config")})
    assert done.code == 0 and "`mirror service uninstall`" in done.out and "enable_mirror" not in done.out, done
    assert process.wait(LIMIT) == 0


def test_a_mirror_that_hangs(cli: CommandLine, two: tuple[Writer, Writer], folder: Path) -> None:
    """One that does not answer is told so, in bounded time."""
    process = cli.start("up", folder / "a.db")
    assert cli.run("wait", folder / "a.db", "--timeout", LIMIT).code == 0
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert f"pid {process.pid}" in cli.run("down").error
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert stop(process) == 0
