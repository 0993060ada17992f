"""The words that a search by words looks for, alike in all stores."""

from __future__ import annotations

from unicodedata import category, normalize


def search_words(text: str) -> list[str]:
    """The words of a text, each once: letters and digits, with their marks. Of one letter only if it has no others.

    Composed, and with the marks of scripts that write vowels with them: what these are to a store, it decides for the
    word that is asked for as for those in its index.
    """
    composed = normalize("NFC", text)
    parts = "".join(sign if sign.isalnum() or category(sign).startswith("M") else " " for sign in composed).split()
    found = list(dict.fromkeys(part for part in parts if any(map(str.isalnum, part))))
    return [word for word in found if len(word) > 1] or found
