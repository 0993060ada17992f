"""What commands print for people: whatever comes from outside is printed as it is.

Rich takes words in brackets for markup, and a terminal takes control characters for orders; the name of a file or
table, or a reason, may have both. So nothing is printed but through the functions here (a test holds that): they take
text for text, and show what cannot be printed by its code.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Table
from rich.text import Text

#: How a line begins: as it should be, worth knowing, a problem.
GOOD, NOTE, BAD = Text("✓", "green"), Text("•", "yellow"), Text("✗", "red")


def text(value: object, style: str = "") -> Text:
    """A value as text, for a line or the cell of a table; without markup, on one line."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
    return Text(shown, style)


def print_line(console: Console, *parts: object, style: str = "") -> None:
    """Print a line of parts, one behind the other. It is not broken, so that what is in it can be copied."""
    line = Text("", style)
    for part in parts:
        line.append_text(part if isinstance(part, Text) else text(part))
    console.print(line, highlight=False, soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """Print a table, whose cells are made by :func:`text` where they come from outside."""
    console.print(table, highlight=False)


class Words(ProgressColumn):
    """The description of a task, or one of its fields, beside its bar."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """The text."""
        return text(task.description if self._field is None else task.fields[self._field])
