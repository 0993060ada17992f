"""The capture process, with a fault at a fault seam: once, however often it is started.

MIRROR_CAPTURE_SEAM in the environment: the seam, at which visit of it, and a file that records that it was done.
MIRROR_CAPTURE_FAULT: what happens there: ``kill`` (the process is killed; the default), ``bug`` (an unexpected
exception), or the name of a system error such as ``ENOSPC``. MIRROR_OPEN_FILES: the number of files that are open
before it begins.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from mirror.capture.process import main

if __name__ == "__main__":
    seam, hit, done = os.environ.get("MIRROR_CAPTURE_SEAM", "none 1 none").split(maxsplit=2)
    what = os.environ.get("MIRROR_CAPTURE_FAULT", "kill")
    left = int(hit)
    for _ in range(int(os.environ.get("MIRROR_OPEN_FILES", 0))):
        os.open(os.devnull, os.O_RDONLY)

    def faults(name: str) -> None:
        global left
        if name == seam and not Path(done).exists():
            left -= 1
            if left == 0:
                Path(done).touch()
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if what == "bug":
                    raise ZeroDivisionError("a bug")
                raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))

    main(sys.argv[1], faults)
