"""A program on APSW beside the mirror: ``python _gateway.py JSON`` commits rows and prints how long it took.

With ``hook`` it has said ``enable_mirror()``, to a sidecar that runs already.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import apsw

INSERT = "INSERT INTO item VALUES (?, ?, ?, ?, ?)"


def main(path: str, state_dir: str, *, commits: int, synchronous: str, seed: int, hook: bool) -> None:
    """Commit so many rows as fast as it goes, each by itself."""
    mirror = None
    if hook:
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
    begun = time.perf_counter()
    for row in rows[100:]:
        connection.execute(INSERT, row)
    seconds = time.perf_counter() - begun
    told = 0 if mirror is None else mirror.status()["hook"]["sent"]
    print(json.dumps({"seconds": seconds, "told": told}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(**json.loads(sys.argv[1]))
