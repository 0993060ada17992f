# @ title = "cysqlite"
# @ pip = ["cysqlite==0.4.0"]
# @ [modes]
# @ "wal" = "equal"
# @ "truncate" = "equal"
"""A binding in Cython, in autocommit mode."""

from importlib.metadata import version

import cysqlite
from _lines import serve


def start(path):
    """Open; a connection runs statements itself."""
    connection = cysqlite.connect(path)
    return lambda text: list(connection.execute(text)), connection.close


serve(start, version("cysqlite"), ".".join(map(str, cysqlite.sqlite_version_info)))
