"""The writer's process, as the rehearsal sees it: what it has told, and waiting for what it does."""

from __future__ import annotations

import subprocess
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from heapq import merge
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mirror.core.errors import StateError
from mirror.cutover.rehearsal.place import Place
from mirror.cutover.rehearsal.workload import Work
from mirror.cutover.rehearsal.writer import Told

#: Seconds to wait for a commit of the writer.
WAIT_SECONDS = 120.0


class Load:
    """The load on a clone, from :meth:`__enter__` on."""

    def __init__(self, place: Place, work: Work) -> None:
        self._place = place
        path = Path(place.folder / "work.json")
        path.write_bytes(msgspec.json.encode(work))
        self.sqlite, self.postgres = array("d"), array("d")
        """When commits succeeded, in seconds of the monotonic clock."""
        self.calls = self.rows = self.failed = 0
        self.errors: Counter[str] = Counter()
        self._ended = False
        self._news = threading.Condition()
        with place.log() as log:
            self._process = place.start(
                "mirror.cutover.rehearsal.writer", str(path), stdout=subprocess.PIPE, stderr=log
            )
        self._reader = threading.Thread(target=self._read, name="mirror rehearsal", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = msgspec.json.decode(line, type=Told)
            with self._news:
                self.sqlite.extend(told.sqlite)
                self.postgres.extend(told.postgres)
                self.calls, self.rows, self.failed = told.calls, told.rows, told.failed
                self.errors = Counter(told.errors)
                self._ended = told.ended
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def times(self) -> list[float]:
        """When commits succeeded in either store, ascending."""
        with self._news:
            return list(merge(self.sqlite, self.postgres))

    def wait(self, look: Callable[[], bool]) -> None:
        """Wait until ``look`` is true of what was told.

        Raises ``StateError`` if the writer has ended, or takes too long.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        with self._news:
            while not look():
                if not self._reader.is_alive():
                    raise StateError("rehearse a move", "the writer", f"it has ended: {self._place.last_words()}")
                if time.monotonic() > deadline:
                    why = next(iter(self.errors), "none of its commits succeeds")
                    raise StateError("rehearse a move", "the writer", f"after {WAIT_SECONDS:g} s: {why}")
                self._news.wait(0.5)

    def await_commits(self, store: str, number: int) -> None:
        """Wait until so many more commits have succeeded in ``sqlite`` or ``postgres``. Raises ``StateError``."""
        times = self.sqlite if store == "sqlite" else self.postgres
        wanted = len(times) + number
        self.wait(lambda: len(times) >= wanted)

    def stop(self) -> None:
        """Have it end, and wait for that. Raises ``StateError``."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self.wait(lambda: self._ended)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
