# @ title = "sqlean.py"
# @ pip = ["sqlean.py==3.50.4.5"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""The standard library's module with a SQLite of its own and extensions."""

from importlib.metadata import version

import sqlean
from _lines import dbapi, serve

serve(dbapi(lambda path: sqlean.connect(path, isolation_level=None)), version("sqlean.py"), sqlean.sqlite_version)
