"""Whether the mirror keeps the file's write lock between batches, so that no program writes to it."""

from __future__ import annotations

from pathlib import Path

from mirror.core.place import is_stand_in
from mirror.postgres import phase
from mirror.postgres.sessions import Session


class Lock:
    """By what ``--fence`` was given. A command that renames the file needs the lock itself, and gets it."""

    def __init__(self, conn: Session, source_id: int, database: Path) -> None:
        """``conn``: to ask for the phase. Raises ``SinkError``."""
        self._database = database
        self._source_id = source_id
        self._going_back = False
        self._fence = phase.read(conn, source_id).fence
        self.ask(conn)

    def ask(self, conn: Session) -> None:
        """Look whether programs are about to be moved back. Raises ``SinkError``."""
        if self._fence == "rename":
            self._going_back = phase.read(conn, self._source_id).moving_to == 2

    def is_kept(self) -> bool:
        """Whether it is to be kept, as of now: of a file that is renamed, once its last name has a stand-in."""
        if self._fence == "rename":
            return is_stand_in(self._database) and not self._going_back
        return self._fence == "hold"
