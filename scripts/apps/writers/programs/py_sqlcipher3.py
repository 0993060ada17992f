# @ title = "sqlcipher3"
# @ pip = ["sqlcipher3==0.6.4"]
# @ [modes]
# @ "wal" = "equal"
# @ "key wal" = "refused"
# @ "key wal later" = "refused"
# @ "key delete" = "refused"
# @ "plain-header key wal" = "refused"
"""Word ``plain-header``: 32 bytes of the first page stay readable, as apps for iOS have it."""

import sys
from importlib.metadata import version

from _lines import dbapi, serve
from sqlcipher3 import dbapi2


def connect(path):
    """Open; the key comes as a statement."""
    connection = dbapi2.connect(path, isolation_level=None)
    if "plain-header" in sys.argv:
        connection.execute("PRAGMA cipher_default_plaintext_header_size = 32").fetchall()
    return connection


serve(dbapi(connect), version("sqlcipher3"), dbapi2.sqlite_version)
