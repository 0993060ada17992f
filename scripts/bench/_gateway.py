"""A program on APSW beside the mirror: ``python _gateway.py JSON`` commits rows and prints how long it took.

With ``hook`` "rows" it has said ``enable_mirror()``, to a sidecar that runs already; with "keys", too, as if its SQLite
had no preupdate hook.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import apsw

INSERT = "INSERT INTO item VALUES (?, ?, ?, ?, ?)"


def main(path: str, state_dir: str, *, commits: int, synchronous: str, seed: int, hook: str, rate: float) -> None:
    """Commit so many rows, each by itself, so many a second; 0: as fast as it goes."""
    mirror = None
    if hook == "keys":
        del apsw.PreUpdate
    if hook != "none":
        from mirror import enable_mirror

        mirror = enable_mirror([path], state_dir=state_dir, sidecar="none")
    connection = apsw.Connection(path)
    connection.set_busy_timeout(10_000)
    connection.execute(f"PRAGMA synchronous={synchronous}")
    body = "what was said and where it stood when a session began " * 2
    rows = [(seed * 10_000_000 + n, "note", body, n / 3, n) for n in range(commits + 100)]
    for row in rows[:100]:
        connection.execute(INSERT, row)
    while mirror is not None and not any(mirror.status()["sources"][path]["hook"]["writers"]):
        time.sleep(0.01)
    begun = at = time.perf_counter()
    latencies = []
    for number, row in enumerate(rows[100:]):
        if rate:
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            at = time.perf_counter()
        connection.execute(INSERT, row)
        if rate:
            latencies.append(time.perf_counter() - at)
    seconds = time.perf_counter() - begun
    told = 0 if mirror is None else mirror.status()["hook"]["sent"]
    print(json.dumps({"seconds": seconds, "told": told, "p50": statistics.median(latencies) if rate else None}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(**json.loads(sys.argv[1]))
