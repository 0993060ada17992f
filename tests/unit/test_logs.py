"""The log of the command line: its forms, what it limits, what it takes over, and the line that it repeats."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import pty
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loguru import logger

from mirror.cli import logs
from mirror.cli.logs import MOST, SECONDS, Limits, announce, complain, end_log, log_to, start_log, take_over
from mirror.core.config.log_settings import LogSettings
from mirror.core.errors import SinkError, SourceError
from mirror.core.redaction import remember_secret
from mirror.core.status import Phase, ProgressReport, StatusReport
from mirror.hook.child import _said
from mirror.sidecar import periodic
from mirror.sidecar.periodic import PeriodicLine, line_of
from mirror.sidecar.status import SourceStatus

SECRET = "not-to-be-seen"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(autouse=True)
def a_log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is configured for the process is as before afterwards."""
    monkeypatch.setattr(logs, "_limits", Limits())
    monkeypatch.setattr(logs, "_settings", LogSettings())
    monkeypatch.setattr(logs, "_logs", False)
    root, hooks = logging.getLogger(), (threading.excepthook, sys.unraisablehook)
    handlers, level = root.handlers[:], root.level
    remember_secret(SECRET)
    yield
    logger.remove()
    logging.captureWarnings(False)
    root.handlers[:], (threading.excepthook, sys.unraisablehook) = handlers, hooks
    root.setLevel(level)
    logging.getLogger("mirror").setLevel(logging.NOTSET)


def logged(form: str = "text", level: str = "info") -> io.StringIO:
    """A file that gets the log."""
    logs._settings = LogSettings(form, level)
    out = io.StringIO()
    log_to(out)
    return out


