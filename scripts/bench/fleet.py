"""Many small sources in one ``mirror up``: what they cost while nothing happens, and whether they are apart.

For each number of sources: seconds from the start until all are followed; then threads, descriptors, memory and
sessions in Postgres; the share of a core that mirror and capture take while nobody writes; the time from a commit of
one source to the moment a polling reader sees the row, alone and while another source's table is locked in Postgres;
the same for the first commit after a rest, source by source; and seconds from SIGTERM to the end.
"""

from __future__ import annotations

import sqlite3
import time
from argparse import Namespace
from pathlib import Path

from _processes import Meter, Up, family, resident
from common import Conn, Figures, Workbench, parser, percentile, workbench

from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.folders import resolve, source_folder

#: Seconds until all sources of a round must be followed, and for one commit to be seen.
FOLLOW_SECONDS, SIGHT_SECONDS = 900.0, 60.0


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--sources", type=int, nargs="+", default=[1, 10, 100, 500], help="numbers of sources")
    made.add_argument("--idle", type=float, default=30.0, help="seconds for which the idle mirror is watched")
    made.add_argument("--rest", type=float, default=20.0, help="seconds of rest before that")
    made.add_argument("--commits", type=int, default=500, help="commits of one source that are timed")
    made.add_argument("--firsts", type=int, default=20, help="sources of which the first commit after a rest is timed")
    options = made.parse_args()
    figures = Figures("fleet")
    for number in options.sources:
        with workbench(options) as bench:
            _round(figures, bench, number, options)
    figures.finish(options)


def _round(figures: Figures, bench: Workbench, number: int, options: Namespace) -> None:
    paths = [bench.source(f"s{at}") for at in range(number)]
    stores = [create(path, at) for at, path in enumerate(paths)]

    def add(what: str, value: float, unit: str = "") -> None:
        figures.add(f"{number} sources: {what}", value, unit)

    with bench.connect() as reader, bench.connect() as other:
        own = _sessions(reader)
        begun = time.monotonic()
        with Up(bench.dsn, bench.state_dir, paths, log=bench.show_log) as up:
            _follow(bench, paths, up)
            add("start until all are followed", time.monotonic() - begun, "s")
            everyone = family(up.pid)
            time.sleep(options.rest)
            add("threads", sum(each.num_threads() for each in everyone))
            add("descriptors", sum(each.num_fds() for each in everyone))
            add("sessions in Postgres", _sessions(reader) - own)
            add("memory", resident(everyone), "MB")
            meter = Meter({"mirror": lambda: everyone[:1], "capture": lambda: everyone[1:], "both": lambda: everyone})
            time.sleep(options.idle)
            for part, seconds in meter.taken().items():
                add(f"idle, {part}", seconds / options.idle * 100, "% of a core")
            firsts = [_timed(stores[at], at, reader, "first") for at in range(1, min(number, options.firsts + 1))]
            for name, share in (("p50", 0.5), ("max", 1.0)):
                if firsts:
                    add(f"first commit to sight, {name}", percentile(firsts, share), "ms")
            free = _lag(stores[-1], number - 1, reader, options.commits, "free")
            _report_lag(figures, number, free, "", free)
            if number > 1:
                other.execute("BEGIN")
                other.execute("LOCK TABLE item_0 IN EXCLUSIVE MODE")
                stores[0].execute("INSERT INTO item_0(v) VALUES ('stuck')")
                stuck = _lag(stores[-1], number - 1, reader, options.commits, "beside")
                other.execute("ROLLBACK")
                _report_lag(figures, number, stuck, ", one stuck", free)
            begun = time.monotonic()
            up.stop()
            add("stop", time.monotonic() - begun, "s")
    for store in stores:
        store.close()


def _report_lag(figures: Figures, number: int, took: list[float], how: str, base: list[float]) -> None:
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        what, against = f"{number} sources: commit to sight{how}, {name}", "none stuck" if how else ""
        figures.add(what, percentile(took, share), "ms", against, percentile(base, share) if how else None)


def create(path: Path, at: int) -> sqlite3.Connection:
    """Make the file of one source of many, with a row in a table of its own."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=OFF")
    store.execute(f"CREATE TABLE item_{at}(id INTEGER PRIMARY KEY, v TEXT)")
    store.execute(f"INSERT INTO item_{at}(v) VALUES ('made')")
    return store


def _follow(bench: Workbench, paths: list[Path], up: Up) -> None:
    """Wait until all is in Postgres."""
    deadline = time.monotonic() + FOLLOW_SECONDS
    for path in paths:
        folder = source_folder(bench.state_dir, resolve(path))
        wait_for_mirror(folder, FOLLOW_SECONDS, lambda: up.runs).close()
        with ControlClient(folder, 60.0) as client:
            while not client.status().caught_up_at:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{path.name} is not followed: {client.status()}")
                time.sleep(0.01)


def _sessions(conn: Conn) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    ((found,),) = conn.execute(query).fetchall()
    return int(found)


def _timed(store: sqlite3.Connection, at: int, reader: Conn, key: str) -> float:
    """Milliseconds from a commit to sight."""
    store.execute(f"INSERT INTO item_{at}(v) VALUES (?)", (key,))
    begun = time.monotonic()
    query = f"SELECT 1 FROM item_{at} WHERE v = $1".encode()
    while not reader.execute(query, (key,), prepare=True).fetchone():
        if time.monotonic() - begun > SIGHT_SECONDS:
            raise SystemExit(f"source {at} does not get on")
    return (time.monotonic() - begun) * 1e3


def _lag(store: sqlite3.Connection, at: int, reader: Conn, commits: int, name: str) -> list[float]:
    return [_timed(store, at, reader, f"{name}{number}") for number in range(commits)]


if __name__ == "__main__":
    main()
