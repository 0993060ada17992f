"""Words for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

#: How the next step begins of a table that belongs to another source, whose file is not there any more.
RENAME = "mirror rename "


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, as ``1 row`` and ``2,990 rows``; ``plural``: where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def amount(number: int) -> str:
    """A number of bytes, as ``10.3 MB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return counted(number, "byte")


def duration(seconds: float, *, whole: bool = False) -> str:
    """A time, in two or three digits; ``whole``: in whole seconds at least, as one that goes on is told."""
    seconds = max(0.0, seconds)
    if not whole and seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if not whole and seconds < 9.95:
        return f"{seconds:.1f} s"
    for most, unit, name in ((119.5, 1, "s"), (7170, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def one_line(text: str) -> str:
    """A text of several lines as one: where a line does not end with a mark, a semicolon does."""
    joined = ""
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        joined += ("" if not joined else " " if joined[-1] in ".,;:!?-(" else "; ") + line
    return joined


def names_apart(sources: Iterable[str]) -> dict[str, str]:
    """A short name for each path: that of the file, with as many of its folders as make it differ from the others."""
    paths = {source: Path(source).parts for source in sources}
    names: dict[str, str] = {}
    number = 1
    while rest := [source for source in paths if source not in names]:
        ends = {source: paths[source][-number:] for source in rest}
        times = Counter(ends.values())
        names |= {
            source: str(Path(*end)) for source, end in ends.items() if times[end] == 1 or number >= len(paths[source])
        }
        number += 1
    return {source: names[source] for source in paths}
