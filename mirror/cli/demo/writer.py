"""The program whose database the demo mirrors: plain ``sqlite3``, without any knowledge of a mirror.

Run as ``python -m mirror.cli.demo.writer FILE SECONDS``: a process of its own, never imported. It writes
what a gateway writes: items with embeddings, links, reinforcements, expiries, deletes, a bulk
clean-up, and now and then a checkpoint. After SECONDS, or SIGTERM, it prints the rows of each table as JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sqlite3
import struct
import sys
import threading
import time
import uuid
from importlib import resources

_WORDS = [
    "agent",
    "gateway",
    "memory",
    "lesson",
    "deploy",
    "stream",
    "cursor",
    "vector",
    "promise",
    "schedule",
    "archive",
    "mirror",
]
_KINDS = ("fact", "preference", "event", "skill")


class _Store:
    """A handful of the gateway's writing calls."""

    def __init__(self, path: str) -> None:
        self._random = random.Random(11)  # noqa: S311 - a demo, the same each time
        self.connection = sqlite3.connect(path, isolation_level=None)
        execute = self.connection.execute
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        execute("PRAGMA foreign_keys=ON")
        if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self.connection.executescript(resources.files("mirror.cli.demo").joinpath("memory_store.sql").read_text())
            execute("INSERT INTO memu_meta VALUES ('schema_version', '11')")
        self._categories = [self._category(name) for name in ("work", "people", "places", "habits")]

    def _category(self, name: str) -> str:
        found = self.connection.execute("SELECT id FROM memory_categories WHERE name=?", (name,)).fetchone()
        if found:
            return str(found[0])
        identity = str(uuid.uuid4())
        self.connection.execute("INSERT INTO memory_categories(id, name) VALUES (?,?)", (identity, name))
        return identity

    def _text(self, words: int) -> str:
        return " ".join(self._random.choice(_WORDS) for _ in range(words))

    def _vector(self) -> bytes:
        return struct.pack("<768f", *(self._random.uniform(-1, 1) for _ in range(768)))

    def create_item(self) -> None:
        """An item in its category, in one transaction; the embedding follows in another."""
        identity, summary = str(uuid.uuid4()), self._text(self._random.randint(4, 60))
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        execute(
            "INSERT INTO memory_items(id, memory_type, summary, content_hash, happened_at) VALUES (?,?,?,?,?)",
            (
                identity,
                self._random.choice(_KINDS),
                summary,
                hashlib.sha256(summary.encode()).hexdigest(),
                time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            ),
        )
        execute("INSERT INTO category_items VALUES (?,?)", (identity, self._random.choice(self._categories)))
        execute("COMMIT")
        if self._random.random() < 0.3:
            execute("UPDATE memory_items SET embedding=? WHERE id=?", (self._vector(), identity))

    def reinforce(self) -> None:
        """Some item was remembered again."""
        self.connection.execute(
            "UPDATE memory_items SET reinforcement_count = reinforcement_count + 1,"
            " last_reinforced_at = datetime('now'), emotional_valence = ?"
            " WHERE rowid = (SELECT max(rowid) - ? FROM memory_items)",
            (self._random.uniform(-1, 1), self._random.randrange(50)),
        )

    def candidate(self) -> None:
        """A candidate, which the store ignores if it has it already."""
        text = self._text(3)
        self.connection.execute(
            "INSERT OR IGNORE INTO live_memory_candidates(id, session_key, role, candidate_type, fact_text,"
            " fact_hash, source_ts, expires_at) VALUES (?,'main','user','fact',?,?,datetime('now'),"
            " datetime('now','+1 day'))",
            (str(uuid.uuid4()), text, hashlib.sha256(text.encode()).hexdigest()),
        )

    def forget(self) -> None:
        """Some item is deleted; its links go with it."""
        self.connection.execute(
            "DELETE FROM memory_items WHERE rowid = (SELECT min(rowid) + ? FROM memory_items)",
            (self._random.randrange(20),),
        )

    def clean_up(self) -> None:
        """Maintenance: one large transaction, then a checkpoint that resets the WAL."""
        self.connection.execute("DELETE FROM live_memory_candidates WHERE rowid % 3 = 0")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def step(self) -> None:
        """One call, chosen at random."""
        dice = self._random.random()
        if dice < 0.5:
            self.create_item()
        elif dice < 0.75:
            self.reinforce()
        elif dice < 0.92:
            self.candidate()
        elif dice < 0.998:
            self.forget()
        else:
            self.clean_up()


def main(path: str, seconds: float) -> None:
    """Write for some seconds, or until SIGTERM, then print the rows of each ordinary table."""
    asked_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.set())
    store = _Store(path)
    end = time.monotonic() + seconds
    calls = 0
    while time.monotonic() < end and not asked_to_end.is_set():
        store.step()
        calls += 1
        time.sleep(0.001)
    tables = [
        name
        for (name,) in store.connection.execute(
            "SELECT name FROM pragma_table_list WHERE schema='main' AND type='table' AND name NOT LIKE 'sqlite_%'"
        )
    ]
    counts = {name: store.connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    print(json.dumps({"calls": calls, "rows": counts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
