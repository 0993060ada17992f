"""What a source's programs have written in the last minutes: kept in seconds, told as one load."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mirror.core.recorded_load import RecordedLoad
from mirror.core.rows import TableResult

#: Seconds with commits that are kept.
SECONDS = 300
#: Tables of one second that are told apart. The rows of others are not kept, so that memory is bounded.
MOST_TABLES = 100

#: Of one second: which, commits, and by table the rows inserted, updated and deleted.
_Second = tuple[int, int, dict[str, tuple[int, int, int]]]


class RecentLoad:
    """The last :data:`SECONDS` seconds in which something was committed. Thread: one adds, any reads."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=SECONDS)

    def add(self, now: float, commits: int, results: Iterable[TableResult]) -> None:
        """So many commits were applied at ``now`` (seconds since the epoch), with these rows.

        Several commits that were applied together have written at least these rows: what one has written and the next
        has written again counts once.
        """
        second, rows = int(now), dict[str, tuple[int, int, int]]()
        same = bool(self._seconds) and self._seconds[-1][0] == second
        if same:
            _, before, known = self._seconds[-1]
            commits, rows = commits + before, dict(known)  # a copy: another thread may read that
        for result in results:
            updated = result.upserted - result.inserted
            if result.table in rows or len(rows) < MOST_TABLES:
                one = rows.get(result.table, (0, 0, 0))
                rows[result.table] = (one[0] + result.inserted, one[1] + updated, one[2] + result.deleted)
        if same:
            self._seconds[-1] = (second, commits, rows)
        else:
            self._seconds.append((second, commits, rows))

    def recorded(self, now: float) -> RecordedLoad:
        """All of them as one load; seconds that are too long ago are left out."""
        tables: dict[str, list[int]] = {}
        kept = [each for each in list(self._seconds) if each[0] > now - SECONDS]
        for _, _, rows in kept:
            for name, counts in rows.items():
                sums = tables.setdefault(name, [0, 0, 0])
                for at, count in enumerate(counts):
                    sums[at] += count
        return RecordedLoad(
            seconds=len(kept),
            commits=sum(commits for _, commits, _ in kept),
            peak=max((commits for _, commits, _ in kept), default=0),
            tables={name: (sums[0], sums[1], sums[2]) for name, sums in tables.items()},
        )
