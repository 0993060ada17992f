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

from _lines import serve
from sqlcipher3 import dbapi2

#: With a plain header the salt, which lies there otherwise, is the program's to keep.
PLAIN = ("PRAGMA cipher_plaintext_header_size = 32", "PRAGMA cipher_salt = \"x'01010101010101010101010101010101'\"")


def start(path):
    """Open; the key comes as a statement."""
    connection = dbapi2.connect(path, isolation_level=None)

    def run(text):
        connection.execute(text).fetchall()
        if text.startswith("PRAGMA key") and "plain-header" in sys.argv:
            for statement in PLAIN:
                connection.execute(statement).fetchall()

    return run, connection.close


serve(start, version("sqlcipher3"), dbapi2.sqlite_version)
