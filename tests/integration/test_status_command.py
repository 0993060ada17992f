"""`mirror status` and `mirror wait` in front of a person and of a script: what is true in each phase, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.beginnings import Beginning
from tests.support.commands import UNREACHABLE, CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def source(writer: Writer, database: Path) -> Path:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES ('a'), ('b'), ('c')")
    return database.resolve()


def report_of(cli: CommandLine, source: Path) -> dict[str, Any]:
    done = cli.run("status", "--json", source)
    assert (done.code, done.err) == (0, ""), done
    (report,) = json.loads(done.out)["sources"]
    return dict(report)


def pasted(cli: CommandLine, step: str) -> list[str]:
    """The words of the command in a next step."""
    found = re.search(r"`mirror ([^`]*)`", step)
    return shlex.split((found[1] if found else step.removeprefix("mirror ")), comments=True)


_LOADED = """
import sys
from mirror.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [("status", "--json"), ("wait",), ("pause",)])
def test_what_only_asks_loads_little(cli: CommandLine, source: Path, words: tuple[str, ...]) -> None:
    """A program or a check may ask every second."""
    with cli.up(source):
        asking = CommandLine(cli.folder, cli.dsn, (sys.executable, "-c", _LOADED))
        done = asking.run(*words, source)
    assert done.code == 0, done
    heavy = {"apsw", "asyncio", "concurrent.futures", "loguru", "numpy", "psutil", "psycopg", "redis", "watchfiles"}
    heavy |= {"rich.console", "mirror.capture", "mirror.replica", "mirror.sqlite"}
    assert not set(done.err.split()) & heavy


def test_following_killed_and_started_again(cli: CommandLine, source: Path, writer: Writer) -> None:
    assert "never mirrored" in cli.run("status", source).out
    with cli.up(source) as process:
        shown = cli.run("status").out
        assert re.search(r"\bfollowing +\d+ s ago +\d+ ms\b", shown)
        assert f"{source.name}: next: mirror parity {source}  # never compared" in shown
        process.kill()
        process.wait()
        shown = cli.run("status").out
        assert f"{source.name}: killed (its process {process.pid} is gone)" in shown
        assert re.search(r"\bkilled +\d+ s ago +- ", shown), "how far it is behind is not known"
    assert report_of(cli, source)["killed"] == process.pid
    writer.run("INSERT INTO t(v) VALUES ('while nobody looks')")
    assert re.search(r"is gone\); up to [0-9.]+ kB not read yet\n", cli.run("status").out)
    (step, *_) = report_of(cli, source)["next_steps"]
    assert pasted(cli, step) == ["up", str(source)]
    with cli.up(source):
        report = report_of(cli, source)
        assert (report["phase"], report["killed"], report["unread_bytes"]) == ("following", None, None)
    report = report_of(cli, source)
    assert report["killed"] is None and report["stopped_at"] > 0


def test_a_postgres_that_is_not_there(cli: CommandLine, source: Path) -> None:
    """How long, how often; and no step that compares what has not arrived."""
    postgres = ("--postgres", UNREACHABLE)
    with cli.up(source, *postgres, wait=False):
        report = until(lambda: (found := report_of(cli, source))["phase"] == "waiting" and found)
        assert not [step for step in report["next_steps"] if "parity" in step]
        shown = cli.run("status", source).out
        assert re.search(r"^source\.db +waiting for Postgres +- +- ", shown, re.MULTILINE)
        done = cli.run("wait", source, "--timeout", 0.1, *postgres)
        assert done.code == 1 and "nothing is there yet; waiting for Postgres" in done.err
        assert f"`mirror status {source} --postgres {shlex.quote(UNREACHABLE)}` shows more" in done.err
        done = cli.run("status", source, "--check")
        assert done.code == 1
        (line,) = done.out.splitlines()
        assert line.startswith(f"{source.name}: postgres: connect to Postgres"), "one line for one cause"
        assert line.count(" -- ") <= 1, line
    report = report_of(cli, source)
    assert report["phase"] == "stopped" and not [step for step in report["next_steps"] if "parity" in step]


def test_a_check_for_alerts(cli: CommandLine, source: Path, writer: Writer) -> None:
    missing = cli.run("status", source, "--check")
    assert missing.code == 3 and f"`mirror up {source}`" in missing.out
    with cli.up(source):
        assert cli.run("status", "--check") == (0, "", "")
        done = cli.run("status", "--check", "--json")
        assert done.code == 0 and json.loads(done.out)["sources"][0]["phase"] == "following"
        writer.run("CREATE TABLE odd(k TEXT PRIMARY KEY)", "INSERT INTO odd VALUES (CAST(x'ff' AS TEXT))")
        assert cli.run("wait").code == 0
        done = cli.run("status", "--check")
        assert done.code == 1 and done.err == ""
        (line,) = done.out.splitlines()
        assert line.startswith(
            f"{source.name}: not all is equal: 1 row that Postgres cannot hold -- `mirror rejects list "
        )
        assert cli.run(*pasted(cli, line)).code == 0
        assert cli.run("status", "--check", "--json").code == 1
        assert cli.run("pause", source).code == 0
        assert "paused" in cli.run("status", "--check").out
    assert cli.run("status", "--check", "--watch").code == 2


