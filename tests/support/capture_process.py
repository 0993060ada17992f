"""The capture process, with something to go wrong in it at a fault seam: once, however often it is started.

MIRROR_CAPTURE_SEAM in the environment: the seam, at which time, and a file that says that it has been done.
MIRROR_CAPTURE_FAULT: what happens there: ``kill`` (the process is killed; so without it), ``bug`` (an exception that
nobody expects), or the name of an error of the system. MIRROR_OPEN_FILES: so many are open before it begins.
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
