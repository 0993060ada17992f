"""Where ``mirror up`` says what it does: lines on a terminal (:mod:`mirror.cli.live_view`), and else the log.

What draws on a terminal takes 2 MB of memory, so it is loaded where there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Self

from mirror.cli.logs import announce, is_for_machines, is_quiet
from mirror.sidecar.pipeline import Pipeline


class UpView:
    """Without a terminal: what is said goes into the log. Thread: the command's."""

    shown = False
    """Whether there is a terminal on which lines change in place."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str, *, bad: bool = False) -> None:
        """Say something good, or something bad."""
        announce(line, bad=bad, depth=1)

    def turn(self, pipelines: Sequence[Pipeline]) -> None:
        """Tell which tables are finished, and show how all sources are; to be called often."""


def view_of(names: Callable[[], Sequence[str]]) -> UpView:
    """The view for what stderr is. ``names``: of sources that could not begin."""
    if not sys.stderr.isatty() or is_for_machines() or is_quiet():
        return UpView()
    from rich.console import Console

    from mirror.cli.live_view import LiveView

    return LiveView(Console(stderr=True), names)
