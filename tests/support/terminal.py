"""A terminal in tests: a program on a pseudo-terminal of some size, and what a person sees there."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyte

from tests.support.waiting import LIMIT

#: Lines that are remembered; the program is told that it has :data:`ROWS`, as a terminal has that scrolls.
_REMEMBERED = 400
ROWS = 24
#: Seconds between two looks at whether the program has ended.
_PAUSE = 0.1


class Terminal:
    """One program on a terminal, and its screen with all that has scrolled away."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, columns: int = 80) -> None:
        """``columns``: width of the terminal in characters. ``folder``: where the program works."""
        self.screen = pyte.Screen(columns, _REMEMBERED)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (ROWS, columns))
        values = {"TERM": "xterm-256color", **environment}
        values.pop("COLUMNS", None)
        try:
            self._process = subprocess.Popen(
                command, env=values, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
            )
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    @property
    def lines(self) -> list[str]:
        """The lines on the screen as they are now, without the empty ones at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    def until(self, shown: Callable[[str], object], seconds: float = LIMIT) -> str:
        """Read until ``shown`` says yes to the text on the screen; returns that text.

        Fails if the program ends before, or after ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while not shown(self.text):
            more = self._read()
            assert more, f"it has ended before:\n{self.text}"
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s:\n{self.text}"
        return self.text

    def end(self, number: signal.Signals | None = None, seconds: float = LIMIT) -> int:
        """Read until the program has ended, after a signal if one is given; its exit code."""
        if number is not None:
            self._process.send_signal(number)
        deadline = time.monotonic() + seconds
        more = True
        while more:
            assert time.monotonic() < deadline, f"it has not ended within {seconds:.0f} s:\n{self.text}"
            more = self._read()
        return self._process.wait()

    def close(self) -> None:
        """Kill the program, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        """Take what the program has printed; whether there may come more."""
        ready, _, _ = select.select([self._ours], [], [], _PAUSE)
        if not ready:  # a server that it has left behind may keep the terminal open
            return self._process.poll() is None
        # On Linux the other end is closed with an error, on macOS with an end of file.
        with suppress(OSError):
            if printed := os.read(self._ours, 65536):
                self._stream.feed(printed)
                return True
        return False


@contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, columns: int = 80
) -> Iterator[Terminal]:
    """As :class:`Terminal`; what still runs is killed at the end of the block."""
    shown = Terminal(command, environment, folder, columns)
    try:
        yield shown
    finally:
        shown.close()
