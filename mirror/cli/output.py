"""What commands print for people, by rich: text that comes from outside is printed literally.

Rich reads words in brackets as markup, and a terminal reads control characters as commands; the name of a file or
table, or a reason, may contain both. So commands print only through the functions here (a test holds that): they
interpret nothing, and show a character that cannot be printed as its escape.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mirror.cli.plain import printable, wrapped

#: How a line begins: all right, worth knowing, a problem.
GOOD, NOTE, BAD = Text("✓", "green"), Text("•", "yellow"), Text("✗", "red")


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


def print_table(console: Console, table: Table) -> None:
    """Print a table. Cells that come from outside must be made by :func:`text`."""
    console.print(table, highlight=False)
