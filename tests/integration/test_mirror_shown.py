"""What ``enable_mirror()`` tells: that it is starting, a wrong path, where its log is, what it does in a few words."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_enable_mirror import TABLES, code
from tests.support.gateway import Gateway
from tests.support.waiting import until


def enabling(program: Gateway, *sources: Path, sidecar: str = "follows") -> str:
    """The code that enables the mirror of some files in a program, as ``m``, with its log in a file beside them."""
    log = str(program.database.parent / "program.log")
    return f"""
import logging, mirror
logging.basicConfig(filename={log!r}, level=logging.INFO, format="%(levelname)s %(message)s")
m = mirror.enable_mirror({[*map(str, sources)]!r}, postgres={program.dsn!r},
                         state_dir={str(program.state_dir)!r}, sidecar={sidecar!r})
"""


def logged(program: Gateway) -> list[str]:
    return (program.database.parent / "program.log").read_text().splitlines()


def test_it_is_starting_and_then_follows(database: Path, dsn: str) -> None:
    """At first there is no error that tells to start what is being started."""
    with Gateway(database, dsn, driver="sqlite3") as program:
        program.do(code(TABLES, database))
        begun = program.do(enabling(program, database) + "answer = [repr(m), m.status()]")
        shown, status = begun
        report = status["sources"][str(program.database)]
        assert shown == f"<Mirror {database.name} starting>"
        assert (report["phase"], report["last_error"], report["error"]) == ("starting", None, None)
        assert status["sidecar"]["error"] is None and status["enabled"]
        program.await_following()
        following = until(
            lambda: re.fullmatch(r"<Mirror (\S+) following, lag [\d,]+ ms>", program.do("answer = repr(m)"))
        )
        assert following is not None and following[1] == database.name

        sidecar = program.do("answer = m.status()['sidecar']")
        assert Path(sidecar["log"]) == program.state_dir / "sidecar.log" and Path(sidecar["log"]).exists()
        named = ["mirror", "down", str(program.database), "--state-dir", str(program.state_dir)]
        assert shlex.split(sidecar["stop"]) == named
        (started,) = [line for line in logged(program) if "was started" in line]
        assert started.startswith(f"INFO a mirror was started (pid {sidecar['pid']})")
        assert sidecar["log"] in started and sidecar["stop"] in started
        program.check()
        assert program.do("mirror.disable_mirror(); answer = repr(m)") == f"<Mirror {database.name} disabled>"
        program.kill()  # its mirror may end at any moment now: it was compared before


def test_several_sources_in_a_few_words(database: Path, dsn: str) -> None:
    other, later = database.with_name("other.db"), database.with_name("later.db")
    with Gateway(database, dsn) as program:
        for path in (database, other):
            program.do(
                code(TABLES, path).replace("TABLE t", f"TABLE {path.stem}_t").replace("TABLE w", f"TABLE {path.stem}_w")
            )
        shown = program.do(enabling(program, database, other, later) + "answer = repr(m)")
        assert shown == "<Mirror 3 sources: 2 starting, 1 stopped>"
        until(lambda: program.do("answer = repr(m)") == "<Mirror 3 sources: 2 following, 1 stopped>")
        program.do(code(TABLES, later).replace("TABLE t", "TABLE t3").replace("TABLE w", "TABLE w3"))
        until(lambda: program.do("answer = repr(m)") == "<Mirror 3 sources, all following>")


@pytest.mark.parametrize(
    ("what", "level", "reason"),
    [
        ("no directory", "WARNING", "there is no directory {parent}: check the path"),
        ("a directory", "WARNING", "it is a directory"),
        ("a pipe", "WARNING", "it is no file that can be mirrored"),
        ("no file", "INFO", "there is no such file: it is mirrored as soon as there is one"),
    ],
)
def test_a_wrong_path_is_said_once(database: Path, dsn: str, what: str, level: str, reason: str) -> None:
    """At once, with what is wrong; by the status and the text of the mirror, too."""
    path = database.parent.resolve() / ("nowhere/x.db" if what == "no directory" else "x.db")
    if what == "a directory":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    with Gateway(database, dsn) as program:
        said = program.do(enabling(program, path) + "answer = [repr(m), m.status()]")
        report: dict[str, Any] = said[1]["sources"][str(path)]
        expected = reason.format(parent=path.parent)
        assert report["phase"] == "stopped" and report["last_error"].startswith(expected), report
        assert said[0].startswith(f"<Mirror x.db stopped: {expected}")
        (line,) = [line for line in logged(program) if "is not mirrored" in line]
        assert line.startswith(f"{level} {path} is not mirrored: {expected}")
        assert program.do("answer = m.status()['sidecar']['pid']") is None


def test_what_is_not_enabled_at_all(database: Path, dsn: str) -> None:
    with Gateway(database, dsn) as program:
        shown = program.do(enabling(program, database, sidecar="sometimes") + "answer = repr(m)")
        assert shown.startswith("<Mirror not enabled: enable the mirror (sidecar): 'sometimes' is not one of")


def test_agents_of_a_program_without_hooks(database: Path, dsn: str, driver: str) -> None:
    """What is lost is said: once, however many blocks there are."""
    with Gateway(database, dsn, driver=driver) as program:
        program.do(code(TABLES, database))
        status = program.do(
            enabling(program, database, sidecar="none")
            + "for _ in range(3):\n    with mirror.as_agent('maya'): pass\nanswer = m.status()"
        )
        lines = [line for line in logged(program) if "as_agent()" in line]
        if driver == "apsw":
            assert status["hook"]["agents"] is None and lines == []
        else:
            assert "apsw.Connection" in status["hook"]["agents"]
            assert lines == [f"WARNING {status['hook']['agents']}"]


@pytest.fixture(params=["apsw", "sqlite3"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)
