# @ title = "sqlcipher shell (Debian), a SQLite of 2016"
# @ apt = ["sqlcipher"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
# @ "key wal" = "refused"
"""Without a key it writes a plain file, with an old library."""

from _shell import serve_shell

serve_shell(["sqlcipher", "-batch"])
