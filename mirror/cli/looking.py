"""Looks at all sources, once or again and again, for the commands that show what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from mirror.cli.around import around_of
from mirror.core.config.settings import Settings
from mirror.core.status import AroundReport, StatusReport

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

#: Mirrors that are asked at the same time.
_AT_ONCE = 256
#: The next look is not before so many times what the last one took: hundreds of sources are not asked all the time.
MOST_OFTEN = 4.0


class Seen(NamedTuple):
    """What was found at one moment."""

    reports: Sequence[StatusReport]
    around: AroundReport


class Looking:
    """Asks the mirrors of all sources, at the same time: one that does not answer takes seconds."""

    def __init__(self, settings: Settings, ask: Callable[[Path], StatusReport]) -> None:
        """``ask``: returns the status of a source."""
        self._settings, self._ask = settings, ask
        self._asking: ThreadPoolExecutor | None = None
        """None: there was only one to ask."""

    def look(self) -> Seen:
        """The sources that there are now, and what each does. Raises ``ConfigError`` if there is none."""
        known = self._settings.known()
        reports = [self._ask(known[0])] if len(known) == 1 else list(self._pool().map(self._ask, known))
        return Seen(reports, around_of(reports, self._settings))

    def _pool(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # loads slowly, and is for several

        if self._asking is None:
            self._asking = ThreadPoolExecutor(_AT_ONCE)
        return self._asking

    def again(self, every: float, began: float) -> float:
        """When to look next (monotonic), ``every`` seconds after a look that ``began`` then and has just ended."""
        return began + max(every, MOST_OFTEN * (time.monotonic() - began))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._asking is not None:
            self._asking.shutdown(cancel_futures=True)
