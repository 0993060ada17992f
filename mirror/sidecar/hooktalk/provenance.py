"""Who wrote: what hooks tell of commits, gathered for ``mirror.writes``."""

from __future__ import annotations

import time

from mirror.core.positions import Lsn
from mirror.postgres.ledger import Ledger, Writes
from mirror.sidecar.hooktalk.receive import HookedCommit

#: Seconds of which one row in ``mirror.writes`` tells.
WRITES_SECONDS = 1.0


class WriteLog:
    """The commits of one source by writer and agent. Used by its pipeline's thread."""

    def __init__(self) -> None:
        self._writes: dict[tuple[str | None, int, str], Writes] = {}

    def note(self, commit: HookedCommit, behind: Lsn) -> None:
        """A commit was made right behind a position."""
        now = time.time()
        who = commit.agent, *commit.writer
        known = self._writes.get(who)
        if known is None:
            at, frame, writer = behind.generation, behind.frame, commit.writer
            self._writes[who] = Writes(now, now, at, frame, at, frame, 1, commit.agent, writer.pid, writer.program)
        else:
            known.last_at, known.last_generation, known.last_frame = now, behind.generation, behind.frame
            known.commits += 1

    def settle(self, ledger: Ledger) -> None:
        """Write it down, once a second of it is full. Raises ``SinkError``."""
        if self._writes and time.time() - min(each.first_at for each in self._writes.values()) > WRITES_SECONDS:
            ledger.record_writes(self._writes.values())
            self._writes.clear()
