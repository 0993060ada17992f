"""A source that a mirror has beside others: its mirror is ended there alone, and begun again, by another name too."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.cli.down import END_SECONDS, running_mirrors
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError, MirrorError, NotRunningError, StateError
from mirror.core.folders import known_sources, source_folder
from mirror.core.locks import SourceLock

#: Seconds between two looks whether it has ended.
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Ended:
    """A mirror that has let go of one source, and how it had it."""

    state_dir: Path
    others: Sequence[Path]
    """What it mirrors besides."""
    agent: str | None
    schema: str
    profile: str | None

    def begin(self, source: Path) -> None:
        """Have the mirror take a source in its place. Raises ``MirrorError``."""
        gone: MirrorError | None = None
        for other in self.others:
            try:
                with ControlClient(source_folder(self.state_dir, other)) as client:
                    client.add(source, self.agent, self.schema, self.profile)
                return
            except NotRunningError as error:
                gone = error
        assert gone is not None
        raise gone


def end_alone(settings: Settings, source: Path, operation: str) -> Ended | None:
    """End the mirror of one source, where one runs that mirrors others, too; None: none runs.

    Raises ``ControlError`` if it has no other source, because it would end as a whole; or if it does not end.
    """
    folder = source_folder(settings.state_dir, source)
    try:
        with ControlClient(folder) as client:
            report = client.status()
    except NotRunningError:
        return None
    name = f"{shlex.quote(str(source))}{settings.options}"
    found = running_mirrors(settings, {*known_sources(settings.state_dir), source})
    others = [other for each in found if source in each.sources for other in each.sources if other != source]
    if not others:
        raise ControlError(
            operation, str(source), "a mirror of it runs", next_step=f"`mirror down {name}`, then this again"
        )
    try:
        with ControlClient(folder) as client:
            client.remove()
    except NotRunningError:
        pass  # it has just ended
    _await_end(folder, source, operation)
    return Ended(settings.state_dir, others, report.agent, report.schema, report.profile)


def commands_to_restart(settings: Settings, source: Path) -> list[str]:
    """The commands that end the mirror of a source, and start it for the same sources; empty: none runs."""
    try:
        ControlClient(source_folder(settings.state_dir, source)).close()
        found = running_mirrors(settings, {*known_sources(settings.state_dir), source})
        sources = next((each.sources for each in found if source in each.sources), [source])
    except NotRunningError:
        return []
    except ControlError:  # one that does not answer just now runs, too
        sources = [source]
    named = "".join(f" {shlex.quote(str(each))}" for each in sources)
    return [f"mirror {what}{named}{settings.options}" for what in ("down", "up")]


def _await_end(folder: Path, source: Path, operation: str) -> None:
    deadline = time.monotonic() + END_SECONDS
    while True:
        try:
            SourceLock(folder, source, named=False).release()
            return
        except StateError as error:
            if time.monotonic() > deadline:
                detail = f"its mirror has not ended within {END_SECONDS:.0f} s: {error.detail}"
                step = "give it again: it ends as soon as Postgres has answered"
                raise ControlError(operation, str(source), detail, next_step=step, retryable=True) from error
        time.sleep(_LOOK_SECONDS)
