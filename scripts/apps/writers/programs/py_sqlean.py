#@ title = "sqlean.py"
#@ pip = ["sqlean.py==3.50.4.5"]
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
from importlib.metadata import version

import sqlean

from _dbapi import serve

serve(lambda path: sqlean.connect(path, isolation_level=None), version("sqlean.py"), sqlean.sqlite_version)
