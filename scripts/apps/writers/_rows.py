"""All rows of a database as the standard SQLite reads them, in a process of its own; imports nothing of the project.

``python _rows.py FILE`` answers a statement with ``ok`` or ``error …`` and the line ``.rows`` with all tables as JSON.
With ``:memory:`` it is the truth that a foreign writer is held against: it runs what the writer said ``ok`` to.
"""

import hashlib
import json
import sqlite3
import sys


def shown(value):
    """Return a value as text that keeps its type: null, i:1, r:0x1p-1, t:text, b:SHA-256 of the bytes."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, float):
        return f"r:{value.hex()}"
    if isinstance(value, str):
        return f"t:{value}"
    return f"b:{hashlib.sha256(value).hexdigest()}"


def rows(connection):
    """Return the columns and the sorted rows of each table."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
    ).fetchall()
    found = {}
    for (name,) in names:
        cursor = connection.execute(f'SELECT * FROM "{name}"')
        columns = [column[0] for column in cursor.description]
        found[name] = {"columns": columns, "rows": sorted([shown(value) for value in row] for row in cursor)}
    (check,) = connection.execute("PRAGMA integrity_check").fetchone()
    return {"tables": found, "check": check}


def main(path):
    """Answer lines until standard input ends."""
    connection = sqlite3.connect(path, isolation_level=None)
    print("ready", "-", sqlite3.sqlite_version, flush=True)
    for line in sys.stdin:
        try:
            if line.startswith(".rows"):
                answer = "ok " + json.dumps(rows(connection))
            else:
                connection.execute(line).fetchall()
                answer = "ok"
        except sqlite3.Error as error:
            answer = f"error {error}".replace("\n", " ")
        print(answer, flush=True)
    connection.close()


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    main(sys.argv[1])
