"""Waiting in tests: for an event, with a limit that only ends a test that would hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

#: Seconds after which an event counts as one that will never come, however busy the machine.
LIMIT = 200.0
#: Seconds between two looks: the awaited process needs the processor, too.
PAUSE = 0.01

T = TypeVar("T")


def until(look: Callable[[], T], *, alive: Callable[[], bool] = lambda: True, seconds: float = LIMIT) -> T:
    """Call ``look`` again and again until it returns something true, and return that.

    Fails when ``alive`` returns False, because it cannot come any more, or after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert alive(), "it has ended before"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(PAUSE)
    return seen


def ended(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not waited for it yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
