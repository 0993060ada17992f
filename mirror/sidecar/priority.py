"""The priority of a source's loop: the mirrored program and capture run before it where there are too few cores."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

#: At least; 19 is the lowest priority. Who starts the mirror with less keeps it so.
NICENESS = 5


def lower_priority() -> None:
    """Give the calling thread a lower priority than the program that is mirrored, and than capture."""
    with suppress(OSError):  # a system that does not allow it works as well, only with less regard for others
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
