#@ title = "DuckDB sqlite_scanner"
#@ pip = ["duckdb==1.5.5", "duckdb-extension-sqlite-scanner==1.5.5", "duckdb-extensions==1.5.5"]
#@ heavy = true
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
"""DuckDB attaches the file. It has no pragmas of SQLite and other types, so tables are made by a stock SQLite."""

import subprocess
import sys
from importlib.metadata import version

import duckdb
from duckdb_extensions import import_extension

from _dbapi import serve

STOCK = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]).fetchall()"


class Statements:
    """Statements of DuckDB; what only SQLite has is run by a process with the standard library."""

    def __init__(self, path):
        import_extension("sqlite_scanner")
        self._path = path
        self._connection = duckdb.connect()
        self._connection.execute("LOAD sqlite_scanner")
        self._attached = False
        self.description = None

    def cursor(self):
        return self

    def execute(self, text):
        if text.startswith(("PRAGMA", "CREATE", "ALTER", "VACUUM")):
            if self._attached:
                self._connection.execute("USE memory; DETACH f")
                self._attached = False
            subprocess.run([sys.executable, "-c", STOCK, self._path, text], check=True)
            return
        if not self._attached:
            self._connection.execute(f"ATTACH '{self._path}' AS f (TYPE sqlite); USE f")
            self._attached = True
        self._connection.execute(text.replace("X'", "from_hex('").replace("',", "'),") if "X'" in text else text)

    def close(self):
        pass


serve(Statements, version("duckdb"), "-")
