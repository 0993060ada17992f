"""The contract suite runs each test on each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.storage.memory import Memory
from tests.support.storage import Stores, on_sqlite


@pytest.fixture(params=["sqlite"])
def stores(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stores]:
    yield from on_sqlite(folder)


@pytest.fixture
def memory(stores: Stores) -> Memory:
    return stores.memory
