#@ title = "ADBC sqlite"
#@ pip = ["adbc-driver-sqlite==1.13.0", "pyarrow"]
#@ heavy = true
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
from importlib.metadata import version

from adbc_driver_sqlite import dbapi

from _dbapi import serve


def connect(path):
    """Open without transactions of the driver's own."""
    return dbapi.connect(path, autocommit=True)


with dbapi.connect(":memory:", autocommit=True) as memory, memory.cursor() as asked:
    asked.execute("select sqlite_version()")
    (VERSION,) = asked.fetchone()
serve(connect, version("adbc-driver-sqlite"), VERSION)
