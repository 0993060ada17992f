"""Into an application's own tables: the first copy, the lag, and the report, beside the mirror's own tables.

A table of eight columns as Django makes it: a UUID in hex, two times with microseconds, a decimal, a document, a flag,
a text and a number. It is mirrored into a table of the mirror's own (``text``, ``numeric``), and into the table that
the application's migration would make in Postgres (``uuid``, ``timestamptz``, ``numeric(12,2)``, ``jsonb``,
``boolean``), with its unique index. Both in turn, in one run: measured is the time from the start of the mirror's
process until it follows, and the lag of single commits at a pace. Besides, how long ``mirror adopt --dry-run`` takes,
which reads all values.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psycopg
from common import Figures, Mirror, Workbench, environment, median, parser, percentile, workbench
from psycopg import RawCursor

from mirror.adoption.examine import Wishes, examine
from mirror.adoption.remember import remember
from mirror.postgres.sessions import connect

IN_POSTGRES = """
    CREATE TABLE shop_order (
        id uuid PRIMARY KEY, made timestamptz NOT NULL, changed timestamptz NOT NULL, price numeric(12,2) NOT NULL,
        details jsonb NOT NULL, paid boolean NOT NULL, note varchar(200) NOT NULL, amount integer NOT NULL);
"""
#: The program: argv[1] the file, [2] what to do, [3] how many rows, [4] rows a second, [5] where the times go.
PROGRAM = """
import json, random, sqlite3, sys, time, uuid
from array import array
path, job, count, rate, stamps = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=NORMAL")
chance = random.Random(1)
def row():
    day, second = f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}", chance.randrange(10**6)
    made = f"{day} 03:{chance.randrange(60):02}:05.{second:06}"
    return (uuid.uuid4().hex, made, made, chance.randrange(10**6) / 100,
            json.dumps({"items": [1, 2, 3], "who": "somebody", "at": chance.randrange(1000)}), chance.randrange(2),
            "a note of forty characters, as they are", chance.randrange(1000))
INSERT = "INSERT INTO shop_order VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
if job == "build":
    db.execute("CREATE TABLE shop_order(id char(32) NOT NULL PRIMARY KEY, made datetime NOT NULL,"
               " changed datetime NOT NULL, price decimal NOT NULL, details text NOT NULL, paid bool NOT NULL,"
               " note varchar(200) NOT NULL, amount integer NOT NULL)")
    db.execute("BEGIN")
    db.executemany(INSERT, (row() for _ in range(count)))
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
else:
    ends, begun = array("d"), time.monotonic()
    for number in range(count):
        if (left := begun + number / rate - time.monotonic()) > 0:
            time.sleep(left)
        db.execute(INSERT, row())
        ends.append(time.monotonic())
    open(stamps, "wb").write(ends.tobytes())
"""


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    made.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    made.add_argument("--rate", type=float, default=1000, help="commits a second")
    made.add_argument("--seconds", type=float, default=5, help="length of the paced part")
    options = made.parse_args()
    figures = Figures(f"adoption of {options.rows:,} rows of eight columns")
    with workbench(options) as bench:
        source = bench.source("app")
        _program(bench, source, "build", options.rows)
        copies: dict[bool, list[float]] = {False: [], True: []}
        lags: dict[bool, list[float]] = {False: [], True: []}
        reports: list[float] = []
        for _ in range(options.rounds):
            for adopted in (False, True):
                bench.forget()
                if adopted:
                    reports.append(_adopt(bench, source))
                with Mirror(bench, source) as mirror:
                    copies[adopted].append(mirror.ready())
                    lags[adopted] += _lags(options, bench, source, mirror)
                _require(bench, source)
        generic, own = (options.rows / median(copies[adopted]) for adopted in (False, True))
        figures.add("the mirror's own tables, start to following", generic, "rows/s")
        figures.add("the application's tables, start to following", own, "rows/s", "the mirror's own", generic)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            base, lag = (percentile(lags[adopted], share) for adopted in (False, True))
            figures.add(f"lag at {options.rate:g}/s, the mirror's own, {name}", base, "ms")
            figures.add(f"lag at {options.rate:g}/s, the application's, {name}", lag, "ms", "the mirror's own", base)
        figures.add("mirror adopt --dry-run: all values", median(reports), "s")
    figures.finish(options)


def _program(bench: Workbench, source: Path, job: str, count: int, rate: float = 1.0) -> None:
    given = [str(source), job, str(count), str(rate), str(bench.folder / "stamps")]
    subprocess.run([sys.executable, "-c", PROGRAM, *given], check=True, env=environment())


def _adopt(bench: Workbench, source: Path) -> float:
    """Seconds of the report; what it decides is remembered."""
    with bench.connect() as conn:
        conn.execute(IN_POSTGRES.encode())
    begun = time.monotonic()
    with connect(bench.dsn, raw=True) as conn:
        report = examine(source, conn, Wishes())
        took = time.monotonic() - begun
        remember(conn, str(source), report.decisions)
    return took


def _lags(options: argparse.Namespace, bench: Workbench, source: Path, mirror: Mirror) -> list[float]:
    """Milliseconds of each paced commit until Postgres has acknowledged it."""
    _program(bench, source, "commits", int(options.rate * options.seconds), options.rate)
    mirror.wait()
    trace = mirror.stop()
    values = (bench.folder / "stamps").read_bytes()
    ends = memoryview(values).cast("d")
    return [(trace.visible_at(at) - end) * 1e3 for at, end in enumerate(ends)]


def _require(bench: Workbench, source: Path) -> None:
    """Each row is there, or the figures say nothing."""
    with psycopg.connect(bench.dsn, cursor_factory=RawCursor) as conn:
        rows = conn.execute("SELECT count(*) FROM public.shop_order").fetchone()
        rejects = conn.execute("SELECT count(*) FROM mirror.rejects").fetchone()
    if rejects != (0,):
        raise SystemExit(f"rejects: {rejects}; rows: {rows}")


if __name__ == "__main__":
    main()
