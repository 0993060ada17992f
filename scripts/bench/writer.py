"""What the mirror costs the program that writes: beside a running mirror against alone, in one run.

Rounds are interleaved (alone, captured, mirrored, triggers, alone, ...), each on a database file of its own made
from the same base, each by a fresh writer process. In `mirrored` a mirror follows the file, and Postgres runs on the
same cores; in `captured` only the process that reads the WAL runs and all else is stopped, which tells what
the files have to do with the cost and what the processors; in `triggers` no mirror runs, but AFTER triggers keep a
change log, the usual way of capturing changes. Unpaced: commits a second. Paced: how long a commit takes, p50
and p99. The largest size of the WAL; and the WAL's resets, each of which is a checkpoint that found no reader in
its way.

Then 200,000 unpaced commits: none may be lost, and no gap may be found. Count and sum at the end are taken
on both sides through SQL.
"""

from __future__ import annotations

import argparse
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from common import Figures, Mirror, Workbench, median, parser, percentile, workbench, write

SIDES = ("alone", "captured", "mirrored", "triggers")


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--table", choices=("text", "integer"), default="integer", help="which table is written")
    made.add_argument("--size", type=float, default=10, help="MB of the database")
    made.add_argument("--rounds", type=int, default=5, help="rounds of each kind")
    made.add_argument("--unpaced", type=int, default=50_000, help="commits of an unpaced round")
    made.add_argument("--rate", type=float, default=1000, help="commits a second when paced")
    made.add_argument("--seconds", type=float, default=4, help="length of a paced round")
    made.add_argument("--commits", type=int, default=200_000, help="unpaced commits none of which may be lost")
    options = made.parse_args()
    figures = Figures(f"writer, {options.table} key, {options.size:g} MB")
    with workbench(options) as bench:
        base = bench.source("base")
        write("build", path=base, table=options.table, megabytes=options.size)
        sources = {side: bench.source(side, base) for side in SIDES}
        write("triggers", path=sources["triggers"])
        for side in ("captured", "mirrored"):
            with Mirror(bench, sources[side], side) as mirror:
                mirror.ready()
        unpaced = _rounds(options, bench, sources, commits=options.unpaced)
        paced = _rounds(options, bench, sources, rate=options.rate, seconds=options.seconds)
        _unpaced_figures(figures, unpaced)
        _paced_figures(figures, paced, options.rate)
        _none_lost(options, figures, bench, bench.source("long", base))
    figures.finish(options)


Round = dict[str, Any]


def _rounds(
    options: argparse.Namespace, bench: Workbench, sources: dict[str, Path], **work: float
) -> dict[str, list[Round]]:
    results: dict[str, list[Round]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        # The order turns, so that no side always comes first.
        for side in SIDES[number % 4 :] + SIDES[: number % 4]:
            followed = side in ("captured", "mirrored")
            with Mirror(bench, sources[side], side) if followed else nullcontext() as mirror:
                if mirror is not None:
                    mirror.ready()
                if mirror is not None and side == "captured":
                    os.kill(mirror.pid, signal.SIGSTOP)
                result = write(
                    "commits", path=sources[side], table=options.table, seed=number * 10 + len(work),
                    stamps=bench.folder / "stamps", **work,
                )  # fmt: skip
                if mirror is not None and side == "captured":
                    os.kill(mirror.pid, signal.SIGCONT)
                begins, ends = bench.stamps(bench.folder / "stamps")
                result["took"] = [(end - begin) * 1e6 for begin, end in zip(begins, ends, strict=True)]
                if mirror is not None:
                    mirror.wait()
                    result["gaps"] = [gap["reason"] for gap in mirror.status()["gaps"]]
            results[side].append(result)
    return results


def _unpaced_figures(figures: Figures, rounds: dict[str, list[Round]]) -> None:
    rate = {side: median([r["commits"] / r["seconds"] for r in found]) for side, found in rounds.items()}
    wal = {side: median([r["wal"] / 1e6 for r in found]) for side, found in rounds.items()}
    resets = {side: median([r["resets"] / r["commits"] * 1e5 for r in found]) for side, found in rounds.items()}
    figures.add("unpaced, alone", rate["alone"], "commits/s")
    for side in SIDES[1:]:
        figures.add(f"unpaced, {side}", rate[side], "commits/s", "alone", rate["alone"])
    figures.add("unpaced, WAL alone", wal["alone"], "MB")
    figures.add("unpaced, WAL mirrored", wal["mirrored"], "MB", "alone", wal["alone"])
    figures.add("unpaced, resets alone", resets["alone"], "in 100,000 commits")
    figures.add("unpaced, resets mirrored", resets["mirrored"], "in 100,000 commits", "alone", resets["alone"])
    _gap_figure(figures, "unpaced, gaps of all rounds", rounds["mirrored"][-1]["gaps"])


def _paced_figures(figures: Figures, rounds: dict[str, list[Round]], rate: float) -> None:
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        took = {side: median([percentile(r["took"], share) for r in found]) for side, found in rounds.items()}
        figures.add(f"at {rate:g}/s, {name} alone", took["alone"], "µs")
        for side in SIDES[1:]:
            figures.add(f"at {rate:g}/s, {name} {side}", took[side], "µs", "alone", took["alone"])
    wal = {side: median([r["wal"] / 1e6 for r in found]) for side, found in rounds.items()}
    figures.add(f"at {rate:g}/s, WAL mirrored", wal["mirrored"], "MB", "alone", wal["alone"])


def _gap_figure(figures: Figures, name: str, reasons: list[str]) -> None:
    """How many gaps there were; their reasons are printed above the table."""
    figures.add(name, len(reasons), "")
    for reason in reasons:
        print(f"{name}: {reason}")


def _none_lost(options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path) -> None:
    with Mirror(bench, source, "long") as mirror:
        mirror.ready()
        written = write("commits", path=source, table=options.table, seed=99, commits=options.commits, sums=True)
        mirror.wait()
        status = mirror.status()
        commits = mirror.stop().commits
    with bench.connect() as conn:
        found = conn.execute("SELECT count(*), sum(at)::bigint FROM long.item").fetchone()
    total = written["commits"] + written["uncounted"]
    figures.add("in one go: commits written", total, "")
    figures.add("in one go: not seen by the mirror", total - commits, "")
    _gap_figure(figures, "in one go: gaps", [gap["reason"] for gap in status["gaps"]])
    figures.add("in one go: rejected rows", status["rejects"], "")
    same = found == (written["count"], written["total"])
    figures.add(f"in one go: count and sum {'equal' if same else f'DIFFER: {found}'}", written["count"], "rows")


if __name__ == "__main__":
    main()
