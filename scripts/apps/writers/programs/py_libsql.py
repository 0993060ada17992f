#@ title = "libsql (PyPI)"
#@ pip = ["libsql==0.1.11"]
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
from importlib.metadata import version

import libsql

from _dbapi import serve

(VERSION,) = libsql.connect(":memory:").execute("select sqlite_version()").fetchone()
serve(lambda path: libsql.connect(path, isolation_level=None), version("libsql"), VERSION)
