"""Renames a file as `mirror cutover` does, killed at a seam: python renaming_process.py FILE hide|show [SEAM]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mirror.cutover.fence import Fence


def main(database: str, what: str, wanted: str = "") -> None:
    def faults(seam: str) -> None:
        if seam == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    fence = Fence(Path(database))
    if what == "hide":
        fence.hide(faults)
    else:
        fence.show(faults)
    fence.release()


main(*sys.argv[1:])
