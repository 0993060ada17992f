"""``mirror cutover`` in a process of its own, which kills itself at a seam. Arguments: the seam, then the command's."""

from __future__ import annotations

import os
import signal
import sys

from mirror.cli import main, moves, opened
from mirror.cutover import rails


def killing(seam: str) -> None:
    """A fault."""
    if seam == WANTED:
        os.kill(os.getpid(), signal.SIGKILL)


WANTED = sys.argv.pop(1)
moves.no_fault = opened.no_fault = killing  # type: ignore[attr-defined]
rails.LAG_SECONDS = float("inf")
main.main()
