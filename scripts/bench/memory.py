"""Resident memory of all the mirror's processes while one transaction of a million rows goes through.

The processes are the agent and its capture process (not Postgres, which is not the mirror's). Sampled
every 20 ms from before the transaction until it is in Postgres; on Linux also as proportional set size
(`Pss`), which counts what the two share once. Set against the same processes at rest, and against the WAL
that the transaction left: what is held must not grow with the transaction.
"""

from __future__ import annotations

import threading
import time

import psutil
from common import Figures, Mirror, parser, start_writer, workbench, write


class Watch:
    """Samples the memory of a process and its children until it is told to stop."""

    def __init__(self, pid: int) -> None:
        main = psutil.Process(pid)
        self._processes = [main, *main.children(recursive=True)]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.resident = 0.0
        self.proportional = 0.0
        self.each = [0.0] * len(self._processes)
        self._thread.start()

    def _run(self) -> None:
        turn = 0
        while not self._end.wait(0.02):
            try:
                sizes = [process.memory_info().rss / 1e6 for process in self._processes]
            except psutil.NoSuchProcess:
                return
            self.each = [max(pair) for pair in zip(self.each, sizes, strict=True)]
            self.resident = max(self.resident, sum(sizes))
            if turn % 10 == 0:
                self.proportional = max(self.proportional, self._pss())
            turn += 1

    def _pss(self) -> float:
        return sum(getattr(process.memory_full_info(), "pss", 0) for process in self._processes) / 1e6

    def stop(self) -> Watch:
        """End sampling."""
        self._end.set()
        self._thread.join()
        return self


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000, help="rows of the transaction")
    made.add_argument("--ops", nargs="+", default=["insert", "update", "delete"], help="transactions, in order")
    made.add_argument("--size", type=float, default=10, help="MB of the database before")
    options = made.parse_args()
    figures = Figures(f"memory, transactions of {options.rows:,} rows")
    with workbench(options) as bench:
        source = bench.source("source")
        write("build", path=source, table="text", megabytes=options.size)
        with Mirror(bench, source) as mirror:
            mirror.ready()
            watch = Watch(mirror.pid)
            time.sleep(2.0)
            rest = watch.stop().resident
            figures.add("at rest, agent and capture", rest, "MB")
            for op in options.ops:
                watch = Watch(mirror.pid)
                writer = start_writer("bulk", path=source, table="text", rows=options.rows, op=op)
                done = writer.result()
                mirror.wait(600)
                seconds = time.monotonic() - done["committed"]
                watch.stop()
                figures.add(f"{op}: resident, all processes", watch.resident, "MB", "at rest", rest)
                figures.add(f"{op}: proportional, all processes", watch.proportional, "MB")
                figures.add(f"{op}: resident, agent", watch.each[0], "MB")
                figures.add(f"{op}: resident, capture", sum(watch.each[1:]), "MB")
                figures.add(f"{op}: the WAL it left", done["wal"] / 1e6, "MB", "resident", watch.resident)
                figures.add(f"{op}: commit to visible", seconds, "s", "writing it", done["seconds"])
                figures.add(f"{op}: rows applied", options.rows / seconds, "rows/s")
    figures.finish(options)


if __name__ == "__main__":
    main()
