"""``mirror cutover`` that waits at a seam for a test: ``python held_move_process.py SEAM FOLDER ARGUMENTS...``.

At the seam it makes FOLDER/reached, and goes on once FOLDER/go is there. No lag is too long for it: the machine may be
busy with other tests.
"""

from __future__ import annotations

import faulthandler
import math
import signal
import sys
import time
from pathlib import Path

from mirror.cli import main, moves, opened
from mirror.cutover import rails


def waiting(seam: str) -> None:
    if seam == WANTED and not (FOLDER / "reached").exists():
        (FOLDER / "reached").touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.005)


faulthandler.register(signal.SIGUSR1)  # a test that waits in vain asks where it stands
WANTED, FOLDER = sys.argv.pop(1), Path(sys.argv.pop(1))
moves.no_fault = opened.no_fault = waiting  # type: ignore[attr-defined]
rails.LAG_SECONDS = math.inf
main.main()
