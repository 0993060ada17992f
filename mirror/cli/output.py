"""What commands print for people: text that comes from outside is printed literally.

Rich reads words in brackets as markup, and a terminal reads control characters as commands; the name of a file or
table, or a reason, may contain both. So commands print only through the functions here (a test holds that): they
interpret nothing, and show a character that cannot be printed as its escape.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Table
from rich.text import Text

#: How a line begins: all right, worth knowing, a problem.
GOOD, NOTE, BAD = Text("✓", "green"), Text("•", "yellow"), Text("✗", "red")


def printable(value: str) -> str:
    """A text on one line, in which each character that cannot be printed is shown as its escape."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def text(value: object, style: str = "") -> Text:
    """A value as text, for a line or the cell of a table; without markup, on one line."""
    return Text(printable(str(value)), style)


def print_line(console: Console, *parts: object, style: str = "") -> None:
    """Print the parts as one line. It is not wrapped, so that commands and paths in it can be copied."""
    line = Text("", style)
    for part in parts:
        line.append_text(part if isinstance(part, Text) else text(part))
    console.print(line, highlight=False, soft_wrap=True)


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
