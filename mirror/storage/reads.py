"""Why a read was answered from where it was, and how often: ``mirror_reads_total{from,reason}``.

And what shadow reads found: ``mirror_shadow_reads_total{result,reason}``. The counts are also kept by source, so that
each source's mirror can be told its own (:mod:`mirror.storage.reporting`).
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TypeVar

from mirror.storage.forks import Lock

Word = TypeVar("Word", bound=str)
Why = TypeVar("Why", bound=str)


class Reason(StrEnum):
    """Why a read was answered by Postgres (the first three, and the next where all data is there), or by SQLite."""

    FRESH = "fresh"
    """Its own position proves that it is not older than the newest commit when it began."""
    TOKEN = "token"  # noqa: S105 - no password
    """Its own position is not before the token that it was asked for."""
    SHARED = "shared"
    """It is of other agents' rows, as new as their mirrors have brought them."""

    SETTING = "setting"
    """The settings say so."""
    NO_INDEX = "no_index"
    """There is no WAL index: the file is not there, has no WAL, or no program has it open."""
    UNREADABLE = "unreadable"
    """There is a WAL index, but it cannot be opened: it may not be, or this program has as many open as it may."""
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
    INCOMPLETE = "incomplete"
    """Postgres has rejected rows of the source (``mirror rejects list``), which no answer of it would have; or it does
    not have a table that the read may touch."""
    SESSION = "session"
    """The answer was older than an earlier one of its session."""
    ARGUMENTS = "arguments"
    """Postgres does not take the arguments: a NUL in a text, a number that is too large."""
    BUSY = "busy"
    """All connections to Postgres were in use for as long as the read may wait."""
    FAILED = "failed"
    """Postgres did not answer."""


class Shadow(StrEnum):
    """What became of a read that was to run on both stores."""

    EQUAL = "equal"
    DIFFERENT = "different"
    IGNORED = "ignored"
    """Different, for a reason that is known."""
    NOT_COMPARED = "not_compared"
    """There were no two answers of one position, for the reason that is counted with it."""
    DROPPED = "dropped"
    """Too many were waiting."""


class ReadCounts:
    """Counts reads by where the answer came from and why. Thread: any."""

    def __init__(self) -> None:
        self._guard = Lock()
        self.start_over()

    def start_over(self) -> None:
        """Count from 0. In a process that was forked: its parent's reads are not its own."""
        # Each count is in a list of its own: one look at a dictionary a read, where adding to it takes two.
        self._counts: dict[tuple[str, str, Reason], list[int]] = {}
        self._shadows: dict[tuple[str, Shadow, str], list[int]] = {}

    def count(self, store: str, reason: Reason, source: str = "") -> None:
        """Count one read that ``store`` (``postgres`` or ``sqlite``) has answered.

        ``source``: the path of the file that it would have been answered from; empty: there is none here.
        """
        with self._guard:
            count = self._counts.get((source, store, reason))
            if count is None:
                count = self._counts[source, store, reason] = [0]
            count[0] += 1

    def count_shadow(self, result: Shadow, reason: str = "", source: str = "") -> None:
        """Count one shadow read."""
        with self._guard:
            self._shadows.setdefault((source, result, reason), [0])[0] += 1

    def values(self, source: str | None = None) -> dict[tuple[str, Reason], int]:
        """The counts so far, by store and reason; of one source, or of all."""
        with self._guard:
            return _of(source, self._counts)

    def shadows(self, source: str | None = None) -> dict[tuple[Shadow, str], int]:
        """The shadow reads so far, by result and reason; of one source, or of all."""
        with self._guard:
            return _of(source, self._shadows)

    def text(self) -> str:
        """The counts of all sources in the text format that Prometheus reads."""
        lines = [
            "# HELP mirror_reads_total Reads answered, by the store that answered and the reason.",
            "# TYPE mirror_reads_total counter",
        ]
        for (store, reason), number in sorted(self.values().items()):
            lines.append(f'mirror_reads_total{{from="{store}",reason="{reason}"}} {number}')
        lines += [
            "# HELP mirror_shadow_reads_total Reads that were to run on both stores, by what became of them.",
            "# TYPE mirror_shadow_reads_total counter",
        ]
        for (result, why), number in sorted(self.shadows().items()):
            lines.append(f'mirror_shadow_reads_total{{result="{result}",reason="{why}"}} {number}')
        return "\n".join(lines) + "\n"


def _of(source: str | None, counts: dict[tuple[str, Word, Why], list[int]]) -> dict[tuple[Word, Why], int]:
    found: dict[tuple[Word, Why], int] = {}
    for (at, word, why), (number,) in counts.items():
        if source in (None, at):
            found[word, why] = found.get((word, why), 0) + number
    return found


#: The reads of this process.
READS = ReadCounts()
os.register_at_fork(after_in_child=READS.start_over)
