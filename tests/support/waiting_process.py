"""The ``mirror`` command in a process of its own, in which a move that waits looks more often than otherwise."""

from __future__ import annotations

from mirror.cli import main
from mirror.cutover import waiting

waiting.COMPARE_SECONDS = waiting.RAILS_SECONDS = 0.2
main.main()
