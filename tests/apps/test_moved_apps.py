"""Real applications are moved live into the tables of their own migrations: scripts/apps says what is tried."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APPS = Path(__file__).parents[2] / "scripts" / "apps"


def moved(script: str, *options: str) -> None:
    """A script finds nothing that is not as it should be."""
    done = subprocess.run(
        [sys.executable, str(APPS / script), *options], capture_output=True, text=True, check=False, timeout=1500
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 0 and not failed, done.stdout + done.stderr
    assert "all is as it should be" in done.stdout


def test_a_shop_in_django() -> None:
    moved("django_shop.py", "--python", sys.executable, "--transactions", "12")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_shop_in_django_whose_times_have_no_zone() -> None:
    moved("django_shop.py", "--python", sys.executable, "--naive-zone", "Europe/Berlin")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_store_of_langgraph() -> None:
    moved("langgraph_store.py", "--python", sys.executable, "--transactions", "30")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_shop_in_prisma() -> None:
    """With Node and npm: better-sqlite3 may have to be compiled."""
    moved("prisma_shop.py", "--transactions", "40")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_shop_in_sqlalchemy() -> None:
    moved("sqlalchemy_shop.py")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_matrix_homeserver() -> None:
    moved("synapse.py", "--transactions", "20")
