"""Values as literals of SQLite's SQL, each one printable line: for statements, and for people."""

from __future__ import annotations

from itertools import groupby

from mirror.core.values import BadText, Uncomputed, Value


def literal(value: Value) -> str:
    """A value of SQLite; of one that it cannot compute the error."""
    match value:
        case None:
            return "NULL"
        case str():
            return text_literal(value)
        case bytes():
            return f"x'{value.hex()}'"
        case BadText():
            return f"CAST(x'{value.raw.hex()}' AS TEXT)"
        case Uncomputed():
            return value.error
    number = repr(value)
    return {"inf": "9e999", "-inf": "-9e999"}.get(number, number)


def shortened(value: Value, most: int) -> str:
    """As :func:`literal`; of a text or blob that is longer than ``most`` characters or bytes the beginning."""
    if isinstance(value, BadText) and len(value.raw) > most:
        return f"{literal(BadText(value.raw[:most]))}..."
    return f"{literal(value[:most])}..." if isinstance(value, str | bytes) and len(value) > most else literal(value)


def text_literal(value: str) -> str:
    """A text; what cannot be printed by its numbers."""
    parts = []
    for printable, characters in groupby(value, str.isprintable):
        if printable:
            quoted = "".join(characters).replace("'", "''")
            parts.append(f"'{quoted}'")
        else:
            parts.append(f"char({', '.join(str(ord(each)) for each in characters)})")
    return " || ".join(parts) or "''"
