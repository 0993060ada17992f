"""The verdict on one source: its guard rails, and the commands that their next steps name."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from mirror.core.checks import Check, Code, all_passed
from mirror.core.commands import command

#: Of many things, those that are shown on a screen; JSON has all.
_SHOWN = 5

#: Text; or what comes before some things, the things, and what is between them. Without things it is left out.
Part = str | tuple[str, Sequence[str], str]


@dataclass(slots=True)
class Readiness:
    """The verdict on one source."""

    source: str
    options: str = ""
    """The options that a command needs to reach this mirror, with a space in front."""
    acknowledged: Collection[str] = ()
    rails: list[Check] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    """What makes in Postgres what guard rails miss there; they run in this order."""
    phase: int = 1
    """Where the source is: 1, 2 or 3."""
    finalized: bool = False
    adopted: bool = False
    """Whether it is mirrored into an application's own tables."""
    named: str = ""
    """The source that commands are to name, where that is another one: this is its clone."""
    short: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By guard rail, where it names many things: its figure and its next step with only some of them."""

    @property
    def reached(self) -> bool:
        """Whether Postgres was there to be asked."""
        return not any(rail.code is Code.POSTGRES and not rail.passed for rail in self.rails)

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

    def add_many(self, code: Code, name: str, passed: bool, *, figure: Sequence[Part], steps: Sequence[Part]) -> None:
        """Add a guard rail that may name many things and that an operator may acknowledge."""
        self.add_or_acknowledge(code, name, passed, _joined(figure), _joined(steps))
        rail = self.rails[-1]
        acknowledged = ", acknowledged" if rail.level == "note" else ""
        step = _joined(steps, _SHOWN) if rail.next_step else ""
        self._shorten(name, rail, _joined(figure, _SHOWN) + acknowledged, step)

    def add_note(self, code: Code, name: str, *figure: Part, step: Part = "") -> None:
        """Add what an operator should know, and may do; it may name many things."""
        rail = Check(code, name, "note", _joined(figure), _joined([step]))
        self.rails.append(rail)
        self._shorten(name, rail, _joined(figure, _SHOWN), _joined([step], _SHOWN))

    def _shorten(self, name: str, rail: Check, figure: str, step: str) -> None:
        if (figure, step) != (rail.detail, rail.next_step):
            self.short[name] = figure, step

    def command(self, what: str, more: str = "") -> str:
        """A command for this source that can be pasted into a shell: ``mirror``, ``what``, the source, ``more``."""
        return command(what, self.named or self.source, self.options, more)

    def step(self, what: str, more: str = "") -> str:
        """The same in a sentence."""
        return f"`{self.command(what, more)}`"

    def acknowledging(self, name: str = "") -> str:
        """The options that acknowledge what was, and a guard rail besides, with a space before each."""
        names = dict.fromkeys((*self.acknowledged, name) if name else self.acknowledged)
        return "".join(f" --acknowledge {shlex.quote(each)}" for each in names)

    def plan_with(self, name: str) -> str:
        """The command that plans again, with this guard rail acknowledged, too, in a sentence."""
        return self.step("cutover plan", self.acknowledging(name))


def _joined(parts: Iterable[Part], most: int | None = None) -> str:
    """The parts as text; ``most``: of the things of each part, so many."""
    return "; ".join(_text(part, most) for part in parts if part and (isinstance(part, str) or part[1]))


def _text(part: Part, most: int | None) -> str:
    if isinstance(part, str):
        return part
    before, things, between = part
    if most is None or len(things) <= most:
        return before + between.join(things)
    return f"{before}{between.join(things[:most])}{between}and {len(things) - most:,} more (--json has all)"
