# @ title = "pysqlite3-binary"
# @ pip = ["pysqlite3-binary==0.5.4.post2"]
# @ [modes]
# @ "wal" = "equal"
# @ "persist" = "equal"
"""The standard library's module with a SQLite of its own."""

from importlib.metadata import version

from _lines import dbapi, serve
from pysqlite3 import dbapi2

serve(
    dbapi(lambda path: dbapi2.connect(path, isolation_level=None)), version("pysqlite3-binary"), dbapi2.sqlite_version
)
