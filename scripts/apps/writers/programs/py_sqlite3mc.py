#@ title = "APSW with SQLite3 Multiple Ciphers"
#@ pip = ["apsw-sqlite3mc==3.54.0.0"]
#@ [modes]
#@ "wal" = "equal"
#@ "chacha20 key wal" = "refused"
#@ "sqlcipher key delete" = "refused"
#@ "aes128cbc key wal" = "refused"
#@ "rc4 key wal" = "refused"
#@ "legacy-wal key wal" = "refused"
#@ "plain-header key wal" = "refused"
#@ "rekey delete" = "refused or told"
"""Words: a cipher; ``legacy-wal``; ``plain-header`` (SQLCipher with 32 readable bytes)."""

import sys

import apsw

from _dbapi import serve

CIPHERS = {"chacha20", "sqlcipher", "aes128cbc", "rc4"}


class Statements:
    """A cursor for each statement, read to its end."""

    def __init__(self, path):
        self._connection = apsw.Connection(path)
        for word in sys.argv[2:]:
            if word in CIPHERS:
                self.execute(f"PRAGMA cipher='{word}'")
            if word == "legacy-wal":
                self.execute("PRAGMA mc_legacy_wal=1")
            if word == "plain-header":
                self.execute("PRAGMA cipher='sqlcipher'")
                self.execute("PRAGMA plaintext_header_size=32")
        self.description = None

    def cursor(self):
        return self

    def execute(self, text):
        list(self._connection.execute(text))

    def close(self):
        pass


serve(Statements, apsw.apsw_version(), apsw.sqlite_lib_version())
