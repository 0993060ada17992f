"""The tables of ways in two README.md are those that ``scripts/bench/peers.py`` prints, but for their numbers."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark; what it imports lies beside it."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("peers")


@pytest.fixture
def tables(peers: ModuleType) -> ModuleType:
    return importlib.import_module("_ways_table")


def measured(tables: ModuleType) -> object:
    versions = dict.fromkeys(("mirror", "Python", "SQLite", "PostgreSQL"), "1.2.3")
    return tables.Measured(cores=2, load=0.5, rate=1000, size=3, seconds=5, versions=versions)


def ways(peers: ModuleType, tables: ModuleType) -> list[Any]:
    """What would be found of each way: something, of all that is measured of it."""
    made = []
    for way in peers.WAYS:
        measured_too = way.copies or way.arrives
        lost = dict.fromkeys(tables.EVENTS, 0) if measured_too else {}
        lag, inexact = (1.0, 2.0) if way.arrives else None, False if measured_too else None
        made.append(tables.Found(way.name, 1.0, 1.0, 1.0, 1.0, 1.0, lag, inexact, lost))
    return made


def test_the_tables_are_those_that_are_printed(peers: ModuleType, tables: ModuleType) -> None:
    found = ways(peers, tables)
    assert [path.parent.name for path in tables.TABLES] == [BENCH.parents[1].name, "bench"]
    for path, table in tables.TABLES.items():
        on_what, empty, *shown = tables.filled(path.read_text()).splitlines()
        assert re.sub(r"[\d.,]+", "0", on_what) == re.sub(r"[\d.,]+", "0", str(measured(tables)))
        assert not empty
        printed = table(found).splitlines()
        assert shown[:2] == printed[:2]
        for row, wanted in zip(shown[2:], printed[2:], strict=True):
            assert row.split(" | ")[0] == wanted.split(" | ")[0]
            assert row.count(" | ") == wanted.count(" | ")


def test_what_was_found_replaces_what_was_there(
    peers: ModuleType, tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n\n<!-- peers.py -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(tables, "TABLES", {page: tables.short})
    found = ways(peers, tables)
    found[1].lost["kill -9"] = 1234
    for _ in range(2):
        tables.fill(found, measured(tables))
        before, *between, after = re.split(r"<!-- .* -->\n", page.read_text())
        assert (before, after) == ("before\n\n", "after\n")
        assert between == [f"{measured(tables)}\n\n{tables.short(found)}\n"]
    assert "| this mirror | 1.00 × alone | 1 ms | 3 µs | nothing | nothing | nothing | **1,234 rows** | nothing |" in (
        page.read_text().splitlines()
    )
