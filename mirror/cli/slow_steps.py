"""What a person sees while a step takes long: now and then a line on stderr, with how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console

from mirror.cli.output import NOTE, print_line

#: Seconds until the first line about a step, and between two.
FIRST_SECONDS = 3.0
NEXT_SECONDS = 10.0


class SlowSteps:
    """Tells of one step after the other, in a thread.

    ``doing``: how far it is, in a few words; empty: not known. ``quiet``: of a script, which is told all at the end.
    """

    def __init__(self, name: str, doing: Callable[[], str] = lambda: "", *, quiet: bool = False) -> None:
        self._name, self._doing, self._quiet = name, doing, quiet
        self._lock = threading.Lock()
        self._step: tuple[str, float] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror progress", daemon=True)

    def __enter__(self) -> SlowSteps:
        if not self._quiet:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if not self._quiet:
            self._thread.join()

    def begin(self, words: str) -> None:
        """A step has begun."""
        with self._lock:
            self._step = words, time.monotonic()

    def end(self) -> None:
        """It has ended: no line about it comes any more."""
        with self._lock:
            self._step = None

    def _run(self) -> None:
        console, told, next_at = Console(stderr=True), None, 0.0
        while not self._ended.wait(0.1):
            with self._lock:
                if self._step is None:
                    continue
                now = time.monotonic()
                if self._step != told:
                    told, next_at = self._step, self._step[1] + FIRST_SECONDS
                if now >= next_at:
                    next_at = now + NEXT_SECONDS
                    words, begun = self._step
                    parts = f"{now - begun:.0f} s", self._doing()
                    print_line(console, NOTE, f" {self._name}: {words}: {', '.join(filter(None, parts))} …")
