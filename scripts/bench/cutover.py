"""A move to Postgres: what a program notices of it, how soon the file has what is written there, and what that costs.

A MemuStore is moved to phase 3 and back, several times, while a program on a storage adapter writes 1,000 items a
second; each call is timed, and the longest one around a switch is its pause. One more switch is made to fail at its
last step before the point of no return. Then rows are written in Postgres one by
one, and it is measured when the file has them. The price is that of the triggers: single updates of that table, beside
those of a copy of the table without them, by turns in one run; without waiting for the disk, which would hide it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import psycopg
from common import Figures, Workbench, environment, median, parser, percentile, workbench

from mirror import get_storage_adapter


class Program(threading.Thread):
    """Makes items until it is stopped, and notes when each call began and how long it took."""

    def __init__(self, config: Path, rate: float) -> None:
        super().__init__(daemon=True)
        self.pause = 1 / rate
        self.config = config
        self.calls: list[tuple[float, float]] = []
        self.error: BaseException | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        """Of the thread."""
        try:
            with get_storage_adapter(self.config) as storage:
                due = time.monotonic()
                while not self.stopping.is_set():
                    due = max(due + self.pause, time.monotonic() - 1)  # what was missed in a pause is not made up for
                    time.sleep(max(0.0, due - time.monotonic()))
                    begun = time.monotonic()
                    storage.memory.create_item(memory_type="event", summary=f"number {len(self.calls)}")
                    self.calls.append((begun, time.monotonic() - begun))
        except BaseException as error:
            self.error = error


#: `mirror` without the guard rail of lag: after each return all rows are copied again, which it sees for minutes.
HURRIED = """
from mirror.cli import main
from mirror.cutover import rails

rails.LAG_SECONDS = float("inf")
main.main()
"""
#: The same with a fault: a move fails when all but the point of no return is behind.
FAILING = """
from mirror.cli import main, moves
from mirror.core.errors import MirrorError
from mirror.cutover import rails

def fail(seam):
    if seam == "cutover:in sequences":
        raise MirrorError("move a source", detail="it is to fail here")

