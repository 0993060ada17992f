"""A database under a second name: what is written through it is not seen by whoever follows the first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mirror.core.errors import SourceError
from mirror.replica.filesystem import Mount
from mirror.replica.names import require_one_name
from tests.support.commands import MIRROR, CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer, filling
from tests.support.waiting import LIMIT

FILL = filling("i, 'row ' || i")


@pytest.fixture
def filled(writer: Writer) -> Writer:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL.format(1, 500))
    return writer


def doubts(words: str) -> Any:
    return lambda status: bool(status["phase"] == "waiting" and words in (status["last_error"] or ""))


def follows(status: dict[str, Any]) -> bool:
    return bool(status["phase"] == "following" and status["last_error"] is None)


def require_not_done(mirror: MirrorProcess, words: str, *, parity: bool = True) -> None:
    """Nothing calls Postgres up to date. (Parity of a file without a WAL waits for half a minute.)"""
    with mirror.control() as client:
        assert not client.wait(0.5)
    if not parity:
        return
    report = mirror.parity()
    assert report.verdict == "not checked" and words in report.reason


def test_a_file_with_two_hard_links_is_refused(mirror: MirrorProcess, filled: Writer, database: Path) -> None:
    """At the start, before SQLite makes a second WAL beside the second name."""
    other = database.parent / "other"
    other.mkdir()
    os.link(database, other / "link.db")
    mirror.names, mirror.log = [other / "link.db"], database.parent / "log"
    mirror.start(wait=False)
    assert mirror.ends_within(LIMIT)
    assert "2 names (hard links)" in mirror.log.read_text()
    assert [path.name for path in other.iterdir()] == ["link.db"]


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_hard_link_is_made_meanwhile(
    mirror: MirrorProcess, writer: Writer, database: Path, folder: Path, mode: str
) -> None:
    writer.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES(1, 2)")
    mirror.start()
    mirror.wait_applied()
    os.link(database, folder / "link.db")
    mirror.status_when(doubts("hard links"))
    require_not_done(mirror, "hard links", parity=mode == "WAL")
    if mode == "DELETE":
        with Writer(folder / "link.db") as program:
            program.run("INSERT INTO t(v) VALUES ('by another name')")
    (folder / "link.db").unlink()
    mirror.status_when(follows)
    writer.run("INSERT INTO t(v) VALUES ('and on')")
    mirror.check()


def test_a_program_has_it_open_by_another_name(
    mirror: MirrorProcess, filled: Writer, database: Path, folder: Path
) -> None:
    """As through a mount of the file alone, which leaves it one hard link: its locks tell."""
    mirror.start()
    mirror.wait_applied()
    filled.close()
    link = folder / "link.db"
    os.link(database, link)
    with Writer(link) as program:
        program.run("SELECT count(*) FROM sqlite_schema")
        link.unlink()
        mirror.status_when(doubts("by another name"))
        require_not_done(mirror, "by another name")
    mirror.status_when(follows)
    with Writer(database) as program:
        program.run("INSERT INTO t(v) VALUES ('and on')")
        mirror.check()


def test_the_link_leads_elsewhere(mirror: MirrorProcess, filled: Writer, database: Path, folder: Path) -> None:
    """A release's folder is switched: the program has another file from now on."""
    (folder / "v2").mkdir()
    current = folder / "current"
    current.symlink_to(database.parent)
    mirror.names = [current / database.name]
    mirror.start()
    mirror.wait_applied()
    current.unlink()
    current.symlink_to(folder / "v2")
    mirror.status_when(doubts(f"leads to {folder / 'v2'}"))
    require_not_done(mirror, "leads to")
    current.unlink()
    current.symlink_to(database.parent)
    mirror.status_when(follows)
    filled.run("INSERT INTO t(v) VALUES ('and on')")
    mirror.check()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_file_that_is_mounted_alone_is_refused(folder: Path, suffix: str) -> None:
    mounted = [Mount("/", "ext4"), Mount(str(folder), "ext4"), Mount(f"{folder / 'app.db'}{suffix}", "ext4")]
    with pytest.raises(SourceError, match="alone is mounted at this path") as raised:
        require_one_name(folder / "app.db", 1, mounted)
    assert "-wal and -shm are shared only together" in raised.value.detail and "by a rename" in raised.value.detail
    assert "mount the folder" in raised.value.next_step
    require_one_name(folder / "other.db", 1, mounted)


@pytest.mark.slow
@pytest.mark.linux
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_mount_that_the_kernel_made(writer: Writer, database: Path, folder: Path, dsn: str, suffix: str) -> None:
    """As a container has it: in a namespace of its own, which the user must be allowed to make."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    inside = folder / "inside"
    inside.mkdir()
    for name in ("app.db", "app.db-wal")[: 1 + bool(suffix)]:
        (inside / name).touch()
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    cli = CommandLine(folder, dsn, [
        "unshare", "--mount", *user, "sh", "-c", mount, "sh", f"{database}{suffix}", f"{inside / 'app.db'}{suffix}",
        *MIRROR,
    ])  # fmt: skip
    refused = cli.run("up", inside / "app.db", "--once").error
    assert f"{'the file' if not suffix else 'app.db-wal'} alone is mounted at this path" in refused
    (report,) = json.loads(cli.run("doctor", inside / "app.db", "--json").out)["reports"]
    (found,) = (finding for finding in report["findings"] if not finding["passed"])
    assert "alone is mounted" in found["detail"] and "mount the folder" in found["next_step"]
