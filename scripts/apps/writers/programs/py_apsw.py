# @ title = "APSW"
# @ pip = ["apsw==3.54.1.0"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
# @ "unix-none delete" = "equal"
# @ "unix-none wal" = "told or equal"
# @ "unix-none exclusive wal" = "told or equal"
# @ "unix-none exclusive wal later" = "told or equal"
# @ "unix-dotfile delete" = "equal"
# @ "unix-dotfile exclusive wal" = "told or equal"
# @ "unix-excl wal" = "told or equal"
# @ "unix-excl wal later" = "told or equal"
"""Word: a VFS of SQLite itself, which decides how it locks."""

import sys

import apsw
from _lines import serve


def start(path):
    """Open with the VFS that the mode names."""
    vfs = next((word for word in sys.argv[2:] if word.startswith("unix-")), None)
    connection = apsw.Connection(path, vfs=vfs)
    return lambda text: list(connection.execute(text)), connection.close


serve(start, apsw.apsw_version(), apsw.sqlite_lib_version())
