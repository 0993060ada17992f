"""Where the file of a source is: at its own name, or, while programs are kept out by a rename, at another one.

A source is known by its own name always: in Postgres, in the state directory, in the configuration. Programs that open
that name meanwhile find a stand-in, which is a socket: SQLite can open none, and makes no database there. It is the
disk that says which name the file has, so that no step of a move can have it said otherwise than it is.

The log of the file is what decides. While ``-wal`` (``-journal``, in the rollback modes) is a stand-in, the own name
opens nothing, even where it is the database still; and what is in the log is found under the other name alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mirror.core.errors import SourceError

#: What the other name ends with.
MOVED = ".moved-to-postgres"
#: What the companions of a database end with. While one of these is a stand-in, the file has its other name.
LOGS = ("-wal", "-journal")


def other_name(database: Path) -> Path:
    """The name that a file has while programs are kept out."""
    return database.with_name(database.name + MOVED)


def is_stand_in(path: Path | str) -> bool:
    """Whether there is a stand-in at a name. Opens nothing."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def is_away(database: Path) -> bool:
    """Whether the file of a source has its other name."""
    return any(is_stand_in(f"{database}{suffix}") for suffix in ("", *LOGS))


def was_touched(database: Path) -> bool:
    """Whether the file has its other name, or both: a command that was killed in the middle has left it so."""
    if is_away(database):
        return True
    try:
        return os.path.samestat(os.lstat(database), os.lstat(other_name(database)))
    except OSError:
        return False


def where(database: Path) -> Path:
    """The name under which the file of a source is to be opened."""
    return other_name(database) if is_away(database) else database


def is_missing(database: Path) -> bool:
    """Whether the file of a source is known not to be there, under either name. Opens nothing."""
    try:
        os.stat(where(database))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def require_own_name(database: Path, operation: str) -> None:
    """Raise ``SourceError`` while the file has its other name: for what is of no use then, and opens the own name."""
    if is_away(database):
        raise SourceError(
            operation,
            str(database),
            f"it was given another name when programs were moved to Postgres: {other_name(database).name}",
            next_step="`mirror cutover rollback` gives it its own name back",
        )
