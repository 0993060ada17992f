"""Settings that follow their files, however these are replaced, and whatever the system reports of it."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import queue
import resource
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import ConfigError
from mirror.storage import file_watch, flags
from mirror.storage.flags import DOUBT, LONGEST, QUIET, LiveSettings
from tests.support.waiting import LIMIT, until


def said(read_from: str) -> str:
    return json.dumps({"storage": {"backend": "dual", "readFrom": read_from}})


class Program:
    """A program that follows its settings."""

    def __init__(self, live: LiveSettings) -> None:
        self.live = live
        self.changes: queue.Queue[Settings] = queue.Queue()
        live.listen(self.changes.put)

    def reads_from(self, expected: str) -> None:
        """The next change is that it reads from there, and nothing is wrong."""
        assert self.changes.get(timeout=LIMIT).storage.read_from == expected
        assert self.live.current.storage.read_from == expected
        assert self.live.problem is None and self.live.since is None

    def complains(self, of: str) -> None:
        """Something is wrong now, and what was said before stays in use."""
        before = self.live.current
        until(lambda: self.live.problem is not None)
        assert self.live.problem is not None and of in self.live.problem
        assert self.live.since is not None and 0 <= time.time() - self.live.since < LIMIT
        assert self.live.current is before and self.changes.empty()


def refused(*_: object, **__: object) -> Iterator[Any]:
    raise OSError(errno.ENOSPC, "the limit of watches is reached")
    yield


def silent(*_: object, **__: object) -> Iterator[Any]:
    while True:
        yield set()


_others: list[threading.Thread] = []


@pytest.fixture(autouse=True)
def own_watch() -> Iterator[None]:
    """Files are watched by a thread of the test's own: other tests may have left programs that live on."""
    own = file_watch.FileWatch()
    _others[:] = threading.enumerate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_watch, "_process", own)
        for name in ("add", "remove", "stop"):
            patch.setattr(file_watch, name, getattr(own, name))
        yield
        own.stop()


@pytest.fixture(params=["notices", "refused", "silent"])
def notices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The system reports changes; it refuses to; or it reports nothing, like the file system of a network."""
    file_watch.stop()
    if request.param == "refused":
        monkeypatch.setattr(file_watch, "watch", refused)
    if request.param == "silent":
        monkeypatch.setattr(file_watch, "watch", silent)
    yield request.param
    file_watch.stop()


@pytest.fixture
def started() -> Iterator[Callable[..., Program]]:
    """Starts programs, and ends them."""
    made: list[LiveSettings] = []

    def start(config: Path | None = None, **environment: str) -> Program:
        made.append(LiveSettings(config, {"HOME": "/nowhere"} | environment))
        return Program(made[-1])

    yield start
    for live in made:
        live.close()


Started = Callable[..., Program]

# -- every way to replace a file -----------------------------------------------------------------------


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def in_two_halves(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        time.sleep(2 * QUIET)
        file.write(text[len(text) // 2 :])


def by_rename(path: Path, text: str) -> None:
    other = path.with_name(".new")
    other.write_text(text)
    other.rename(path)


def by_rename_again_and_again(path: Path, text: str) -> None:
    for _ in range(30):
        by_rename(path, text + " ")
    by_rename(path, text)


def removed_and_made(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def with_a_backup(path: Path, text: str) -> None:
    path.rename(path.with_name("mirror.json~"))
    path.write_text(text)


def with_its_folder(path: Path, text: str) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_text(text)


def folder_moved_and_made(path: Path, text: str) -> None:
    aside = path.parent.with_name(f"before-{time.monotonic_ns()}")
    path.parent.rename(aside)
    path.parent.mkdir()
    path.write_text(text)


def by_a_link(path: Path, text: str) -> None:
    target = path.with_name(f"target-{time.monotonic_ns()}.json")
    target.write_text(text)
    link = path.with_name(".link")
    link.symlink_to(target.name)
    link.rename(path)


def by_links_elsewhere(path: Path, text: str) -> None:
    """A link to a link in another folder, which leads to a third."""
    target = path.parent.with_name(f"target-{time.monotonic_ns()}") / "m.json"
    target.parent.mkdir()
    target.write_text(text)
    step = path.parent.with_name("steps") / "m.json"
    step.parent.mkdir(exist_ok=True)
    link = step.with_name(".link")
    link.symlink_to(target)
    link.rename(step)
    if not path.is_symlink():
        path.unlink()
        path.symlink_to(step)


def through_a_link(path: Path, text: str) -> None:
    """The target of a link is written; the link stays."""
    target = path.parent.with_name("target") / "m.json"
    if not path.is_symlink():
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(target)
    by_rename(target, text)


def as_kubernetes_does(path: Path, text: str) -> None:
    """A folder beside it is swapped by its link ``..data``, and the one before is removed."""
    folder = path.with_name(f"..{time.monotonic_ns()}")
    folder.mkdir()
    (folder / path.name).write_text(text)
    data = path.with_name("..data")
    before = data.resolve() if data.is_symlink() else None
    new = path.with_name("..data_tmp")
    new.symlink_to(folder.name)
    new.rename(data)
    if not path.is_symlink():
        path.unlink()
        path.symlink_to(f"..data/{path.name}")
    if before is not None:
        shutil.rmtree(before)


WAYS = (
    in_place,
    in_two_halves,
    by_rename,
    by_rename_again_and_again,
    removed_and_made,
    with_a_backup,
    with_its_folder,
    folder_moved_and_made,
    by_a_link,
    by_links_elsewhere,
    through_a_link,
    as_kubernetes_does,
)


@pytest.mark.few(8)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_replacement_is_seen(
    folder: Path,
    notices: str,
    started: Started,
    way: Callable[[Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not only the first; nothing else is ever seen, and nothing is found wrong meanwhile."""
    monkeypatch.setattr(flags, "DOUBT", LIMIT)  # on a busy machine a replacement may take any time
    path = folder / "c" / "mirror.json"
    path.parent.mkdir()
    path.write_text(said("sqlite"))
    program = started(path)
    for expected in ("postgres", "sqlite", "postgres"):
        way(path, said(expected))
        program.reads_from(expected)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


