"""Names and locks in the state directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mirror.core.errors import StateError
from mirror.core.folders import known_sources, resolve, source_folder
from mirror.core.locks import SourceLock
from mirror.core.sockets import control_path, make_control_path, require_private
from mirror.sidecar.kept_report import kept_report
from mirror.sidecar.source_folder import SourceFolder
from tests.support import stranger

#: Takes a lock, says so, and keeps it until its input ends.
_HOLDER = (
    "import sys; from pathlib import Path; from mirror.core.locks import SourceLock;"
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


@pytest.mark.parametrize("content", [b"", b"/x/mem", b"x/memory.db", b"memory.db", b"/x/memory.db\0", b"/x/other.db"])
def test_a_folder_whose_name_was_written_in_part_is_no_source(folder: Path, content: bytes) -> None:
    """As a crash or a full disk left it: an empty one was once taken for the working directory."""
    source = Path("/x/memory.db")
    SourceLock(source_folder(folder, source), source).release()
    (source_folder(folder, source) / "source").write_bytes(content)
    assert known_sources(folder) == []
    SourceLock(source_folder(folder, source), source).release()
    assert known_sources(folder) == [source], "the next mirror writes it again"


def test_only_who_has_the_lock_writes(folder: Path) -> None:
    lock = SourceLock(folder / "s", Path("/x/memory.db"))
    written = (folder / "s" / "source").stat()  # reading it changes nothing but the time of the last access
    with pytest.raises(StateError, match="another mirror"):
        SourceLock(folder / "s", Path("/x/another.db"))
    assert (folder / "s" / "source").read_bytes() == b"/x/memory.db"
    now = (folder / "s" / "source").stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (written.st_ino, written.st_mtime_ns, written.st_ctime_ns)
    assert sorted(os.listdir(folder / "s")) == ["lock", "source", "spool"], "nothing temporary is left"
    lock.release()


def test_the_name_is_never_seen_in_part(folder: Path) -> None:
    """Others list the sources while mirrors come and go."""
    source = Path("/x/memory.db")
    names = [source_folder(folder, source)] * 2
    done = threading.Event()

    def come_and_go() -> None:
        for name in names * 100:
            (name / "source").unlink(missing_ok=True)
            SourceLock(name, source).release()
        done.set()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    while not done.is_set():
        assert known_sources(folder) in ([], [source])
    thread.join()


# -- where the control socket lies ---------------------------------------------------------------------


@pytest.fixture
def temporary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system names as the directory for temporary files, which is everybody's."""
    path = folder.resolve() / "tmp"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return path


@pytest.fixture
def far(folder: Path) -> Path:
    """The folder of a source whose path is too long for a socket's name."""
    path = folder.resolve() / ("far" * 40)
    path.mkdir(mode=0o700)
    return path


def test_the_socket_lies_in_the_sources_folder(folder: Path) -> None:
    near = folder / "near"
    near.mkdir(mode=0o700)
    assert make_control_path(near) == control_path(near) == near / "control.sock"
    near.chmod(0o750)
    with pytest.raises(StateError, match=r"other users may open it \(mode 0750"):
        make_control_path(near)


def test_it_lies_aside_where_its_path_would_be_too_long(folder: Path, far: Path, temporary: Path) -> None:
    assert control_path(far).parent == temporary / f"mirror-{os.geteuid()}", "where it would lie"
    made = make_control_path(far)
    assert made == control_path(far)
    assert len(os.fsencode(made)) <= 103, "macOS holds 104 bytes, with the final zero"
    assert made.parent.stat().st_mode & 0o7777 == 0o700
    other = folder.resolve() / ("oth" * 40)
    other.mkdir(mode=0o700)
    assert make_control_path(other) != made and make_control_path(far) == made


def test_the_runtime_directory_comes_first(
    folder: Path, far: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is ours alone: the variable may be another user's, or of a session that has ended."""
    runtime = folder.resolve() / "run"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert make_control_path(far).parent.parent == temporary, "it is not there"
    runtime.mkdir(mode=0o755)
    assert make_control_path(far).parent.parent == temporary, "it is open to others"
    runtime.chmod(0o700)
    made = make_control_path(far)
    assert made.parent == runtime / "mirror" and made.parent.stat().st_mode & 0o7777 == 0o700
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert control_path(far) == made, "whoever has another environment finds it all the same"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    assert make_control_path(far).parent.parent == temporary, "a name that is relative means nothing"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder.resolve() / ("long" * 30)))
    os.mkdir(folder.resolve() / ("long" * 30), 0o700)
    assert make_control_path(far).parent.parent == temporary, "it would be too long there, too"


@pytest.mark.parametrize("content", [b"", b"relative/control.sock", b"/x\0y", b"\xff" * 10])
def test_what_was_written_down_is_damaged(far: Path, temporary: Path, content: bytes) -> None:
    made = make_control_path(far)
    (far / "control.path").write_bytes(content)
    assert control_path(far) == made, "where it lies by our environment"


@pytest.mark.parametrize("kind", ["link", "file", "open", "dangling"])
def test_a_name_that_is_taken_is_refused_and_left_alone(folder: Path, far: Path, temporary: Path, kind: str) -> None:
    """Nothing is followed, nothing repaired."""
    taken = temporary / f"mirror-{os.geteuid()}"
    elsewhere = folder.resolve() / "elsewhere"
    match kind:
        case "link":
            elsewhere.mkdir(mode=0o700)
            taken.symlink_to(elsewhere)
        case "dangling":
            taken.symlink_to(elsewhere)
        case "file":
            taken.touch(mode=0o600)
        case "open":
            taken.mkdir(mode=0o700)
            taken.chmod(0o770)
    before = taken.lstat()
    with pytest.raises(StateError) as caught:
        make_control_path(far)
    assert str(taken) in str(caught.value) and "--state-dir" in caught.value.next_step
    assert taken.lstat().st_mode == before.st_mode and taken.lstat().st_ino == before.st_ino
    assert os.listdir(far) == [], "nobody is sent there"
    assert kind != "link" or os.listdir(elsewhere) == []


def test_a_directory_of_another_user_is_refused(far: Path, temporary: Path) -> None:
    taken = temporary / f"mirror-{os.geteuid()}"
    taken.mkdir(mode=0o700)
    require_private(taken)
    with pytest.raises(StateError, match=f"belongs to another user .uid {os.geteuid()}, not {os.geteuid() + 1}"):
        require_private(taken, user=os.geteuid() + 1)
    if stranger.IS_ROOT:  # then it can really be another's
        os.chown(taken, stranger.NOBODY, stranger.NOBODY)
        with pytest.raises(StateError, match=f"belongs to another user .uid {stranger.NOBODY}, not 0"):
            make_control_path(far)
        assert taken.stat().st_uid == stranger.NOBODY and os.listdir(far) == []


# -- the lock ------------------------------------------------------------------------------------------


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
    status = kept_report(tmp_path / "source.db", "public", tmp_path)
    assert (status.phase, status.applied) == ("stopped", None)
    assert status.last_error is not None and "damaged" in status.last_error


def test_a_source_that_was_never_there_leaves_nothing_behind(tmp_path: Path) -> None:
    """One that is there, or of which something was read, keeps its folder."""
    misspelt, there, gone = (tmp_path / name for name in ("misspelt.db", "there.db", "gone.db"))
    there.touch()
    for source in (misspelt, there, gone):
        folder = SourceFolder(source_folder(tmp_path, source), source)
        if source == gone:
            (folder.folder / "spool" / "1").touch()
        folder.release()
        folder.release()
    assert known_sources(tmp_path) == sorted((gone, there))
