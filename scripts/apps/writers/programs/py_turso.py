# @ title = "pyturso"
# @ pip = ["pyturso==0.8.3"]
# @ [modes]
# @ "wal" = "equal or told"
# @ "wal later" = "equal or told"
# @ "multiprocess_wal wal" = "equal or told"
# @ "multiprocess_wal wal later" = "equal or told"
# @ "mvcc" = "refused or told"
# @ "mvcc later" = "refused or told"
"""Turso's engine in Rust. Word ``multiprocess_wal``: an experiment that lets several processes in."""

import sys
from importlib.metadata import version

import turso
from _lines import dbapi, serve

FEATURES = "multiprocess_wal" if "multiprocess_wal" in sys.argv else None
(SQLITE,) = turso.connect(":memory:").execute("select sqlite_version()").fetchone()
serve(
    dbapi(lambda path: turso.connect(path, isolation_level=None, experimental_features=FEATURES)),
    version("pyturso"),
    SQLITE,
)
