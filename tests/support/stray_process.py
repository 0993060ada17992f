"""A program that knows nothing of a move and writes a file in a loop: stray_process.py FILE ACKNOWLEDGED STOP.

It inserts rows with ids from 1,000,000 on, and writes each id to ACKNOWLEDGED once its commit has succeeded. What is
refused is tried again with the next id. It ends when STOP exists. Two more arguments: seconds that it waits for a lock,
and between two writes.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path


def main(database: str, acknowledged: Path, stop: Path, patience: float = 0.02, pause: float = 0.002) -> None:
    connection = sqlite3.connect(database, isolation_level=None, timeout=patience)
    number = 1_000_000
    with acknowledged.open("a", buffering=1) as log:
        while not stop.exists():
            number += 1
            try:
                connection.execute("INSERT INTO notes VALUES (?, 'astray')", (number,))
            except (sqlite3.OperationalError, sqlite3.IntegrityError) as error:
                log.write(f"refused {type(error).__name__}: {error}\n")
            else:
                log.write(f"{number}\n")
            if pause:
                time.sleep(pause)


main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(float, sys.argv[4:]))
