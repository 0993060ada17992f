"""Cuts texts into chunks for search, the same each time."""

from __future__ import annotations

import re

from mirror.core.errors import ConfigError

#: Characters of a chunk at most, and of the end of one that the next begins with.
SIZE, OVERLAP = 1200, 150
#: Where a text is cut, in the order of preference: after a paragraph, a line, a sentence, a word.
_CUTS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?]\s"), re.compile(r"\s"))


def split(text: str, size: int = SIZE, overlap: int = OVERLAP) -> list[str]:
    """The chunks of a text, none empty; each is a part of the text without space at its ends.

    Raises ``ConfigError`` unless ``size`` is more than twice ``overlap``.
    """
    if not 0 <= 2 * overlap < size:
        raise ConfigError(
            "cut a text", detail=f"size {size}, overlap {overlap}", next_step="let size be more than twice the overlap"
        )
    made, begin = [], 0
    while begin < len(text):
        end = _end(text, begin, size)
        if chunk := text[begin:end].strip():
            made.append(chunk)
        if end == len(text):
            break
        begin = max(_begin(text, end, overlap), begin + 1)
    return made


def _end(text: str, begin: int, size: int) -> int:
    """Where a chunk ends: at the best cut in its second half, or where it is full."""
    if len(text) - begin <= size:
        return len(text)
    for cut in _CUTS:
        found = [match.end() for match in cut.finditer(text, begin + size // 2, begin + size)]
        if found:
            return found[-1]
    return begin + size


def _begin(text: str, end: int, overlap: int) -> int:
    """Where the next chunk begins: at a word, at most ``overlap`` before the end of the last."""
    found = _CUTS[-1].search(text, max(0, end - overlap), end) if overlap else None
    return found.end() if found else end
