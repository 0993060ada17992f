"""The contract suite runs each test on each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.storage.memory import Memory
from tests.support.storage import Stores, on_sqlite, on_tables_of_postgres


@pytest.fixture(params=["sqlite"])
def stores(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stores]:
    yield from on_sqlite(folder)


@pytest.fixture
def memory(stores: Stores) -> Memory:
    return stores.memory


@pytest.fixture
def postgres_stores(folder: Path) -> Iterator[Stores]:
    """A store that has what is in Postgres alone, too."""
    yield from on_tables_of_postgres(folder)
