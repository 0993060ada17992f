"""A program that writes a SQLite file and knows nothing of a mirror.

``python writer_process.py (sqlite3|apsw) FILE BUSY_MILLISECONDS``: reads requests as JSON lines, each a list
of [sql, parameters] that are run in order, and answers each line with the rows of the last
statement, or with an error. A blob is {"blob": base64}. In place of a statement, ``BLOB WRITE`` with (table, column,
rowid, offset, bytes) writes into a blob without writing its row.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any


def _decode(value: Any) -> Any:
    return base64.b64decode(value["blob"]) if isinstance(value, dict) else value


def _encode(value: Any) -> Any:
    return {"blob": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _connect(driver: str, path: str, busy: int) -> Any:
    if driver == "apsw":
        import apsw

        connection = apsw.Connection(path)
        connection.set_busy_timeout(busy)
        return connection
    import sqlite3

    return sqlite3.connect(path, isolation_level=None, timeout=busy / 1000)


def _write_blob(connection: Any, table: str, column: str, rowid: int, offset: int, data: bytes) -> list[Any]:
    if hasattr(connection, "blob_open"):
        blob = connection.blob_open("main", table, column, rowid, True)
    else:
        blob = connection.blobopen(table, column, rowid)
    with blob:
        blob.seek(offset)
        blob.write(data)
    return []


def main(driver: str, path: str, busy: int) -> None:
    connection = _connect(driver, path, busy)
    for line in sys.stdin:
        try:
            rows: list[Any] = []
            for sql, parameters in json.loads(line):
                values = [_decode(value) for value in parameters]
                rows = (
                    _write_blob(connection, *values) if sql == "BLOB WRITE" else list(connection.execute(sql, values))
                )
            answer: Any = {"rows": [[_encode(value) for value in row] for row in rows]}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
