#@ title = "pysqlite3-binary"
#@ pip = ["pysqlite3-binary==0.5.4.post2"]
#@ [modes]
#@ "wal" = "equal"
#@ "persist" = "equal"
from importlib.metadata import version

from pysqlite3 import dbapi2

from _dbapi import serve

serve(lambda path: dbapi2.connect(path, isolation_level=None), version("pysqlite3-binary"), dbapi2.sqlite_version)
