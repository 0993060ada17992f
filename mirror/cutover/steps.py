"""A move as data: steps, each with what it does, how that is undone, and its words; and what runs them.

The words are printed, logged in ``mirror.cutover_log``, and are what ``--dry-run`` shows. Up to the step that is the
point of no return, any error undoes what was done, in reverse. From there on, what is left is done again by the next
command: each later step does nothing where it was done already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from loguru import logger

from mirror.core.errors import MirrorError
from mirror.core.faults import Faults
from mirror.core.redaction import redacted
from mirror.postgres.phase import Event


class Journal(Protocol):
    """Where the steps are logged."""

    doing: str
    """How far a step is that takes long, in a few words; empty: not known."""

    def note(self, step: str, event: Event, detail: str = "") -> None:
        """Log an event of a step. Raises ``SinkError``."""


M = TypeVar("M", bound=Journal)


@dataclass(frozen=True, slots=True)
class Step(Generic[M]):
    """One step of a move."""

    name: str
    """Stable: the name of its seam in tests."""
    words: str
    do: Callable[[M], str]
    """Returns what is to be said of it. To be done again where it may have been cut off in its middle."""
    undo: Callable[[M], None] | None = None
    """Also of what was begun, or never was."""
    final: bool = False
    """The point of no return: it is done as a whole or not at all."""


def run(
    steps: Sequence[Step[M]], move: M, say: Callable[[Step[M], Event, str], None], faults: Faults, *, resumed: bool
) -> None:
    """Do the steps. ``say``: told of each event. ``resumed``: the point of no return is behind.

    Raises the error of a step, once what comes before the point of no return is undone.
    """
    final = next((at for at, step in enumerate(steps) if step.final), len(steps))
    begun: list[Step[M]] = []
    for at, step in enumerate(steps):
        if resumed and at <= final:
            continue
        faults(f"cutover:before {step.name}")
        begun.append(step)
        move.doing = ""
        try:
            _log(move, step, "begun", "")
            say(step, "begun", "")
            detail = step.do(move)
            faults(f"cutover:in {step.name}")
        except BaseException as error:
            if at <= final:
                undo(begun, move, say)
            why = _why(error)
            _log(move, step, "failed", why, quiet=True)
            say(step, "failed", why)
            raise
        _log(move, step, "journal" if step.final else "done", detail, quiet=at >= final)
        say(step, "journal" if step.final else "done", detail)


def undo(
    steps: Sequence[Step[M]],
    move: M,
    say: Callable[[Step[M], Event, str], None],
    known: Collection[str] | None = None,
) -> None:
    """Undo steps, the last one first; what cannot be undone is logged, and the others are.

    ``known``: the words of those that are known to have been begun, which alone are told and logged; None: all were.
    """
    for step in reversed(steps):
        if step.undo is None:
            continue
        try:
            step.undo(move)
            if known is None or step.words in known:
                _log(move, step, "undone", "", quiet=True)
                say(step, "undone", "")
        except MirrorError as error:
            logger.error("{} could not be undone: {error}", step.words, error=error)


def _why(error: BaseException) -> str:
    """Why a step failed; what to do next is said once, where the error is shown."""
    return redacted(error.detail or error.operation) if isinstance(error, MirrorError) else str(error)


def _log(move: Journal, step: Step[M], event: Event, detail: str, *, quiet: bool = False) -> None:
    try:
        move.note(step.words, event, detail)
    except MirrorError as error:
        if not quiet:
            raise
        logger.warning("not in the log of the move: {}: {}: {error}", step.words, event, error=error)
