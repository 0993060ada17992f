"""Vectors of pgvector: ``vector``, ``halfvec``.

SQLite has a blob of float32, little-endian, four bytes a number: so sqlite-vec's ``serialize_float32`` writes them, and
``Float32Array`` of JavaScript. The text form is ``[1.0,2.5]``. Each number is exact as the double that is written, and
pgvector rounds that to the nearest float32, which is the same one.
"""

from __future__ import annotations

import json

import numpy as np

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
        numbers = np.frombuffer(value, dtype="<f4")
        if not np.isfinite(numbers).all():
            raise Reject(NOT_FINITE)
        if half:
            with np.errstate(over="ignore"):
                rounded = numbers.astype("<f2")
            if not np.isfinite(rounded).all():
                raise Reject(OUT_OF_RANGE)
            if (rounded != numbers).any():
                note(HALF)
            numbers = rounded
        return json.dumps(numbers.tolist(), separators=(",", ":"))

    return convert
