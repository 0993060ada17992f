"""The ways to have a file's rows in Postgres, side by side: what they cost, how late they are, and what they lose.

No mirror; this mirror; AFTER triggers into an outbox with a copier; holypipe; a dual write by the program; and
Litestream, which copies the file and not the rows. Each has a copy of the same file with a text key and the same
writer. The writer's own commit is measured against one of the same writer on a file that nothing follows, right before
it. Processor time a commit is the writer's over alone, the copier's and Postgres'. The lag is what another process
sees, from the end of the writer's step: of a dual write that is after both. Then, with a new copy each, an event
happens, and all rows of both sides are compared by key: VACUUM, while the writer goes on; 100 rows that the program
changes twice, at once; SQL of another program, which inserts, changes, gives other keys and deletes 100 rows each;
``kill -9`` of the copier while the writer goes on, and its next start (or of the program, five times, where that is
what copies); a column more, with values in 100 rows that there are and in 100 new ones. Numbers that differ only behind
the twelfth digit are not counted as lost; they have a column of their own. The packages are installed from PyPI; what
cannot be is left out. ``--readme`` puts what was found into the two README.md that show it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _environments import installed
from _processes import Meter
from _sight import await_newest, lags
from _ways import PACKAGES, WAYS, Holypipe, Litestream, Way, columns_of, rows_of
from _ways_table import EVENTS, Found, Measured, fill, short, whole
from common import Workbench, median, parser, start_writer, workbench, write

import mirror

#: Rows that each kind of edit of another program touches.
_EDITED = 100
#: How often the program is killed where the program is what copies.
_KILLS = 5


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--size", type=float, default=3, help="MB of the database")
    made.add_argument("--rate", type=float, default=1000, help="commits a second")
    made.add_argument("--seconds", type=float, default=5, help="length of a measurement")
    made.add_argument("--settle", type=float, default=8, help="seconds until what is not there counts as lost")
    made.add_argument("--restart", type=float, default=60, help="the same after a copier was killed and started again")
    made.add_argument("--peers", metavar="DIR", help="an environment with the packages; made if it is not there")
    made.add_argument("--readme", action="store_true", help="put the tables into README.md, here and of the project")
    options = made.parse_args()
    with workbench(options) as bench:
        python = installed(Path(options.peers) if options.peers else bench.folder / "peers", PACKAGES)
        base = bench.source("base")
        write("build", path=base, table="text", megabytes=options.size)
        write("sparse", path=base)
        found = []
        measured = _measured(bench, options)
        for make in WAYS:
            if make in (Holypipe, Litestream) and not python:
                continue
            with _begun(make, bench, base, python) as way:
                found.append(one := _costs(way, options, base))
            for event in EVENTS if way.copies or way.arrives else ():
                with _begun(make, bench, base, python) as way:
                    one.lost[event] = _lost(way, event, options)
            print(f"{one.name}: done", flush=True)
    print(f"\n{measured}\n\n{short(found)}\n\n{whole(found)}")
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(one) for one in found]))
    if options.readme:
        if len(found) < len(WAYS):
            raise SystemExit("some ways were left out: each README.md stays as it is")
        fill(found, measured)


def _measured(bench: Workbench, options: argparse.Namespace) -> Measured:
    """On what is measured; the load is that of others, before anything begins."""
    with bench.connect() as conn:
        (server,) = conn.execute("SHOW server_version").fetchone() or ("",)
    versions = {
        "mirror": mirror.__version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": str(server),
    }
    return Measured(os.cpu_count() or 1, os.getloadavg()[0], options.rate, options.size, options.seconds, versions)


@contextmanager
def _begun(
    make: Callable[[Workbench, Path, Path, str], Way], bench: Workbench, base: Path, python: str
) -> Iterator[Way]:
    """A way with a new copy of the file, and new files of its own."""
    with tempfile.TemporaryDirectory(prefix="way-", dir=bench.folder, ignore_cleanup_errors=True) as name:
        way = make(bench, Path(name), bench.source(f"{Path(name).name}/item", base), python)
        way.start()
        try:
            yield way
        finally:
            way.stop()


def _costs(way: Way, options: argparse.Namespace, base: Path) -> Found:
    """What the way costs the writer and the machine, and how late it is."""
    found = Found(way.name)
    plain = way.bench.source(f"{way.folder.name}/plain", base)
    count = int(options.rate * options.seconds)
    job = {"table": "text", "rate": options.rate, "commits": count, "stamps": way.bench.folder / "stamps"}
    time.sleep(2.0)
    alone = write("commits", path=plain, seed=1, **job)
    found.alone = _middle(way.bench)
    meter = Meter(way.groups())
    done = write("commits", path=way.source, seed=1, **job, **way.job)
    found.commit = _middle(way.bench)
    found.writer = (done["processor"] - alone["processor"]) / count * 1e6
    if way.arrives:
        with way.bench.connect(way.dsn) as conn:
            await_newest(conn, way.source)
    taken = meter.taken()
    found.copier, found.postgres = (taken.get(part, 0.0) / count * 1e6 for part in ("copier", "Postgres"))
    if way.arrives:
        found.lag = lags(
            way.bench, way.dsn, [way.source], rate=options.rate, seconds=options.seconds, seed=2, **way.job
        )
    if way.arrives or way.copies:
        _, found.inexact = _settled(way, options.settle)
    return found


def _middle(bench: Workbench) -> float:
    """Microseconds of the middle commit of the last run."""
    begins, ends = bench.stamps(bench.folder / "stamps")
    return median([(end - begin) * 1e6 for begin, end in zip(begins, ends, strict=True)])


def _lost(way: Way, event: str, options: argparse.Namespace) -> int:
    """Have an event happen; rows that differ after it."""
    job = {"path": way.source, "table": "text", "rate": options.rate / 2, "seconds": 2.0, **way.job}
    allowed = options.settle
    if event == "a row changed twice":
        write("twice", path=way.source, rows=_EDITED, **way.job)
    elif event == "another program's SQL":
        write("edit", path=way.source, rows=_EDITED)
    elif event == "ADD COLUMN":
        write("widen", path=way.source, rows=_EDITED)
    elif event == "kill -9" and way.running is None:
        _kill_program(way)
    else:
        writer = start_writer("commits", seed=10, **job)
        time.sleep(1.0)
        if event == "kill -9" and way.running is not None:
            way.running.kill()
            writer.result()
            way.running = way.begin()
            allowed = options.restart
        else:
            write("vacuum", path=way.source)
            writer.result()
    return _settled(way, allowed)[0]


def _kill_program(way: Way) -> None:
    """Kill the program between two instructions of its, some times."""
    for number in range(_KILLS):
        writer = start_writer("commits", path=way.source, table="text", seed=20 + number, seconds=60.0, **way.job)
        time.sleep(1.5)
        writer.kill()


def _settled(way: Way, seconds: float) -> tuple[int, bool]:
    """Wait until no rows differ, so many seconds at most.

    How many differ then, and whether others differ behind the twelfth digit.
    """
    columns, mine = columns_of(way.source), rows_of(way.source)
    deadline = time.monotonic() + seconds
    while True:
        theirs = way.rows(columns)
        lost = sum(_rounded(theirs.get(key)) != _rounded(row) for key, row in mine.items()) + len(theirs.keys() - mine)
        if not lost or time.monotonic() > deadline:
            return lost, sum(theirs.get(key) != row for key, row in mine.items()) + len(theirs.keys() - mine) > lost
        time.sleep(0.3)


def _rounded(row: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    return row and tuple(f"{value:.12g}" if isinstance(value, float) else value for value in row)


if __name__ == "__main__":
    main()