def objects(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_text_in_a_file_has_date_and_zone_and_no_colour() -> None:
    out = logged()
    logger.warning("{}: {}", "a.db", f"postgresql://u:{SECRET}@h/d \x1b[31m\nsecond")
    logger.debug("not shown")
    (line,) = out.getvalue().splitlines()
    at, level, message = line.split(maxsplit=2)
    assert RFC3339.fullmatch(at) and level == "WARNING"
    assert message == r"a.db: postgresql://u:hidden@h/d \x1b[31m\nsecond"


def test_json_is_one_object_a_line() -> None:
    out = logged("json")
    error = SinkError("connect", "db", f"it said {SECRET}\n", next_step=f"psql postgres://u:{SECRET}@h", retryable=True)
    with logger.contextualize(source="/data/a.db"):
        logger.warning("{}: {error}", "a.db", error=error)
    logger.info("only this: {}", "\udcff\u2028ü")
    first, second = objects(out)
    assert RFC3339.fullmatch(first.pop("time"))
    assert first == {
        "level": "warning",
        "message": "a.db: connect (db): it said hidden -- psql postgres://u:hidden@h",
        "source": "/data/a.db",
        "code": "postgres",
        "retryable": True,
        "next_step": "psql postgres://u:hidden@h",
    }
    assert {*second} == {"time", "level", "message"} and "ü" in second["message"]
    assert len(out.getvalue().splitlines()) == 2, "no other line break"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_shows_neither_secrets_nor_variables(form: str) -> None:
    out = logged(form)
    local = f"value of a variable {SECRET}"
    try:
        raise ValueError(f"{local[:5]} password={SECRET}")
    except ValueError as error:
        logger.opt(exception=error).error("a bug: {}", error)
    text = out.getvalue()
    assert "Traceback" in text and "ValueError: value password=hidden" in text
    assert SECRET not in text and "value of a variable hidden" not in text
    if form == "json":
        (found,) = objects(out)
        assert found["traceback"].startswith("Traceback") and found["message"] == "a bug: value password=hidden"


def test_a_level_is_the_least_that_is_logged() -> None:
    for level, shown in (("debug", 4), ("info", 3), ("warning", 2), ("error", 1)):
        out = logged("json", level)
        for each in ("debug", "info", "warning", "error"):
            getattr(logger, each)(each)
        assert len(objects(out)) == shown


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with path.open("w") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        log_to(journal)
        logger.warning("careful")
        try:
            raise ValueError("why")
        except ValueError as error:
            logger.opt(exception=error).error("a bug")
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
        log_to(journal)
        logger.warning("another file")
    first, second, *rest, last = path.read_text().splitlines()
    assert (first, second) == ("<4>WARNING careful", "<3>ERROR   a bug")
    assert len(rest) > 2 and all(line.startswith("<3>") for line in rest)
    assert RFC3339.match(last)


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colour(environment: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        log_to(terminal)
        logger.warning("careful")
        line = os.read(master, 4096).decode()
    os.close(master)
    assert ("\x1b" in line) == colour and "careful" in line and RFC3339.search(line)


def test_a_log_that_cannot_be_written_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(OSError), open("/dev/full", "w") as full:  # closing it fails, too
        log_to(full)
        logger.warning("nobody reads it")
    closed = io.StringIO()
    log_to(closed)
    closed.close()
    logger.warning("nor this")
    assert capsys.readouterr() == ("", "")


_PROGRAM = """
import importlib, logging, pkgutil, sys, threading, warnings
before = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning, logging.lastResort)
import mirror
for name in ("hook", "hot", "storage"):
    package = importlib.import_module(f"mirror.{name}")
    for found in pkgutil.walk_packages(package.__path__, f"mirror.{name}."):
        importlib.import_module(found.name)
for name in mirror.__all__:
    getattr(mirror, name)
made = mirror.enable_mirror("no-such.db", sidecar="none")
mirror.disable_mirror()
root = logging.getLogger()
assert "loguru" not in sys.modules
assert root.handlers == [] and root.level == logging.WARNING and root.filters == []
for name, log in logging.Logger.manager.loggerDict.items():
    if name.split(".")[0] == "mirror" and isinstance(log, logging.Logger):
        assert all(isinstance(one, logging.NullHandler) for one in log.handlers), name
        assert log.propagate and log.level == logging.NOTSET and not log.disabled, name
assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning, logging.lastResort)
"""


def test_what_runs_in_a_program_leaves_its_log_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr


# -- limits --------------------------------------------------------------------------------------------


def test_what_repeats_is_counted() -> None:
    limits = Limits()
    written = [limits.allows("kind", f"number {number}", 0.0) for number in range(10_000)]
    assert sum(written) == MOST and all(written[:MOST])
    assert limits.allows("another kind", "x", 0.0)
    assert limits.ended(SECONDS - 1) == []
    (line,) = limits.ended(SECONDS)
    assert line == f"{10_000 - MOST:,} more lines like this one were left out: number 9999"
    assert limits.ended(2 * SECONDS) == [] and limits.allows("kind", "x", SECONDS)


def test_what_was_left_out_is_told_at_the_end() -> None:
    out = logged("json")
    for number in range(MOST + 5):
        logger.error("number {}", number)
    end_log()
    assert len(objects(out)) == MOST + 1
    assert objects(out)[-1]["message"] == f"5 more lines like this one were left out: number {MOST + 4}"


def test_kinds_are_bounded_and_none_is_lost_in_silence() -> None:
    limits = Limits()
    said = []
    for number in range(3 * logs._MOST_KINDS):
        for _ in range(MOST + 1):
            limits.allows(number, "x", 0.0)
        said += limits.ended(0.0)
        assert len(limits._kinds) <= logs._MOST_KINDS + 1
    assert len(said) + len(limits._kinds) == 3 * logs._MOST_KINDS


def test_the_log_of_a_postgres_that_is_away_for_hours_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    out = logged()
    for number in range(720):  # four hours, with other words each time
        now = number * 20.0
        for source in ("a.db", "b.db"):
            logger.warning("{}: connection refused, port {}", source, number)
    hours = now / 3600
    lines = out.getvalue().splitlines()
    assert len(lines) < hours * 12 * (MOST + 2)
    told = sum(int(found[1].replace(",", "")) for line in lines if (found := re.search(r"([\d,]+) more lines", line)))
    shown = len([line for line in lines if "more lines" not in line])
    assert shown + told > 2 * 720 - 2 * MOST, "what was left out is told"


# -- what comes from elsewhere -------------------------------------------------------------------------


def test_libraries_warnings_and_threads_are_in_the_log() -> None:
    out = logged("json")
    take_over()
    logging.getLogger("psycopg").warning("error ignored on %s", f"password={SECRET}")
    logging.getLogger("some.library").info("not for an operator")
    logging.getLogger("mirror").info("reads go to SQLite")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    def fails() -> None:
        raise ValueError(f"no {SECRET}")

    thread = threading.Thread(target=fails, name="worker")
    thread.start()
    thread.join()
    found = objects(out)
    assert [one["level"] for one in found] == ["warning", "info", "warning", "error"]
    assert found[0]["message"] == "psycopg: error ignored on password=hidden"
    assert "DeprecationWarning: old" in found[2]["message"]
    assert found[3]["message"] == "worker has ended: no hidden" and "ValueError: no hidden" in found[3]["traceback"]


def test_libraries_that_repeat_are_limited_by_their_own_lines() -> None:
    out = logged()
    take_over()
    for number in range(10 * MOST):
        logging.getLogger("psycopg").warning("again %s", number)
    logging.getLogger("psycopg").warning("another line")
    assert len(out.getvalue().splitlines()) == MOST + 1


def test_what_is_said_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr alone; where that is no terminal, and the command logs, in the form of the log."""
    error = SourceError("follow", "/a.db", "gone", next_step="put it back")
    start_log()
    complain(f"{error} {SECRET}", error)
    assert capsys.readouterr() == ("", "mirror: follow (/a.db): gone -- put it back hidden\n")
    start_log(LogSettings())
    announce(f"Postgres: host=h password={SECRET}")
    announce("a.db: refused", bad=True)
    complain(str(error), error)
    out, err = capsys.readouterr()
    found = [line.split(maxsplit=2) for line in err.splitlines()]
    assert out == "" and all(RFC3339.fullmatch(at) for at, _, _ in found)
    assert [(level, message) for _, level, message in found] == [
        ("INFO", "Postgres: host=h password=hidden"),
        ("WARNING", "a.db: refused"),
        ("ERROR", "follow (/a.db): gone -- put it back"),
    ]
    start_log(LogSettings("json"))
    announce("Postgres: host=h")
    complain(str(error), error)
    out, err = capsys.readouterr()
    told, failed = (json.loads(line) for line in err.splitlines())
    assert out == "" and told["message"] == "Postgres: host=h" and told["level"] == "info"
    assert (failed["level"], failed["code"], failed["next_step"]) == ("error", "source", "put it back")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_program_gets_what_its_sidecar_said_last(form: str) -> None:
    out = logged(form)
    logger.error("follow (/a.db): gone -- put it back")
    assert _said(out.getvalue().strip()) == "follow (/a.db): gone -- put it back"
    assert _said("not of the log") == "not of the log"


def test_quiet_is_warnings_and_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    start_log(LogSettings(level="warning"))
    announce("a.db: 5 tables in Postgres")
    announce("a.db: refused", bad=True)
    logger.info("nothing that matters")
    complain("failed")
    assert [line.split(maxsplit=2)[2] for line in capsys.readouterr().err.splitlines()] == ["a.db: refused", "failed"]


def test_lines_on_a_terminal_are_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a command in back-ticks is not broken at all."""
    command = "`mirror rename /a/long/path/of/a/database.db /another/long/path.db --state-dir 'my state'`"
    monkeypatch.setenv("COLUMNS", "70")
    shown: list[str] = []
    log_to(shown.append)
    logger.warning("a.db: it belongs to another source, which is not there any more: {}; or to a third one", command)
    lines = "".join(shown).splitlines()
    assert [line for line in lines if len(line) > 70] == [f"  {command};"]
    assert lines[0].endswith("a.db: it belongs to another source,") and lines[-1] == "  or to a third one"
    assert " ".join(line.strip() for line in lines).count("which is not there any more:") == 1


# -- the line that repeats -----------------------------------------------------------------------------


def report(source: str = "/data/a.db", **values: Any) -> StatusReport:
    known = {"phase": Phase.FOLLOWING, "lag_seconds": 0.0, "worst_lag_seconds": 0.04, "commits": 12, "rows": 340}
    return StatusReport(source=source, schema="public", **{**known, **values})


def test_the_line_of_one_source() -> None:
    line = line_of([report()], [], {}, 300.0)
    assert line.text == (
        "a.db: following; lag 0 ms (at most 40 ms in 5 min); 12 commits, 340 rows in 5 min; 0 rejects; next: nothing"
    )
    assert line.fields == {
        "phase": "following", "lag_seconds": 0.0, "rejects": 0, "commits": 12, "rows": 340, "next_step": "nothing",
        "source": "/data/a.db",
    }  # fmt: skip
    waits = report(phase=Phase.WAITING, lag_seconds=720.0, last_error="connect: refused -- start it", rejects=2,
                   next_steps=["nothing, or repair it", "look at the rows"])  # fmt: skip
    assert line_of([waits], [], {"/data/a.db": (10, 300)}, 12.0, " --state-dir /s").text == (
        "a.db: waiting; lag 12 min (at most 40 ms in 5 min); 2 commits, 40 rows in 12 s; 2 rejects;"
        " connect: refused -- start it; next: nothing, or repair it"
        " (and 1 more: `mirror status /data/a.db --state-dir /s`)"
    )


def test_the_line_of_a_copy_says_how_far_it_is() -> None:
    progress = ProgressReport(what="notes", done=4500, total=300_000, table=2, tables=5)
    text = line_of([report(phase=Phase.SNAPSHOT, lag_seconds=None, progress=progress)], [], {}, 300.0).text
    assert (
        "a.db: snapshot; lag unknown;" in text
        and "; notes: 4,500 of 300,000 rows (table 2 of 5); next: nothing" in text
    )


def test_many_sources_are_one_line() -> None:
    reports = [report(f"/data/{number}.db") for number in range(498)]
    reports.append(report("/data/bad.db", phase=Phase.WAITING, lag_seconds=3.2, last_error="refused", rejects=1,
                          next_steps=["mend it"]))  # fmt: skip
    line = line_of(reports, [("late.db", SourceError("begin", "late.db", "locked", next_step="stop it"))], {}, 300.0)
    assert line.text == (
        "500 sources: 498 following, 1 waiting, 1 could not begin; worst lag 3.2 s (bad.db); 5,988 commits,"
        " 169,660 rows in 5 min; 1 reject; bad.db: refused; next: bad.db: mend it (and 1 more: `mirror status`)"
    )
    assert "source" not in line.fields and line.fields["lag_seconds"] == 3.2


def test_counts_of_a_source_that_began_anew_are_not_negative() -> None:
    line = line_of([report(commits=3, rows=4)], [], {"/data/a.db": (1000, 5000)}, 300.0)
    assert (line.fields["commits"], line.fields["rows"]) == (3, 4)


class _Fleet:
    """In place of a supervisor: sources in whatever state."""

    def __init__(self) -> None:
        self.status = SourceStatus("/data/a.db", "public")
        self.pipelines: list[Any] = [self]
        self.not_begun: list[Any] = []
        self.running = True


class _Told:
    """A line, and the time that the test gives it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fleet = _Fleet()
        self.out = logged("json")
        self.line = PeriodicLine(self.fleet, lambda one: one.status.report(), lambda: self.now)  # type: ignore[arg-type]

    def after(self, seconds: float) -> int:
        """How many lines come in so many seconds."""
        before = len(self.out.getvalue().splitlines())
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.line.turn()
        return len(self.out.getvalue().splitlines()) - before


def test_when_the_line_comes() -> None:
    told = _Told()
    told.fleet.status.phase = Phase.STARTING
    assert told.after(5.0) == 0, "it passes by itself"
    told.fleet.status.phase = Phase.FOLLOWING
    assert told.after(1.0) == 1, "once all are where they should be"
    assert told.after(periodic.SECONDS - 2) == 0 and told.after(periodic.SECONDS) == 1, "and then regularly"
    told.fleet.status.is_interrupted(SinkError("connect", "db", "refused", retryable=True))
    assert told.after(periodic.FIRST_PAUSE) == 1
    last = objects(told.out)[-1]
    assert last["phase"] == "waiting" and "refused" in last["message"] and last["next_step"].startswith("nothing, or")
    told.fleet.status.has_caught_up(None)
    assert told.after(periodic.SECONDS / 2) == 1, "that it works again, too"
    assert objects(told.out)[-1]["phase"] == "following"


def test_a_copy_that_takes_hours_is_told() -> None:
    told = _Told()
    told.fleet.status.phase = Phase.SNAPSHOT
    assert told.after(periodic.FIRST_PAUSE + 1) == 1 and told.after(3600.0) == 12


def test_what_changes_all_the_time_is_told_less_and_less() -> None:
    told = _Told()
    for _ in range(3600):
        status = told.fleet.status
        status.phase = Phase.WAITING if status.phase is Phase.FOLLOWING else Phase.FOLLOWING
        told.after(1.0)
    assert 12 <= len(objects(told.out)) <= 20, "about as often as if nothing had changed"


def test_fields_of_the_line_are_json() -> None:
    told = _Told()
    told.fleet.status.phase = Phase.FOLLOWING
    told.after(2.0)
    (found,) = objects(told.out)
    assert found["source"] == "/data/a.db" and found["rejects"] == 0 and found["next_step"] == "nothing"
    assert msgspec.json.decode(told.out.getvalue().encode())["level"] == "info"


def test_what_comes_once_is_never_left_out() -> None:
    """As a table that was dropped, however much else the same line of the program has said."""
    limits = Limits()
    assert all(limits.allows(None, "a table", 0.0) for _ in range(MOST + 5))
    assert limits.ended(math.inf) == []


_LATE = """
import sys
from mirror.cli.logs import start_log
from mirror.core.redaction import remember_secret
remember_secret("not-to-be-seen")
start_log()
start_log()
assert "loguru" not in sys.modules
from loguru import logger
logger.debug("below the level")
logger.info("with {}", "not-to-be-seen")
"""


def test_the_log_begins_with_whoever_logs_first() -> None:
    """Loguru's own would show all, to the point of secrets."""
    done = subprocess.run([sys.executable, "-c", _LATE], capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"{RFC3339.pattern} INFO +with hidden\n", done.stderr), done.stderr


_WARNINGS = """
import sys, warnings
from mirror.cli.logs import take_over
take_over()
shown = UserWarning("shown"), UserWarning, "a.py", 1
warnings.showwarning(*shown, file=sys.stdout)
import logging
warnings.showwarning(*shown, file=sys.stdout)
logging.captureWarnings(False)
warnings.showwarning(*shown, file=sys.stdout)
"""


def test_a_warning_that_is_to_go_to_a_file_goes_there(tmp_path: Path) -> None:
    """Before the log has taken logging over, after that, and when logging has given it back."""
    done = subprocess.run(
        [sys.executable, "-c", _WARNINGS], cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("UserWarning: shown")) == (0, 3), done.stderr
