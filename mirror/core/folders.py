"""The folders in the state directory: one for each source, and what is read from its files.

``sources/NAME-DIGEST/`` contains ``source`` (the source's absolute path), ``lock`` (the process of its mirror, see
:mod:`mirror.core.locks`), ``control.path`` (see :mod:`mirror.core.sockets`), ``position`` (see
:mod:`mirror.core.published`), ``spool/`` and the saved copy.
"""

from __future__ import annotations

import hashlib
import os
import re
from enum import StrEnum
from pathlib import Path

from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.core.process_name import can_judge, is_gone
from mirror.core.state_errors import state_error

_READ = "read the state directory"

#: Files in a source's folder: one with the source's path; one with the control socket's path, if it is not here.
SOURCE, _ASIDE = "source", "control.path"
#: One that says that the source was moved to Postgres for good, and that nothing else is known of it any more.
MOVED = "moved"
#: The one that a mirror locks. It contains its process id, and in a second line its name; nothing once it has ended.
LOCK = "lock"


def resolve(source: Path | str) -> Path:
    """The name by which a source is known: its absolute path, links followed."""
    return Path(source).expanduser().resolve()


def source_folder(state_dir: Path, source: Path) -> Path:
    """The folder of one source (``source`` as :func:`resolve` gives it)."""
    digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[:40]
    return state_dir / "sources" / f"{name}-{digest}"


def forget(folder: Path) -> None:
    """Have a source's folder count no more as that of a known source; what is in it stays. Raises ``OSError``."""
    (folder / SOURCE).unlink(missing_ok=True)


def require_not_moved(folder: Path, source: Path) -> None:
    """Raise ``StateError`` for a source of which only that is known: :data:`MOVED`."""
    if (folder / MOVED).exists():
        raise StateError(
            "mirror a source",
            str(source),
            "it was moved to Postgres for good, and `mirror remove` took away what the mirror had of it: the file is an"
            " old copy",
            next_step=f"nothing; to mirror the file anew all the same, delete {folder} once no program goes by it",
        )


def write_name(folder: Path, source: Path) -> bool:
    """Have a folder count as that of a known source; whether it did not before. Raises ``OSError``."""
    path, name = folder / SOURCE, os.fsencode(source)
    if path.exists() and path.read_bytes() == name:
        return False
    write_atomically(path, name, durable=False)
    return True


def known_sources(state_dir: Path) -> list[Path]:
    """The sources that have a folder in the state directory; a folder that this user may not look into is left out.

    Raises ``StateError`` if it cannot be read which folders there are, or if none of them may be looked into.
    """
    found, hidden = [], None
    try:
        names = sorted(os.listdir(state_dir / "sources"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(state_dir / "sources", error) from error
    for name in names:
        try:
            path = _path_in(state_dir / "sources" / name / SOURCE)
        except PermissionError as error:
            hidden = error
            continue
        # The folder is named after the whole path: a path that a crash or a full disk has cut names another folder.
        if path is not None and source_folder(state_dir, path).name == name:
            found.append(path)
    if hidden is not None and not found:
        raise _unreadable(state_dir / "sources", hidden) from hidden
    return found


def _unreadable(place: Path, error: OSError) -> StateError:
    step = "run it as the user that runs the mirror, or name that user's right --state-dir"
    if not isinstance(error, PermissionError):
        return state_error(error, place, _READ)
    return StateError(_READ, str(place), error.strerror or str(error), next_step=step)


def source_of(folder: Path) -> Path | None:
    """The source with this folder; None: it was never mirrored, or the folder cannot be read."""
    try:
        return _path_in(folder / SOURCE)
    except PermissionError:
        return None


def _path_in(name: Path) -> Path | None:
    """The absolute path that a file contains; None if it is not there, or contains anything else.

    Raises ``PermissionError``.
    """
    try:
        path = Path(os.fsdecode(name.read_bytes()))
    except PermissionError:
        raise
    except OSError:
        return None
    return path if path.is_absolute() and "\0" not in str(path) else None


class Ending(StrEnum):
    """How the last mirror of a source has ended, as its lock file tells it."""

    NEVER = "never"
    """There was none, or not in this folder."""
    NOT = "not"
    """It has not: its process is there and has the lock."""
    STOPPED = "stopped"
    """It has released the lock, also after an error."""
    KILLED = "killed"
    """Its process is gone, and has not released it."""
    UNKNOWN = "unknown"
    """It has not released it, and runs, or ran, where its process cannot be seen: in another container, before the
    machine was started again, or on another machine."""


def spool_bytes(folder: Path) -> int | None:
    """The size of a source's spool; None: there is none, or it cannot be read."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder / "spool"))
    except OSError:
        return None


def holder(folder: Path) -> int | None:
    """Process id in the lock file of a source: of the mirror that holds the lock, or was killed; None: not known."""
    return _holder(folder)[0]


def _holder(folder: Path) -> tuple[int | None, str]:
    """Process id and name (:mod:`mirror.core.process_name`) in the lock file; an earlier version wrote no name."""
    try:
        number, _, name = (folder / LOCK).read_text("ascii").partition("\n")
        return int(number), name.strip()
    except (OSError, ValueError):
        return None, ""


def ending(folder: Path) -> tuple[Ending, float | None]:
    """How the last mirror of the source with this folder has ended; and, if it was stopped, when (Unix time).

    The lock itself is not tried: for that moment a mirror that starts could not have it.
    """
    try:
        found = os.stat(folder / LOCK)
    except OSError:
        return Ending.NEVER, None
    pid, name = _holder(folder)
    if pid is None:
        return Ending.STOPPED, found.st_mtime
    if not can_judge(name):
        return Ending.UNKNOWN, None
    return (Ending.KILLED if is_gone(name) else Ending.NOT), None
