"""A program that opens a file by its name and says what it finds: python reading_process.py [--later] FILE QUERY...

It prints the rows as JSON, or "error" and SQLite's message. It uses sqlite3's defaults, with a short time to wait.
``--later``: it connects, prints a line, and reads for the first time when its standard input ends.
"""

from __future__ import annotations

import json
import sqlite3
import sys


def main(*arguments: str) -> None:
    later = arguments[0] == "--later"
    database, *statements = arguments[later:]
    try:
        connection = sqlite3.connect(database, isolation_level=None, timeout=0.05)
        if later:
            print("connected", flush=True)
            sys.stdin.read()
        rows: list[list[object]] = []
        for statement in statements:
            rows = [list(row) for row in connection.execute(statement)]
        print(json.dumps(rows))
    except sqlite3.Error as error:
        print(f"error {error}")


main(*sys.argv[1:])
