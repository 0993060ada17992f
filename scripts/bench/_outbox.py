"""The usual copier behind AFTER triggers, written with care: from the change log of a file to Postgres.

``python _outbox.py FILE DSN`` copies the rows that there are, then the log, batch by batch: the last change of each
row, and in the same transaction the place in the log, so that a kill loses nothing. What Postgres has is pruned from
the log now and then but for its last entry, which keeps SQLite from giving its number again.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from typing import Any

import psycopg

_BATCH, _PAUSE, _PRUNE_SECONDS = 1000, 0.005, 1.0
_TABLES = """
CREATE TABLE IF NOT EXISTS item (id text PRIMARY KEY, kind text, body text, score double precision, at bigint);
CREATE TABLE IF NOT EXISTS outbox_place (seq bigint NOT NULL)
"""
_UPSERT = (
    "INSERT INTO item VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET"
    " kind = excluded.kind, body = excluded.body, score = excluded.score, at = excluded.at"
)

Session = psycopg.Connection[tuple[Any, ...]]


def main(path: str, dsn: str) -> None:
    """Copy, for ever."""
    store = sqlite3.connect(path, isolation_level=None, timeout=10)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET synchronous_commit = off")  # as the place is in the same transaction
        conn.execute(_TABLES)
        found = conn.execute("SELECT seq FROM outbox_place").fetchone()
        place = int(found[0]) if found else _copy(store, conn)
        pruned = time.monotonic()
        while True:
            query = "SELECT seq, op, id, row FROM item_log WHERE seq > ? ORDER BY seq LIMIT ?"
            if not (changes := store.execute(query, (place, _BATCH)).fetchall()):
                time.sleep(_PAUSE)
                continue
            _apply(conn, changes)
            place = changes[-1][0]
            if time.monotonic() - pruned > _PRUNE_SECONDS:
                store.execute("DELETE FROM item_log WHERE seq < ?", (place,))
                pruned = time.monotonic()


def _copy(store: sqlite3.Connection, conn: Session) -> int:
    """Copy all rows; the place in the log up to which they are."""
    store.execute("BEGIN")
    (place,) = store.execute("SELECT coalesce(max(seq), 0) FROM item_log").fetchone()
    with conn.transaction():
        with conn.cursor() as cursor, cursor.copy("COPY item FROM STDIN") as copy:
            for row in store.execute("SELECT * FROM item"):
                copy.write_row(row)
        conn.execute("INSERT INTO outbox_place VALUES (%s)", (place,))
    store.execute("COMMIT")
    return int(place)


def _apply(conn: Session, changes: list[tuple[int, str, str, str | None]]) -> None:
    last = {key: row for _, _, key, row in changes}
    with conn.transaction(), conn.cursor() as cursor:
        if gone := [key for key, row in last.items() if row is None]:
            cursor.execute("DELETE FROM item WHERE id = ANY(%s)", (gone,))
        cursor.executemany(_UPSERT, [json.loads(row) for row in last.values() if row is not None])
        cursor.execute("UPDATE outbox_place SET seq = %s", (changes[-1][0],))


if __name__ == "__main__":
    main(*sys.argv[1:])
