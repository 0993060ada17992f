"""A program with mirrored files: runs the Python code that comes on standard input, and replies with its ``answer``.

``DRIVER`` is the SQLite module that it uses; ``connect(path)`` opens a connection as programs do.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from typing import Any


def main(driver: str) -> None:
    names: dict[str, Any] = {"answer": None, "connect": _CONNECT[driver], "threading": threading, "DRIVER": driver}
    for line in sys.stdin:
        try:
            exec(compile(json.loads(line), "<test>", "exec"), names)
            reply = {"answer": names["answer"]}
        except Exception:
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), flush=True)


def _apsw(path: str) -> Any:
    import apsw

    connection = apsw.Connection(path)
    connection.set_busy_timeout(20_000)
    return connection


def _sqlite3(path: str) -> Any:
    import sqlite3

    return sqlite3.connect(path, isolation_level=None, timeout=20)


_CONNECT = {"apsw": _apsw, "sqlite3": _sqlite3}

if __name__ == "__main__":
    main(sys.argv[1])
