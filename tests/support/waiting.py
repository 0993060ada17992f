"""Waiting in tests: for an event, with a limit that only ends a test which would hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

#: Seconds after which what has not happened is taken for something that never will, however busy the machine.
LIMIT = 200.0
#: Seconds between two looks: whatever is waited for needs the processor, too.
PAUSE = 0.01

T = TypeVar("T")


def until(look: Callable[[], T], *, alive: Callable[[], bool] = lambda: True, seconds: float = LIMIT) -> T:
    """Look again and again until what is seen is true, and return it.

    Fails when ``alive`` says that it cannot come any more, or after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert alive(), "it has ended before"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(PAUSE)
    return seen


def ended(pid: int) -> bool:
    """Whether a process runs no more; its parent need not have asked for it yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
