"""What pyproject.toml says is so."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_all_that_a_source_distribution_includes_is_there(project: dict[str, Any]) -> None:
    for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        assert (ROOT / name).exists(), name


def test_a_package_whose_inside_is_used_has_an_upper_bound(project: dict[str, Any]) -> None:
    """Where the programs of the embedded Postgres lie in it is no promise of the package."""
    embedded, *_ = project["project"]["optional-dependencies"]["embedded"]
    assert "<" in embedded


def test_nobody_installs_a_pool_that_only_tests_use(project: dict[str, Any]) -> None:
    used = any("psycopg_pool" in path.read_text() for path in (ROOT / "mirror").rglob("*.py"))
    assert used == any("pool" in dependency for dependency in project["project"]["dependencies"])
