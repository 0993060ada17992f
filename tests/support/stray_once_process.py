"""A program that knows nothing of a move and writes one row to a file: ``python stray_once_process.py FILE ID``.

It ends once its commit has succeeded; a lock is waited for.
"""

from __future__ import annotations

import sqlite3
import sys
import time

from tests.support.waiting import LIMIT


def main(database: str, number: int) -> None:
    connection = sqlite3.connect(database, isolation_level=None, timeout=0.02)
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            connection.execute("INSERT INTO notes VALUES (?, 'astray')", (number,))
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
        # Between two batches the lock is free for an instant only.
        time.sleep(0.0005)


main(sys.argv[1], int(sys.argv[2]))
