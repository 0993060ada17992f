"""What ``enable_mirror()`` costs a program on APSW: its commits with the hooks against without, in one run.

A sidecar follows the file either way. Rounds are interleaved, each by a fresh process, on one file in WAL mode. With
``synchronous=FULL``, SQLite's default, each commit waits for the disk; with ``NORMAL`` none does, and as nobody pauses
there either, the hooks tell only of a part of the commits: what they may cost has a limit. How many, is beside it. At a
steady rate it is shown by how much the middle commit is longer. "Keys" is what it is where SQLite has no preupdate
hook. A ratio by pairs, and what is longer, is the middle one of those of each side's first rounds, second rounds and so
on, which are made one behind the other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import BENCH, Figure, Figures, Mirror, Workbench, environment, median, parser, workbench, write

#: What the program has: no hooks, the usual ones, or those where there is no preupdate hook.
SIDES = ("none", "rows", "keys")


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=9, help="rounds of each side; at a steady rate a third of them")
    made.add_argument("--full", type=int, default=8_000, help="commits of a round that waits for the disk")
    made.add_argument("--paced", type=int, default=1_000, help="commits of a round at a steady rate")
    made.add_argument("--rate", type=float, default=200.0, help="such commits a second")
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
                _pace(options, figures, bench, mirror, source, synchronous)
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
    told = dict.fromkeys(SIDES, 0)
    for side in _rounds(options.rounds):
        found = _run(bench, source, commits=commits, synchronous=synchronous, seed=_seeds(), hook=side, rate=0.0)
        rates[side].append(commits / found["seconds"])
        told[side] += found["told"]
        mirror.wait()
    figures.add(f"{synchronous}, without hooks", median(rates["none"]), "commits/s")
    for side in SIDES[1:]:
        ratio = median([one / other for one, other in zip(rates[side], rates["none"], strict=True)])
        line = Figure(f"{synchronous}, hooks, {side}", median(rates[side]), "commits/s", "without, by pairs", ratio)
        figures.lines.append(line)
        figures.add(f"{synchronous}, {side}, reported", 100 * told[side] / (options.rounds * (commits + 100)), "%")


def _pace(
    options: argparse.Namespace, figures: Figures, bench: Workbench, mirror: Mirror, source: Path, synchronous: str
) -> None:
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    told = dict.fromkeys(SIDES, 0)
    rounds = max(1, options.rounds // 3)
    job = {"commits": options.paced, "synchronous": synchronous, "rate": options.rate}
    for side in _rounds(rounds):
        done = _run(bench, source, seed=_seeds(), hook=side, **job)
        found[side].append(1e6 * done["p50"])
        told[side] += done["told"]
        mirror.wait()
    what = f"{synchronous} at {options.rate:g}/s"
    figures.add(f"{what}, without hooks, p50", median(found["none"]), "us a commit")
    for side in SIDES[1:]:
        more = median([one - other for one, other in zip(found[side], found["none"], strict=True)])
        figures.add(f"{what}, {side}, longer by", more, "us a commit")
        figures.add(f"{what}, {side}, reported", 100 * told[side] / (rounds * (options.paced + 100)), "%")


_seeds = itertools.count(1).__next__


def _rounds(count: int) -> Iterator[str]:
    """Each side so often, in turns."""
    for number in range(count):
        yield from SIDES if number % 2 else reversed(SIDES)


def _run(bench: Workbench, source: Path, **job: Any) -> dict[str, Any]:
    spec = json.dumps({"path": str(source), "state_dir": str(bench.state_dir), **job})
    command = [sys.executable, str(BENCH / "_gateway.py"), spec]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
