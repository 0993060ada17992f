"""Each benchmark runs to its end, on very little; what it measures then says nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
TINY = {
    "adopt": ["--rows", "500", "--rounds", "1", "--seconds", "0.3", "--rate", "100"],
    "agents": ["--stores", "3", "--commits", "10"],
    "bulk": ["--rows", "500", "--rounds", "1"],
    "changes": ["--singles", "10", "--rows", "1000", "--rounds", "1"],
    "cost": [
        "--rounds",
        "1",
        "--size",
        "1",
        "--seconds",
        "0.3",
        "--rate",
        "200",
        "--unpaced",
        "200",
        "--idle",
        "0.5",
        "--sources",
        "2",
        "--starts",
        "1",
    ],
    "cutover": [
        "--seconds",
        "0.5",
        "--switches",
        "2",
        "--rate",
        "50",
        "--rows",
        "5",
        "--updates",
        "20",
        "--rounds",
        "1",
    ],
    "decode": ["--size", "1", "2", "--commits", "20", "--rows", "300"],
    "downtime": ["--rows", "2000", "--rounds", "1"],
    "fleet": ["--sources", "1", "3", "--rest", "0", "--idle", "0.5", "--commits", "5"],
    "freshness": ["--checks", "20", "--reads", "10", "--rounds", "1", "--seconds", "0.5"],
    "growth": ["--sizes", "1", "--rates", "50", "--sources", "2", "--seconds", "0.5", "--svg", os.devnull],
    "hook": ["--rounds", "1", "--full", "20", "--normal", "50", "--paced", "20"],
    "lag": ["--seconds", "0.3", "--rounds", "1", "--size", "1"],
    "memory": ["--rows", "500", "--ops", "insert", "--size", "1"],
    "parity": ["--rows", "50", "--rounds", "1", "--size", "1", "--seconds", "1", "--commits", "50", "--link-size", "1"],
    "snapshot": ["--rows", "2000", "--rounds", "1"],
    "storage": ["--quick"],
    "watch": ["--rounds", "1", "--rows", "500", "--updates", "20"],
    "writer": ["--rounds", "1", "--unpaced", "200", "--seconds", "0.2", "--commits", "200", "--size", "1"],
}


def test_all_are_here() -> None:
    scripts = {path.stem for path in BENCH.glob("*.py") if not path.stem.startswith("_")}
    # The last two make another environment.
    assert scripts == {*TINY, "common", "all", "against", "peers"}


#: These take long on little, too, or what they use is used by others.
SLOW = {
    "adopt",
    "agents",
    "cost",
    "cutover",
    "downtime",
    "fleet",
    "growth",
    "hook",
    "lag",
    "memory",
    "parity",
    "snapshot",
    "storage",
    "watch",
}
SLOW |= {"writer"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TINY])
def test_it_runs(name: str, folder: Path) -> None:
    figures = folder / "figures.json"
    command = [sys.executable, str(BENCH / f"{name}.py"), *TINY[name], "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads(figures.read_text())["lines"]
    assert lines
    for what, _, unit, _, _ in lines:
        assert f"| {what}" in done.stdout and unit in done.stdout


def written(job: str, **options: Any) -> dict[str, Any]:
    """The result of a job of the writer."""
    command = [sys.executable, str(BENCH / "_writer.py"), job, json.dumps(options)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def test_a_large_file_has_the_rows_of_a_small_one_with_keys_of_their_own(folder: Path) -> None:
    small, large = str(folder / "small.db"), str(folder / "large.db")
    written("build", path=small, table="text", rows=2000)
    made = written("multiply", path=large, base=small, times=3)
    assert made["rows"] == 6000 and made["bytes"] == (folder / "large.db").stat().st_size
    with closing(sqlite3.connect(large)) as store:
        store.execute("ATTACH ? AS small", (small,))
        assert store.execute("PRAGMA main.journal_mode").fetchone() == ("wal",)
        ((keys, shortest, longest, sorted_too),) = store.execute(
            "SELECT count(DISTINCT id), min(length(id)), max(length(id)),"
            " (SELECT group_concat(id) FROM (SELECT id FROM main.item ORDER BY rowid))"
            " = (SELECT group_concat(id) FROM (SELECT id FROM main.item ORDER BY id)) FROM main.item"
        )
        assert (keys, shortest, longest, sorted_too) == (6000, 32, 32, 1)
        several = "SELECT kind, body, count(*) * ? FROM {}.item GROUP BY kind, body ORDER BY kind, body"
        assert (
            store.execute(several.format("main"), (1,)).fetchall()
            == store.execute(several.format("small"), (3,)).fetchall()
        )
        shapes = "SELECT name, sql FROM {}.sqlite_schema ORDER BY name"
        assert store.execute(shapes.format("main")).fetchall() == store.execute(shapes.format("small")).fetchall()
