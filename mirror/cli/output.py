"""What commands print for people: text that comes from outside is printed literally.

Rich reads words in brackets as markup, and a terminal reads control characters as commands; the name of a file or
table, or a reason, may contain both. So commands print only through the functions here (a test holds that): they
interpret nothing, and show a character that cannot be printed as its escape.
"""

from __future__ import annotations

import os
import re
import sys

from rich.cells import cell_len
from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Table
from rich.text import Text

#: What :func:`wrapped` does not break, and with what further lines begin.
_WORDS = re.compile(r"\S*`[^`]*`\S*|\S+")
_INDENT = "  "
#: How a line begins: all right, worth knowing, a problem.
GOOD, NOTE, BAD = Text("✓", "green"), Text("•", "yellow"), Text("✗", "red")


def printable(value: str) -> str:
    """A text on one line, in which each character that cannot be printed is shown as its escape."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def short(value: str, most: int) -> str:
    """A text of at most so many characters, and how many there are besides."""
    return value if len(value) <= most else f"{value[:most]}… ({len(value) - most:,} more characters)"


def text(value: object, style: str = "") -> Text:
    """A value as text, for a line or the cell of a table; without markup, on one line."""
    return Text(printable(str(value)), style)


def print_line(console: Console, *parts: object, style: str = "") -> None:
    """Print the parts as one line. It is not wrapped, so that commands and paths in it can be copied."""
    line = Text("", style)
    for part in parts:
        line.append_text(part if isinstance(part, Text) else text(part))
    console.print(line, highlight=False, soft_wrap=True)


def print_prose(console: Console, line: str, style: str = "") -> None:
    """Print a sentence: on a terminal it is wrapped between words, and goes on a little further to the right."""
    shown = printable(line)
    if not console.is_terminal:
        print_line(console, shown, style=style)
        return
    words = shown.lstrip()
    indent = " " * (len(shown) - len(words))
    for part in wrapped(words, console.width - len(indent)):
        print_line(console, indent, part, style=style)


def terminal_width() -> int:
    """Characters of a line of the terminal that stderr is; 80 where that is not known."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def wrapped(line: str, width: int, used: int = 0) -> list[str]:
    """A line as several that fit, broken between words; those after the first are indented.

    A command in back-ticks is never broken, so that it can be copied: if it is longer than a line, the terminal shows
    it on several. ``used``: characters that the first line has already.
    """
    room = max(width - used, 1)
    if cell_len(line) <= room:
        return [line]
    lines: list[str] = []
    now = ""
    for word in _WORDS.findall(line):
        joined = f"{now} {word}" if now else word
        if now.strip() and cell_len(joined) > room:
            lines.append(now)
            now, room = f"{_INDENT}{word}", width
        else:
            now = joined
    return [*lines, now]


def print_table(console: Console, table: Table) -> None:
    """Print a table. Cells that come from outside must be made by :func:`text`."""
    console.print(table, highlight=False)


class Words(ProgressColumn):
    """The description of a task, or one of its fields, beside its bar."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """The text."""
        return text(task.description if self._field is None else task.fields[self._field])
