"""How the last mirror of a source has ended, and what is known while none answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirror.core.beginnings import Beginning, beginning
from mirror.core.config.settings import load_settings
from mirror.core.errors import ConfigError
from mirror.core.folders import Ending, ending, holder, source_folder
from mirror.core.locks import SourceLock
from mirror.core.process_name import this_process
from mirror.core.published import POSITION_FILE
from mirror.core.saved_status import STATUS_FILE
from mirror.core.status import Phase, StatusReport, encode
from mirror.sidecar.kept_report import kept_report
from mirror.sidecar.source_folder import SourceFolder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "notes.db").write_bytes(b"x" * 4096)
    return tmp_path / "notes.db"


@pytest.fixture
def state(tmp_path: Path, source: Path) -> Path:
    """The source's folder."""
    return source_folder(tmp_path / "state", source)


@pytest.fixture
def gone() -> tuple[int, str]:
    """Id and name of a process that has ended."""
    program = "from mirror.core.process_name import this_process; import os; print(os.getpid(), this_process())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    pid, _, name = said.strip().partition(" ")
    return int(pid), name


def save(state: Path, source: Path, phase: Phase) -> None:
    report = StatusReport(source=str(source), schema="public", phase=phase, applied="2:5", tables=1)
    (state / STATUS_FILE).write_bytes(encode(report))


def test_there_was_none(state: Path, source: Path) -> None:
    assert ending(state) == (Ending.NEVER, None)
    report = kept_report(source, "public", state)
    assert (report.phase, report.killed, report.stopped_at, report.unread_bytes) == (Phase.STOPPED, None, None, None)


def test_one_that_has_the_lock_and_does_not_answer_yet_is_starting(state: Path, source: Path) -> None:
    lock = SourceLock(state, source)
    save(state, source, Phase.FAILED)
    assert ending(state)[0] is Ending.NOT and holder(state) == os.getpid()
    report = kept_report(source, "public", state)
    assert (report.phase, report.last_error, report.next_steps) == (Phase.STARTING, None, [])
    lock.release()


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.FAILED])
def test_one_that_was_stopped(state: Path, source: Path, phase: Phase) -> None:
    before = time.time()
    SourceLock(state, source).release()
    save(state, source, phase)
    report = kept_report(source, "public", state)
    assert report.phase is phase and report.killed is None
    assert report.stopped_at is not None and before - 1 < report.stopped_at < time.time() + 1


def test_one_that_ends_without_waiting_for_its_loop_was_stopped_too(state: Path, source: Path) -> None:
    folder = SourceFolder(state, source)
    folder.sign_off()
    assert ending(state)[0] is Ending.STOPPED
    folder.release()
    folder.sign_off()


def test_one_that_was_killed(state: Path, source: Path, gone: tuple[int, str]) -> None:
    SourceLock(state, source).release()
    pid, name = gone
    (state / "lock").write_text(f"{pid}\n{name}\n")
    save(state, source, Phase.FAILED)
    report = kept_report(source, "public", state)
    assert (report.phase, report.killed, report.stopped_at) == (Phase.STOPPED, pid, None)
    assert report.next_steps == [f"start it with `mirror up {source}`"]
    (state / "lock").write_text(f"{pid}\nelsewhere:1 {pid} 2\n")
    assert ending(state) == (Ending.UNKNOWN, None), "in another container: it may well run"
    (state / "lock").write_text(f"{pid}\n")
    assert ending(state) == (Ending.UNKNOWN, None), "of an earlier version"
    assert kept_report(source, "public", state).killed is None


def test_what_is_not_read_yet(state: Path, source: Path, gone: tuple[int, str]) -> None:
    """Sizes and times alone are looked at."""
    log = source.with_name("notes.db-wal")
    log.write_bytes(b"x" * 100)
    SourceLock(state, source).release()
    at = (state / "lock").stat().st_mtime

    def unread(log_at: float) -> int | None:
        os.utime(log, (log_at, log_at))
        return kept_report(source, "public", state).unread_bytes

    assert unread(at - 1) == 0 and unread(at + 1) == 100
    log.write_bytes(b"")
    os.utime(source, (at - 1, at - 1))
    assert unread(at + 1) == 0, "an empty log is none"
    os.utime(source, (at + 1, at + 1))
    assert unread(at + 1) == source.stat().st_size, "the file was written: no more than that is new"
    log.write_bytes(b"x" * 100)
    (state / "lock").write_text("{}\n{}\n".format(*gone))
    (state / POSITION_FILE).write_bytes(b"")
    os.utime(state / POSITION_FILE, (at, at))
    assert unread(at - 1) == 0 and unread(at + 1) == 100, "killed: since it said last that it is there"


def test_sources_that_are_about_to_be_mirrored(
    tmp_path: Path, source: Path, state: Path, gone: tuple[int, str]
) -> None:
    """Before Postgres is there, nobody has the lock; what a killed process has left says nothing."""
    folder = tmp_path / "state"
    assert beginning(folder) == []
    folder.mkdir()
    left = folder / f"starting-{gone[0]}"
    left.write_bytes(f"{gone[1]}\0/s/left.db".encode())
    assert beginning(folder) == []
    with Beginning(folder, [source]) as begins:
        assert not left.exists() and beginning(folder) == [source]
        assert load_settings([], None, str(folder), None, None, {}).known() == (source,)
        assert kept_report(source, "public", state).phase is Phase.STARTING
        begins.end()
        assert beginning(folder) == []
    (folder / "starting-1").write_bytes(f"elsewhere:1 {os.getpid()} 2\0{source}".encode())
    assert beginning(folder) == []
    assert this_process()


def test_no_source_at_all(tmp_path: Path) -> None:
    for arguments, environment, origin in (
        ({"state_dir": str(tmp_path)}, {}, "--state-dir"),
        ({"state_dir": None}, {"MIRROR_STATE_DIR": str(tmp_path)}, "from the variable MIRROR_STATE_DIR"),
        ({"state_dir": None}, {"HOME": str(tmp_path)}, "the default"),
    ):
        settings = load_settings([], None, arguments["state_dir"], None, None, environment)
        with pytest.raises(ConfigError) as caught:
            settings.known()
        assert caught.value.place == f"{settings.state_dir}, {origin}"
        assert "nothing was mirrored yet with this state directory" in caught.value.detail
        assert f"`mirror up FILE.db{settings.options}`" in caught.value.next_step
