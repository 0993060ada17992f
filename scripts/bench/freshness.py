"""What it costs to prove that a read from Postgres is fresh, and what it costs the mirror to publish its position.

The check is ``begin``, ``wait`` (where nothing has to be waited for) and ``proves``: without the question to Postgres.
It is timed at rest and beside a writer that commits 1,000 times a second: then the WAL index is another at almost every
read, and is parsed. A read by key with its proof is compared with the same SELECT alone, in turns; beside the writer it
has to wait for the mirror, at most 20 ms, and then goes to SQLite (the share of these is shown).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from common import Conn, Figures, Mirror, Workbench, median, parser, percentile, start_writer, workbench, write

from mirror.core.positions import Lsn, Position, Salts
from mirror.core.published import Publisher
from mirror.storage.freshness import Freshness
from mirror.storage.newest import WalIndex
from mirror.storage.proofs import PositionRow

BARE = "SELECT * FROM public.item WHERE id = 77"
PROVED = f"""
SELECT s.generation, s.frame, s.salt1, s.salt2, s.lineage::text, q.*
  FROM mirror.sources s LEFT JOIN LATERAL ({BARE}) q ON true WHERE s.source_id = $1
"""


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--checks", type=int, default=20_000, help="checks of a round")
    made.add_argument("--reads", type=int, default=3_000, help="reads of a round")
    made.add_argument("--rounds", type=int, default=5, help="rounds at rest")
    made.add_argument("--rate", type=float, default=1_000, help="commits a second of the writer")
    made.add_argument("--seconds", type=float, default=5, help="length of the round beside it")
    options = made.parse_args()
    figures = Figures("freshness of reads")
    with workbench(options) as bench:
        source = bench.source("source")
        write("build", path=source, table="integer", megabytes=5)
        _publish(options, figures, bench.folder)
        with Mirror(bench, source) as mirror, bench.connect() as conn:
            mirror.ready()
            keeper = apsw.Connection(str(source))
            keeper.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            freshness = Freshness(source, bench.state_dir)
            begun = time.monotonic()
            if not freshness.prepare(30.0):
                raise SystemExit(f"reads cannot be proved: {freshness.error}")
            figures.add("asking the mirror, once", (time.monotonic() - begun) * 1e3, "ms")
            _parts(options, figures, freshness, source)
            _reads(options, figures, freshness, conn)
            _beside(options, figures, freshness, conn, bench, source)
            keeper.close()
    figures.finish(options)


def _publish(options: argparse.Namespace, figures: Figures, folder: Path) -> None:
    publisher = Publisher(folder)
    lineage = "00000000-0000-4000-8000-000000000000"
    positions = iter([Position(Lsn(7, frame), Salts(1, 2), 1e9) for frame in range(options.checks * options.rounds)])

    def publish() -> None:
        publisher.publish(1, 2, lineage, next(positions), wal=True)

    figures.add("publishing a position", _each(options, publish), "us")
    publisher.close()


def _each(options: argparse.Namespace, work: Callable[[], object]) -> float:
    """Microseconds of one call: the middle round's mean."""
    rounds = []
    for _ in range(options.rounds):
        begun = time.perf_counter()
        for _ in range(options.checks):
            work()
        rounds.append((time.perf_counter() - begun) / options.checks * 1e6)
    return median(rounds)


def _row(freshness: Freshness) -> PositionRow:
    published = freshness.published()
    assert published is not None
    lsn, salts = published.position.lsn, published.position.salts
    return PositionRow(lsn.generation, lsn.frame, *salts, published.lineage)


def _parts(options: argparse.Namespace, figures: Figures, freshness: Freshness, source: Path) -> None:
    index, row = WalIndex(source), _row(freshness)
    index.newest()
    descriptor = index._descriptor
    figures.add("pread of the index's header", _each(options, lambda: os.pread(descriptor, 96, 0)), "us")
    figures.add("newest commit", _each(options, index.newest), "us")
    start = freshness.begin()
    assert start.reason is None and freshness.proves(start, row)
    figures.add("begin", _each(options, freshness.begin), "us")
    figures.add("wait, applied already", _each(options, lambda: freshness.wait(start, 0.0)), "us")
    figures.add("proves", _each(options, lambda: freshness.proves(start, row)), "us")
    figures.add("check at rest", _each(options, lambda: _check(freshness, row)), "us")


def _check(freshness: Freshness, row: PositionRow) -> bool:
    start = freshness.begin()
    return freshness.wait(start, 0.0) is None and freshness.proves(start, row)


def _read(freshness: Freshness, conn: Conn, source_id: int, wait: float) -> bool:
    start = freshness.begin()
    if freshness.wait(start, time.monotonic() + wait) is not None:
        return False
    found: Any = conn.execute(PROVED, (source_id,), prepare=True).fetchone()
    return freshness.proves(start, PositionRow(*found[:5]))


def _reads(options: argparse.Namespace, figures: Figures, freshness: Freshness, conn: Conn) -> None:
    published = freshness.published()
    assert published is not None
    bare: list[float] = []
    proved: list[float] = []
    checks: list[float] = []
    row = _row(freshness)
    for _ in range(options.reads):
        begun = time.perf_counter()
        _check(freshness, row)
        checks.append((time.perf_counter() - begun) * 1e6)
        begun = time.perf_counter()
        conn.execute(BARE, prepare=True).fetchone()
        middle = time.perf_counter()
        if not _read(freshness, conn, published.source_id, 0.0):
            raise SystemExit("a read at rest was not proved")
        bare.append((middle - begun) * 1e6)
        proved.append((time.perf_counter() - middle) * 1e6)
    figures.add("check at rest, between reads, p50", median(checks), "us")
    figures.add("SELECT by psycopg alone, p50", median(bare), "us")
    figures.add("with its proof, at rest, p50", median(proved), "us", "alone", median(bare))


def _beside(
    options: argparse.Namespace, figures: Figures, freshness: Freshness, conn: Conn, bench: Workbench, source: Path
) -> None:
    published = freshness.published()
    assert published is not None
    writer = start_writer(
        "commits", path=source, table="integer", seed=5, rate=options.rate,
        commits=int(options.rate * options.seconds), stamps=bench.folder / "stamps",
    )  # fmt: skip
    begins: list[float] = []
    checks: list[float] = []
    reads: list[float] = []
    fallbacks = 0
    first = published.position
    while writer.running:
        begun = time.perf_counter()
        start = freshness.begin()
        begins.append((time.perf_counter() - begun) * 1e6)
        row = _row(freshness)
        begun = time.perf_counter()
        freshness.wait(start, 0.0)
        freshness.proves(start, row)
        checks.append((time.perf_counter() - begun) * 1e6 + begins[-1])
        begun = time.perf_counter()
        good = _read(freshness, conn, published.source_id, 0.02)
        took = (time.perf_counter() - begun) * 1e3
        last = freshness.published()
        if last is None or last.position == first:
            continue  # the writer has not begun
        reads.append(took)
        fallbacks += not good
    writer.result()
    beside = f"at {options.rate:g}/s"
    figures.add(f"begin {beside}, p50", median(begins), "us")
    figures.add(f"check {beside}, p50", median(checks), "us")
    figures.add(f"read {beside}, with waiting, p50", median(reads), "ms")
    figures.add(f"read {beside}, with waiting, p99", percentile(reads, 0.99), "ms")
    figures.add(f"reads {beside} that go to SQLite", 100 * fallbacks / max(1, len(reads)), "%")


if __name__ == "__main__":
    main()
