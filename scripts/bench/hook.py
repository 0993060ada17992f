"""What ``enable_mirror()`` costs a program on APSW: its commits a second with the hooks against without, in one run.

A sidecar follows the file either way. Rounds are interleaved, each by a fresh process, on one file in WAL mode. With
``synchronous=FULL``, SQLite's default, each commit waits for the disk; with ``NORMAL`` none does, and as nobody pauses
there either, the hooks tell only of a part of the commits: what they may cost has a limit. How many, is beside it. A
ratio by pairs is the middle one of those of two rounds that follow each other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import BENCH, Figure, Figures, Mirror, Workbench, environment, median, parser, workbench, write

SIDES = ("without", "with")


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=9, help="pairs of rounds of each kind")
    made.add_argument("--full", type=int, default=8_000, help="commits of a round that waits for the disk")
    made.add_argument("--normal", type=int, default=100_000, help="commits of a round that does not")
    options = made.parse_args()
    figures = Figures("the hooks of enable_mirror()")
    with workbench(options) as bench:
        source = bench.source("gateway")
        write("build", path=source, table="integer", megabytes=5)
        with Mirror(bench, source) as mirror:
            mirror.ready()
            for synchronous, commits in (("FULL", options.full), ("NORMAL", options.normal)):
                _measure(options, figures, bench, mirror, source, synchronous, commits)
            hook = mirror.status()["hook"]
            figures.add("checked against the WAL", hook["checked"], "commits")
            figures.add("discrepancies", mirror.status()["discrepancies"], "rows")
    figures.finish(options)


def _measure(
    options: argparse.Namespace,
    figures: Figures,
    bench: Workbench,
    mirror: Mirror,
    source: Path,
    synchronous: str,
    commits: int,
) -> None:
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    told = 0
    for number in range(2 * options.rounds):
        side = SIDES[(number + number // 2) % 2]
        seed = number + 1 + (100 if synchronous == "FULL" else 200)
        found = _run(bench, source, commits=commits, synchronous=synchronous, seed=seed, hook=side == "with")
        rates[side].append(commits / found["seconds"])
        told += found["told"]
        mirror.wait()
    figures.add(f"{synchronous}, without hooks", median(rates["without"]), "commits/s")
    ratio = median([one / other for one, other in zip(rates["with"], rates["without"], strict=True)])
    line = Figure(f"{synchronous}, with hooks", median(rates["with"]), "commits/s", "without, by pairs", ratio)
    figures.lines.append(line)
    figures.add(f"{synchronous}, told of", 100 * told / (options.rounds * (commits + 100)), "%")


def _run(bench: Workbench, source: Path, **job: Any) -> dict[str, Any]:
    spec = json.dumps({"path": str(source), "state_dir": str(bench.state_dir), **job})
    command = [sys.executable, str(BENCH / "_gateway.py"), spec]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
