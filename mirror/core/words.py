"""Words for people."""

from __future__ import annotations

#: How the next step begins of a table that belongs to another source, whose file is not there any more.
RENAME = "mirror rename "


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, as ``1 row`` and ``2,990 rows``; ``plural``: where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def sized(number: int) -> str:
    """A number of bytes as people read it: ``512 bytes``, ``24 kB``, ``1.4 GB`` (of 1,000 each)."""
    if number < 1000:
        return counted(number, "byte")
    value, unit = float(number), ""
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007 - the last one holds
        value /= 1000
        if value < 999.5:
            break
    return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"


def one_line(text: str) -> str:
    """A text of several lines as one: where a line does not end with a mark, a semicolon does."""
    joined = ""
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        joined += ("" if not joined else " " if joined[-1] in ".,;:!?-(" else "; ") + line
    return joined
