"""Sources whose file is not there any more, and the file that may be one of them, which was moved or renamed.

A mirror that began with a moved file as with a new one would copy it into Postgres a second time, beside what the old
name has there.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from mirror.core.config.settings import Settings
from mirror.core.errors import StateError
from mirror.core.folders import known_sources, source_folder
from mirror.core.place import is_missing

#: What a source's folder has once it was copied.
_COPY = "shadow.json"


def require_unmoved(settings: Settings, source: Path) -> None:
    """Raise ``StateError`` if a file that was never mirrored has the rows of a source that is not there any more."""
    old = moved_from(settings, source)
    if old is None:
        return
    anew = f"to mirror it anew all the same, first `mirror remove {shlex.quote(str(old))}{settings.without_schema}`"
    raise StateError(
        "mirror a file",
        str(source),
        f"it has the rows of {old}, which is not there any more",
        next_step=f"`{rename_command(settings, old, source)}` goes on with it; {anew}",
    )


def rename_command(settings: Settings, old: Path, new: Path) -> str:
    """The command that has the mirror of the old file go on with the new one."""
    return f"mirror rename {shlex.quote(str(old))} {shlex.quote(str(new))}{settings.without_schema}"


def moved_from(settings: Settings, source: Path) -> Path | None:
    """The source whose rows a file has that was never mirrored, and which is not there any more; None: there is none.

    Opens the file; the caller has no descriptor on it.
    """
    folder = source_folder(settings.state_dir, source)
    if (folder / _COPY).exists() or is_missing(source):
        return None
    for old in known_sources(settings.state_dir):
        copy = source_folder(settings.state_dir, old)
        if old != source and (copy / _COPY).exists() and is_missing(old):
            from mirror.replica.likeness import resembles  # SQLite takes long to load

            if resembles(copy, source):
                return old
    return None
