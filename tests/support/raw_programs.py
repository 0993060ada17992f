"""Programs that write in Postgres by SQL of their own, and know of no move: in threads of the test.

Their transactions keep rules across rows, which :mod:`tests.support.fleet_reader_process` looks for in the file. Before
the first move to Postgres they must not run: from then on, what they write while the file is the original is refused
(``MR004``), and they try again later.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import psycopg

#: Their tables in the file, as rules before the first transaction.
TABLES = (
    "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)",
    "CREATE TABLE marks(id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
    "CREATE TABLE journal(n INTEGER PRIMARY KEY, note TEXT NOT NULL)",
    "CREATE TABLE pairs(id INTEGER PRIMARY KEY, v INTEGER NOT NULL)",
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)",
    "INSERT INTO accounts VALUES (1, 5), (2, -5), (3, 0), (4, 0)",
    "INSERT INTO marks VALUES (1, 0)",
    "INSERT INTO pairs VALUES (1, 0), (2, 0)",
)
_ACCOUNT = "INSERT INTO accounts (agent_id, id, balance) VALUES (%s, %s, %s)"
MOVED_BACK = "MR004"
#: A lock could not be had, or another transaction was preferred: the operator's command has the tables.
BUSY = {"40P01", "55P03", "40001"}


class Writing(threading.Thread):
    """Writes until it is stopped."""

    rest = 0.03
    """Seconds between two transactions."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self.dsn = dsn
        self.acknowledged = 0
        """Transactions that were committed."""
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        self.paused, self.resting = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as conn:
                while not self.stopping.is_set():
                    if self.paused.is_set():
                        self.resting.set()
                        time.sleep(0.01)
                        continue
                    self.resting.clear()
                    try:
                        with conn.transaction():
                            self.write(conn)
                        self.acknowledged += 1
                    except psycopg.Error as error:
                        if error.sqlstate != MOVED_BACK and error.sqlstate not in BUSY:
                            raise
                    time.sleep(self.rest)
        except BaseException as error:
            self.error = error

    def write(self, conn: psycopg.Connection[Any]) -> None:
        """One transaction."""
        raise NotImplementedError

    def end(self) -> None:
        self.stopping.set()
        self.join()
        if self.error is not None:
            raise self.error


class RawProgram(Writing):
    """Moves balances between accounts, makes and deletes accounts, truncates the table and fills it again."""

    def __init__(self, dsn: str, agent: str) -> None:
        """``agent``: whose rows they are, in the tables of the store."""
        super().__init__(dsn)
        self.random = random.Random(7)
        self.next_id = 100
        self.agent = agent

    def write(self, conn: psycopg.Connection[Any]) -> None:
        number = self.acknowledged + 1
        conn.execute("UPDATE marks SET n = n + 1")
        conn.execute(
            "INSERT INTO journal (agent_id, n, note) VALUES (%s, %s, %s)", (self.agent, number, f"number {number}")
        )
        rows = conn.execute("SELECT id, balance FROM accounts ORDER BY id").fetchall()
        (one, _), (other, balance) = self.random.sample(rows, 2)
        amount = self.random.randrange(1, 100)
        if number % 11 == 0:
            conn.execute("TRUNCATE accounts")
            self.random.shuffle(rows)
            for row in rows:
                conn.execute(_ACCOUNT, (self.agent, *row))
        elif number % 5 == 0 and len(rows) > 4:
            conn.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (balance, one))
            conn.execute("DELETE FROM accounts WHERE id = %s", (other,))
        elif number % 3 == 0:
            self.next_id += 1
            conn.execute(_ACCOUNT, (self.agent, self.next_id, amount))
            conn.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, one))
        else:
            conn.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", (amount, one))
            conn.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, other))


class LongTransactions(Writing):
    """Writes one half, stays open while the other program commits many transactions, and writes the other half."""

    rest = 0.5  # a command that needs the tables gets them between two

    def __init__(self, dsn: str, beside: RawProgram, transactions: int = 15) -> None:
        super().__init__(dsn)
        self.beside, self.transactions = beside, transactions

    def write(self, conn: psycopg.Connection[Any]) -> None:
        conn.execute("UPDATE pairs SET v = v + 1 WHERE id = 1")
        until = self.beside.acknowledged + self.transactions
        deadline = time.monotonic() + 3.0  # it would wait for ever for a program that waits for it, by way of a command
        while self.beside.acknowledged < until and time.monotonic() < deadline and not self.stopping.is_set():
            if self.paused.is_set():
                break
            time.sleep(0.01)
        conn.execute("UPDATE pairs SET v = v + 1 WHERE id = 2")


class LongReader:
    """A transaction that keeps its snapshot: of nothing that is moved, so that it is in no one's way."""

    def __init__(self, dsn: str) -> None:
        self.conn = psycopg.connect(dsn, autocommit=False)
        self.conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self.conn.execute("SELECT count(*) FROM pg_catalog.pg_class")

    def close(self) -> None:
        self.conn.close()
