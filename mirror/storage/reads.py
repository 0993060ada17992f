"""Why a read was answered from where it was, and how often: ``mirror_reads_total{from,reason}``."""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum


class Reason(StrEnum):
    """Why a read was answered by Postgres (the first two), or by SQLite."""

    FRESH = "fresh"
    """Its own position proves that it is not older than the newest commit when it began."""
    TOKEN = "token"  # noqa: S105 - no password
    """Its own position is not before the token that it was asked for."""

    SETTING = "setting"
    """The settings say so."""
    NO_INDEX = "no_index"
    """There is no WAL index: the file is not there, has no WAL, or no program has it open; or it may not be read."""
    UNSETTLED = "unsettled"
    """The WAL index was between two states: a program was stopped while it committed."""
    NOT_FOLLOWED = "not_followed"
    """The mirror does not follow the source at present, or is not running; so nothing is waited for."""
    UNPROVED = "unproved"
    """The mirror has not said yet which state of these files it follows: they, or the mirror, are new."""
    BEHIND = "behind"
    """The newest commit was not in Postgres in time."""
    OLDER = "older"
    """The answer was older than the published position: of a standby, or of a database that went back."""
    SESSION = "session"
    """The answer was older than an earlier one of its session."""
    FAILED = "failed"
    """Postgres did not answer."""


class ReadCounts:
    """Counts reads by where the answer came from and why. Thread: any."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: Counter[tuple[str, Reason]] = Counter()

    def count(self, store: str, reason: Reason) -> None:
        """Count one read that ``store`` (``postgres`` or ``sqlite``) has answered."""
        with self._guard:
            self._counts[store, reason] += 1

    def values(self) -> dict[tuple[str, Reason], int]:
        """The counts so far, by store and reason."""
        with self._guard:
            return dict(self._counts)

    def text(self) -> str:
        """The counts in the text format that Prometheus reads."""
        lines = [
            "# HELP mirror_reads_total Reads answered, by the store that answered and the reason.",
            "# TYPE mirror_reads_total counter",
        ]
        for (store, reason), number in sorted(self.values().items()):
            lines.append(f'mirror_reads_total{{from="{store}",reason="{reason}"}} {number}')
        return "\n".join(lines) + "\n"


#: The reads of this process.
READS = ReadCounts()
