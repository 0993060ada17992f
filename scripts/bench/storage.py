"""What the storage adapter costs: reads, searches and writes against the same without it, and against its peers.

One MemuStore with a mirror beside it. Each side has its turn call by call, in one process, and the middle of each is
shown: the freshness check; reads from Postgres against their own SQL by psycopg alone, at rest and while another
program commits; a write with the mirror beside against the same row written by the SQLite library alone.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from common import BENCH, Figures, Mirror, Workbench, environment, parser, workbench

AGENT = "argent"
RATE = 1_000.0


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=20_000, help="items of the store for reads and writes")
    made.add_argument("--rounds", type=int, default=3_000, help="calls of each side")
    made.add_argument("--seconds", type=float, default=10.0, help="for which reads are made beside a writer")
    made.add_argument("--quick", action="store_true", help="very little of everything, which says nothing")
    made.add_argument("--minutes", type=float, default=30.0, help="after which it ends, with what it has by then")
    options = made.parse_args()
    if options.quick:
        options.rows, options.rounds, options.seconds = 200, 30, 0.5
    figures = Figures("the storage adapter")
    try:
        with _limit(options.minutes * 60), workbench(options) as bench:
            _small(options, figures, bench)
    except TimeoutError:
        print(f"ended after {options.minutes:g} minutes; the rest was left out")
    figures.finish(options)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the middle of whatever is done when the time is over."""

    def over(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(script: str, job: str, **options: Any) -> dict[str, Any]:
    """Run a job of a script in a process of its own; what it printed last."""
    command = [sys.executable, str(BENCH / script), job, json.dumps(options)]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {job} failed with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def build(path: Path, items: int, dims: int) -> None:
    """Make a MemuStore with items."""
    ddl = resources.files("mirror.cli.demo").joinpath("memory_store.sql").read_text()
    run("_memories.py", "build", path=str(path), ddl=ddl, items=items, dims=dims)


def configure(bench: Workbench, source: Path, name: str, **storage: Any) -> str:
    """A mirror.json for a program; its path."""
    path = bench.folder / f"{name}.json"
    value = {
        "sources": [str(source)],
        "stateDir": str(bench.state_dir),
        "storage": {"postgres": {"connectionString": bench.dsn}} | storage,
    }
    path.write_text(json.dumps(value))
    return str(path)


@contextmanager
def _beside_writer(source: Path, seconds: float) -> Iterator[None]:
    """While another program commits."""
    spec = {"path": str(source), "rate": RATE, "seconds": seconds}
    command = [sys.executable, str(BENCH / "_memories.py"), "remember", json.dumps(spec)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.communicate()


def _small(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    source = bench.source("memory")
    build(source, options.rows, 0)
    flipped = configure(bench, source, "flipped", backend="dual", readFrom="postgres")
    local = configure(bench, source, "local", backend="dual", readFrom="sqlite")
    with Mirror(bench, source) as mirror:
        mirror.ready()
        _freshness(options, figures, bench, source, flipped)
        _reads(options, figures, bench, source, flipped)
        mirror.wait()
        _writes(options, figures, source, local)


def _freshness(
    options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path, config: str
) -> None:
    job = {"config": config, "database": str(source), "state_dir": str(bench.state_dir), "rounds": options.rounds}
    found = run("_storage.py", "freshness", **job)
    figures.add("freshness check, at rest", found["check"] * 1e6, "us", "15 us", 15.0)
    figures.add("with the looks at what is published", found["all"] * 1e6, "us")
    with _beside_writer(source, 3600):
        found = run("_storage.py", "freshness", **(job | {"rounds": max(10, options.rounds // 5)}), rate=500.0)
    figures.add("freshness check, at 1,000 commits/s", found["check"] * 1e6, "us", "15 us", 15.0)
    figures.add("reads that it would prove within 20 ms", 100 * found["proved"], "%")


def _reads(options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path, config: str) -> None:
    job = {"config": config, "dsn": bench.dsn, "agent": AGENT, "items": options.rows}
    found = run("_storage.py", "reads", **job, rounds=options.rounds)
    for name in ("get_item", "list_items"):
        one = {side: seconds * 1e6 for side, seconds in found[name].items()}
        figures.add(f"{name}, p50", one["adapter"], "us", f"its SQL, a bare connection: {one['bare']:.0f} us", one["bare"])
        figures.add(f"{name}, p50", one["adapter"], "us", f"its SQL, psycopg's pool: {one['pooled']:.0f} us", one["pooled"])
        plain = one["unproved"]
        figures.add(f"{name}, p50", one["adapter"], "us", f"SQL without agent and position: {plain:.0f} us", plain)
    rounds = max(10, int(options.seconds * 200 / 2))
    rest = run("_storage.py", "reads", **job, rounds=rounds, rate=200.0)
    with _beside_writer(source, 3600):
        busy = run("_storage.py", "reads", **job, rounds=rounds, rate=200.0)
    for name in ("get_item", "list_items"):
        for side in ("adapter", "bare"):
            before, after = (found[name][side] * 1e3 for found in (rest, busy))
            what = f"{name}, {side}" if side == "bare" else name
            figures.add(f"{what} at 1,000 commits/s, p50", after, "ms", f"at rest: {before:.3f} ms", before)
        later = 1e3 * (busy[name]["adapter"] - rest[name]["adapter"])
        figures.add(f"{name}, later at 1,000 commits/s", later, "ms", "3 ms", 3.0)
    for what, number in sorted(busy["counts"].items()):
        figures.add(f"answered by {what}", number, f"of {sum(busy['counts'].values())} reads")


def _writes(options: argparse.Namespace, figures: Figures, source: Path, config: str) -> None:
    for library in ("sqlite3", "apsw"):
        job = {"config": config, "database": str(source), "library": library, "rounds": options.rounds}
        found = run("_storage.py", "writes", **job)
        for kind, what in (("ready", "the row ready"), ("made", "the row made as well")):
            for how, name in (("middle", "p50"), ("mean", "mean")):
                mine, plain = (found[how][side] * 1e6 for side in ("adapter", kind))
                figures.add(f"create_item, {library}, {name}", mine, "us", f"plain, {what}: {plain:.0f} us", plain)


if __name__ == "__main__":
    main()
