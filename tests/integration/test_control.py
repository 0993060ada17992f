"""Talking to a mirror that runs, stands still, ends, or is another user's: by the commands, as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import ControlError, MirrorError, SourceError
from mirror.core.folders import resolve, source_folder
from mirror.core.positions import Lsn, Salts
from mirror.core.sockets import control_path
from tests.support import stranger
from tests.support.commands import UNREACHABLE, CommandLine, stop
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def source(writer: Writer, database: Path) -> Path:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES ('a'), ('b'), ('c')")
    return database


@pytest.fixture
def running(mirror: MirrorProcess, source: Path) -> MirrorProcess:
    mirror.start()
    mirror.wait_applied()
    return mirror


def place(mirror: MirrorProcess) -> tuple[Salts, int]:
    """The last commit, as the WAL names it."""
    data = Path(f"{mirror.sources[0]}-wal").read_bytes()[:32]
    salts = Salts(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    return salts, Lsn.parse(str(mirror.status()["applied"])).frame


# -- holds ---------------------------------------------------------------------------------------------


def test_a_hold_is_nobody_elses(running: MirrorProcess, writer: Writer) -> None:
    """Another conversation can neither use nor end it, by what it says or by ending; it may have its own afterwards."""
    with running.control() as one:
        hold = one.hold()
        with running.control() as other:
            with pytest.raises(ControlError, match="another client holds it") as refused:
                other.hold()
            assert refused.value.retryable
            with pytest.raises(SourceError, match="the hold has ended"):
                other.reach("made up", *place(running))
            other.release("made up")
        writer.run("INSERT INTO t(v) VALUES ('held back')")
        with running.control() as third:
            assert not third.wait(1.0), "the end of the other conversation has ended no hold but its own"
        assert one.reach(hold, *place(running)) == Lsn.parse(str(running.status()["applied"]))
        again = one.hold()
        assert again != hold, "who holds may hold again"
        one.release(hold)  # of the one that was
        with running.control() as other, pytest.raises(ControlError, match="another client"):
            other.hold()
        one.release(again)
        with running.control() as other:
            other.hold()
        running.wait_applied()
        one.hold()
    running.wait_applied()


def test_a_clean_stop_while_somebody_holds(cli: CommandLine, source: Path) -> None:
    """Nothing but what it always says is on stderr; whoever holds or waits is told at once."""
    process = cli.start("up", source, stdout=subprocess.DEVNULL)
    folder = cli.source_folder(source)
    assert cli.run("wait", source, "--timeout", 60).code == 0
    told: list[MirrorError | bool] = []
    begun = threading.Barrier(3)

    def ask(what: Callable[[ControlClient], object]) -> None:
        with ControlClient(folder, 60.0) as client:
            client.status()
            begun.wait(60)
            try:
                told.append(bool(what(client)))
            except MirrorError as error:
                told.append(error)

    waiting = [
        threading.Thread(target=ask, args=(what,))
        for what in (lambda client: client.wait(3000.0), lambda client: client.repair(["t"], 3000.0))
    ]
    with ControlClient(folder, 60.0) as holder, Writer(source) as program:
        hold = holder.hold()
        program.run("INSERT INTO t(v) VALUES ('held back')")
        for thread in waiting:
            thread.start()
        begun.wait(60)
        holder.status()
        assert stop(process) == 0
        assert process.stderr is not None
        err = process.stderr.read()
        assert "Traceback" not in err and "Exception" not in err, err
        with pytest.raises(MirrorError):
            holder.release(hold)
        for thread in waiting:
            thread.join(60)
            assert not thread.is_alive()
    assert len(told) == 2 and all(isinstance(each, MirrorError) and each.retryable for each in told), told


# -- a mirror that stands still ------------------------------------------------------------------------


def test_beside_a_mirror_that_stands_still(cli: CommandLine, source: Path) -> None:
    """Each command ends with a clear line; status tells what was written down last."""
    with cli.up(source) as process:
        os.kill(process.pid, signal.SIGSTOP)
        started: dict[str, subprocess.Popen[str]] = {}
        try:
            commands = {
                "status": ("status", source),
                "status --json": ("status", source, "--json"),
                "parity": ("parity", source),
                "parity --json": ("parity", source, "--json"),
                "rejects retry": ("rejects", "retry", source),
                "rejects list": ("rejects", "list", source),
                "cutover plan": ("cutover", "plan", source),
                "wait": ("wait", source, "--timeout", 1),
            }
            started = {name: cli.start(*command) for name, command in commands.items()}
            ended = {name: (*each.communicate(timeout=120), each.returncode) for name, each in started.items()}
        finally:
            os.kill(process.pid, signal.SIGCONT)
            for each in started.values():
                each.kill()
        assert cli.run("wait", source, "--timeout", 60).code == 0, "it goes on"
    for name, (out, err, _) in ended.items():
        assert "Traceback" not in err, (name, err)
        if name != "rejects list":
            assert "it does not answer within" in " ".join((out + err).split()), (name, out, err)
    codes = {name: code for name, (_, _, code) in ended.items()}
    assert codes == {
        "status": 0, "status --json": 0, "parity": 2, "parity --json": 2, "rejects retry": 2,
        "rejects list": 0, "cutover plan": 1, "wait": 1,
    }  # fmt: skip
    for name in ("parity", "rejects retry", "wait", "cutover plan"):
        (line,) = ended[name][1].splitlines()
        assert line.startswith("mirror: ") and f"(pid {process.pid})" in line, "and whose process that is"
    (report,) = json.loads(ended["status --json"][0])["sources"]
    assert report["phase"] == "not answering" and report["tables"] == 1
    assert f"(pid {process.pid})" in report["next_steps"][0] and "mirror up" not in " ".join(report["next_steps"])
    (compared,) = json.loads(ended["parity --json"][0])["reports"]
    assert compared["verdict"] == "not_checked"
    assert (compared["error"]["code"], compared["error"]["retryable"]) == ("control", True)


def test_a_conversation_with_a_mirror_that_stands_still(running: MirrorProcess) -> None:
    """Begun while it worked."""
    (process, *_) = running.processes()
    with ControlClient(source_folder(running.state_dir, running.sources[0]), 2.0) as client:
        assert client.status().source == str(running.sources[0])
        process.suspend()
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        try:
            with pytest.raises(ControlError, match="it does not answer"):
                client.status()
        finally:
            process.resume()


# -- errors for programs -------------------------------------------------------------------------------


def error_in(out: str) -> dict[str, Any]:
    told = json.loads(out)
    assert told.keys() == {"version", "error"} and told["version"] == 1
    error: dict[str, Any] = told["error"]
    assert error.keys() >= {"code", "operation", "place", "detail", "next_step", "retryable"}
    return error


def test_an_error_that_ends_a_command_with_json(cli: CommandLine, source: Path, folder: Path) -> None:
    """It is one object on stdout; the line on stderr and the exit code are what they are without."""
    assert cli.run("up", source, "--once").code == 0
    for arguments, code, retryable in (
        (("status", folder / "none.db"), "config", False),
        (("status", "--config", folder / "none.json"), "config", False),
        (("rejects", "list", source, "--postgres", UNREACHABLE), "postgres", True),
        (("cutover", "plan", folder / "none.db"), "config", False),
        (("parity", "--no-such-option"), "config", False),
        (("parity", "--sample", "7", "--repair", source), "config", False),
    ):
        plain = cli.run(*arguments)
        assert plain.code == 2 and plain.out == "", plain
        done = cli.run(*arguments, "--json")
        assert done.code == 2 and done.err.splitlines()[-1] == plain.err.splitlines()[-1], done
        error = error_in(done.out)
        assert (error["code"], error["retryable"]) == (code, retryable), error
    assert "sqlstate" in error_in(cli.run("rejects", "list", "--json", "--postgres", UNREACHABLE).out)


def test_a_repair_that_fails_is_a_repair_that_failed(cli: CommandLine, source: Path, dsn: str) -> None:
    """Its kind, and that trying again does not help, come through the socket."""
    with cli.up(source):
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE t SET v = 'x' WHERE id = 1")
            connection.execute(
                "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
                " CREATE TRIGGER undo BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION undo()"
            )
        done = cli.run("parity", source, "--repair", "--replace-rows", "--json")
        assert done.code == 2, done
        (report,) = json.loads(done.out)["reports"]
        assert (report["error"]["code"], report["error"]["retryable"]) == ("postgres.repair", False)
        with psycopg.connect(dsn) as connection:
            connection.execute("DROP TRIGGER undo ON t")
        assert cli.run("parity", source, "--repair", "--replace-rows").code == 0


# -- where the socket lies -----------------------------------------------------------------------------


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short directory that is everybody's, as /tmp is."""
    path = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def test_a_state_directory_with_a_long_path(cli: CommandLine, source: Path, temporary: Path) -> None:
    """The socket lies aside, in a directory that is ours alone, and is found from any environment."""
    runtime = temporary / "run"
    runtime.mkdir(mode=0o700)
    state = cli.folder / ("long" * 30)
    options = ("--state-dir", state)
    environment = {"TMPDIR": str(temporary), "XDG_RUNTIME_DIR": str(runtime)}
    process = cli.start("up", source, *options, env=environment, stdout=subprocess.DEVNULL)
    try:
        other = {"TMPDIR": str(cli.folder), "XDG_RUNTIME_DIR": ""}
        assert cli.run("wait", source, *options, "--timeout", 60, env=other).code == 0
        assert cli.run("parity", source, *options, env=other).code == 0
        path = control_path(source_folder(resolve(state), resolve(source)))
        assert path.parent == runtime / "mirror"
        assert path.parent.stat().st_mode & 0o7777 == 0o700 and path.stat().st_mode & 0o7777 == 0o600
        shutil.rmtree(path.parent)  # as whoever tidies up temporary files does
        with wait_for_mirror(source_folder(resolve(state), resolve(source)), 60.0) as client:
            assert client.wait(60.0), "it is put back"
    finally:
        assert stop(process) == 0
    assert not path.exists()


