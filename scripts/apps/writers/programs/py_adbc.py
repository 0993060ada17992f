# @ title = "ADBC sqlite"
# @ pip = ["adbc-driver-sqlite==1.13.0", "pyarrow"]
# @ heavy = true
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""Arrow's database driver, without transactions of its own."""

from importlib.metadata import version

from _lines import dbapi, serve
from adbc_driver_sqlite import dbapi as adbc

with adbc.connect(":memory:", autocommit=True) as memory, memory.cursor() as cursor:
    cursor.execute("select sqlite_version()")
    (SQLITE,) = cursor.fetchone()
serve(dbapi(lambda path: adbc.connect(path, autocommit=True)), version("adbc-driver-sqlite"), SQLITE)
