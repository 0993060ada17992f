"""The words that a search by words looks for, alike in all stores."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def search_words(text: str) -> list[str]:
    """The words of a text, each once: letters, digits and underscores. Of one letter only if it has no others."""
    found = list(dict.fromkeys(_WORD.findall(text)))
    return [word for word in found if len(word) > 1] or found
