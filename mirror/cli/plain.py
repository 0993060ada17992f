"""Text for people without consoles and tables, which load slowly: what commands say in lines.

A terminal reads control characters as commands, and names, or a reason, may contain some: what comes from outside
passes :func:`printable`.
"""

from __future__ import annotations

import os
import re
import sys

#: What :func:`wrapped` does not break, and with what further lines begin.
_WORDS = re.compile(r"\S*`[^`]*`\S*|\S+")
_INDENT = "  "


def printable(value: str) -> str:
    """A text on one line, in which each character that cannot be printed is shown as its escape."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def short(value: str, most: int) -> str:
    """A text of at most so many characters, and how many there are besides."""
    return value if len(value) <= most else f"{value[:most]}… ({len(value) - most:,} more characters)"


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
    from rich.cells import cell_len  # only a terminal needs it

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
