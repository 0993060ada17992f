"""Positions in the history of one source.

A position (:class:`Lsn`) names one commit; a :class:`Position` adds the salts of its WAL generation, which prove that a
WAL continues it, and the time of the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, order=True)
class Lsn:
    """A position in the history of one source: ``(generation, frame)``.

    ``generation`` counts WAL resets and re-diffs since the mirror first saw the source, ``frame``
    is the WAL frame number (1-based) of the last commit frame at or before the position; 0 is the
    start of a generation. Positions of one source are totally ordered and never go back.
    """

    generation: int
    frame: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.frame}"

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Turn ``"12:345"`` into a position; raises ``ValueError`` for any other form."""
        generation, colon, frame = text.partition(":")
        if not (colon and generation.isdecimal() and frame.isdecimal()):
            raise ValueError(f"not a position (generation:frame): {text!r}")
        return cls(int(generation), int(frame))


class Salts(NamedTuple):
    """The two salt values of a WAL generation (WAL header bytes 16..23, big-endian)."""

    salt1: int
    salt2: int


@dataclass(frozen=True, slots=True)
class Position:
    """A commit of the source, with the salts that prove that a WAL continues it."""

    lsn: Lsn
    salts: Salts
    committed_at: float
    """When capture saw the commit (seconds since the epoch)."""

    def is_same(self, other: Position) -> bool:
        """Whether both name one commit, not two with the same number because a power cut took the first.

        The time distinguishes them, to the microsecond, which is what Postgres stores.
        """
        return self.lsn == other.lsn and abs(self.committed_at - other.committed_at) < 2e-6
