"""The sources that a mirror is about to take: it has their locks only once Postgres is there, which may take seconds.

``starting-PID-…`` in the state directory, from when `mirror up` begins until it has the locks: the name of its process
(:mod:`mirror.core.process_name`) and the absolute paths of its sources, with a NUL between each two. The end of its
name is random: containers with one state directory have processes of the same id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from mirror.core.files import write_atomically
from mirror.core.process_name import can_judge, is_gone, this_process

_PREFIX = "starting-"
#: Seconds after which what another container has left says nothing any more: whether it is there cannot be known.
_FORGOTTEN = 86_400.0


class Beginning:
    """Says that this process is about to mirror some sources, until :meth:`end` or the end of the block."""

    def __init__(self, state_dir: Path, sources: Sequence[Path]) -> None:
        import secrets  # loads cryptography, which a command that only looks does without

        self._path = state_dir / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._made: list[Path] = []
        """The folders that it has made, the innermost first."""
        self._said = b"\0".join([this_process().encode(), *map(os.fsencode, sources)])

    def __enter__(self) -> Self:
        # It is only for people to read: what keeps it from being written ends the mirror later, with a reason.
        with suppress(OSError):
            folder = self._path.parent
            self._made = [each for each in (folder, *folder.parents) if not each.exists()]
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path, name, _ in _said(folder):
                if is_gone(name) or (not can_judge(name) and _age(path) > _FORGOTTEN):  # it was killed as it began
                    path.unlink(missing_ok=True)
            write_atomically(self._path, self._said, durable=False)
        return self

    def end(self) -> None:
        """It has their locks, or has given up. May be called twice.

        A state directory that was made for this alone goes, too.
        """
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()

    def __exit__(self, *_: object) -> None:
        self.end()


def beginning(state_dir: Path) -> list[Path]:
    """The sources that a process which is there is about to mirror."""
    return [
        source for _, name, sources in _said(state_dir) if can_judge(name) and not is_gone(name) for source in sources
    ]


def _said(state_dir: Path) -> Iterator[tuple[Path, str, list[Path]]]:
    """Each file, the name of its process, and the sources."""
    try:
        names = [name for name in os.listdir(state_dir) if name.startswith(_PREFIX)]
    except OSError:
        return
    for name in sorted(names):
        with suppress(OSError):
            process, *sources = (state_dir / name).read_bytes().split(b"\0")
            yield state_dir / name, process.decode(errors="replace"), [Path(os.fsdecode(each)) for each in sources]


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime
