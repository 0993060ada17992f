"""Vectors of pgvector: ``vector``, ``halfvec``.

SQLite has a blob of float32, little-endian, four bytes a number: so sqlite-vec's ``serialize_float32`` writes them, and
``Float32Array`` of JavaScript. The text form is ``[1.0,2.5]``. Each number is exact as the double that is written, and
pgvector rounds that to the nearest float32, which is the same one.
"""

from __future__ import annotations

import json
import math
import struct

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, refuse, unheard
from mirror.postgres.adopted.numbers import OUT_OF_RANGE
from mirror.postgres.codecs import Reject

NOT_FLOATS = "a blob that is no vector of float32"
OTHER_DIMENSIONS = "a vector of another number of dimensions"
NOT_FINITE = "a vector with NaN or infinity"
HALF = "rounded to half precision"

#: pgvector's limit, of either type.
MAX_DIMENSIONS = 16_000


def vector(form: Form) -> Conversion:
    """Blobs of float32, of the form's number of dimensions."""
    length, half = form.length, form.kind == "halfvec"

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        if type(value) is not bytes:
            refuse(value, "vectors")
        if not value or len(value) % 4:
            raise Reject(NOT_FLOATS)
        dimensions = len(value) // 4
        if dimensions > MAX_DIMENSIONS or (length is not None and dimensions != length):
            raise Reject(OTHER_DIMENSIONS)
        numbers = struct.unpack(f"<{dimensions}f", value)
        if not math.isfinite(sum(numbers)):  # that of finite ones is far from a double's limits
            raise Reject(NOT_FINITE)
        if half:
            halves = struct.Struct(f"<{dimensions}e")
            try:
                rounded = halves.unpack(halves.pack(*numbers))
            except OverflowError:
                raise Reject(OUT_OF_RANGE) from None
            if rounded != numbers:
                note(HALF)
            numbers = rounded
        return json.dumps(numbers, separators=(",", ":"))

    return convert
