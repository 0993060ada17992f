"""Fixtures: a real Postgres a session, a database a test, sources, and mirrors checked by parity at the end."""

from __future__ import annotations

import compileall
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mirror.hot.connection import Address
from mirror.hot.facade import HotState, get_hot_state
from mirror.storage import newest
from tests.support.mirrors import MirrorProcess
from tests.support.postgres import PostgresServer
from tests.support.quick import mark_all_but_a_few
from tests.support.source import Writer
from tests.support.valkey import ValkeyServer

# How long an example takes says nothing: the machine is busy with other tests.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


# In the background of a shell these are ignored, and so would they be by the commands that are tested.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the modules once: where Python writes no bytecode, each of thousands of processes would do it again."""
    if not hasattr(config, "workerinput"):
        for folder in (Path(newest.__file__).parents[1], Path(__file__).parent):
            compileall.compile_dir(folder, quiet=2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before those are left out that ``-m`` does not choose."""
    mark_all_but_a_few(items)


@pytest.fixture(scope="session", autouse=True)
def as_many_indexes_as_there_are_tests() -> None:
    """A program has few sources; a process of tests has one after the other, and never closes the index of one."""
    newest.MOST_INDEXES = 10_000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database."""
    dsn = postgres_server.create_database()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[Address]:
    """An empty database of a Valkey."""
    at = valkey_server.address()
    yield at
    with valkey_server.client(at) as client:
        client.flushdb()


@pytest.fixture
def hot(valkey: Address) -> Iterator[HotState]:
    with get_hot_state(valkey) as hot:
        yield hot


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, because a socket's path may have only 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def database(folder: Path) -> Path:
    """Where the source of a test lies; a writer creates it."""
    return folder / "source.db"


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    """A program on the standard sqlite3 module, with the source in WAL mode."""
    writer = Writer(database)
    writer.run("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
    yield writer
    writer.close()


@pytest.fixture
def make_mirror(dsn: str, folder: Path) -> Iterator[Callable[..., MirrorProcess]]:
    """Makes mirrors; each that still runs at the end of the test must be equal to its sources."""
    made: list[MirrorProcess] = []

    def make(*sources: Path, state: str = "state", schema: str = "public") -> MirrorProcess:
        made.append(MirrorProcess(list(sources), dsn, folder / state, schema))
        return made[-1]

    yield make
    try:
        for mirror in made:
            if mirror.alive:
                mirror.check()
    finally:
        for mirror in made:
            mirror.end()


@pytest.fixture
def mirror(database: Path, writer: Writer, make_mirror: Callable[..., MirrorProcess]) -> MirrorProcess:
    """A mirror of the test's source, not started yet."""
    return make_mirror(database)
