"""Names and locks in the state directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.errors import StateError
from mirror.statedir import SourceLock, control_path, known_sources, resolve, source_folder
from mirror.status import stopped_status

#: Takes a lock, says so, and keeps it until its input ends.
_HOLDER = (
    "import sys; from pathlib import Path; from mirror.statedir import SourceLock;"
    "SourceLock(Path(sys.argv[1]), Path(sys.argv[2])); print('taken', flush=True); sys.stdin.read()"
)


def test_a_link_and_its_target_are_one_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder.resolve()
    (folder / "a.db").touch()
    (folder / "link.db").symlink_to("a.db")
    monkeypatch.chdir(folder)
    assert resolve("link.db") == resolve("./a.db") == resolve(folder / "a.db") == folder / "a.db"


def test_each_source_has_a_folder_of_its_own() -> None:
    state = Path("/state")
    one, other = source_folder(state, Path("/x/memory.db")), source_folder(state, Path("/y/memory.db"))
    assert one != other
    assert one.parent == other.parent == state / "sources"
    assert one.name.startswith("memory.db-")


@pytest.mark.parametrize("name", ["ein Gedächtnis.db", "a/b" * 60, "x" * 200, "new\nline", "\udcff.db"])
def test_any_name_gives_a_plain_short_folder(name: str) -> None:
    made = source_folder(Path("/state"), Path("/x") / name).name
    assert made.isascii() and len(made) <= 51 and not set(made) & set(" /\n")


def test_known_sources(folder: Path) -> None:
    assert known_sources(folder) == []
    sources = [Path("/x/b.db"), Path("/x/a.db"), Path(os.fsdecode(b"/x/\xff.db"))]
    for source in sources:
        SourceLock(source_folder(folder, source), source).release()
    assert sorted(known_sources(folder)) == sorted(sources)


def test_control_socket_lies_aside_where_its_path_would_be_too_long(folder: Path) -> None:
    near = control_path(folder / "near")
    assert near.parent == folder / "near"
    far, farther = (control_path(folder / (letter * 150)) for letter in "ab")
    assert far != farther
    assert len(os.fsencode(far)) <= 103, "macOS holds 104 bytes, with the final zero"
    assert far == control_path(folder / ("a" * 150)), "whoever looks for it finds it"


def test_one_lock_at_a_time(folder: Path) -> None:
    source = Path("/x/memory.db")
    lock = SourceLock(folder / "s", source)
    with pytest.raises(StateError, match=rf"another mirror of it is running \(pid {os.getpid()}\)"):
        SourceLock(folder / "s", source)
    SourceLock(folder / "another", source).release()
    lock.release()
    SourceLock(folder / "s", source).release()


def test_a_lock_knows_whether_its_folder_was_deleted(folder: Path) -> None:
    source = Path("/x/memory.db")
    lock = SourceLock(folder / "s", source)
    assert lock.intact
    lock.renew()  # nothing to do
    with pytest.raises(StateError, match="another mirror"):
        SourceLock(folder / "s", source)
    shutil.rmtree(folder / "s")
    assert not lock.intact
    (folder / "s").write_text("a file in its place")
    with pytest.raises(StateError, match="use the state directory"):
        lock.renew()
    (folder / "s").unlink()
    other = SourceLock(folder / "s", source)
    with pytest.raises(StateError, match="another mirror"):
        lock.renew()
    assert not lock.intact
    other.release()
    lock.renew()
    assert lock.intact
    with pytest.raises(StateError, match="another mirror"):
        SourceLock(folder / "s", source)


def test_the_kernel_drops_the_lock_of_a_killed_process(folder: Path) -> None:
    source = Path("/x/memory.db")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder / "s"), str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"taken\n"
        with pytest.raises(StateError, match=f"pid {holder.pid}"):
            SourceLock(folder / "s", source)
        holder.kill()
        holder.wait()
        SourceLock(folder / "s", source).release()


def test_what_lies_in_the_state_directory_is_private(folder: Path) -> None:
    lock = SourceLock(folder / "s", Path("/x/memory.db"))
    assert (folder / "s" / "lock").stat().st_mode & 0o077 == 0
    assert (folder / "s" / "spool").stat().st_mode & 0o077 == 0
    lock.release()


def test_a_state_directory_that_cannot_be_used(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(StateError, match="choose another --state-dir"):
        SourceLock(folder / "file" / "s", Path("/x/memory.db"))


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[1, 2]", b"7"])
def test_status_of_a_stopped_mirror_whose_files_are_damaged(tmp_path: Path, damage: bytes) -> None:
    for name in ("status.json", "shadow.json"):
        (tmp_path / name).write_bytes(damage)
    status = stopped_status(tmp_path / "source.db", "public", tmp_path)
    assert (status.phase, status.applied) == ("stopped", None)
    assert status.last_error is not None and "damaged" in status.last_error
