#@ title = "cysqlite"
#@ pip = ["cysqlite==0.4.0"]
#@ [modes]
#@ "wal" = "equal"
#@ "truncate" = "equal"
import cysqlite

from _dbapi import serve

(VERSION,) = cysqlite.Connection(":memory:").execute("select sqlite_version()").fetchone()
serve(cysqlite.Connection, cysqlite.__version__, VERSION)
