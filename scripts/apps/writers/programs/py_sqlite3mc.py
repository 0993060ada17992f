# @ title = "APSW with SQLite3 Multiple Ciphers"
# @ pip = ["apsw-sqlite3mc==3.54.0.0"]
# @ [modes]
# @ "wal" = "equal"
# @ "chacha20 key wal" = "refused"
# @ "sqlcipher key delete" = "refused"
# @ "aes128cbc key wal" = "refused"
# @ "rc4 key wal" = "refused"
# @ "legacy-wal key wal" = "refused"
# @ "plain-header key wal" = "refused"
# @ "rekey delete" = "refused or told"
"""Words: a cipher; ``legacy-wal``; ``plain-header``, which is SQLCipher with 32 readable bytes."""

import sys

import apsw
from _lines import serve

CIPHERS = ("chacha20", "sqlcipher", "aes128cbc", "rc4")
#: With a plain header the salt, which lies there otherwise, is the program's to keep.
SALT = f"PRAGMA cipher_salt='{'01' * 16}'"
WORDS = {cipher: [f"PRAGMA cipher='{cipher}'"] for cipher in CIPHERS} | {
    "legacy-wal": ["PRAGMA mc_legacy_wal=1"],
    "plain-header": ["PRAGMA cipher='sqlcipher'", "PRAGMA plaintext_header_size=32", SALT],
}


def start(path):
    """Open and choose the cipher; the key comes as a statement."""
    connection = apsw.Connection(path)
    for word in sys.argv[2:]:
        for statement in WORDS.get(word, []):
            list(connection.execute(statement))
    return lambda text: list(connection.execute(text)), connection.close


serve(start, apsw.apsw_version(), apsw.sqlite_lib_version())
