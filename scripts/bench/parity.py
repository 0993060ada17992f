"""Parity: how fast it compares, and what it costs whoever works beside it.

At rest: a table of three small columns beside a mirror that has nothing to do. Against it, what one would write without
parity: COPY (SELECT ...) out of Postgres, one SELECT out of SQLite, and both compared row by row as text in plain
Python. That is right only while nobody writes, and is one read transaction; parity's longest is beside it.

The writer: how long a paced commit takes beside a running mirror, without and with parity again and again.

The link: rows by rows, by digests, and as parity chooses; on the server's socket, and through a proxy that lets so
many bytes a second come from Postgres (and adds no latency).

In the background: unpaced commits until Postgres has them, without and with the comparison that `mirror up` makes
every ten minutes, here all the time. As there, mirror and comparison share one process, which is this one.

A ratio by pairs is the middle one of those of two rounds that follow each other. No comparison may find a difference.
"""

from __future__ import annotations

import argparse
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import apsw
import psycopg
from common import Figure, Figures, Mirror, Workbench, median, parser, percentile, workbench, write
from loguru import logger

from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.folders import resolve, source_folder
from mirror.parity.compare import compare
from mirror.parity.digests import Choice
from mirror.parity.report import ParityReport
from mirror.sidecar.parity_watch import ParityWatch
from mirror.sidecar.supervisor import Supervisor, SupervisorSettings

WAYS: dict[str, Callable[[Choice], bool]] = {
    "rows": lambda _: False,
    "digests": lambda _: True,
    "as chosen": Choice.by_digest,
}
SIDES = ("without", "with")
#: What each round found, without and with a comparison beside it.
Rounds = dict[str, list[list[float]]]
Beside = AbstractContextManager[None]


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=500_000, help="rows of the table that is compared at rest")
    made.add_argument("--rounds", type=int, default=5, help="pairs of rounds; over the slow link it is one")
    made.add_argument("--size", type=float, default=20, help="MB of the database that is written meanwhile")
    made.add_argument("--rate", type=float, default=200, help="commits a second when paced")
    made.add_argument("--seconds", type=float, default=5, help="length of a paced round")
    made.add_argument("--commits", type=int, default=20_000, help="commits of an unpaced round")
    made.add_argument("--link-size", type=float, default=30, help="MB of the database behind the slow link")
    made.add_argument("--link-rate", type=float, default=2, help="MB a second that the slow link lets through")
    options = made.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="DEBUG" if options.keep_log else "ERROR")
    figures = Figures(f"parity of {options.rows:,} rows")
    with workbench(options) as bench:
        _at_rest(options, figures, bench)
        _beside_a_writer(options, figures, bench)
        _over_a_link(options, figures, bench)
        _in_the_background(options, figures, bench)
    figures.finish(options)


def _parity(dsn: str, source: Path, schema: str, folder: Path) -> ParityReport:
    """Compare, as `mirror parity` does."""
    with psycopg.connect(dsn) as connection, ControlClient(folder) as gate:
        report = compare(source, connection, schema, gate)
    if report.verdict != "equal":
        raise SystemExit(f"parity of {source.name}: {report.headline}")
    return report


def _pairs(figures: Figures, name: str, found: list[float], unit: str, against: str, base: list[float]) -> None:
    """Add a figure with its ratio by pairs."""
    ratio = median([one / other for one, other in zip(found, base, strict=True)])
    figures.lines.append(Figure(name, median(found), unit, f"{against}, by pairs", ratio))


def _both(figures: Figures, name: str, found: Rounds, place: int, unit: str) -> None:
    """Add the figure that stands at this place of each round."""
    alone, beside = ([round_[place] for round_ in found[side]] for side in SIDES)
    figures.add(f"{name}, no parity", median(alone), unit)
    _pairs(figures, f"{name}, parity beside", beside, unit, "no parity", alone)


