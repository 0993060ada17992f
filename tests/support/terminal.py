"""A terminal in tests: a command in a pseudo-terminal, and what is to be seen there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.commands import CommandLine, stop
from tests.support.waiting import LIMIT

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r\n|[\r\n]")


class Screen:
    """The lines of a terminal without an end, after all that was written to it.

    Of the control sequences it knows those that move the cursor up or home, and that erase a line.
    """

    def __init__(self) -> None:
        self._lines = [""]
        self._row = self._column = 0

    def write(self, written: str) -> None:
        """Take what a program writes."""
        at = 0
        for found in _CONTROL.finditer(written):
            self._put(written[at : found.start()])
            at = found.end()
            if found[2] == "K":
                self._lines[self._row] = ""
            elif found[2] == "A":
                self._row = max(0, self._row - int(found[1] or 1))
            elif found[2] is None:
                if "\r" in found[0]:
                    self._column = 0
                if "\n" in found[0]:
                    self._row += 1
                    if self._row == len(self._lines):
                        self._lines.append("")
        self._put(written[at:])

    def _put(self, text: str) -> None:
        if text:
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + text + line[self._column + len(text) :]
            self._column += len(text)

    @property
    def lines(self) -> list[str]:
        """The lines that have something, without blanks at their ends."""
        return [line.rstrip() for line in self._lines if line.strip()]


class Terminal:
    """A command that runs in a terminal."""

    def __init__(self, process: subprocess.Popen[str], master: int) -> None:
        self.process = process
        self._master = master
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while block := os.read(self._master, 65536):
                self._written += block
        except OSError:
            pass  # Linux's way of saying that nobody has the terminal open any more

    @property
    def written(self) -> str:
        """All that was written so far."""
        return self._written.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """What is to be seen now."""
        screen = Screen()
        screen.write(self.written)
        return screen.lines

    def end(self) -> int:
        """Wait for the command's end, and for the last of what it writes; its exit code."""
        code = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return code


@contextmanager
def on_terminal(
    cli: CommandLine, *arguments: object, columns: int = 80, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """A command in a terminal of so many columns; it is stopped with the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {"TERM": "xterm-256color", **(env or {})}
    process = cli.start(*arguments, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            stop(process)
        terminal.end()
        os.close(master)
