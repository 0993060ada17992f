"""One canonical Python value for each SQLite value, from either side, and how to compare two.

Both sides are turned into None, ``int``, ``float``, ``str``, ``bytes`` or :class:`~mirror.core.values.BadText`. A value
of Postgres that no SQLite value is stored as (a jsonb array, a numeric that is not a double) becomes
:class:`Foreign`, which equals no value of SQLite's.

Equality is to the bit: 1 is not 1.0, 0.0 is not -0.0, a text is not a blob. Python's own ``==`` does
not distinguish these, so rows are compared through :func:`image`.

``marshal`` is only a fast way to make the bytes that :func:`image` returns. They are compared and hashed in the one
process that made them, never loaded, and never written to a file or a socket, so that it does not matter that
``marshal.loads`` is unsafe with foreign bytes. (A report's digests are hashes of them, which is one reason why digests
can be compared only between runs of one version.)

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

# marshal distinguishes the types and writes doubles by their bits. Version 2 is the last one without
# back references, which would make the bytes depend on object identity.
_MARSHAL_VERSION = 2
#: Bytes before the items of a sequence: its kind and its length.
_HEAD = 5

_SPECIAL_REALS = {"-0.0": -0.0, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A Postgres value that no SQLite value is stored as; ``text`` is its text form."""

    text: str


#: A value of either side.
Cell = None | int | float | str | bytes | BadText | Foreign
Cells = tuple[Cell, ...]


def image(rows: Sequence[Cells]) -> bytes | None:
    """Bytes that are equal exactly for equal rows; None where a value has no such form.

    The bytes of two lists, one after the other, are the bytes of both lists joined.
    """
    try:
        # BadText and Foreign raise ValueError.
        return marshal.dumps(cast("Any", rows), _MARSHAL_VERSION)[_HEAD:]
    except ValueError:
        return None


def stand_in(rows: Sequence[Cells]) -> bytes:
    """As :func:`image`, for any values: the bytes of rows in a digest."""
    data = image(rows)
    if data is not None:
        return data
    if len(rows) == 1:  # a text that is not valid, or a Foreign
        return b"\0" + key_text(rows[0]).encode()
    return b"".join(stand_in((row,)) for row in rows)


def same(left: Cell, right: Cell) -> bool:
    """Whether two values are equal to the bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    return left == right


def differing(left: Cells, right: Cells) -> list[int]:
    """Where two rows differ: the places of the values."""
    return [at for at, (mine, theirs) in enumerate(zip(left, right, strict=True)) if not same(mine, theirs)]


# ------------------------------------------------------------------------------ from Postgres


def from_numeric(text: str | None) -> Cell:
    """The SQLite value of a ``numeric``: an integer where it is one, else a double."""
    return None if text is None else _number(text, whole_is_integer=True)


def from_jsonb(text: str | None) -> Cell:
    """The SQLite value of a ``jsonb``; ``1`` is an integer, ``1.0`` a double."""
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
    # Both are exact texts of a double: its shortest one, and its value written out.
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
    if tag not in ("blob", "text", "utf8"):
        return Foreign(text)
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return Foreign(text)
    if base64.b64encode(raw).decode() != content:
        return Foreign(text)
    if tag == "utf8":
        return _with_nul(raw, text)
    return raw if tag == "blob" else BadText(raw)


def _with_nul(raw: bytes, text: str) -> Cell:
    """A text with NUL, for which jsonb has no string."""
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        return Foreign(text)
    return value if "\0" in value else Foreign(text)


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
    """A key as ``mirror.rejects`` has it."""
    return f"[{','.join(map(literal, key))}]"


def _real(value: float) -> str:
    if math.isinf(value):
        return '{"real":"Infinity"}' if value > 0 else '{"real":"-Infinity"}'
    if value == 0 and math.copysign(1, value) < 0:
        return '{"real":"-0.0"}'
    if value.is_integer() and abs(value) < 1e19:
        return f"{int(value)}.0"
    return repr(value)
