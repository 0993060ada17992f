"""A file that is not there, and the one that may be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.core.near import did_you_mean


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shp.db", "; did you mean shop.db?"),
        ("shop.sqlite", "; did you mean shop.sqlite3?"),
        ("Shop.db", "; did you mean shop.db?"),
        ("other.db", ""),
        ("nots.txt", ""),
    ],
)
def test_names_of_databases_alone_are_proposed(tmp_path: Path, name: str, words: str) -> None:
    for there in ("shop.db", "shop.db-wal", "shop.sqlite3", "notes.txt", "orders.DB"):
        (tmp_path / there).touch()
    assert did_you_mean(tmp_path / name) == words


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert did_you_mean(tmp_path / "none" / "shop.db") == ""