def test_a_name_that_another_user_has_taken(cli: CommandLine, source: Path, temporary: Path) -> None:
    """The mirror says so and ends; the program's rows go nowhere."""
    taken = temporary / f"mirror-{os.geteuid()}"
    taken.mkdir(mode=0o700)
    if stranger.IS_ROOT:
        os.chown(taken, stranger.NOBODY, stranger.NOBODY)
        told = f"it belongs to another user (uid {stranger.NOBODY}, not 0)"
    else:
        taken.chmod(0o777)
        told = "other users may open it (mode 0777, not 0700)"
    options = ("--state-dir", cli.folder / ("long" * 30))
    environment = {"TMPDIR": str(temporary), "XDG_RUNTIME_DIR": ""}
    done = cli.run("up", source, "--once", *options, env=environment)
    assert done.code == 2 and "Traceback" not in done.err, done
    line = done.err.splitlines()[-1]
    assert told in line and str(taken) in line and "--state-dir" in line, line
    status = cli.run("status", source, *options, "--json", env=environment)
    assert told in json.loads(status.out)["sources"][0]["last_error"]


# -- in the program ------------------------------------------------------------------------------------


def test_the_program_logs_as_it_likes(folder: Path) -> None:
    """What the hook has to say goes to the standard logger "mirror"; without a setup it is a line on stderr."""
    code = """
import logging, sys
{setup}
import mirror
m = mirror.enable_mirror(["x.db"], sidecar="bogus")
assert m.error is not None and "bogus" in m.error
assert "loguru" not in sys.modules and "psycopg" not in sys.modules
"""
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}

    def run(setup: str) -> str:
        command = [sys.executable, "-c", code.replace("{setup}", setup)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "the mirror is not enabled" in run("")
    setup = "logging.basicConfig(filename='log.txt', format='%(levelname)s %(name)s %(message)s')"
    assert run(setup) == ""
    (line,) = (folder / "log.txt").read_text().splitlines()
    assert line.startswith("WARNING mirror the mirror is not enabled: ")
    assert run("logging.getLogger('mirror').setLevel(logging.ERROR)") == ""
