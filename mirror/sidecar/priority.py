"""The priority of a source's loop: the mirrored program and capture run before it where there are too few cores."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

#: Added to the process's own niceness of 0, of 19 at most.
NICENESS = 5


def lower_priority() -> None:
    """Give the calling thread a lower priority than the program that is mirrored, and than capture."""
    with suppress(OSError):  # a system that does not allow it works as well, only with less regard for others
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
