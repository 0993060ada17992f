"""Vectors of pgvector in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

The canonical value is the blob that SQLite has: float32, little-endian. Postgres shows each number by its shortest
decimal, which is read as a double and packed into four bytes again; a number of a ``halfvec`` is a float32 as well.
"""

from __future__ import annotations

import json
import math
import struct

from mirror.core.adopted import Form
from mirror.parity.adopted_terms import Decode, Lossy, Misfit, lossy
from mirror.parity.values import Cell, Foreign

_MOST = 16_000


def decoder(form: Form) -> Decode:
    """What makes canonical values of vectors."""
    length, half = form.length, form.kind == "halfvec"

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, bytes) or not value or len(value) & 3:
            raise Misfit("no vector of float32")
        count = len(value) >> 2
        if count > _MOST or (length or count) != count:
            raise Misfit("a vector of another length")
        numbers = struct.unpack(f"<{count}f", value)
        if not all(map(math.isfinite, numbers)):
            raise Misfit("a vector with numbers that are not finite")
        if not half:
            return value
        try:
            halves = struct.pack(f"<{count}e", *numbers)
        except OverflowError as error:
            raise Misfit("out of the range of a halfvec") from error
        found = struct.unpack(f"<{count}e", halves)
        return lossy(struct.pack(f"<{count}f", *found), "" if found == numbers else "rounded to half precision")

    return decode


def of_text(text: str) -> Cell:
    """The canonical value of what Postgres shows."""
    numbers = json.loads(text, parse_int=float)  # an integer would lose the sign of -0
    try:
        return struct.pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        return Foreign(text)