def _in_pairs(pairs: int, beside: Callable[[], Beside], work: Callable[[int], list[float]]) -> Rounds:
    """Do numbered rounds without and with what goes on beside; of a pair now the one comes first, now the other."""
    found: Rounds = {side: [] for side in SIDES}
    for number in range(2 * pairs):
        side = SIDES[(number + number // 2) % 2]
        with beside() if side == "with" else nullcontext():
            found[side].append(work(number))
    return found


@contextmanager
def _repeated(
    run: Callable[[], ParityReport], reports: list[ParityReport], end: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Compare again and again in a thread until the block ends; ``end`` makes the last run end early."""
    ended = threading.Event()

    def again() -> None:
        while not ended.is_set():
            reports.append(run())

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(again)
        try:
            yield
        finally:
            ended.set()
            end()
        running.result()


def _at_rest(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    source = bench.source("narrow")
    with closing(apsw.Connection(str(source))) as db:
        db.pragma("journal_mode", "wal")
        with db:
            db.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, value INTEGER)")
            rows = ((number, f"name {number % 1009}", number * 7) for number in range(options.rows))
            db.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
    ours, plain, longest = [], [], []
    with Mirror(bench, source, "narrow") as mirror:
        mirror.ready()
        for _ in range(options.rounds):
            begun = time.perf_counter()
            longest.append(_parity(bench.dsn, source, "narrow", mirror.folder).longest_read * 1e3)
            ours.append(options.rows / (time.perf_counter() - begun))
            begun = time.perf_counter()
            _plainly(bench, source)
            plain.append(options.rows / (time.perf_counter() - begun))
    figures.add("COPY and SELECT, compared in Python", median(plain), "rows/s")
    _pairs(figures, "parity", ours, "rows/s", "COPY and SELECT", plain)
    whole = options.rows / median(plain) * 1e3
    figures.add("COPY and SELECT, read transaction", whole, "ms")
    figures.add("parity, longest read transaction", max(longest), "ms", "COPY and SELECT", whole)


def _plainly(bench: Workbench, source: Path) -> None:
    """Compare the same without parity; all the time one read transaction is open."""
    query = "SELECT id, name, value FROM {} ORDER BY id"
    with (
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as db,
        bench.connect() as conn,
        conn.cursor().copy(f"COPY ({query.format('narrow.item')}) TO STDOUT") as copied,
    ):
        for (number, name, value), line in zip(db.execute(query.format("item")), copied, strict=True):
            if f"{number}\t{name}\t{value}\n".encode() != line:
                raise SystemExit(f"row {number} differs")


def _beside_a_writer(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    source, stamps = bench.source("written"), bench.folder / "stamps"
    write("build", path=source, table="integer", megabytes=options.size)
    work = {"path": source, "table": "integer", "rate": options.rate, "seconds": options.seconds, "stamps": stamps}
    reports: list[ParityReport] = []

    def paced(number: int) -> list[float]:
        write("commits", seed=number, **work)
        took = [(end - begin) * 1e6 for begin, end in zip(*bench.stamps(stamps), strict=True)]
        return [percentile(took, 0.5), percentile(took, 0.99)]

    with Mirror(bench, source, "written") as mirror:
        mirror.ready()
        parity = partial(_parity, bench.dsn, source, "written", mirror.folder)
        found = _in_pairs(options.rounds, lambda: _repeated(parity, reports), paced)
    for place, name in enumerate(("p50", "p99")):
        _both(figures, f"writer at {options.rate:g}/s, {name}", found, place, "µs")
    figures.add("parity runs beside the writer", len(reports), "")
    figures.add("longest read transaction beside the writer", max(run.longest_read * 1e3 for run in reports), "ms")


def _over_a_link(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    source = bench.source("far")
    write("build", path=source, table="text", megabytes=options.link_size)
    with Mirror(bench, source, "far") as mirror, _slow_link(bench.dsn, options.link_rate * 1e6) as slow:
        mirror.ready()
        for link, dsn, rounds in (("socket", bench.dsn, options.rounds), (f"{options.link_rate:g} MB/s", slow, 1)):
            found: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way, by_digest in WAYS.items():
                    with patch.object(Choice, "by_digest", by_digest):
                        found[way].append(_parity(dsn, source, "far", mirror.folder).rows_per_second)
            figures.add(f"{link}, rows", median(found["rows"]), "rows/s")
            for way in ("digests", "as chosen"):
                _pairs(figures, f"{link}, {way}", found[way], "rows/s", f"{link}, rows", found["rows"])


def _pass(taken: socket.socket, given: socket.socket, rate: float) -> None:
    """Hand on what comes, until nothing more does; then both sides are ended."""
    due = time.monotonic()
    with suppress(OSError):
        while data := taken.recv(16384):
            # What was not used of the last 10 ms may be made up for.
            due = max(due, time.monotonic() - 0.01) + len(data) / rate
            time.sleep(max(0.0, due - time.monotonic()))
            given.sendall(data)
    for side in (taken, given):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


@contextmanager
def _slow_link(dsn: str, rate: float) -> Iterator[str]:
    """Give a DSN that leads through a proxy, which lets so many bytes a second come back."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    target = f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"

    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as far:
                far.connect(target)
                back = threading.Thread(target=_pass, args=(far, self.request, rate))
                back.start()
                _pass(self.request, far, float("inf"))
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Passing) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=proxy.server_address[1])
        finally:
            proxy.shutdown()
            serving.join()


def _in_the_background(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    source, stamps = bench.source("background"), bench.folder / "stamps"
    write("build", path=source, table="integer", megabytes=options.size)
    work = {"path": source, "table": "integer", "commits": options.commits, "stamps": stamps}
    reports: list[ParityReport] = []

    def compared() -> Beside:
        verifier = ParityWatch({source: "background"}, bench.dsn, bench.state_dir)
        return _repeated(partial(verifier.verify, source), reports, verifier.stop)

    with _sidecar(bench, source, "background") as client:

        def unpaced(number: int) -> list[float]:
            done = write("commits", seed=number, **work)
            if not client.wait(300.0):
                raise SystemExit(f"the mirror did not catch up: {client.status()}")
            took = time.monotonic() - bench.stamps(stamps)[0][0]
            return [done["commits"] / took, done["commits"] / done["seconds"], took]

        found = _in_pairs(options.rounds, compared, unpaced)
        gaps = len(client.status().gaps)
    for place, name in enumerate(("applied", "written")):
        _both(figures, f"unpaced, {name}", found, place, "commits/s")
    figures.add("unpaced, gaps of all rounds", gaps, "")
    if wrong := [report.headline for report in reports if report.verdict == "different"]:
        raise SystemExit(f"in the background: {wrong[0]}")
    # What the end of a round cut off is not counted.
    broken = [report.reason for report in reports if report.reason and "the mirror ends" not in report.reason]
    seconds = sum(took for _, _, took in found["with"])
    figures.add("in the background, compared", sum(report.rows for report in reports) / seconds, "rows/s")
    figures.add("in the background, runs broken off", len(broken), "")
    for reason in broken:
        print(f"in the background: {reason}")


@contextmanager
def _sidecar(bench: Workbench, source: Path, schema: str) -> Iterator[ControlClient]:
    """Mirror a source in this process; a conversation with the mirror, which follows the source."""
    supervisor = Supervisor(SupervisorSettings([source], bench.dsn, bench.state_dir, schema))
    supervisor.start()
    try:
        with wait_for_mirror(source_folder(bench.state_dir, resolve(source)), 30.0) as client:
            while (status := client.status()).phase != "following" or not status.caught_up_at:
                if status.phase == "failed":
                    raise SystemExit(f"the mirror does not follow the source: {status}")
                time.sleep(0.01)
            yield client
    finally:
        supervisor.stop(timeout=20.0)


if __name__ == "__main__":
    main()
