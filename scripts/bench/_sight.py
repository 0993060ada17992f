"""When the rows of a paced writer come into sight in Postgres, as another process sees it: every so-many-th of them.

``python _sight.py JSON`` asks for one key after the other, which it knows, as the writer's rows are the same for the
same seed, and prints the commits' numbers and times (``time.monotonic()``) as one line of JSON, after one that says
that it is ready. It asks without a
pause as long as little time has passed: a pause is 2 % of the wait so far. Between two keys it rests for half of the
time until the next is due, so that it takes little from those that are measured.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from _processes import Running
from _writer import Rows
from common import Conn, Workbench, percentile, start, write
from psycopg import RawCursor

now = time.monotonic


def keys(table: str, seed: int, files: int, count: int) -> list[Any]:
    """Keys of the rows that the writer's job ``commits`` inserts with this seed into so many files."""
    make = Rows(table, 1000 + seed)
    made = (make.row()[0] for _ in iter(int, 1))
    return list(islice(made, files, files + count))


def await_key(there: Callable[[], bool], what: str, timeout: float = 60.0, up: Running | None = None) -> float:
    """Wait until it is there; the time (monotonic) at which it was.

    ``up``: what brings it. Raises ``SystemExit`` when the time is over, or that process.
    """
    begun = now()
    while not there():
        waited = now() - begun
        if waited > timeout or (up is not None and not up.runs):
            over = f"is not there after {timeout:.0f} s" if waited > timeout else "will not come: its mirror has ended"
            raise SystemExit(f"{what} {over}")
        time.sleep(min(waited * 0.02, 0.05))
    return now()


def in_postgres(conn: Conn, key: Any, table: str = "public.item") -> Callable[[], bool]:
    """A look into Postgres for a row."""
    query = f"SELECT 1 FROM {table} WHERE id = $1".encode()
    return lambda: conn.execute(query, (key,), prepare=True).fetchone() is not None


def await_table(conn: Conn, path: Path, timeout: float, up: Running | None, table: str = "public.item") -> None:
    """Wait until the table is in Postgres with the newest row of the file, however it comes there."""
    await_key(lambda: conn.execute("SELECT to_regclass($1)", (table,)).fetchone() != (None,), table, timeout, up)
    await_newest(conn, path, timeout, table)


def await_newest(conn: Conn, path: Path, timeout: float = 120.0, table: str = "public.item") -> float:
    """Wait until the newest row of the file is in Postgres; when it was seen."""
    return await_key(in_postgres(conn, newest_key(path), table), f"the newest row of {path.name}", timeout)


def newest_key(path: Path) -> Any:
    """The key of the row that was inserted last into the text table of a file."""
    store = sqlite3.connect(path)
    try:
        (key,) = store.execute("SELECT id FROM item ORDER BY rowid DESC LIMIT 1").fetchone()
    finally:
        store.close()
    return key


def lags(
    bench: Workbench, dsn: str, paths: Sequence[Path], *, rate: float, seconds: float, seed: int,
    tables: Sequence[str] = ("public.item",), **job: Any,
) -> tuple[float, float]:  # fmt: skip
    """Write at a pace while another process looks for every so-many-th row; p50 and p99 of the lag in ms.

    ``tables``: where the rows of each file go. ``job``: more for the writer. The lag is from the end of the writer's
    INSERT to the answer of a query that has the row.
    """
    every = int(rate) // 50 + 1  # odd, and no multiple of five: meets every file
    count = int(rate * seconds)
    spec = {
        "dsn": dsn, "tables": list(tables), "seed": seed, "count": count, "every": every, "rest": every / rate / 2,
    }  # fmt: skip
    stamps = bench.folder / "stamps"
    looking = start("_sight.py", **spec)
    looking.ready()
    write(
        "commits", path=paths[0], others=[str(path) for path in paths[1:]], table="text", seed=seed, rate=rate,
        commits=count, stamps=stamps, **job,
    )  # fmt: skip
    ends = bench.stamps(stamps)[1]
    # For the first it waited longer: the pauses were longer.
    took = [(at - ends[number]) * 1e3 for number, at in looking.result()["seen"][1:]]
    return percentile(took, 0.5), percentile(took, 0.99)


def main(dsn: str, tables: list[str], seed: int, count: int, every: int, rest: float) -> None:
    """Look for the keys."""
    wanted = keys("text", seed, len(tables), count)
    seen = []
    with psycopg.Connection.connect(dsn, autocommit=True, cursor_factory=RawCursor) as conn:
        print("ready", flush=True)
        for number in range(0, count, every):
            there = in_postgres(conn, wanted[number], tables[number % len(tables)])
            if not there():
                seen.append((number, await_key(there, f"commit {number}")))
                time.sleep(rest)
            else:
                seen.append((number, now()))
    print(json.dumps({"seen": seen}), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
