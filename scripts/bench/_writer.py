"""The program beside the mirror: a process with the standard library's sqlite3 and nothing of ours.

``python _writer.py JOB JSON`` runs one job and prints its result as one line of JSON. It is a process
of its own because the writer's SQLite must not share a process with the mirror's (POSIX locks), and
because its commit times must not depend on what the mirror's interpreter is doing.

Tables, each called ``item``: ``integer`` has an INTEGER PRIMARY KEY and nothing else, so that a
commit is 1 to 2 frames; ``text`` has a TEXT PRIMARY KEY and a secondary index, as an agent's memory
has, so that a commit with a random key is about 4. ``wide`` has twelve columns, for the snapshot; ``narrow`` has two.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SCHEMAS = {
    "integer": "CREATE TABLE item (id INTEGER PRIMARY KEY, kind TEXT, body TEXT, score REAL, at INTEGER)",
    "text": "CREATE TABLE item (id TEXT PRIMARY KEY, kind TEXT, body TEXT, score REAL, at INTEGER);"
    "CREATE INDEX item_kind ON item (kind, at)",
    "narrow": "CREATE TABLE item (id INTEGER PRIMARY KEY, value INTEGER)",
    "wide": "CREATE TABLE item (id INTEGER PRIMARY KEY, agent TEXT, kind TEXT, title TEXT, body TEXT,"
    " source TEXT, score REAL, weight REAL, hits INTEGER, parent INTEGER, created_at INTEGER,"
    " updated_at INTEGER)",
}

#: A change log kept by AFTER triggers: what the usual way of capturing changes does to a writer.
TRIGGERS = """
CREATE TABLE item_log (seq INTEGER PRIMARY KEY, op TEXT, id, row TEXT);
CREATE TRIGGER item_i AFTER INSERT ON item BEGIN INSERT INTO item_log (op, id, row) VALUES
 ('i', new.id, json_array(new.id, new.kind, new.body, new.score, new.at)); END;
CREATE TRIGGER item_u AFTER UPDATE ON item BEGIN INSERT INTO item_log (op, id, row) VALUES
 ('u', new.id, json_array(new.id, new.kind, new.body, new.score, new.at)); END;
CREATE TRIGGER item_k AFTER UPDATE OF id ON item WHEN old.id IS NOT new.id BEGIN
 INSERT INTO item_log (op, id) VALUES ('d', old.id); END;
CREATE TRIGGER item_d AFTER DELETE ON item BEGIN INSERT INTO item_log (op, id) VALUES ('d', old.id); END;
"""

INSERT = "INSERT INTO item VALUES (?, ?, ?, ?, ?)"
UPDATE = "UPDATE item SET body = ?, score = ? WHERE id = ?"
DELETE = "DELETE FROM item WHERE id = ?"
_WORDS = (
    "the",
    "agent",
    "remembers",
    "what",
    "was",
    "said",
    "and",
    "where",
    "it",
    "stood",
    "when",
    "a",
    "session",
    "began",
)


class Rows:
    """Makes rows: the same ones for the same seed."""

    def __init__(self, table: str, seed: int) -> None:
        self.random = random.Random(seed)
        self._text = table == "text"
        self._bodies = [" ".join(self.random.choices(_WORDS, k=n % 24 + 12)) for n in range(512)]

    def key(self) -> Any:
        """A random key that no earlier row has (with a probability that is as good as 1)."""
        return f"{self.random.getrandbits(128):032x}" if self._text else self.random.getrandbits(52)

    def body(self) -> str:
        """A text of 60 to 200 characters."""
        return self.random.choice(self._bodies)

    def row(self) -> tuple[Any, ...]:
        """A row of ``item``."""
        pick = self.random
        return self.key(), f"kind{pick.randrange(40)}", self.body(), pick.random(), pick.getrandbits(40)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def build(path: str, table: str, megabytes: float = 0.0, rows: int = 0) -> dict[str, Any]:
    """Make a database of at least ``megabytes``, or of ``rows`` rows, and close it: no WAL is left."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF; PRAGMA cache_size=-262144;")
    connection.executescript(SCHEMAS[table])
    make = Rows(table, 1)
    done = 0
    while (done < rows) if rows else (_bytes(connection) < megabytes * 1e6):
        block = min(rows - done, 20_000) if rows else 5_000
        connection.execute("BEGIN")
        if table == "wide":
            connection.executemany(f"INSERT INTO item VALUES ({','.join('?' * 12)})", _wide(make, done + 1, block))
        elif table == "narrow":
            connection.executemany("INSERT INTO item VALUES (?, ?)", ((-1 - n, n) for n in range(done, done + block)))
        else:
            connection.executemany(INSERT, (make.row() for _ in range(block)))
        connection.execute("COMMIT")
        done += block
    connection.execute("PRAGMA journal_mode=WAL")
    size = _bytes(connection)
    connection.close()
    return {"rows": done, "bytes": size}


