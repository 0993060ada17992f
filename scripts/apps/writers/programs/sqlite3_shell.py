#@ title = "sqlite3 shell (Debian)"
#@ apt = ["sqlite3"]
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
#@ "exclusive wal" = "refused or told or equal"
"""Debian builds it with SECURE_DELETE."""

import sys

from _shell import serve

serve(["sqlite3", "-batch", sys.argv[1]])
