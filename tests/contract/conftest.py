"""The contract suite runs each test on each store: SQLite, Postgres, and both with reads from Postgres."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirror.storage.memory import Memory
from tests.support.postgres import PostgresServer
from tests.support.storage import Stores, dual_program, fill_postgres, on_sqlite, postgres_program


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> Iterator[Callable[[], Iterator[Stores]]]:
    """A program on Postgres alone, for all tests of this process."""
    dsn = postgres_server.create_database()
    folder = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
    fill_postgres(dsn)
    with postgres_program(folder, dsn) as one:
        yield one
    shutil.rmtree(folder, ignore_errors=True)
    postgres_server.drop_database(dsn)


@pytest.fixture(scope="session")
def dual(postgres_server: PostgresServer) -> Iterator[Callable[[], Iterator[Stores]]]:
    """A program and its mirror for all tests of this process."""
    dsn = postgres_server.create_database()
    folder = Path(tempfile.mkdtemp(prefix="mt", dir="/tmp"))
    with dual_program(folder, dsn) as one:
        yield one
    shutil.rmtree(folder, ignore_errors=True)
    postgres_server.drop_database(dsn)


@pytest.fixture
def postgres_stores(postgres: Callable[[], Iterator[Stores]]) -> Iterator[Stores]:
    """The adapter on Postgres alone."""
    yield from postgres()


@pytest.fixture(params=["sqlite", "postgres", "dual"])
def stores(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stores]:
    if request.param == "sqlite":
        yield from on_sqlite(folder)
    elif request.param == "postgres":
        yield request.getfixturevalue("postgres_stores")
    else:
        yield from request.getfixturevalue("dual")()


@pytest.fixture
def memory(stores: Stores) -> Memory:
    return stores.memory
