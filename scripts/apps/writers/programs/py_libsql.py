# @ title = "libsql (PyPI)"
# @ pip = ["libsql==0.1.11"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""Turso's fork of SQLite in C, from Python."""

from importlib.metadata import version

import libsql
from _lines import dbapi, serve

(SQLITE,) = libsql.connect(":memory:").execute("select sqlite_version()").fetchone()
serve(dbapi(lambda path: libsql.connect(path, isolation_level=None)), version("libsql"), SQLITE)
