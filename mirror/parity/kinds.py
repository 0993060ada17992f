"""Columns that have the type of their values, turned back into SQLite's values without the apply side's codecs.

``number``: a double precision that is an integer up to 2**53 stands for that integer, any other for the real. ``t/f``
and the like: a boolean that stands for one of two texts. (Columns with the codec ``found`` are as ones declared so.)
"""

from __future__ import annotations

from struct import Struct
from typing import Any, LiteralString

from mirror.parity.values import Cell

_LIMIT = 9_007_199_254_740_992

#: By codec: what to select for column {c}.
EXPRESSIONS: dict[str, LiteralString] = {
    "number": "{c}",
    "t/f": "CASE WHEN {c} THEN 't' WHEN NOT {c} THEN 'f' END",
    "T/F": "CASE WHEN {c} THEN 'T' WHEN NOT {c} THEN 'F' END",
    "true/false": "CASE WHEN {c} THEN 'true' WHEN NOT {c} THEN 'false' END",
    "TRUE/FALSE": "CASE WHEN {c} THEN 'TRUE' WHEN NOT {c} THEN 'FALSE' END",
    "True/False": "CASE WHEN {c} THEN 'True' WHEN NOT {c} THEN 'False' END",
}

#: The codecs of which the selected expression is a text.
WORDS = frozenset(EXPRESSIONS) - {"number"}

_DOUBLE = Struct(">d")


def number(value: Any) -> Cell:
    """The SQLite value of a double in a column of numbers."""
    return int(value) if value is not None and abs(value) <= _LIMIT and value == int(value) else value


def number_image(value: Cell) -> bytes | None:
    """The image of a number in a digest; None: no number, or one that such a column does not hold."""
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > _LIMIT):
        return None
    if isinstance(value, float) and isinstance(number(value), int):
        return None
    return _DOUBLE.pack(value)