#: The folders that must be watched stay the same ones, or a notice says that they do not.
NOTICED = (in_place, in_two_halves, by_rename, by_rename_again_and_again, removed_and_made, with_a_backup, by_a_link)


@pytest.mark.parametrize("way", [*NOTICED, as_kubernetes_does], ids=lambda way: way.__name__)
def test_notices_alone_are_enough_for_most(
    folder: Path, started: Started, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path, str], None]
) -> None:
    """Without comparing stamps now and then, which would hide that there are no notices."""
    file_watch.stop()
    monkeypatch.setattr(file_watch, "POLL", 10 * LIMIT)
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    if way is as_kubernetes_does:  # from the start: the folder that is removed with the first change is watched
        way(path, said("sqlite"))
    watching, real = threading.Event(), file_watch.watch

    def noted(*folders: Path, **options: Any) -> Iterator[Any]:
        changes = real(*folders, **options)
        yield next(changes)
        watching.set()
        yield from changes

    monkeypatch.setattr(file_watch, "watch", noted)
    program = started(path)
    assert watching.wait(LIMIT)
    for expected in ("postgres", "sqlite", "postgres"):
        way(path, said(expected))
        program.reads_from(expected)
    file_watch.stop()


@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_cannot_be_used(
    folder: Path, notices: str, started: Started, named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What it said before stays in use, which is logged once; the next edit is seen."""
    path = folder / ".argentos" / "mirror.json"
    path.parent.mkdir()
    path.write_text(said("sqlite"))
    program = started(path) if named else started(HOME=str(folder))
    path.write_text('{"storage":')
    program.complains("Unexpected end of input")
    since = program.live.since
    contradiction = '{"storage": {"readFrom": "postgres"}}'
    by_rename(path, contradiction)
    until(lambda: "readFrom" in (program.live.problem or ""))
    assert program.live.since == since, "the earlier settings have been in use since then"
    by_rename(path, contradiction)
    by_rename(path, said("postgres"))
    program.reads_from("postgres")
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2 and str(path) in warned[0] and "readFrom" in warned[1]


def test_a_file_that_is_gone(folder: Path, notices: str, started: Started) -> None:
    """One that was named must be there; without any in the usual place, the defaults apply."""
    path = folder / ".argentos" / "mirror.json"
    path.parent.mkdir()
    path.write_text(said("postgres"))
    named, usual = started(path), started(HOME=str(folder))
    path.unlink()
    usual.reads_from("sqlite")
    assert usual.live.current.storage.backend == "sqlite"
    named.complains("no such file")
    path.write_text(said("postgres"))
    usual.reads_from("postgres")
    until(lambda: named.live.problem is None)


def test_a_file_that_appears(folder: Path, notices: str, started: Started) -> None:
    """Also where its folders are not there yet, and where it comes before one that was read so far."""
    program = started(HOME=str(folder / "home"))
    ours = folder / "home" / ".clawdbot" / "mirror.json"
    ours.parent.mkdir(parents=True)
    ours.write_text(said("postgres"))
    program.reads_from("postgres")
    before = folder / "home" / ".argentos" / "mirror.json"
    before.parent.mkdir()
    before.write_text(said("sqlite"))
    program.reads_from("sqlite")
    assert program.live.current.files[0].path == before


def test_argent_json_and_what_it_includes(folder: Path, notices: str, started: Started) -> None:
    """Each file of a chain, in folders of their own; one that is new, and one that was missing."""
    main, first, second = (folder / name for name in ("argent.json", "1/first.json5", "2/second.json"))
    first.parent.mkdir()
    main.write_text(json.dumps({"storage": {"$include": "1/first.json5"}}))
    first.write_text("{backend: 'dual'} // first")
    program = started(ARGENT_CONFIG_PATH=str(main))
    assert program.live.current.storage.backend == "dual"
    in_place(first, "{backend: 'dual', readFrom: 'postgres'}")
    program.reads_from("postgres")
    by_rename(first, "{$include: '../2/second.json', backend: 'dual'}")
    program.complains("second.json")
    second.parent.mkdir()
    second.write_text('{"readFrom": "sqlite"}')
    program.reads_from("sqlite")
    by_rename(second, '{"readFrom": "postgres"}')
    program.reads_from("postgres")
    (folder / "mirror.json").write_text('{"storage": {"readFrom": "sqlite"}}')
    program.reads_from("sqlite")


def test_only_what_changes_the_settings_is_reported(folder: Path, notices: str, started: Started) -> None:
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    program = started(path)
    before = program.live.current
    path.write_text(said("sqlite") + "// with a comment")
    (folder / "other.json").write_text("{}")
    path.write_text('{"storage": {"backend": "dual", "reads": {"neverWait": true}}}')
    assert program.changes.get(timeout=LIMIT).storage.reads.never_wait
    assert program.changes.empty() and not before.storage.reads.never_wait


# -- what is believed, by a clock of the test's own ----------------------------------------------------


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread looks: the test does."""
    monkeypatch.setattr(file_watch, "add", lambda watched: None)


def test_at_rest_nothing_is_read(folder: Path, unwatched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    live = LiveSettings(path, {"HOME": "/nowhere"})
    monkeypatch.setattr(flags, "load_settings", None)
    for now in range(100):
        assert live.look(float(now)) is None
        (folder / "data.db-wal").write_text(str(now))
    assert {*live.paths()} == {path, folder / "mirror" / "server.json", Path("/nowhere/.argentos")} | {
        Path("/nowhere") / name / file
        for name in (".argentos", ".clawdbot", ".moltbot", ".moldbot")
        for file in ("argent.json", "clawdbot.json", "moltbot.json", "moldbot.json")
    } | {Path("/nowhere") / name for name in (".clawdbot", ".moltbot", ".moldbot")}


def test_how_long_it_takes_to_believe(folder: Path, unwatched: None) -> None:
    """A file that is not quiet is read all the same after a while; one that is gone counts only after a longer time."""
    path = folder / ".argentos" / "mirror.json"
    path.parent.mkdir()
    path.write_text(said("sqlite"))
    live = LiveSettings(None, {"HOME": str(folder)})
    path.write_text(said("postgres"))
    assert live.look(10.0) == 10.0 + QUIET
    assert live.current.storage.read_from == "sqlite"
    assert live.look(10.0 + QUIET) is None and live.current.storage.read_from == "postgres"
    now = start = 20.0
    while live.current.storage.read_from == "postgres":
        by_rename(path, said("sqlite") + " " * int(now * 1000))
        live.look(now)
        now += QUIET / 2
    assert now - start <= LONGEST + QUIET
    live.look(29.0)
    live.look(29.0 + QUIET)
    path.unlink()
    live.look(30.0)
    assert live.look(30.0 + QUIET) == 30.0 + DOUBT and live.current.storage.backend == "dual"
    assert live.look(30.0 + DOUBT) is None and live.current.storage.backend == "sqlite"


TEXTS = st.sampled_from(
    [said("sqlite"), said("postgres"), said("postgres")[:-5], "", "[]", '{"storage": {"backen": 1}}']
)
EDITS = st.one_of(
    st.tuples(st.sampled_from([in_place, by_rename]), TEXTS),
    st.tuples(st.just(lambda path, _: path.unlink(missing_ok=True)), st.just("")),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(EDITS, st.floats(0, 0.5)), max_size=12))
def test_it_settles_on_what_the_files_say(edits: list[tuple[tuple[Any, str], float]]) -> None:
    """Whatever came before; and meanwhile it has only what a file has said, or the default after a file was gone."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_watch, "add", lambda watched: None)
        path = Path(name) / ".argentos" / "mirror.json"
        path.parent.mkdir()
        path.write_text(said("sqlite"))
        environment = {"HOME": name}
        live = LiveSettings(None, environment)
        now, gone_since = 100.0, None
        for (edit, text), pause in edits:
            edit(path, text)
            gone_since = None if path.exists() else now if gone_since is None else gone_since
            before = live.current
            for _ in range(2):
                live.look(now)
                if live.current.storage.backend == "sqlite" and before.storage.backend == "dual":
                    assert gone_since is not None and now - gone_since >= DOUBT
                now += pause
        for _ in range(4):
            live.look(now)
            now += 1.0
        problem = None
        try:
            assert live.current == load_settings((), None, None, None, None, environment)
        except ConfigError as error:
            problem = str(error)
        assert live.problem == problem


# -- how it begins, and the paths ----------------------------------------------------------------------


def test_what_cannot_be_used_to_begin_with_is_an_error(folder: Path) -> None:
    path = folder / "mirror.json"
    with pytest.raises(ConfigError, match="no such file"):
        LiveSettings(path)
    path.write_text('{"storage": {"readFrom": "postgres"}}')
    with pytest.raises(ConfigError, match="backend sqlite has its data only in sqlite"):
        LiveSettings(path)


def test_the_working_directory_may_change(folder: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "c" / "mirror.json"
    path.parent.mkdir()
    path.write_text(said("sqlite"))
    monkeypatch.chdir(path.parent)
    programs = [started(Path("mirror.json")), started(MIRROR_CONFIG="mirror.json"), started(ARGENT_STATE_DIR=".")]
    monkeypatch.chdir("/")
    path.write_text(said("postgres"))
    for program in programs:
        program.reads_from("postgres")
        assert program.live.current.files[0].path == path.resolve()


def test_the_settings_are_a_plain_attribute(folder: Path, started: Started) -> None:
    """Each read of a program asks for it."""
    live = started(HOME=str(folder)).live
    assert "current" in vars(live) and not hasattr(LiveSettings, "current")


# -- the thread ----------------------------------------------------------------------------------------


def threads() -> list[threading.Thread]:
    mine = set(threading.enumerate()) - set(_others)
    return [thread for thread in mine if thread.name == "mirror-configuration"]


def test_one_daemon_thread_for_all(folder: Path, started: Started) -> None:
    file_watch.stop()
    for name in "ab":
        (folder / name).write_text(said("sqlite"))
    first, second = started(folder / "a"), started(folder / "b")
    (thread,) = threads()
    assert thread.daemon
    for program, name in ((second, "b"), (first, "a")):
        (folder / name).write_text(said("postgres"))
        program.reads_from("postgres")
    first.live.close()
    (folder / "a").write_text(said("sqlite"))
    (folder / "b").write_text(said("sqlite"))
    second.reads_from("sqlite")
    assert first.live.current.storage.read_from == "postgres", "it was closed"
    assert threads() == [thread]
    second.live.close()
    until(lambda: not threads())


def test_what_nobody_has_any_longer_is_not_kept(folder: Path) -> None:
    live = LiveSettings(None, {"HOME": str(folder)})
    known = weakref.ref(live)
    del live
    until(lambda: gc.collect() is not None and known() is None)
    until(lambda: not threads())


def test_a_listener_that_fails(folder: Path, started: Started, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the others hear of the change; one that has ended does not."""
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    live = started(path).live

    def fails(_: Settings) -> None:
        raise RuntimeError("the program's own")

    live.listen(fails)
    ended: list[Settings] = []
    live.listen(ended.append)()
    after = Program(live)
    for expected in ("postgres", "sqlite"):
        path.write_text(said(expected))
        after.reads_from(expected)
    assert not ended
    assert len([record for record in caplog.records if "a listener failed" in record.getMessage()]) == 2


def test_a_defect_does_not_end_the_thread(
    folder: Path, started: Started, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a").write_text(said("sqlite"))
    (folder / "b").write_text(said("sqlite"))
    monkeypatch.setattr(started(folder / "a").live, "look", lambda now: 1 / 0)
    program = started(folder / "b")
    (folder / "b").write_text(said("postgres"))
    program.reads_from("postgres")
    assert any("a look at the configuration failed" in record.getMessage() for record in caplog.records)


def test_the_program_does_not_log_our_notices(folder: Path, started: Started, caplog: pytest.LogCaptureFixture) -> None:
    """watchfiles logs each change as information; what the program watches itself is logged as before."""
    caplog.set_level(logging.INFO)
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    program = started(path)
    for expected in ("postgres", "sqlite", "postgres"):
        (folder / "other").write_text(expected)
        path.write_text(said(expected))
        program.reads_from(expected)
    assert not [record for record in caplog.records if record.name.startswith("watchfiles")]
    logging.getLogger("watchfiles.main").info("1 change detected")
    assert [record for record in caplog.records if record.name == "watchfiles.main"]


def test_a_refusal_is_logged_once_and_notices_are_asked_for_again(
    folder: Path, started: Started, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file_watch.stop()
    monkeypatch.setattr(file_watch, "REFUSED", 0.0)
    asked: list[bool] = []
    allowed = threading.Event()
    real = file_watch.watch

    def limited(*folders: Path, **options: Any) -> Iterator[Any]:
        asked.append(allowed.is_set())
        return real(*folders, **options) if asked[-1] else refused()

    monkeypatch.setattr(file_watch, "watch", limited)
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    program = started(path)
    until(lambda: len(asked) >= 3)
    allowed.set()
    until(lambda: asked[-1])
    path.write_text(said("postgres"))
    program.reads_from("postgres")
    told = [record for record in caplog.records if "gives no notices" in record.getMessage()]
    assert len(told) == 1 and "the limit of watches is reached" in told[0].getMessage()


# -- processes -----------------------------------------------------------------------------------------


def test_a_process_that_is_forked_follows_by_itself(folder: Path, started: Started) -> None:
    """Also one that is forked while files are read."""
    path = folder / "mirror.json"
    path.write_text(said("sqlite"))
    program = started(path)
    children = []
    for number in range(6):
        by_rename(path, said("sqlite") + " " * number)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                program.changes = queue.Queue()
                program.live.listen(program.changes.put)
                program.reads_from("postgres")
                code = len(threads()) - 1
            finally:
                os._exit(code)
        children.append(child)
    by_rename(path, said("postgres"))
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
    program.reads_from("postgres")


def test_a_fork_waits_while_files_are_read(folder: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for ever: a file may be on a network that is down."""
    started(HOME=str(folder))
    read = threading.Event()
    forked: list[bool] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0 if file_watch.no_fork.acquire(blocking=False) else 1)
        forked.append(read.is_set())
        assert os.waitpid(child, 0)[1] == 0

    monkeypatch.setattr(file_watch, "LONGEST_WAIT", LIMIT)
    thread = threading.Thread(target=fork)
    with file_watch.no_fork:
        thread.start()
        until(lambda: _waits_for_the_lock(thread))
        read.set()
    thread.join(LIMIT)
    assert forked == [True]
    monkeypatch.setattr(file_watch, "LONGEST_WAIT", 0.01)
    with file_watch.no_fork:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join(LIMIT)
    assert len(forked) == 2 and file_watch.no_fork.acquire(blocking=False)
    file_watch.no_fork.release()


def _waits_for_the_lock(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code is file_watch._before_fork.__code__


PROGRAM = """
import resource, sys
from pathlib import Path
from mirror.storage.flags import LiveSettings
path, left = Path(sys.argv[1]), int(sys.argv[2])
if left:  # so many descriptors
    with open("/dev/null") as file:
        limit = file.fileno() + left
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import queue
changes = queue.Queue()
live = LiveSettings(path)
live.listen(changes.put)
path.write_text(path.read_text().replace("sqlite", "postgres"))
print(changes.get(timeout=200).storage.read_from, flush=True)
"""


@pytest.mark.parametrize("left", [0, 2])
def test_a_program_ends_cleanly_also_without_descriptors(folder: Path, left: int) -> None:
    """Where no notices can be had for lack of descriptors, changes are found all the same."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 20
    path = folder / "mirror.json"
    for _ in range(3):
        path.write_text(said("sqlite"))
        command = [sys.executable, "-c", PROGRAM, str(path), str(left)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        assert (done.returncode, done.stdout, done.stderr) == (0, "postgres\n", "")
