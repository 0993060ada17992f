"""Proof that Postgres holds what the source holds: all rows, to the bit, at a known position.

Imports nothing of the capture side (invariant 6): it reads SQLite through SQL and has codecs of its own.
"""

from mirror.parity.compare import compare
from mirror.parity.gate import Gate
from mirror.parity.report import Difference, ParityReport, TableReport

__all__ = ["Difference", "Gate", "ParityReport", "TableReport", "compare"]
