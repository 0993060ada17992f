"""Files whose names are like that of one which is not there: a person may have misspelt it."""

from __future__ import annotations

import os
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

#: Names that databases usually have; not those of their logs.
_FORMS = ("*.db", "*.db3", "*.sqlite", "*.sqlite[0-9]")


def did_you_mean(path: Path) -> str:
    """Words to add to what is said of a path where there is no file; empty: none beside it has a name like that."""
    try:
        names = [name for name in os.listdir(path.parent) if any(fnmatch(name.lower(), form) for form in _FORMS)]
    except OSError:
        return ""
    found = get_close_matches(path.name, sorted(name for name in names if name != path.name), n=1, cutoff=0.7)
    return f"; did you mean {found[0]}?" if found else ""
