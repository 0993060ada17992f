"""Each benchmark runs to its end, on very little; what it measures then says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    # The last three make another environment, or take minutes on anything.
    assert scripts == {*TINY, "common", "all", "against", "growth", "peers"}


#: These take long on little, too, or what they use is used by others.
SLOW = {
    "adopt",
    "agents",
    "cost",
    "cutover",
    "downtime",
    "fleet",
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
