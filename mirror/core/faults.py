"""Fault seams: named places where a test kills the process."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the names of places where a kill is of interest.
Faults = Callable[[str], None]


def no_fault(name: str) -> None:
    """The fault seam of everyday: no kill."""
