"""Scheduling priority of the loop's thread."""

from __future__ import annotations

import contextlib
import os
import threading

#: Below that of the program that is mirrored, and of capture.
NICENESS = 5


def give_way() -> None:
    """Let the program, and capture above all, run before this thread where there are too few cores."""
    with contextlib.suppress(OSError):  # a system that does not allow it works as well, only less kindly
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
