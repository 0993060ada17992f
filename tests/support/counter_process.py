"""A program that counts: ``python counter_process.py FILE RATE`` raises a number by one in each commit.

RATE: commits a second; 0: as many as it can. When its input is closed it closes its connection, and ends.
"""

from __future__ import annotations

import select
import sqlite3
import sys
import time


def main(path: str, rate: float) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous=NORMAL")
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(50 if not rate else 1):
            connection.execute("UPDATE counter SET n = n + 1")
        if rate:
            due = max(due + 1 / rate, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
