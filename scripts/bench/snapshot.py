"""The first copy: a database of a million rows of twelve columns, from nothing to following.

Measured is what the operator waits for: from starting the mirror's process until it follows the source
(interpreter, connections, page copy, scan of the types, COPY, primary key, catching up). Against it: the
same rows by raw COPY, from bytes that Postgres itself wrote beforehand, into a new table in the same
transaction; alone and with its primary key. No client work is left in that, so it is the limit. With
pgloader installed (`apt-get install pgloader`) it loads the same file too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

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
        source = bench.source("source")
        built = write("build", path=source, table="wide", rows=options.rows)
        ours, raw, keyed = [], [], []
        for number in range(options.rounds):
            shutil.rmtree(bench.state_dir)
            bench.state_dir.mkdir()
            with bench.connect() as conn:
                conn.execute("DROP SCHEMA IF EXISTS public CASCADE")
                conn.execute("DROP SCHEMA IF EXISTS mirror CASCADE")
                conn.execute("CREATE SCHEMA public")
                conn.execute("CHECKPOINT")
            with Mirror(bench, source) as mirror:
                ours.append(mirror.ready())
            with bench.connect() as conn:
                if not number:
                    size = _export(conn, bench.folder / "rows")
                conn.execute("CHECKPOINT")
                copied, indexed = _raw_copy(conn, bench.folder / "rows")
            raw.append(copied)
            keyed.append(copied + indexed)
        rows = options.rows
        figures.add("size of the SQLite file", built["bytes"] / 1e6, "MB")
        figures.add("bytes of COPY", size / 1e6, "MB")
        figures.add("raw COPY of the same bytes", rows / median(raw), "rows/s")
        figures.add("raw COPY and primary key", rows / median(keyed), "rows/s")
        figures.add("mirror, start to following", rows / median(ours), "rows/s", "raw COPY", rows / median(raw))
        figures.add("mirror, start to following", median(ours), "s", "raw COPY and key", median(keyed))
        if options.pgloader and shutil.which("pgloader"):
            took = _pgloader(bench, source)
            figures.add("pgloader, start to end", rows / took, "rows/s", "mirror", rows / median(ours))
    figures.finish(options)


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


def _pgloader(bench: Workbench, source: Path) -> float:
    """Seconds of a pgloader run; it is given a copy of the file and a schema of its own."""
    conn = conninfo_to_dict(bench.dsn)
    with bench.connect() as session:
        session.execute("CREATE DATABASE loaded")
    target = f"postgresql://{conn['user']}@unix:{conn['host']}:{conn.get('port') or 5432}/loaded"
    begun = time.monotonic()
    ran = subprocess.run(
        ["pgloader", str(bench.source("pgloader", source)), target],
        capture_output=True, text=True, env=os.environ | {"PGUSER": str(conn["user"])},
    )  # fmt: skip
    if ran.returncode or "ERROR" in ran.stdout:
        print(ran.stdout[-2000:])
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
