"""Lag: from a commit of the program to the moment it is visible in Postgres.

A writer commits single rows at a pace (1,000 a second), a mirror of its own process brings them over.
The commit is stamped by the writer when its INSERT has returned. Its arrival is stamped in the mirror
when Postgres has acknowledged the transaction that holds it: so the lag includes noticing the commit,
copying it out of the WAL, decoding, the round trip and Postgres' own flush, and the acknowledgement's way
back; the row was visible to others a little earlier. Both clocks are the machine's monotonic clock. As a
cross-check a last round is seen from outside: a third process polls, as fast as it can, the count of
commits that each of those transactions moves along with its rows; that figure includes the query, and
what polling takes from the cores.

Against it: the same rows by direct autocommit INSERT into a like table of the same Postgres, at the same
pace, in rounds between. Then the writer runs unpaced: how many commits a second the mirror sustains
from the first to the last of them arriving, and how long it takes to catch up when the writer ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from array import array
from pathlib import Path

from common import Conn, Figures, Mirror, Workbench, environment, median, parser, percentile, workbench, write

POLL = """
import sys, time, psycopg
from array import array
out = array("d")
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    end, seen = time.monotonic() + float(sys.argv[3]), -1
    while time.monotonic() < end:
        now = conn.execute("SELECT commits FROM mirror.sources", prepare=True).fetchone()[0]
        if now != seen:
            out.extend((time.monotonic(), now))
            seen = now
open(sys.argv[2], "wb").write(out.tobytes())
"""


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--table", choices=("text", "integer"), default="text", help="which table is written")
    made.add_argument("--rate", type=float, default=1000, help="commits a second when paced")
    made.add_argument("--seconds", type=float, default=5, help="length of a round")
    made.add_argument("--rounds", type=int, default=3, help="paced rounds of each kind")
    made.add_argument("--size", type=float, default=10, help="MB of the database")
    options = made.parse_args()
    figures = Figures(f"lag, {options.table} key, {options.size:g} MB")
    with workbench(options) as bench:
        source = bench.source("source")
        write("build", path=source, table=options.table, megabytes=options.size)
        _paced(options, figures, bench, source)
        _unpaced(options, figures, bench, source)
    figures.finish(options)


def _paced(options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path) -> None:
    direct: list[list[float]] = []
    spans: list[tuple[int, list[float]]] = []
    with Mirror(bench, source) as mirror, bench.connect() as conn:
        mirror.ready()
        conn.execute("CREATE TABLE direct (LIKE public.item INCLUDING ALL)")
        count = int(options.rate * options.seconds)
        for number in range(options.rounds):
            result = _round(bench, source, options, number)
            mirror.wait()
            spans.append((result, _ends(bench)))
            direct.append(_direct(conn, options, count))
        polled = _polled(options, bench, source, mirror, conn)
        trace = mirror.stop()
    lags, at = [], 0
    for uncounted, ends in spans:
        at += uncounted
        lags.append([(trace.visible_at(at + index) - end) * 1e3 for index, end in enumerate(ends)])
        at += len(ends)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        base = median([percentile(values, share) for values in direct])
        lag = median([percentile(values, share) for values in lags])
        figures.add(f"direct INSERT at {options.rate:g}/s, {name}", base, "ms")
        figures.add(f"lag at {options.rate:g}/s, {name}", lag, "ms", "direct INSERT", base)
    middle = median([median(values) for values in lags])
    figures.add("lag as a polling reader sees it, p50", median(polled), "ms", "lag p50", middle)
    figures.add("lag as a polling reader sees it, p99", percentile(polled, 0.99), "ms")
    figures.add("Postgres transactions a source commit", trace.transactions / max(1, trace.commits), "")


def _round(bench: Workbench, source: Path, options: argparse.Namespace, number: int) -> int:
    result = write(
        "commits", path=source, table=options.table, seed=100 + number, rate=options.rate,
        commits=int(options.rate * options.seconds), stamps=bench.folder / "stamps",
    )  # fmt: skip
    return int(result["uncounted"])


def _ends(bench: Workbench) -> list[float]:
    return bench.stamps(bench.folder / "stamps")[1]


def _direct(conn: Conn, options: argparse.Namespace, count: int) -> list[float]:
    """Milliseconds of each of ``count`` autocommit INSERTs."""
    rows = conn.execute(f"SELECT * FROM public.item ORDER BY random() LIMIT {count}").fetchall()
    conn.execute("TRUNCATE direct")
    took = []
    begun = time.monotonic()
    for index, row in enumerate(rows):
        if (left := begun + index / options.rate - time.monotonic()) > 0:
            time.sleep(left)
        start = time.monotonic()
        conn.execute("INSERT INTO direct VALUES ($1, $2, $3, $4, $5)", row, prepare=True)
        took.append((time.monotonic() - start) * 1e3)
    return took


def _polled(options: argparse.Namespace, bench: Workbench, source: Path, mirror: Mirror, conn: Conn) -> list[float]:
    """Milliseconds from commit to sight, as another process sees it."""
    found = conn.execute("SELECT commits FROM mirror.sources").fetchone()
    assert found is not None
    before = int(found[0])
    seen = bench.folder / "seen"
    reader = subprocess.Popen(
        [sys.executable, "-c", POLL, bench.dsn, str(seen), str(options.seconds + 2.0)], env=environment()
    )
    uncounted = _round(bench, source, options, 99)
    mirror.wait()
    reader.wait()
    sights = array("d")
    sights.frombytes(seen.read_bytes())
    lags, at = [], 0
    for index, end in enumerate(_ends(bench)):
        while at < len(sights) and sights[at + 1] < before + uncounted + index + 1:
            at += 2
        if at < len(sights):
            lags.append((sights[at] - end) * 1e3)
    return lags


def _unpaced(options: argparse.Namespace, figures: Figures, bench: Workbench, source: Path) -> None:
    with Mirror(bench, source) as mirror:
        mirror.ready()
        result = write(
            "commits", path=source, table=options.table, seed=7, seconds=options.seconds,
            stamps=bench.folder / "stamps",
        )  # fmt: skip
        mirror.wait()
        gaps = len(mirror.status()["gaps"])
        trace = mirror.stop()
    begins, ends = bench.stamps(bench.folder / "stamps")
    uncounted = int(result["uncounted"])
    last = trace.visible_at(uncounted + len(ends) - 1)
    rate = len(ends) / result["seconds"]
    figures.add("unpaced: the writer", rate, "commits/s")
    figures.add("unpaced: sustained by the mirror", len(ends) / (last - begins[0]), "commits/s", "the writer", rate)
    figures.add("unpaced: until it had caught up", last - ends[-1], "s", "the writing", ends[-1] - begins[0])
    figures.add("unpaced: gaps", gaps, "")
    figures.add("unpaced: commits not seen", uncounted + len(ends) - trace.commits, "")


if __name__ == "__main__":
    main()
