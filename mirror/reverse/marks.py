"""Whether the file was written while no mirror carried writes back: by what it looked like after the last batch.

A commit of any program changes the size or the time of the file or of its log, and so may a program that only reads, if
it is the last one to close the file: then there is a doubt that is none. The mirror's own connection changes nothing
when it is closed.
"""

from __future__ import annotations

import os
from pathlib import Path

from mirror.core.place import where


def mark(database: Path) -> str:
    """What the file of a source and its log look like now. Raises ``OSError``."""
    path = where(database)
    return " ".join(_look(name) for name in (path, Path(f"{path}-wal")))


def _look(path: Path) -> str:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "none"
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
