# @ title = "DuckDB sqlite_scanner"
# @ pip = ["duckdb==1.5.5", "duckdb-extension-sqlite-scanner==1.5.5", "duckdb-extensions==1.5.5"]
# @ heavy = true
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""DuckDB attaches the file. It has no pragmas of SQLite and other types, so a stock SQLite makes the tables."""

import re
import subprocess
import sys
from importlib.metadata import version

import duckdb
from _lines import serve
from duckdb_extensions import import_extension

STOCK = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]).fetchall()"


def start(path):
    """Attach the file when it is needed: while another program changes the schema it is detached."""
    import_extension("sqlite_scanner")
    connection = duckdb.connect()
    connection.execute("LOAD sqlite_scanner")
    attached = []

    def run(text):
        if text.startswith(("PRAGMA", "CREATE", "ALTER", "VACUUM")):
            if attached:
                connection.execute("USE memory; DETACH f")
                attached.clear()
            subprocess.run([sys.executable, "-c", STOCK, path, text], check=True)
            return
        if not attached:
            connection.execute(f"ATTACH '{path}' AS f (TYPE sqlite); USE f")
            attached.append(path)
        connection.execute(re.sub(r"X'([0-9a-f]*)'", r"unhex('\1')", text))

    return run, connection.close


serve(start, version("duckdb"))
