# @ title = "Fossil's own SQLite (Debian)"
# @ apt = ["fossil"]
# @ [modes]
# @ "wal" = "equal"
# @ [environment]
# @ FOSSIL_HOME = "{folder}"
"""``fossil sql`` is a shell of the library that Fossil brings; the file is no repository."""

import subprocess

from _shell import serve_shell

version = subprocess.run(["fossil", "version"], capture_output=True, text=True, check=True).stdout.split()[4]
serve_shell(["fossil", "sql", "--no-repository", "-batch"], version)
