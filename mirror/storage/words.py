"""The words that a search by words looks for, alike in all stores."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")


def search_words(text: str) -> list[str]:
    """The words of a text, each once: letters and digits. Of one letter only if it has no others."""
    # Composed: a combining mark is no letter, and would be between words.
    found = list(dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", text))))
    return [word for word in found if len(word) > 1] or found
