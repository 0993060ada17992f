"""The folders in the state directory: one for each source, and what is read from its files.

``sources/NAME-DIGEST/`` contains ``source`` (the source's absolute path), ``lock`` (the process id of its mirror, see
:mod:`mirror.core.locks`), ``control.path`` (see :mod:`mirror.core.sockets`), ``position`` (see
:mod:`mirror.core.published`), ``spool/`` and the saved copy.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.core.state_errors import state_error

#: Files in a source's folder: one with the source's path; one with the control socket's path, if it is not here.
_SOURCE, _ASIDE = "source", "control.path"
_READ = "read the state directory"


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
    (folder / _SOURCE).unlink(missing_ok=True)


def write_name(folder: Path, source: Path) -> bool:
    """Have a folder count as that of a known source; whether it did not before. Raises ``OSError``."""
    path, name = folder / _SOURCE, os.fsencode(source)
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
            path = _path_in(state_dir / "sources" / name / _SOURCE)
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


def holder(folder: Path) -> int | None:
    """Process id in the lock file of a source: of the mirror that holds the lock, or held it last; None: not known."""
    try:
        return int((folder / "lock").read_bytes())
    except (OSError, ValueError):
        return None
