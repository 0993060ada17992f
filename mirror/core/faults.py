"""Fault points: named places where a test kills the process.

The code calls a :data:`Faults` with the name of each place that it passes, ``"apply:before-commit"`` for example.
"""

from __future__ import annotations

from collections.abc import Callable

#: Called with the name of a place; a test's function kills the process there.
Faults = Callable[[str], None]


def no_fault(name: str) -> None:
    """Do nothing: what is used outside of tests."""
