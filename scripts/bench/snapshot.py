"""The first copy: a database of a million rows of twelve columns, from nothing to following.

Measured is what the operator waits for: from starting the mirror's process until it follows the source
(interpreter, connections, page copy, COPY, primary key, catching up). Against it: the
same rows by raw COPY, from bytes that Postgres itself wrote beforehand, into a new table in the same
transaction; alone and with its primary key. No client work is left in that, so it is the limit. With
pgloader installed (`apt-get install pgloader`) it loads the same file too. A first round, which is not timed, looks at
the memory of the mirror's processes (not Postgres) twenty times a second. It leaves the modules compiled, as `pip
install` does: a shell that forbids Python to keep them so would add a second to each start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import psutil
import psycopg
from common import Conn, Figures, Mirror, Workbench, median, parser, workbench, write
from psycopg.conninfo import conninfo_to_dict

BLOCK = 1 << 18


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    made.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    made.add_argument("--pgloader", action="store_true", help="compare with pgloader, if it is installed")
    options = made.parse_args()
    figures = Figures(f"snapshot of {options.rows:,} rows of twelve columns")
    with workbench(options) as bench:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(bench.folder / "compiled")
        source = bench.source("source")
        built = write("build", path=source, table="wide", rows=options.rows)
        with Mirror(bench, source) as mirror:
            resident = _peak_memory(mirror)
        ours, raw, keyed, work = [], [], [], []
        theirs: list[float] = []
        compared = options.pgloader and shutil.which("pgloader") is not None
        for number in range(options.rounds):
            bench.forget()
            with Mirror(bench, source) as mirror:
                ours.append(mirror.ready())
                work.append(sum(sum(process.cpu_times()[:2]) for process in _processes(mirror)))
            with bench.connect() as conn:
                if not number:
                    size = _export(conn, bench.folder / "rows")
                conn.execute("CHECKPOINT")
                copied, indexed = _raw_copy(conn, bench.folder / "rows")
            raw.append(copied)
            keyed.append(copied + indexed)
            # In the same round, because the machine may have more to do in the next.
            if compared and (took := _pgloader(bench, source, options.rows)) is not None:
                theirs.append(took)
        rows = options.rows
        figures.add("size of the SQLite file", built["bytes"] / 1e6, "MB")
        figures.add("bytes of COPY", size / 1e6, "MB")
        figures.add("raw COPY of the same bytes", rows / median(raw), "rows/s")
        figures.add("raw COPY and primary key", rows / median(keyed), "rows/s")
        figures.add("mirror, start to following", rows / median(ours), "rows/s", "raw COPY", rows / median(raw))
        figures.add("mirror, start to following", median(ours), "s", "raw COPY and key", median(keyed))
        figures.add("mirror, best run", rows / min(ours), "rows/s", "raw COPY, best run", rows / min(raw))
        figures.add("mirror's processes, CPU", median(work), "s", "raw COPY", median(raw))
        figures.add("mirror's processes, resident at most", resident, "MB")
        if compared:
            failed = options.rounds - len(theirs)
            figures.add("pgloader, runs that did not load every row", failed, f"of {options.rounds}")
            if theirs:
                figures.add("pgloader, start to end", rows / median(theirs), "rows/s")
                figures.add(
                    "mirror, start to following", rows / median(ours), "rows/s", "pgloader", rows / median(theirs)
                )
    figures.finish(options)


def _processes(mirror: Mirror) -> list[psutil.Process]:
    main = psutil.Process(mirror.pid)
    return [main, *main.children(recursive=True)]


def _peak_memory(mirror: Mirror) -> float:
    """Megabytes that the mirror's processes have at most until it follows."""
    peak = 0.0
    ready = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ready.wait(0.05):
            peak = max(peak, sum(process.memory_info().rss / 1e6 for process in _processes(mirror)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        mirror.ready()
    finally:
        ready.set()
        thread.join()
    return peak


def _export(conn: Conn, path: Path) -> int:
    with path.open("wb") as file, conn.cursor().copy("COPY public.item TO STDOUT (FORMAT binary)") as copy:
        for block in copy:
            file.write(block)
    return path.stat().st_size


def _raw_copy(conn: Conn, path: Path) -> tuple[float, float]:
    """Seconds of the COPY, and of the primary key behind it."""
    conn.execute("DROP TABLE IF EXISTS raw_copy")
    with path.open("rb") as file:
        begun = time.monotonic()
        conn.execute("BEGIN")
        conn.execute("CREATE TABLE raw_copy (LIKE public.item)")
        with conn.cursor().copy("COPY raw_copy FROM STDIN (FORMAT binary)") as copy:
            while block := file.read(BLOCK):
                copy.write(block)
        conn.execute("COMMIT")
        copied = time.monotonic()
    conn.execute("SET maintenance_work_mem = '256MB'")  # as the mirror does
    conn.execute("ALTER TABLE raw_copy ADD PRIMARY KEY (id)")
    end = time.monotonic()
    conn.execute("DROP TABLE raw_copy")
    return copied - begun, end - copied


def _pgloader(bench: Workbench, source: Path, rows: int) -> float | None:
    """Seconds of a pgloader run, on a copy of the file and a database of its own; None if it did not load all rows."""
    conn = conninfo_to_dict(bench.dsn)
    with bench.connect() as session:
        session.execute("DROP DATABASE IF EXISTS loaded WITH (FORCE)")
        session.execute("CREATE DATABASE loaded")
        session.execute("CHECKPOINT")
    copy = bench.source("pgloader", source)
    target = f"postgresql://{conn['user']}@unix:{conn['host']}:{conn.get('port') or 5432}/loaded"
    begun = time.monotonic()
    ran = subprocess.run(
        ["pgloader", str(copy), target],
        capture_output=True, text=True, env=os.environ | {"PGUSER": str(conn["user"])},
        stdin=subprocess.DEVNULL,  # when it fails it asks what to do
    )  # fmt: skip
    took = time.monotonic() - begun
    with psycopg.connect(bench.dsn, dbname="loaded") as session:
        there = session.execute("SELECT to_regclass('item') IS NOT NULL").fetchone() == (True,)
        loaded = session.execute("SELECT count(*) FROM item").fetchone() if there else None
    if ran.returncode or loaded != (rows,):
        print(f"pgloader ended with {ran.returncode}, rows loaded: {loaded}", ran.stdout[-1500:], ran.stderr[-500:])
        return None
    return took


if __name__ == "__main__":
    main()
