# @ title = "APSW"
# @ pip = ["apsw==3.54.1.0"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
# @ "unix-none delete" = "equal"
# @ "unix-none wal" = "equal"
# @ "unix-none exclusive wal" = "told or equal"
# @ "unix-none exclusive wal later" = "told or equal"
# @ "unix-dotfile delete" = "equal"
# @ "unix-dotfile exclusive wal" = "told or equal"
# @ "unix-excl wal" = "told or equal"
# @ "unix-excl wal later" = "told or equal"
# @ "cksmvfs wal" = "equal"
# @ "tmstmpvfs wal" = "equal"
# @ "apndvfs wal" = "equal"
"""Word: a VFS of SQLite itself, which decides how it locks, or what it adds to each page."""

import sys

import apsw
import apsw.sqlite_extra
from _lines import serve

#: The extension that brings a VFS, and the bytes of each page that it keeps for itself.
EXTENSIONS = {"cksmvfs": ("cksumvfs", 8), "tmstmpvfs": ("tmstmpvfs", 16), "apndvfs": ("appendvfs", 0)}


def start(path):
    """Open with the VFS that the mode names."""
    vfs = next((word for word in sys.argv[2:] if word.endswith("vfs") or word.startswith("unix-")), None)
    extension, reserved = EXTENSIONS.get(vfs, (None, 0))
    if extension is not None:
        apsw.sqlite_extra.load(apsw.Connection(":memory:"), extension)
    connection = apsw.Connection(path, vfs=vfs)
    if reserved:
        connection.reserve_bytes("main", reserved)
    return lambda text: list(connection.execute(text)), connection.close


serve(start, apsw.apsw_version(), apsw.sqlite_lib_version())
