"""One canonical Python value for each SQLite value, from either side, and how to tell two apart.

Both sides end as None, ``int``, ``float``, ``str``, ``bytes`` or :class:`~mirror.core.values.BadText`. What
Postgres gives and no SQLite value stands for (a jsonb array, a numeric that is no double) becomes
:class:`Foreign`, which equals nothing of SQLite's.

Equality is to the bit: 1 is not 1.0, 0.0 is not -0.0, a text is not a blob. Python's own ``==`` does
not know that, so rows are compared through :func:`image`.

This codec is written apart from the apply side's on purpose (invariant 6): an error in one must not
hide in the other.
"""

from __future__ import annotations

import base64
import binascii
import json
import marshal
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from mirror.core.values import BadText

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

# marshal tells the types apart and writes doubles by their bits. Version 2 is the last one without
# back references, which would make the bytes depend on object identity. Nothing of it is ever stored.
_MARSHAL_VERSION = 2
#: Of a sequence: its kind and its length.
_HEAD = 5

_SPECIAL_REALS = {"-0.0": -0.0, "Infinity": math.inf, "-Infinity": -math.inf}

#: Longest text of a value in an example.
SHOWN = 120


@dataclass(frozen=True, slots=True)
class Foreign:
    """A Postgres value that no SQLite value stands for; ``text`` is its text form."""

    text: str


#: A value of either side.
Cell = None | int | float | str | bytes | BadText | Foreign
Cells = tuple[Cell, ...]


def image(rows: Sequence[Cells]) -> bytes | None:
    """Bytes that are equal exactly for equal rows; None where a value has no such form.

    Those of two lists one after the other are those of both lists in one.
    """
    try:
        # Typed as it may be: BadText and Foreign are what raises.
        return marshal.dumps(cast("Any", rows), _MARSHAL_VERSION)[_HEAD:]
    except ValueError:
        return None


def stand_in(rows: Sequence[Cells]) -> bytes:
    """As :func:`image`, for whatever values: what stands for rows in a digest."""
    data = image(rows)
    if data is not None:
        return data
    if len(rows) == 1:  # a text that is not valid, or what no SQLite value can equal
        return b"\0" + key_text(rows[0]).encode()
    return b"".join(stand_in((row,)) for row in rows)


def same(left: Cell, right: Cell) -> bool:
    """Whether two values are equal to the bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    return left == right


def first_difference(left: Cells, right: Cells) -> int | None:
    """Index of the first value that differs."""
    for index, (mine, theirs) in enumerate(zip(left, right, strict=True)):
        if not same(mine, theirs):
            return index
    return None


# ------------------------------------------------------------------------------ from Postgres


def from_numeric(text: str | None) -> Cell:
    """The value that a ``numeric`` stands for: an integer where it is one, else a double."""
    return None if text is None else _number(text, whole_is_integer=True)


def from_jsonb(text: str | None) -> Cell:
    """The value that a ``jsonb`` stands for; ``1`` is an integer, ``1.0`` a double."""
    if text is None:
        return None
    first = text[0]
    if first == '"':
        return str(json.loads(text))
    if first == "-" or first.isdigit():
        return _number(text, whole_is_integer="." not in text)
    if first == "{":
        return _tagged(text)
    return Foreign(text)


#: How the text that Postgres sends for a column of this type becomes a value.
CONVERTERS: dict[str, Callable[[str | None], Cell]] = {"numeric": from_numeric, "jsonb": from_jsonb}


def _number(text: str, *, whole_is_integer: bool) -> Cell:
    number = Decimal(text)
    if whole_is_integer and number.is_finite() and INT64_MIN <= number <= INT64_MAX:
        integer = int(number)
        if integer == number:
            return integer
    real = float(number)
    if math.isinf(real):
        return real if number.is_infinite() else Foreign(text)
    # Both are exact names of a double: its shortest text, and its value written out.
    if Decimal(repr(real)) == number or Decimal(real) == number:
        return real
    return Foreign(text)


def _tagged(text: str) -> Cell:
    members = json.loads(text)
    if len(members) != 1:
        return Foreign(text)
    [(tag, content)] = members.items()
    if not isinstance(content, str):
        return Foreign(text)
    if tag == "real":
        return _SPECIAL_REALS.get(content, Foreign(text))
    if tag not in ("blob", "text"):
        return Foreign(text)
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return Foreign(text)
    if base64.b64encode(raw).decode() != content:
        return Foreign(text)
    return raw if tag == "blob" else BadText(raw)


# -------------------------------------------------------------------------- the text encoding


def literal(value: Cell) -> str:
    """A value as JSON text, lossless: the encoding of the keys in ``mirror.rejects``."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _real(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bytes):
        return f'{{"blob":"{base64.b64encode(value).decode()}"}}'
    if isinstance(value, BadText):
        return f'{{"text":"{base64.b64encode(value.raw).decode()}"}}'
    return value.text


def key_text(key: Cells) -> str:
    """A key as ``mirror.rejects`` holds it."""
    return f"[{','.join(map(literal, key))}]"


def shown(text: str) -> str:
    """Text for an example: cut where it is long, with its length."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"


def shown_apart(left: str, right: str) -> tuple[str, str]:
    """Two different texts for an example: where both are long, from a little before they part."""
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    if at < SHOWN // 2:
        return shown(left), shown(right)
    start = at - SHOWN // 4
    mine, theirs = (
        f"…{text[start : start + SHOWN]}{'…' * (len(text) > start + SHOWN)} ({len(text):,} characters)"
        for text in (left, right)
    )
    return mine, theirs


def _real(value: float) -> str:
    if math.isinf(value):
        return '{"real":"Infinity"}' if value > 0 else '{"real":"-Infinity"}'
    if value == 0 and math.copysign(1, value) < 0:
        return '{"real":"-0.0"}'
    if value.is_integer() and abs(value) < 1e19:
        return f"{int(value)}.0"
    return repr(value)
