# @ title = "Python sqlite3"
# @ [modes]
# @ "wal" = "equal"
# @ "wal later" = "equal"
# @ "delete" = "equal"
# @ "delete later" = "equal"
# @ "truncate" = "equal"
# @ "persist" = "equal"
# @ "exclusive wal" = "refused or told or equal"
# @ "exclusive wal later" = "refused or told or equal"
# @ "exclusive delete" = "refused or told or equal"
"""The baseline: the standard library."""

import platform
import sqlite3

from _lines import dbapi, serve

serve(
    dbapi(lambda path: sqlite3.connect(path, isolation_level=None)), platform.python_version(), sqlite3.sqlite_version
)
