"""Who wrote: the writers of the commits that hooks send, collected for ``mirror.writes``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from mirror.core.positions import Lsn
from mirror.core.rows import Written
from mirror.postgres.ledger import Ledger, Writes
from mirror.sidecar.hooktalk.receive import HookedCommit

#: Seconds that one row in ``mirror.writes`` covers.
WRITES_SECONDS = 1.0


def writers_of(commits: Iterable[HookedCommit]) -> tuple[Written, ...]:
    """Who made some commits, by agent and program."""
    counts = Counter((commit.agent, commit.writer.program) for commit in commits)
    return tuple(Written(agent, program, count) for (agent, program), count in counts.items())


class WriteLog:
    """The commits of one source by writer and agent.

    Thread: its pipeline's alone.
    """

    def __init__(self) -> None:
        self._writes: dict[tuple[str | None, int, str], Writes] = {}

    def note(self, commit: HookedCommit, previous: Lsn) -> None:
        """Count a commit that was made right after the position ``previous``."""
        now = time.time()
        who = commit.agent, *commit.writer
        known = self._writes.get(who)
        if known is None:
            at, frame, writer = previous.generation, previous.frame, commit.writer
            self._writes[who] = Writes(now, now, at, frame, at, frame, 1, commit.agent, writer.pid, writer.program)
        else:
            known.last_at, known.last_generation, known.last_frame = now, previous.generation, previous.frame
            known.commits += 1

    def flush(self, ledger: Ledger) -> None:
        """Record the counts in Postgres, once they are a second old. Raises ``SinkError``."""
        if self._writes and time.time() - min(each.first_at for each in self._writes.values()) > WRITES_SECONDS:
            ledger.record_writes(self._writes.values())
            self._writes.clear()
