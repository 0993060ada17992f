"""The verdict on one source: its guard rails, and the commands that their next steps name."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass, field

from mirror.core.checks import Check, Code, all_passed


@dataclass(slots=True)
class Readiness:
    """The verdict on one source."""

    source: str
    options: str = ""
    """The options that a command needs to reach this mirror, with a space in front."""
    acknowledged: Collection[str] = ()
    rails: list[Check] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether every guard rail is passed."""
        return all_passed(self.rails)

    def add(self, code: Code, name: str, passed: bool, figure: str, next_step: str) -> None:
        """Add a guard rail; ``next_step`` is kept only if it is not passed."""
        self.rails.append(Check(code, name, "ok" if passed else "problem", figure, "" if passed else next_step))

    def add_or_acknowledge(self, code: Code, name: str, passed: bool, figure: str, next_step: str) -> None:
        """Add a guard rail that an operator may acknowledge, which the figure then says."""
        if passed or name not in self.acknowledged:
            self.add(code, name, passed, figure, next_step)
        else:
            self.rails.append(Check(code, name, "note", f"{figure}, acknowledged"))

    def command(self, what: str, more: str = "") -> str:
        """A command for this source that can be pasted into a shell: ``mirror``, ``what``, the source, ``more``."""
        return f"mirror {what} {shlex.quote(self.source)}{self.options}{more}"
