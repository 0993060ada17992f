"""Fault points: named places where a test kills the process."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the name of each place where a test may kill the process.
Faults = Callable[[str], None]


def no_fault(name: str) -> None:
    """The function used outside of tests: it does nothing."""