def test_late(cli: CommandLine, source: Path, writer: Writer, dsn: str) -> None:
    """How far, and what the mirror does; a script can tell it from a mirror that does not run."""
    with cli.up(source):
        with psycopg.connect(dsn) as connection:
            connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            writer.run("INSERT INTO t(v) VALUES ('held up')")
            done = cli.run("wait", source, "--timeout", 0.5)
            assert done.code == 1 and done.out == ""
            assert re.fullmatch(
                rf"mirror: {re.escape(str(source))}: Postgres does not have everything after 0\.5 s: "
                r"(\d+ s behind, )?Postgres is at \d+:\d+, the log at \d+:\d+; following"
                rf" -- `mirror status {re.escape(str(source))}` shows more\n",
                done.err,
            ), done.err
            done = cli.run("wait", source, "--timeout", 0.1, "--json")
            assert done.code == 1 and done.err == ""
            (found,) = json.loads(done.out)["sources"]
            assert found["applied"] is False and found["source"] == str(source) and "Postgres is at" in found["reason"]
        done = cli.run("wait", source, "--json")
        (found,) = json.loads(done.out)["sources"]
        assert (done.code, found["applied"], found["reason"]) == (0, True, None)
        assert found["position"] == found["captured"]


@pytest.mark.parametrize("timeout", ["-1", "nan", "-inf", "soon"])
def test_a_timeout_that_is_none(cli: CommandLine, source: Path, timeout: str) -> None:
    done = cli.run("wait", source, "--timeout", timeout)
    assert done.code == 2 and "--timeout" in done.err


def test_where_no_mirror_runs(cli: CommandLine, source: Path) -> None:
    """Its exit code is the same of all commands; the step names the options that were given."""
    options = ("--state-dir", str(cli.folder / "state of mine"), "--schema", "own")
    for command in (("wait", source, "--timeout", 0), ("add", source), ("wait", source, "--timeout", 0, "--json")):
        done = cli.run(*command, *options)
        assert done.code == 3, done
        assert "Traceback" not in done.err and len(done.err.splitlines()) == 1
        step = done.err.partition(" -- ")[2].strip()
        assert pasted(cli, step) == ["up", str(source), *options]
    assert json.loads(done.out)["error"]["code"] == "control.not_running"


def test_one_that_is_only_just_starting(cli: CommandLine, source: Path) -> None:
    """As from before Postgres is there: who waits is late, and need not start it."""
    assert cli.run("status").code == 2, "nobody has said a name yet"
    with Beginning(cli.state_dir, [source]):
        assert re.search(r"^source\.db +starting +- +- ", cli.run("status").out, re.MULTILINE)
        done = cli.run("wait", "--timeout", 0)
        assert done.code == 1 and done.err.endswith("after 0 s: it is starting\n")
    assert cli.run("wait", source, "--timeout", 0).code == 3


def test_it_is_watched_until_ctrl_c(cli: CommandLine, source: Path) -> None:
    cli.run("up", source, "--once")
    process = cli.start("status", "--watch", "--json")
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline())["sources"][0]["phase"] for _ in range(2)] == ["stopped"] * 2
    assert stop(process, signal.SIGINT) == 0
    process = cli.start("status", "--watch")
    assert process.stdout is not None
    seen = ""
    while seen.count(f"{source.name}: stopped") < 2:
        seen += process.stdout.readline()
    assert stop(process, signal.SIGINT) == 0
    assert "\x1b" not in seen


def test_it_is_watched_on_a_terminal(cli: CommandLine, source: Path) -> None:
    """In place; what was there last stays at the end."""
    cli.run("up", source, "--once")
    master, slave = pty.openpty()
    process = cli.start("status", "--watch", stdin=slave, stdout=slave, stderr=slave, env={"TERM": "xterm"})
    os.close(slave)
    written = b""
    while b"stopped" not in written:
        written += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while block := os.read(master, 65536):
            written += block
    except OSError:
        pass  # Linux's way of saying that nobody has the terminal open any more
    os.close(master)
    assert process.wait(LIMIT) == 0
    left = written.rpartition(b"\x1b[?1049l")[2].decode()
    assert "Traceback" not in left and f"{source.name}: stopped" in left


def test_it_says_that_it_starts_before_it_has_loaded_anything(cli: CommandLine, source: Path) -> None:
    """That takes a second or more, in which nothing else of it is there. What it leaves is nothing."""
    # It stops as soon as it would load the command.
    program = (
        "import os, sys, threading, mirror.cli.main as main\n"
        "def load(name):\n    print('loads', name, flush=True)\n    sys.stdin.read()\n    raise SystemExit(7)\n"
        "main.import_module = load\n"
        "main.main()\n"
    )
    arguments = ["up", str(source), "--state-dir", str(cli.state_dir), "--schema", "own"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "loads mirror.cli.up\n"
    assert re.search(r"^source\.db +starting +- +- ", cli.run("status").out, re.MULTILINE)
    assert cli.run("status", "--check").code == 1
    process.stdin.close()
    assert process.wait(60) == 7
    process.stdout.close()
    assert cli.run("status").code == 2 and not cli.state_dir.exists()
