#@ title = "pyturso"
#@ pip = ["pyturso==0.8.3"]
#@ [modes]
#@ "wal" = "equal or told"
#@ "wal later" = "equal or told"
#@ "multiprocess_wal wal" = "equal or told"
#@ "multiprocess_wal wal later" = "equal or told"
#@ "mvcc" = "refused or told"
#@ "mvcc later" = "refused or told"
import sys
from importlib.metadata import version

import turso

from _dbapi import serve


def connect(path):
    """Open; several processes at once are an experiment that must be asked for."""
    features = "multiprocess_wal" if "multiprocess_wal" in sys.argv else None
    return turso.connect(path, isolation_level=None, experimental_features=features)


(VERSION,) = turso.connect(":memory:").execute("select sqlite_version()").fetchone()
serve(connect, version("pyturso"), VERSION)