def multiply(path: str, base: str, times: int) -> dict[str, Any]:
    """Make a database of the rows of a text table, each so many times with keys of its own; no WAL is left.

    Faster than ``build`` where the index of the keys does not fit into memory: they are in order.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF; PRAGMA cache_size=-262144; PRAGMA threads=2;"
    )
    table, index = SCHEMAS["text"].split(";")
    connection.execute(table)
    connection.execute("ATTACH ? AS base", (base,))
    (rows,) = connection.execute("SELECT count(*) FROM base.item").fetchone()
    connection.execute(
        "WITH RECURSIVE copy(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM copy WHERE number + 1 < ?1)"
        " INSERT INTO main.item SELECT printf('%08x', (((item.rowid - 1) * ?1 + number) << 32) / (?1 * ?2))"
        " || lower(hex(randomblob(12))), kind, body, abs(random()) / 9223372036854775808.0, random() & 0xffffffffff"
        " FROM base.item CROSS JOIN copy",
        (times, rows),
    )
    connection.execute(index)
    connection.execute("PRAGMA main.journal_mode=WAL")
    size = _bytes(connection)
    connection.close()
    return {"rows": rows * times, "bytes": size}


def _bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def _wide(make: Rows, first: int, count: int) -> Iterator[tuple[Any, ...]]:
    pick = make.random
    for number in range(first, first + count):
        yield (
            number, f"agent{number % 17}", f"kind{pick.randrange(40)}", make.body()[:48],
            make.body() + make.body(),
            None if number % 3 else "session", pick.random(), pick.random() * 1e6, pick.randrange(1000),
            pick.randrange(number), 1_700_000_000_000 + number, 1_700_000_000_000 + number * 3,
        )  # fmt: skip


def triggers(path: str) -> dict[str, Any]:
    """Add the change log and its triggers."""
    connection = _connect(path)
    connection.executescript(TRIGGERS)
    connection.close()
    return {}


def record(path: str, table: str, commits: int) -> dict[str, Any]:
    """Leave single-row commits in the WAL: half inserts, three updates to two deletes, random keys.

    No checkpoint is run, and the process ends without closing, so that the WAL stays as it is.
    """
    connection = _connect(path)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    make = Rows(table, 2)
    keys = [key for (key,) in connection.execute("SELECT id FROM item")]
    make.random.shuffle(keys)
    for _ in range(commits):
        draw = make.random.random()
        if draw < 0.5:
            row = make.row()
            connection.execute(INSERT, row)
            keys.append(row[0])
        else:
            at = make.random.randrange(len(keys))
            if draw < 0.8:
                connection.execute(UPDATE, (make.body(), make.random.random(), keys[at]))
            else:
                keys[at], keys[-1] = keys[-1], keys[at]
                connection.execute(DELETE, (keys.pop(),))
    return {"leave": True}


def bulk(path: str, table: str, rows: int, op: str, leave: bool = False) -> dict[str, Any]:
    """One transaction that inserts, updates or deletes ``rows`` rows; ``leave`` it in the WAL."""
    connection = _connect(path)
    if leave:
        connection.execute("PRAGMA wal_autocheckpoint=0")
    make = Rows(table, 3)
    begun = time.monotonic()
    connection.execute("BEGIN")
    if op == "insert":
        connection.executemany(INSERT, (make.row() for _ in range(rows)))
    elif op == "update":
        keys = connection.execute("SELECT id FROM item ORDER BY at LIMIT ?", (rows,)).fetchall()
        connection.executemany(UPDATE, ((make.body(), make.random.random(), key) for (key,) in keys))
    else:
        connection.execute("DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY at LIMIT ?)", (rows,))
    connection.execute("COMMIT")
    committed = time.monotonic()
    wal = _size(path + "-wal")
    if not leave:
        connection.close()
    return {"seconds": committed - begun, "committed": committed, "wal": wal, "leave": leave}


def narrow(path: str, rows: int, op: str) -> dict[str, Any]:
    """One transaction that inserts, updates or deletes ``rows`` rows of the narrow table."""
    connection = _connect(path)
    connection.execute("BEGIN")
    if op == "insert":
        connection.executemany("INSERT INTO item VALUES (?, ?)", ((number, number * 7) for number in range(rows)))
    elif op == "update":
        connection.execute("UPDATE item SET value = value + 1 WHERE id >= 0")
    else:
        connection.execute("DELETE FROM item WHERE id >= 0")
    connection.execute("COMMIT")
    committed = time.monotonic()
    connection.close()
    return {"committed": committed}


def touch(path: str, rows: int, seed: int, spread: bool) -> dict[str, Any]:
    """Update rows of the wide table, at random places or one behind the other; then nothing is left in the WAL."""
    connection = _connect(path)
    (count,) = connection.execute("SELECT max(id) FROM item").fetchone()
    pick = random.Random(seed)
    first = pick.randrange(1, count - rows)
    keys = pick.sample(range(1, count + 1), rows) if spread else range(first, first + rows)
    connection.execute("BEGIN")
    connection.executemany(
        "UPDATE item SET hits = hits + 1, score = ? WHERE id = ?", ((pick.random(), k) for k in keys)
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return {}


def commits(
    path: str,
    table: str,
    seed: int,
    commits: int = 0,
    seconds: float = 0.0,
    rate: float = 0.0,
    stamps: str = "",
    others: Sequence[str] = (),
    postgres: str = "",
    sums: bool = False,
) -> dict[str, Any]:
    """Single-row autocommit INSERTs with random keys: so many, or for so long; paced, if a rate is given.

    ``stamps``: a file for the pairs (begin, end) of each commit, ``time.monotonic()``, as doubles. ``others``: more
    files, which take turns with the first. ``postgres``: insert each row there, too, behind its commit. ``sums``: read
    the first file at the end, for ``count`` and ``total`` in the result: of its rows, and of what they have in ``at``.
    ``processor``: seconds of processor time, user and system.
    """
    connection = _connect(path)
    connections = [connection, *(_connect(other) for other in others)]
    make = Rows(table, 1000 + seed)  # the build has seed 1
    second = _dual(postgres) if postgres else None
    log = array("d")
    for each in connections:
        row = make.row()
        each.execute(INSERT, row)  # opens the WAL and compiles the statement: not counted
        if second:
            second(row)
    before = _wal_salt(path)
    now = time.monotonic
    executes = [each.execute for each in connections]
    files = len(executes)
    peak = done = 0
    spent = -time.process_time()
    begun = now()
    until = begun + seconds if seconds else float("inf")
    goal = commits or 1 << 62
    rows = [make.row() for _ in range(10_000)]
    while done < goal:
        if done % 10_000 == 0 and done:
            pause = now()
            spent += time.process_time()
            peak = max(peak, _size(path + "-wal"))
            rows = [make.row() for _ in range(10_000)]
            pause = now() - pause
            begun += pause  # making rows is not the writer's work
            until += pause
            spent -= time.process_time()
        row = rows[done % 10_000]
        if rate and (left := begun + done / rate - now()) > 0:
            time.sleep(left)
        start = now()
        if start > until:
            break
        executes[done % files](INSERT, row)
        if second:
            second(row)
        log.append(start)
        log.append(now())
        done += 1
    elapsed = now() - begun
    spent += time.process_time()
    peak = max(peak, _size(path + "-wal"))
    resets = (_wal_salt(path) - before) % (1 << 32)
    count, total = connection.execute("SELECT count(*), sum(at) FROM item").fetchone() if sums else (None, None)
    if stamps:
        Path(stamps).write_bytes(log.tobytes())
    for each in connections:
        each.close()
    return {
        "commits": done, "seconds": elapsed, "wal": peak, "resets": resets, "count": count, "total": total,
        "uncounted": files, "processor": spent,
    }  # fmt: skip


def _dual(postgres: str) -> Callable[[tuple[Any, ...]], object]:
    """What a program does that writes to both: an INSERT in Postgres behind its commit."""
    execute = _session(postgres)
    return lambda row: execute(INSERT.replace("?", "%s"), row, prepare=True)


def _session(postgres: str) -> Callable[..., object]:
    """What runs statements in Postgres."""
    import psycopg

    return psycopg.connect(postgres, autocommit=True).execute


def copy_to(path: str, postgres: str) -> dict[str, Any]:
    """Copy the text table to a new one in Postgres, as a program does that begins to write to both."""
    import psycopg

    connection = _connect(path)
    with psycopg.connect(postgres) as conn:
        columns = "id text PRIMARY KEY, kind text, body text, score double precision, at bigint"
        conn.execute(f"CREATE TABLE item ({columns})")
        with conn.cursor() as cursor, cursor.copy("COPY item FROM STDIN") as copy:
            for row in connection.execute("SELECT * FROM item"):
                copy.write_row(row)
    connection.close()
    return {}


def sparse(path: str) -> dict[str, Any]:
    """Delete every third row, so that a VACUUM has something to do; then nothing is left in the WAL."""
    connection = _connect(path)
    connection.execute("DELETE FROM item WHERE rowid % 3 = 0")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return {}


def vacuum(path: str) -> dict[str, Any]:
    """VACUUM by another program."""
    connection = _connect(path)
    connection.execute("VACUUM")
    connection.close()
    return {}


def edit(path: str, rows: int) -> dict[str, Any]:
    """What a person does at a SQLite shell: insert, change, give other keys to, and delete so many rows each."""
    connection = _connect(path)
    make = Rows("text", 77)
    keys = [key for (key,) in connection.execute("SELECT id FROM item ORDER BY id LIMIT ?", (rows * 3,))]
    connection.execute("BEGIN")
    connection.executemany(INSERT, [make.row() for _ in range(rows)])
    for number, key in enumerate(keys):
        if number % 3 == 0:
            connection.execute(UPDATE, (make.body(), 0.5, key))
        elif number % 3 == 1:
            connection.execute("UPDATE item SET id = ? WHERE id = ?", (make.key(), key))
        else:
            connection.execute(DELETE, (key,))
    connection.execute("COMMIT")
    connection.close()
    return {}


def twice(path: str, rows: int, postgres: str = "") -> dict[str, Any]:
    """Change so many rows, and each of them again at once; ``postgres``: there, too, behind each commit."""
    connection = _connect(path)
    second = _session(postgres) if postgres else None
    make = Rows("text", 79)
    for (key,) in connection.execute("SELECT id FROM item ORDER BY id LIMIT ?", (rows,)).fetchall():
        for _ in range(2):
            values = make.body(), make.random.random(), key
            connection.execute(UPDATE, values)
            if second:
                second(UPDATE.replace("?", "%s"), values, prepare=True)
    connection.close()
    return {}


def widen(path: str, rows: int) -> dict[str, Any]:
    """Add a column, and give it a value in so many rows that there are and in as many new ones."""
    connection = _connect(path)
    connection.execute("ALTER TABLE item ADD COLUMN note TEXT")
    make = Rows("text", 78)
    connection.execute("BEGIN")
    connection.execute(
        "UPDATE item SET note = 'seen' WHERE id IN (SELECT id FROM item ORDER BY id DESC LIMIT ?)", (rows,)
    )
    connection.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, 'new')", [make.row() for _ in range(rows)])
    connection.execute("COMMIT")
    connection.close()
    return {}


def _size(path: str) -> int:
    return os.stat(path).st_size


def _wal_salt(path: str) -> int:
    """The first salt in the WAL's header: it goes up by one at each reset.

    (Opening the WAL drops no locks: those lie on the database and the -shm.)
    """
    with open(path + "-wal", "rb") as file:
        return int.from_bytes(file.read(20)[16:20], "big")


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    job.__name__: job
    for job in (
        build, multiply, triggers, record, bulk, narrow, touch, commits, copy_to, sparse, vacuum, edit, twice, widen,
    )
}  # fmt: skip

if __name__ == "__main__":
    result = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)
    if result.get("leave"):
        os._exit(0)
