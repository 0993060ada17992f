"""The capture process, which kills itself at a fault seam: once, however often it is started.

MIRROR_CAPTURE_SEAM in the environment: the seam, at which time, and a file that says that it has been done.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mirror.capture.process import main

if __name__ == "__main__":
    seam, hit, done = os.environ["MIRROR_CAPTURE_SEAM"].split(maxsplit=2)
    left = int(hit)

    def faults(name: str) -> None:
        global left
        if name == seam and not Path(done).exists():
            left -= 1
            if left == 0:
                Path(done).touch()
                os.kill(os.getpid(), signal.SIGKILL)

    main(sys.argv[1], faults)
