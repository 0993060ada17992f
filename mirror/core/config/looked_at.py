"""Which files and folders the configuration depends on, those that are not there included: whoever waits for a change
of it watches them.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_paths: ContextVar[set[Path] | None] = ContextVar("_paths", default=None)


@contextmanager
def looked_at() -> Iterator[set[Path]]:
    """The paths that reading the configuration looks at inside of this context; they are added as it goes on."""
    paths = set[Path]()
    token = _paths.set(paths)
    try:
        yield paths
    finally:
        _paths.reset(token)


def look_at(path: Path) -> None:
    """The configuration depends on this path."""
    if (paths := _paths.get()) is not None:
        paths.add(path)


def is_there(path: Path) -> bool:
    """Whether there is a file or folder of this name, or a link, even one that leads nowhere."""
    look_at(path)
    return os.path.lexists(path)