moves.no_fault = fail
rails.LAG_SECONDS = float("inf")
main.main()
"""


def longest(program: Program, spans: list[tuple[float, float]]) -> list[float]:
    """By span of time: milliseconds of the longest call in it."""
    return [
        max(took for begun, took in program.calls if start <= begun + took and begun <= end) * 1000
        for start, end in spans
    ]


def mirror(bench: Workbench, config: Path, *arguments: str) -> str:
    """Run a command to its end."""
    command = [sys.executable, "-c", HURRIED, *arguments, "--config", str(config)]
    done = subprocess.run(command, env=environment(), cwd=bench.folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mirror {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def lags(bench: Workbench, source: Path, rows: int) -> list[float]:
    """Seconds from the commit of a row in Postgres until the file has it, one row after the other."""
    found = []
    file = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    file.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    with psycopg.connect(bench.dsn, autocommit=True) as postgres:
        for number in range(rows):
            postgres.execute(
                "INSERT INTO memory_items (agent_id, id, memory_type, summary) SELECT agent_id, %s, 'event', 'x'"
                " FROM agents LIMIT 1",
                (f"lag{number}",),
            )
            committed = time.monotonic()
            while file.execute("SELECT 1 FROM memory_items WHERE id = ?", (f"lag{number}",)).get is None:
                time.sleep(0.0005)
            found.append(time.monotonic() - committed)
            time.sleep(0.01 + 0.001 * (number % 20))
    file.close()
    return found


def prices(bench: Workbench, updates: int, rounds: int) -> tuple[float, float]:
    """Microseconds of a single update: of the table with triggers, and of its copy without."""
    took: dict[str, list[float]] = {"memory_items": [], "plain_items": []}
    with psycopg.connect(bench.dsn, autocommit=True) as postgres:
        postgres.execute("CREATE TABLE plain_items (LIKE memory_items INCLUDING ALL)")
        postgres.execute(
            "INSERT INTO plain_items (agent_id, id, memory_type, summary)"
            " SELECT agent_id, id, memory_type, summary FROM memory_items"
        )
        postgres.execute("ANALYZE plain_items; SET synchronous_commit = off")
        ids = [row[0] for row in postgres.execute("SELECT id FROM memory_items ORDER BY id LIMIT 500").fetchall()]
        for _ in range(rounds):
            for table, into in took.items():
                text: Any = f"UPDATE {table} SET reinforcement_count = reinforcement_count + 1 WHERE id = %s"
                begun = time.perf_counter()
                for number in range(updates):
                    postgres.execute(text, (ids[number % len(ids)],), prepare=True)
                into.append((time.perf_counter() - begun) / updates * 1e6)
        postgres.execute("DROP TABLE plain_items")
    return median(took["memory_items"]), median(took["plain_items"])


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=3.0, help="of writing before and after the switch")
    made.add_argument("--rate", type=float, default=1000.0, help="items a second")
    made.add_argument("--switches", type=int, default=10, help="to phase 3, and back")
    made.add_argument("--rows", type=int, default=200, help="rows of which the lag is measured")
    made.add_argument("--updates", type=int, default=2000, help="of a round")
    made.add_argument("--rounds", type=int, default=7, help="of the price")
    options = made.parse_args()
    figures = Figures("cutover")
    with workbench(options) as bench:
        from tests.support.memustore import create_store  # a real MemuStore's schema

        source, config = bench.folder / "memory.db", bench.folder / "mirror.json"
        create_store(source).close()
        storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": bench.dsn}}
        config.write_text(json.dumps({"sources": [str(source)], "stateDir": str(bench.state_dir), "storage": storage}))
        up = subprocess.Popen(
            [sys.executable, "-m", "mirror", "up", "--config", str(config), "--postgres", bench.dsn],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=None if options.keep_log else subprocess.DEVNULL,
        )
        try:
            common = ("--postgres", bench.dsn)
            mirror(bench, config, "wait", *common, "--timeout", "60")
            mirror(bench, config, "parity", *common)
            mirror(bench, config, "cutover", "advance", "--acknowledge", "backups", *common)
            program = Program(config, options.rate)
            program.start()
            spans: dict[str, list[tuple[float, float]]] = {"advance": [], "rollback": []}
            failed: list[tuple[float, float]] = []
            for number in range(options.switches):
                for command, into in spans.items():
                    time.sleep(options.seconds)
                    if command == "advance":
                        mirror(bench, config, "parity", *common)  # there may be a gap since: nobody followed the file
                    elif number == options.switches - 1:
                        break  # it stays in phase 3 for what follows
                    begun = time.monotonic()
                    more = ("--acknowledge", "backups") if command == "advance" else ()
                    mirror(bench, config, "cutover", command, *more, *common)
                    into.append((begun, time.monotonic()))
                    if command == "rollback" and not failed:
                        mirror(bench, config, "parity", *common)
                        time.sleep(options.seconds)
                        arguments = ["cutover", "advance", "--acknowledge", "backups", *common, "--config", str(config)]
                        begun = time.monotonic()
                        done = subprocess.run(
                            [sys.executable, "-c", FAILING, *arguments],
                            env=environment(), cwd=bench.folder, capture_output=True, text=True, check=False,
                        )  # fmt: skip
                        if done.returncode != 2 or "it is to fail here" not in done.stderr:
                            raise SystemExit(f"the switch did not fail as it was to: {done.stdout}{done.stderr}")
                        failed.append((begun, time.monotonic()))
            program.stopping.set()
            program.join()
            if program.error is not None:
                raise SystemExit(f"a call failed: {program.error}")
            first = spans["advance"][0][0]
            before = [took for begun, took in program.calls if begun < first]
            figures.add("longest call before the first switch", max(before) * 1000, "ms")
            for command, name in (("advance", "to Postgres"), ("rollback", "back to the file")):
                if pauses := longest(program, spans[command]):
                    figures.add(f"longest call at a switch {name}, p50", median(pauses), "ms")
                    figures.add("the same, the longest of all", max(pauses), "ms")
            if failed:
                figures.add("longest call at a switch that fails", longest(program, failed)[0], "ms")
            found = lags(bench, source, options.rows)
            figures.add("commit in Postgres to visible in the file, p50", median(found) * 1000, "ms")
            figures.add("the same, p99", percentile(found, 0.99) * 1000, "ms")
            priced, plain = prices(bench, options.updates, options.rounds)
            figures.add("an update in Postgres with the triggers", priced, "us", f"without, {plain:.0f} us", plain)
            begun = time.monotonic()
            mirror(bench, config, "cutover", "rollback", *common)
            figures.add("rollback to phase 2, the command", time.monotonic() - begun, "s")
        finally:
            up.terminate()
            up.wait()
    figures.finish(options)


if __name__ == "__main__":
    main()
