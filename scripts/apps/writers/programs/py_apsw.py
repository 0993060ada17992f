#@ title = "APSW"
#@ pip = ["apsw==3.54.1.0"]
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
#@ "unix-none delete" = "equal"
#@ "unix-none wal" = "told or equal"
#@ "unix-none exclusive wal" = "told or equal"
#@ "unix-none exclusive wal later" = "told or equal"
#@ "unix-dotfile delete" = "equal"
#@ "unix-dotfile exclusive wal" = "told or equal"
#@ "unix-excl wal" = "told or equal"
#@ "unix-excl wal later" = "told or equal"
"""Words: the name of a VFS of SQLite itself, which decides how it locks."""

import sys

import apsw

from _dbapi import serve


def connect(path):
    """Open with the VFS that the mode names."""
    found = [word for word in sys.argv[2:] if word.startswith("unix-")]
    return apsw.Connection(path, vfs=found[0] if found else None)


class Statements:
    """APSW has no ``description`` before the first row: fetch all of it at once."""

    def __init__(self, path):
        self._connection = connect(path)
        self.description = None

    def cursor(self):
        return self

    def execute(self, text):
        list(self._connection.execute(text))

    def close(self):
        pass


serve(Statements, apsw.apsw_version() if hasattr(apsw, "apsw_version") else apsw.apswversion(), apsw.sqlitelibversion())
