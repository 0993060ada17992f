"""The process that writes during a rehearsal, as a program on a storage adapter does.

It writes to the store that the clone's mirror says (:mod:`mirror.core.published`), or else its configuration, waits
while it says that programs are being moved, and tries again what meets a lock, or a table from which programs were
moved back. ``python -m mirror.cutover.rehearsal.writer FILE``: the file is
the :class:`~mirror.cutover.rehearsal.workload.Work` as JSON. It prints :class:`Told` lines, ends after a line on stdin,
and at once where stdin ends, because then the rehearsal was killed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

from mirror.core.folders import resolve, source_folder
from mirror.core.published import PublishedReader
from mirror.cutover.rehearsal.stores import LaterError, NotTakenError, PostgresStore, SqliteStore, Store
from mirror.cutover.rehearsal.workload import Work
from mirror.storage.flags import LiveSettings

#: Seconds for which a call is tried again, as storage adapters do, before it counts as failed; and between two tries.
CALL_SECONDS, PAUSE = 5.0, 0.002
#: Seconds between two lines.
_TELL = 0.1
#: Different errors that are told.
_MOST_ERRORS = 5


class Told(msgspec.Struct, frozen=True):
    """What has happened since the last line."""

    sqlite: list[float]
    """When commits succeeded: seconds of the monotonic clock, which all processes of a machine share."""
    postgres: list[float]
    calls: int
    """In all, as all that follow."""
    rows: int
    failed: int
    errors: dict[str, int]
    ended: bool = False


class _Writer:
    def __init__(self, work: Work, dsn: str) -> None:
        self._work = work
        self._live = LiveSettings(work.config)
        self._published = PublishedReader(source_folder(self._live.current.state_dir, resolve(work.database)))
        # Both from the start: a program has its connections when it is moved.
        self._stores: dict[str, Store] = {"sqlite": SqliteStore(work), "postgres": PostgresStore(work, dsn)}
        self._place = "sqlite"
        self._due = [[0.0, 0.0] for _ in work.tables]
        self._times: dict[str, list[float]] = {"sqlite": [], "postgres": []}
        self._calls = self._rows = self._failed = 0
        self._errors: Counter[str] = Counter()
        self._told = 0.0

    def run(self, stop: threading.Event) -> None:
        due = time.monotonic()
        while not stop.wait(max(due - time.monotonic(), 0)):
            due = max(due, time.monotonic()) + 1 / self._work.rate
            self._call(self._counts(), stop)
            if time.monotonic() - self._told > _TELL:
                self._tell()
        for store in self._stores.values():
            store.close()
        self._live.close()
        self._published.close()
        self._tell(ended=True)

    def _counts(self) -> list[tuple[int, int]]:
        """How many rows the next commit writes: in the long run as many as the work says."""
        counts = []
        for due, table in zip(self._due, self._work.tables, strict=True):
            due[0] += table.updates
            due[1] += table.swaps
            counts.append((int(due[0]), int(due[1])))
            due[0] -= counts[-1][0]
            due[1] -= counts[-1][1]
        return counts

    def _store(self) -> Store:
        found, storage = self._published.read(), self._live.current.storage
        moved = storage.backend == "postgres" or "sqlite" not in storage.write_to
        if found is not None and found.in_phases:
            moved = found.sealed
        if found is not None and not moved and found.moving:
            raise LaterError("programs are being moved")
        place = "postgres" if moved else "sqlite"
        if place != self._place:
            self._stores[self._place].forget()
            self._place = place
        return self._stores[place]

    def _call(self, counts: list[tuple[int, int]], stop: threading.Event) -> None:
        self._calls += 1
        begun = time.monotonic()
        while True:
            try:
                store = self._store()
                self._rows += store.write(counts)
                self._times[self._place].append(time.monotonic())
                return
            except LaterError as error:
                problem = str(error)
                if time.monotonic() - begun < CALL_SECONDS and not stop.is_set():
                    time.sleep(PAUSE)
                    continue
            except NotTakenError as error:
                problem = str(error)
                if store.simplify():
                    continue  # it was the rehearsal's own value, or a row that does not come again as it was
            if stop.is_set():
                self._calls -= 1
                return
            self._failed += 1
            if problem in self._errors or len(self._errors) < _MOST_ERRORS:
                self._errors[problem] += 1
            time.sleep(PAUSE)
            return

    def _tell(self, *, ended: bool = False) -> None:
        sqlite, postgres = self._times["sqlite"], self._times["postgres"]
        told = Told(sqlite, postgres, self._calls, self._rows, self._failed, dict(self._errors), ended)
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()
        self._times = {"sqlite": [], "postgres": []}
        self._told = time.monotonic()


def _watch(stop: threading.Event) -> None:
    if not sys.stdin.buffer.readline():
        os._exit(1)
    stop.set()


def main() -> None:
    """Write until told to stop."""
    work = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Work)
    stop = threading.Event()
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()
    _Writer(work, os.environ["ARGENT_PG_URL"]).run(stop)


if __name__ == "__main__":
    main()
