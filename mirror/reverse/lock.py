"""Whether the mirror keeps the file's write lock between batches, so that no program writes to it."""

from __future__ import annotations

from pathlib import Path

from mirror.core.place import is_stand_in
from mirror.postgres.phase import Phase


class Lock:
    """By what ``--fence`` was given. A command that is about to let programs in at the file needs the lock itself."""

    def __init__(self, database: Path, now: Phase) -> None:
        self._database = database
        self._now = now

    def note(self, now: Phase) -> None:
        """What the row of the phase says now: programs may be about to be let in at the file again."""
        self._now = now

    def is_kept(self) -> bool:
        """Whether it is to be kept, as of now: of a file that is renamed, once its last name has a stand-in."""
        if self._now.fence == "rename":
            return is_stand_in(self._database) and not self._now.opening
        return self._now.fence == "hold"
