"""A MemuStore for benchmarks, and the gateway that writes to it: the standard library's sqlite3, nothing of ours.

``python _memories.py JOB JSON`` runs one job and prints its result as one line of JSON. Texts and vectors are the same
for the same seed. Vectors lie in clusters, as those of texts do, and so do the words: of evenly spread vectors all are
about as far from a query, and which ten are the nearest would say nothing.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

#: How far members of a cluster are from its middle, which has the length 1.
_SPREAD = 0.8
_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "ai")]
_COLUMNS = "id, memory_type, summary, embedding, content_hash, last_reinforced_at, created_at, updated_at"
INSERT = f"INSERT INTO memory_items ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#: Time of the first item, in seconds since 1970; each has a second of its own.
_FIRST = 1_760_000_000


class Corpus:
    """Items and queries. Item ``n`` has the id ``item-n``; its text has 12 words, a query 3."""

    def __init__(self, items: int, dims: int, seed: int = 1) -> None:
        """``dims``: of the vectors; 0: they have none."""
        self.items, self.dims = items, dims
        self._random = np.random.default_rng(seed)
        pick = self._random.choice
        self._common = [self._word() for _ in range(200)]
        self._middles = self._random.normal(size=(max(5, items // 500), max(dims, 1)))
        self._middles /= np.linalg.norm(self._middles, axis=1)[:, None]
        self._topics = [[self._word() for _ in range(30)] for _ in self._middles]
        self._clusters = pick(len(self._middles), items)

    def _word(self) -> str:
        return "".join(self._random.choice(_SYLLABLES, 3))

    def _text(self, cluster: int, own: int, common: int) -> str:
        pick = self._random.choice
        return " ".join([*pick(self._topics[cluster], own), *pick(self._common, common)])

    def _near(self, clusters: Any) -> Any:
        noise = self._random.normal(size=(len(clusters), self._middles.shape[1])) * _SPREAD / self.dims**0.5
        return (self._middles[clusters] + noise).astype("<f4")

    def blocks(self, size: int = 2_000) -> Iterator[tuple[int, list[str], Any]]:
        """Number of the first item, texts and vectors (an array, a row each; None without), block by block."""
        for first in range(0, self.items, size):
            clusters = self._clusters[first : first + size]
            yield first, [self._text(n, 6, 6) for n in clusters], self._near(clusters) if self.dims else None

    def queries(self, count: int) -> tuple[list[str], Any]:
        """Texts and vectors of queries, to be asked for after the items."""
        clusters = self._random.choice(len(self._middles), count)
        return [self._text(n, 2, 1) for n in clusters], self._near(clusters) if self.dims else None


def stamp(number: int) -> str:
    """The time of an item."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(_FIRST + number))


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON")
    return connection


def build(path: str, ddl: str, items: int, dims: int, seed: int = 1) -> dict[str, Any]:
    """A MemuStore with items. ``ddl``: its tables."""
    connection = _connect(path)
    connection.executescript(ddl)
    connection.execute("INSERT INTO memu_meta VALUES ('schema_version', '11')")
    for first, texts, vectors in Corpus(items, dims, seed).blocks():
        connection.execute("BEGIN")
        for number, text in enumerate(texts, first):
            vector = None if vectors is None else vectors[number - first].tobytes()
            connection.execute(INSERT, (f"item-{number}", "fact", text, vector, f"{number:064x}", *[stamp(number)] * 3))
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return {}


def remember(path: str, rate: float, seconds: float) -> dict[str, Any]:
    """Commit items one by one, ``rate`` a second, for so long."""
    connection = _connect(path)
    _, texts, _ = next(Corpus(1_000, 0, 7).blocks())
    begun, done, now = time.monotonic(), 0, time.monotonic
    print("begun", flush=True)
    while (elapsed := now() - begun) < seconds:
        if (left := done / rate - elapsed) > 0:
            time.sleep(left)
        key = f"new-{time.time_ns()}"
        connection.execute(INSERT, (key, "fact", texts[done % 1000], None, key, *[stamp(10_000_000 + done)] * 3))
        done += 1
    connection.close()
    return {"commits": done, "seconds": now() - begun}


if __name__ == "__main__":
    jobs = {job.__name__: job for job in (build, remember)}
    print(json.dumps(jobs[sys.argv[1]](**json.loads(sys.argv[2]))), flush=True)
