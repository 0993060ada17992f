"""Codecs of columns with a type that a profile fixes: a value that does not fit is rejected, never widened to jsonb.

Those of generic columns that keep originals are in :mod:`mirror.postgres.originals`, those of columns that have the
type of their values in :mod:`mirror.postgres.kinds`.

====== =================================== ============================ ===================================
codec  SQLite                              Postgres                     canonical SQLite form
====== =================================== ============================ ===================================
strict as the generic codec of the type    any generic type             the value itself
time   text, ISO 8601; UTC where no offset timestamptz                  ``YYYY-MM-DD HH:MM:SS`` for a whole
       is given                                                         second, else ``…THH:MM:SS.mmmZ``
millis integer, milliseconds since 1970    timestamptz                  the value itself
json   text, JSON                          jsonb                        no spaces, jsonb's order of members
vector blob, little-endian float32         vector (pgvector)            the value itself
====== =================================== ============================ ===================================

The first form of a time is what SQLite's ``datetime('now')`` writes, the second what JavaScript's
``toISOString`` does; the compact JSON is what ``JSON.stringify`` writes. Where the canonical form of the value in
Postgres is not the text that SQLite had, :func:`original` returns that text and the row keeps it in ``_original``, so
that every value can be turned back into what it was. What else a new codec needs: "Adding a codec" in
``mirror/README.md``.
"""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC
from typing import Any

from mirror.core.adopted import form_of_codec, is_adopted
from mirror.core.values import BadText, Value
from mirror.postgres import kinds, times
from mirror.postgres.adopted import codecs
from mirror.postgres.codecs import (
    BAD_TEXT,
    ENCODERS,
    MAX_JSON_BYTES,
    NUL_TEXT,
    OVERSIZED_JSON,
    Encoder,
    Misfit,
    Reject,
    kind_of,
    size_of,
)
from mirror.postgres.json_forms import Number, compact, is_canonical_json
from mirror.postgres.originals import ENCODERS as KEEPING
from mirror.postgres.originals import kept

#: Codecs with a canonical form that a value may differ from.
LOSSY = frozenset({"time", "json", *KEEPING})

#: pgvector's limit.
MAX_DIMENSIONS = 16_000


def encoder(pg_type: str, codec: str) -> Encoder:
    """The encoder of a column; raises ``KeyError`` for an unknown type or codec."""
    if codec in ("", kinds.FOUND):
        return ENCODERS[pg_type]
    if is_adopted(codec):
        return codecs.encoder(form_of_codec(codec))
    if codec == "strict":
        return _strict(ENCODERS[pg_type])
    return KEEPING.get(codec) or kinds.ENCODERS.get(codec) or _ENCODERS[codec]


def original(codec: str, value: Value, encoded: str | None) -> str | None:
    """The text to keep in ``_original``, because the encoded value's canonical form differs; None: it does not."""
    if not isinstance(value, str) or encoded is None:
        return None
    if codec == "time":
        return None if times.canonical(encoded) == value else value
    return None if codec != "json" or is_canonical_json(value) else value


def original_member(codec: str, value: Value, encoded: str | None) -> str | None:
    """The member of ``_original`` for a column's value, as JSON text; None: it needs none."""
    if codec in KEEPING:
        return kept(codec, value, encoded)
    text = original(codec, value, encoded)
    return None if text is None else json.dumps(text)


def decode(codec: str, value: Any) -> Value:
    """The canonical SQLite value of what psycopg read from a column with one of the codecs above but ``strict``.

    ``value``: a datetime, a JSON text, or a vector in text form. Where the row's ``_original`` has a text for the
    column, that is the value.
    """
    if value is None:
        return None
    match codec:
        case "time":
            return times.canonical(value.astimezone(UTC).isoformat())
        case "millis":
            return int((value - times.EPOCH) // times.MILLISECOND)
        case "json":
            return compact(json.loads(value, parse_int=Number, parse_float=Number))
        case "vector":
            numbers = json.loads(value, parse_int=float)  # an integer has no -0
            return struct.pack(f"<{len(numbers)}f", *numbers)
        case _:
            raise KeyError(codec)


def _strict(encode: Encoder) -> Encoder:
    def encode_strictly(value: Value) -> str | None:
        try:
            return encode(value)
        except Misfit as misfit:
            raise Reject(misfit.reason) from misfit

    return encode_strictly


def _time(value: Value) -> str | None:
    if value is None:
        return None
    text = _text_of(value, "a time")
    try:
        return times.of_text(text)
    except times.NotATimeError as error:
        raise Reject("a text that is not a time in ISO 8601") from error
    except ValueError as error:
        raise Reject("a time that does not exist") from error


def _millis(value: Value) -> str | None:
    if value is None:
        return None
    if type(value) is not int:
        raise Reject(f"{kind_of(value)} in a column of times in milliseconds")
    try:
        return (times.EPOCH + value * times.MILLISECOND).isoformat()
    except OverflowError as error:
        raise Reject("a time in milliseconds outside of the years 1 to 9999") from error


def _json(value: Value) -> str | None:
    if value is None:
        return None
    text = _text_of(value, "JSON")
    if size_of(text) > MAX_JSON_BYTES:
        raise Reject(OVERSIZED_JSON)
    try:
        parsed = json.loads(text, parse_constant=_no_constant, parse_int=Number, parse_float=Number)
    except ValueError as error:
        raise Reject("a text that is not JSON") from error
    except RecursionError as error:
        raise Reject("JSON that is nested too deeply") from error
    if "\\u" in text and "\\u0000" in text and _holds_nul(parsed):
        raise Reject("JSON with a NUL character")
    return text


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, dict) and any(_holds_nul(item) for pair in value.items() for item in pair)


def _vector(value: Value) -> str | None:
    if value is None:
        return None
    if type(value) is not bytes:
        raise Reject(f"{kind_of(value)} in a column of vectors")
    if not value or len(value) % 4:
        raise Reject(f"a blob of {len(value)} bytes, which is not a float32 vector")
    if len(value) > 4 * MAX_DIMENSIONS:
        raise Reject(f"a vector of {len(value) // 4} dimensions; pgvector holds {MAX_DIMENSIONS}")
    numbers = struct.unpack(f"<{len(value) // 4}f", value)
    if not math.isfinite(sum(numbers)):  # that of finite ones is far from a double's limits
        raise Reject("a vector with NaN or infinity")
    # Each is exact as a double, and pgvector's parser rounds to the nearest float32, which is the same one.
    return json.dumps(numbers)


def _text_of(value: Value, what: str) -> str:
    if isinstance(value, BadText):
        raise Reject(BAD_TEXT)
    if not isinstance(value, str):
        raise Reject(f"{kind_of(value)} in a column of {what}")
    if "\0" in value:
        raise Reject(NUL_TEXT)
    return value


_ENCODERS: dict[str, Encoder] = {"time": _time, "millis": _millis, "json": _json, "vector": _vector}
