"""A program that writes a MemuStore: ``python busy_memory_process.py FILE RATE`` creates, changes and deletes items.

RATE: commits a second; 0: as many as it can. When its input is closed it closes its connection, and ends.
"""

from __future__ import annotations

import json
import random
import select
import sqlite3
import struct
import sys
import time
from datetime import UTC, datetime, timedelta

#: Items that there are at most.
MOST = 60
#: Of their embeddings.
DIMENSIONS = 8


def main(path: str, rate: float) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous=NORMAL")
    chance = random.Random(7)
    due = time.monotonic()
    number = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(50 if not rate else 1):
            number += 1
            _change(connection, chance, number)
        if rate:
            due = max(due + 1 / rate, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
    connection.close()


def _change(connection: sqlite3.Connection, chance: random.Random, number: int) -> None:
    key = f"item {chance.randrange(MOST)}"
    now = datetime.now(UTC)
    kind = chance.random()
    if kind < 0.2:
        connection.execute("DELETE FROM memory_items WHERE id = ?", (key,))
    elif kind < 0.7:
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        connection.execute(
            "UPDATE memory_items SET summary = ?, reinforcement_count = reinforcement_count + 1, updated_at = ?"
            " WHERE id = ?",
            (f"changed {number} tea", stamp, key),
        )
    else:
        ends = (now + timedelta(seconds=chance.random())).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        extra = json.dumps({"topic": number % 3, "expiresAt": ends} if kind > 0.9 else {"topic": number % 3})
        vector = struct.pack(f"<{DIMENSIONS}f", *(chance.uniform(-1, 1) for _ in range(DIMENSIONS)))
        connection.execute(
            "INSERT OR IGNORE INTO memory_items(id, memory_type, summary, extra, significance, embedding)"
            " VALUES (?, ?, ?, ?, 'routine', ?)",
            (key, ("event", "knowledge")[number % 2], f"number {number} coffee", extra, vector if number % 3 else None),
        )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
