"""What the storage adapter costs: reads, searches and writes against the same without it, and against its peers.

One MemuStore with a mirror beside it. Each side has its turn call by call, in one process, and the middle of each is
shown: the freshness check; reads from Postgres against their own SQL by psycopg alone, at rest and while another
program commits; a write with the mirror beside against one of SQLite alone, and against the same row written by the
SQLite library; hybrid searches of a large store against ``search_memories()`` by psycopg alone. Then calls a second
against LangGraph's SqliteStore and PostgresStore and mem0 on its default store, with the same items, embeddings and
sizes of calls, each in a process of its own with new stores.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _against_peers import against_peers
from _program import AGENT, build, configure, run, wait_for_index, with_schema
from common import BENCH, Figures, Mirror, Workbench, parser, workbench

RATE = 1_000.0


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=20_000, help="items of the store for reads and writes")
    made.add_argument("--rounds", type=int, default=3_000, help="calls of each side")
    made.add_argument("--seconds", type=float, default=10.0, help="for which reads are made beside a writer")
    made.add_argument("--quick", action="store_true", help="very little of everything, which says nothing")
    made.add_argument("--minutes", type=float, default=30.0, help="after which it ends, with what it has by then")
    made.add_argument("--items", type=int, default=100_000, help="items that are searched; 0: leave that out")
    made.add_argument("--dims", type=int, default=768, help="dimensions of the embeddings")
    made.add_argument("--searches", type=int, default=200, help="searches of each side")
    made.add_argument("--peer-items", type=int, default=10_000, help="items of each peer; 0: leave peers out")
    made.add_argument("--singles", type=int, default=2_000, help="of which are written one a call, the rest 100 a call")
    made.add_argument("--peer-rounds", type=int, default=3, help="rounds of each peer")
    made.add_argument("--peers", metavar="FOLDER", help="a virtual environment with the peers; else one is made")
    made.add_argument("--only", nargs="*", choices=("small", "search", "peers"), help="only these parts")
    options = made.parse_args()
    if options.quick:
        options.rows, options.rounds, options.seconds = 200, 30, 0.5
        options.items, options.dims, options.searches, options.peer_items = 300, 16, 5, 0
    figures = Figures("the storage adapter")
    failed = False
    try:
        with _limit(options.minutes * 60), workbench(options) as bench:
            for name, part in (("small", _small), ("search", _search), ("peers", against_peers)):
                if options.only and name not in options.only:
                    continue
                try:
                    part(options, figures, bench)
                except SystemExit as error:
                    print(f"{name}: {error}")
                    failed = True
    except TimeoutError:
        print(f"ended after {options.minutes:g} minutes; the rest was left out")
    figures.finish(options)
    if failed:
        raise SystemExit(1)


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
    alone, plain = bench.source("alone"), bench.source("plain")
    for path in (alone, plain):
        build(path, options.rows, 0)
    no_mirror = configure(bench, alone, "no_mirror", backend="sqlite")
    with Mirror(bench, source) as mirror:
        mirror.ready()
        with bench.connect() as conn:
            conn.execute(
                "ANALYZE memory_items"
            )  # as autovacuum does within a minute: before, lists are not read by index
        _freshness(options, figures, bench, source, flipped)
        _reads(options, figures, bench, source, flipped)
        mirror.wait()
        _writes(options, figures, plain, local, no_mirror)


def _search(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    if not options.items:
        return
    source = bench.source("large")
    build(source, options.items, options.dims)
    config = configure(bench, source, "large", "large", backend="dual", readFrom="postgres", reads={"maxWaitMs": 1000})
    with Mirror(bench, source, "large") as mirror:
        figures.add(f"{options.items:,} items in Postgres", mirror.ready(), "s")
        wait_for_index(bench, mirror, "large", options.dims)
        figures.add("with the HNSW index", time.monotonic() - mirror.started, "s")
        job = {"config": config, "dsn": with_schema(bench, "large"), "agent": AGENT, "items": options.items}
        found = run("_storage.py", "searches", **job, dims=options.dims, rounds=options.searches)
    for name in ("hybrid", "by embedding"):
        mine, plain = (found["middle"][side] * 1e3 for side in (name, f"{name}, bare"))
        figures.add(f"search, {name}, p50", mine, "ms", f"search_memories() alone: {plain:.2f} ms", plain)
    for side, share in found["recall"].items():
        figures.add(f"of the ten nearest, found by {side}", 100 * share, "%")
    for what, number in sorted(found["counts"].items()):
        figures.add(f"searches answered by {what}", number, f"of {sum(found['counts'].values())} reads")


def _freshness(options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path, config: str) -> None:
    job = {"config": config, "database": str(source), "state_dir": str(bench.state_dir), "rounds": options.rounds}
    found = run("_storage.py", "freshness", **job)
    figures.add("freshness check, at rest", found["check"] * 1e6, "us", "15 us", 15.0)
    figures.add("with the look at what is published", found["all"] * 1e6, "us")
    rounds = max(10, options.rounds // 5)
    with _beside_writer(source, 3600):
        found = run("_storage.py", "freshness", **job)
        paced = run("_storage.py", "freshness", **(job | {"rounds": rounds}), rate=500.0)
    figures.add("freshness check, at 1,000 commits/s", found["check"] * 1e6, "us", "15 us", 15.0)
    figures.add("freshness check there, after 2 ms of sleep each", paced["check"] * 1e6, "us", "15 us", 15.0)
    figures.add("of these, proved within 20 ms", 100 * paced["proved"], "%")


def _reads(options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path, config: str) -> None:
    job = {"config": config, "dsn": bench.dsn, "agent": AGENT, "items": options.rows}
    found = run("_storage.py", "reads", **job, rounds=options.rounds)
    for name in ("get_item", "list_items"):
        one = {side: seconds * 1e6 for side, seconds in found[name].items()}
        against = {
            "bare": "its SQL, a bare connection", "pooled": "its SQL, psycopg's pool",
            "unproved": "SQL without agent and position", "by hand": "pool, transaction, set_config, SQL",
        }  # fmt: skip
        for side, what in against.items():
            figures.add(f"{name}, p50", one["adapter"], "us", f"{what}: {one[side]:.0f} us", one[side])
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


def _writes(options: argparse.Namespace, figures: Figures, plain: Path, config: str, alone: str) -> None:
    for library in ("sqlite3", "apsw"):
        job = {"config": config, "alone": alone, "database": str(plain), "library": library, "rounds": options.rounds}
        found = run("_storage.py", "writes", **job)
        against = {
            "alone": "SQLite alone, no mirror", "ready": "the library alone, the row ready",
            "made": "the library alone, the row made as well",
        }  # fmt: skip
        for side, what in against.items():
            for how, name in (("middle", "p50"), ("mean", "mean")):
                mine, other = (found[how][one] * 1e6 for one in ("dual", side))
                figures.add(f"create_item, {library}, {name}", mine, "us", f"{what}: {other:.0f} us", other)


if __name__ == "__main__":
    main()
