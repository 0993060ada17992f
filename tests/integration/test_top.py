"""`mirror top` in a real terminal: a pseudo one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from pathlib import Path

from tests.support.commands import MIRROR, CommandLine
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


class Terminal:
    """A command in a terminal of 100 by 24 characters."""

    def __init__(self, cli: CommandLine, *arguments: object) -> None:
        self._end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.before = termios.tcgetattr(self._end)
        self.process = subprocess.Popen(
            [*MIRROR, *map(str, arguments)], env=cli.environment({"TERM": "xterm"}), cwd=cli.folder,
            stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self.text = ""

    def shows(self, part: str) -> bool:
        """Whether it has been written since the last key."""
        while select.select([self._end], [], [], 0)[0]:
            try:
                self.text += os.read(self._end, 65536).decode(errors="replace")
            except OSError:
                break
        return part in self.text

    def press(self, keys: str) -> None:
        self.text = ""
        os.write(self._end, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._end)


def test_keys_and_figures(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)")
    with cli.up(database):
        writer.run("INSERT INTO notes VALUES (1, 'one')")
        assert cli.run("wait", database).code == 0
        terminal = Terminal(cli, "top", database, "--every", "0.2")
        try:

            def sees(part: str) -> None:
                until(lambda: terminal.shows(part), alive=lambda: terminal.process.poll() is None)

            sees("following")
            sees("1 of 1 at work")
            terminal.press("\r")
            sees("notes: 1 inserted, 0 updated, 0 deleted")
            terminal.press("p")
            sees("PAUSED")
            terminal.press("p/nothing")
            sees("filter: nothing")
            terminal.press("\x1b")
            sees("› source.db")
            terminal.press("q")
            until(lambda: terminal.shows("") or terminal.process.poll() is not None)
            assert terminal.process.wait(LIMIT) == 0
            assert "Traceback" not in terminal.text
        finally:
            terminal.close()


def test_without_a_terminal(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY)")
    error = CommandLine(folder, dsn).run("top", database).error
    assert "this is no terminal" in error and "`mirror status " in error and " --json`" in error
