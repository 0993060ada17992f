"""Many agents: stores in one process and one Postgres, one of them stuck.

From a commit of one store to the moment a polling reader sees the row, store by store in turn. Then somebody
locks a row of the first agent's in Postgres, so that its mirror waits in the middle of a statement; and the
same again with the other stores. Each is a MemuStore, so each row goes to a table that all share.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

from common import Conn, Figures, Workbench, environment, median, parser, percentile, workbench

from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.folders import resolve, source_folder


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--stores", type=int, default=20, help="number of stores, and of agents")
    made.add_argument("--commits", type=int, default=1000, help="commits of a round")
    options = made.parse_args()
    figures = Figures(f"agents, {options.stores} stores")
    with workbench(options) as bench:
        paths = [bench.source(f"agent{number}") for number in range(options.stores)]
        stores = [_create(path) for path in paths]
        process = _start(bench, paths, options.keep_log)
        try:
            _wait(bench, paths, process)
            with bench.connect() as reader, bench.connect() as other:
                free = _round(stores, reader, options.commits, "free")
                _wait(bench, paths, process)
                other.execute("BEGIN")
                other.execute(
                    "UPDATE memory_items SET visibility = 'shared' WHERE agent_id = 'agent0' AND id = 'first'"
                )
                stores[0].execute("DELETE FROM memory_items WHERE id = 'first'")
                stuck = _round(stores, reader, options.commits, "stuck")
                other.execute("ROLLBACK")
        finally:
            process.terminate()
            process.wait(30)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        base = percentile(free, share)
        figures.add(f"commit to sight, all free, {name}", base, "ms")
        figures.add(f"commit to sight, one stuck, {name}", percentile(stuck, share), "ms", "all free", base)
    figures.add("commits measured", len(free) + len(stuck), "", "", None)
    figures.add("middle of all", median(free + stuck), "ms")
    figures.finish(options)


def _create(path: Path) -> sqlite3.Connection:
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.executescript(resources.files("mirror.cli.demo").joinpath("memory_store.sql").read_text())
    store.execute("INSERT INTO memu_meta VALUES ('schema_version', '11')")
    store.execute("INSERT INTO memory_items(id, memory_type, summary) VALUES ('first', 'fact', 'the first')")
    return store


def _start(bench: Workbench, paths: list[Path], show_log: bool) -> subprocess.Popen[bytes]:
    sources = [{"path": str(path), "agent": path.stem} for path in paths]
    config = bench.folder / "mirror.json"
    config.write_text(json.dumps({"sources": sources}))
    command = [sys.executable, "-m", "mirror", "up", "--config", str(config), "--postgres", bench.dsn]
    shown = None if show_log else subprocess.DEVNULL
    return subprocess.Popen([*command, "--state-dir", bench.state_dir], env=environment(), stdout=shown, stderr=shown)


def _wait(bench: Workbench, paths: list[Path], process: subprocess.Popen[bytes]) -> None:
    for path in paths:
        folder = source_folder(bench.state_dir, resolve(path))
        wait_for_mirror(folder, 60.0, lambda: process.poll() is None).close()
        with ControlClient(folder) as client:
            if not client.wait(120.0):
                raise SystemExit(f"{path.name} did not catch up: {client.status()}")


def _round(stores: list[sqlite3.Connection], reader: Conn, commits: int, name: str) -> list[float]:
    """Milliseconds from each commit to sight; the first store is left out."""
    took = []
    for number in range(commits):
        at = 1 + number % (len(stores) - 1)
        key = f"{name}{number}"
        stores[at].execute("INSERT INTO memory_items(id, memory_type, summary) VALUES (?, 'fact', 'a memory')", (key,))
        begun = time.monotonic()
        query = "SELECT 1 FROM memory_items WHERE agent_id = $1 AND id = $2"
        while not reader.execute(query, (f"agent{at}", key), prepare=True).fetchone():
            if time.monotonic() - begun > 30:
                raise SystemExit(f"agent{at} does not get on")
        took.append((time.monotonic() - begun) * 1e3)
    return took


if __name__ == "__main__":
    main()
