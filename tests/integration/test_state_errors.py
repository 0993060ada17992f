"""Whatever is wrong with a file or a folder that a command uses: one line, with a step; never "unexpected".

The places are such as neither root nor another user can use.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirror.core.state_errors import megabytes, room_for, state_error
from tests.support.commands import CommandLine, Done
from tests.support.source import Writer

#: Commands on a source, as they are given without the source.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("parity",),
    ("wait", "--timeout", "1"),
    ("rejects", "list"),
    ("pause",),
    ("remove",),
    ("cutover", "plan"),
    ("config", "show"),
)
#: What each says of a state directory, by its place in a folder: a part of the detail, and a part of the step.
PLACES: dict[str, tuple[str, str, str]] = {
    "a file": ("file", "it is a file, not a directory", "choose another --state-dir, or move that file away"),
    "under a file": ("file/below", "it is a file, not a directory", "choose another --state-dir"),
    "links in a circle": ("loop", "Symlink loop", "check the path"),
    "no directory for files": ("/proc/self/fdinfo/state", "cannot be made", "choose another --state-dir"),
    "a long name": ("x" * 300, "File name too long", "choose a --state-dir with a shorter path"),
}


@pytest.fixture
def source(folder: Path) -> Path:
    with Writer(folder / "x.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        writer.run("INSERT INTO t VALUES (1, zeroblob(100000))")
    (folder / "file").touch()
    (folder / "loop").symlink_to("loop")
    return folder / "x.db"


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@dataclass
class Elsewhere(CommandLine):
    """Commands with another home, and more variables."""

    home: Path = Path("/")
    more: dict[str, str] = field(default_factory=dict)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return super().environment(more) | {"HOME": str(self.home), "ARGENT_STATE_DIR": ""} | self.more


def require_told(done: Done) -> None:
    """It ended as it should, and said nothing that only a programmer can read."""
    said = done.out + done.err
    assert done.code in (0, 1, 2, 3), done
    for word in ("unexpected", "Traceback", "[Errno", "Error:"):
        assert word not in said, done
    if done.code == 2:
        assert re.match(r"mirror: |\S+Z ERROR +", done.err.splitlines()[-1]), done


@pytest.mark.parametrize("place", PLACES)
def test_a_state_directory_that_cannot_be_used(cli: CommandLine, source: Path, place: str) -> None:
    name, detail, step = PLACES[place]
    state = ("--state-dir", cli.folder / name)
    for command in COMMANDS:
        require_told(cli.run(*command, *(() if command[0] == "config" else (source,)), *state))
    error = cli.run("up", source, "--once", *state).error
    assert detail in error and step in error
    found = cli.run("doctor", source, *state)
    if place == "links in a circle":  # then it is not known which directory is meant
        assert step in found.error
    else:
        assert found.code == 1 and "✗ state directory:" in found.out and detail in found.out and step in found.out
        assert "✓ file:" in found.out, "the rest is looked at all the same"


@pytest.mark.parametrize("place", PLACES)
def test_the_embedded_server_where_it_cannot_be(folder: Path, source: Path, place: str) -> None:
    name, detail, _ = PLACES[place]
    error = CommandLine(folder).run("up", source, "--once", "--state-dir", folder / name).error
    assert detail in error
    assert "another --state-dir, or name a server with --postgres" in error or "check the path" in error


@pytest.mark.parametrize("home", ["/proc/self/fdinfo", "file"])
def test_a_home_that_cannot_be_written(cli: CommandLine, source: Path, home: str) -> None:
    """As that of many a service's user."""
    cli = Elsewhere(cli.folder, cli.dsn, home=cli.folder / home)
    error = cli.run("up", source, "--once").error
    assert "unexpected" not in error and "choose another --state-dir" in error
    done = cli.run("doctor", source)
    require_told(done)
    assert done.code == 1 and "✗ state directory:" in done.out


#: Files of a source's folder, and what says so if a folder is in the place of one, or a file in that of a folder.
IN_THE_WAY: dict[str, Sequence[str]] = {
    "lock": ("up",),
    "settings.json": ("up", "doctor", "status"),
    "shadow.json": ("up",),
    "shadow.db": ("up",),
    "spool": ("up", "doctor"),
    "position": ("up",),
    "parity.json": ("status",),
    "status.json": ("status",),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_something_else_in_the_place_of_a_file(cli: CommandLine, source: Path, name: str) -> None:
    assert cli.run("up", source, "--once").code == 0
    place = cli.source_folder(source) / name
    if place.is_dir():
        shutil.rmtree(place)
        place.touch()
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    for command in (("doctor",), ("status",), ("up", "--once")):
        done = cli.run(*command, source)
        require_told(done)
        if command[0] in IN_THE_WAY[name]:
            assert str(place) in done.out + done.err, done


def test_a_limit_of_a_files_size(cli: CommandLine, source: Path) -> None:
    """As a full disk, for whoever runs the tests."""
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # noqa: E731
    with cli.start("up", source, "--once", preexec_fn=limit) as process:
        out, err = process.communicate()
    assert process.returncode == 2 and "unexpected" not in err and "Traceback" not in err, (out, err)
    assert "File too large -- raise the limit of a file's size (`ulimit -f`)" in err


def test_a_report_that_cannot_be_written(cli: CommandLine, source: Path) -> None:
    assert cli.run("up", source, "--once").code == 0
    for place in ("file/report", "argent", "x" * 300):
        done = cli.run("parity", source, "--html", cli.folder / place)
        require_told(done)
        assert done.code == 2 and "write the report" in done.err


def test_files_beside_the_source(cli: CommandLine, source: Path) -> None:
    """A folder where SQLite has its log or its index."""
    for name in ("x.db-wal", "x.db-shm"):
        (cli.folder / name).unlink(missing_ok=True)
        (cli.folder / name).mkdir()
        for command in (("doctor",), ("up", "--once")):
            require_told(cli.run(*command, source))
        (cli.folder / name).rmdir()


@pytest.mark.parametrize("name", ["mirror.json", "argent.json"])
def test_a_configuration_that_cannot_be_read(cli: CommandLine, source: Path, name: str) -> None:
    (cli.folder / "argent" / name).mkdir(parents=True)
    for command in (("doctor",), ("up", "--once"), ("status",)):
        require_told(cli.run(*command, source))


def test_no_directory_for_temporary_files(folder: Path, source: Path, dsn: str) -> None:
    """Where the control socket's path is too long for the state directory."""
    cli = Elsewhere(folder, dsn, home=folder, more={"TMPDIR": "/proc", "XDG_RUNTIME_DIR": ""})
    state = folder / ("long" * 20) / ("name" * 20)
    require_told(cli.run("up", source, "--once", "--state-dir", state))


def test_the_room_that_is_needed(folder: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "sources" / "x" / "shadow.db"))
    found = state_error(error, folder, "copy the source", needed=room_for(10 << 20))
    assert str(found) == (
        f"copy the source ({folder}/sources/x/shadow.db): No space left on device -- make room for"
        f" {megabytes(room_for(10 << 20))} in {folder}, or choose another --state-dir"
    )
    assert megabytes(room_for(10 << 20)) == "276 MB"
