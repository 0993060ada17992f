# @ title = "sqlite3 shell (Debian)"
# @ apt = ["sqlite3"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
# @ "exclusive wal" = "refused or told or equal"
"""Debian builds it with SECURE_DELETE."""

from _shell import serve_shell

serve_shell(["sqlite3", "-batch"])
