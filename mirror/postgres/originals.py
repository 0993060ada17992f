"""Codecs of generic columns that keep, beside a readable value, what SQLite had where that cannot be turned back.

======== ================ ========================================================================================
codec    Postgres         what it holds
======== ================ ========================================================================================
document jsonb            a text, or a blob, that is JSON: the document. A number: that number. Anything else in the
                          lossless encoding (:mod:`mirror.postgres.codecs`): a text that is not JSON is a string.
bytes    bytea            by a rule: of a text its bytes in UTF-8, of a blob itself, of a number those of its text.
moment   timestamptz      by a rule: of an ISO 8601 text that time (in UTC without an offset), of a number that Unix
                          time, in seconds, or in milliseconds from 100,000,000,000 on. Of anything else NULL.
escaped  text             any text. U+2400 stands for a NUL, U+FFFD for bytes that are not valid.
======== ================ ========================================================================================

Where the value is not the canonical one of what the column shows, the row's ``_original`` has a member for it, by the
column's name in the source: SQLite's value in the lossless encoding; or ``true`` for a document column that holds it in
that encoding itself, and for a blob in one of bytes. Canonical is a text; of a time the text that
:mod:`mirror.postgres.times` has for it; of a document the one that ``JSON.stringify``
writes with the members in jsonb's order, but of a number that number.
"""

from __future__ import annotations

import json
from typing import Any

from mirror.core.values import BadText, Uncomputed, Value
from mirror.postgres import times
from mirror.postgres.codecs import (
    MAX_ROW_BYTES,
    OVERSIZED,
    Encoder,
    Reject,
    check_json_size,
    json_text,
    jsonb_text,
    misfit,
    size_of,
)
from mirror.postgres.json_forms import is_canonical_json

#: Levels of a document, and digits and exponent of a number in it, up to which it is kept as one: Postgres takes more,
#: but how much more depends on the server.
MAX_DEPTH = 200
MAX_DIGITS = 1000

#: What stands for a NUL in a column that is ``escaped``.
SHOWN_NUL = "\u2400"

#: In ``_original``: the column itself has the lossless encoding.
ITSELF = "true"


def kept(codec: str, value: Value, encoded: str | None) -> str | None:
    """The member of ``_original`` for a value and what it was encoded to, as JSON text; None: none is needed.

    Raises ``KeyError`` for a codec that is not one of this module.
    """
    if codec == "moment":
        shown = value is None or (encoded is not None and times.canonical(encoded) == value)
        return None if shown else jsonb_text(value)
    if codec == "escaped":
        return None if encoded is None or encoded == value else jsonb_text(value)
    if codec == "bytes":
        shown = value is None or isinstance(value, str)
        return None if shown else ITSELF if isinstance(value, bytes) else jsonb_text(value)
    if codec != "document":
        raise KeyError(codec)
    if encoded is None or type(value) is int:
        return None
    if type(value) is float:
        return ITSELF if encoded.startswith("{") else None
    if document_of(value) is None:
        return ITSELF
    if isinstance(value, str) and not encoded.lstrip("-")[:1].isdigit() and is_canonical_json(value):
        return None
    return jsonb_text(value)


def document_of(value: Value) -> str | None:
    """The JSON text that a text or a blob is, as far as Postgres surely takes it; None: it is none."""
    if isinstance(value, bytes):
        if value.lstrip()[:1] not in (b"{", b"["):
            return None
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) and _is_document(value) else None


def _is_document(text: str) -> bool:
    try:
        parsed = json.loads(text, parse_constant=_no_constant, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return False
    if text.count("[") + text.count("{") > MAX_DEPTH and not _is_flat(parsed):
        return False
    return "\\u" not in text or not _has_unstorable(parsed)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _number(text: str) -> None:
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > MAX_DIGITS or len(exponent) > 6 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise ValueError(text)


def _is_flat(value: Any) -> bool:
    """Whether a document has no more than :data:`MAX_DEPTH` levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return True
    return False


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _has_unstorable(value: Any) -> bool:
    """Whether a text in a document has a NUL or half of a surrogate pair, which jsonb refuses."""
    if isinstance(value, str):
        return any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return any(map(_has_unstorable, value)) or any(map(_has_unstorable, value.values()))
    return isinstance(value, list) and any(map(_has_unstorable, value))


def _document(value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, Uncomputed):
        raise Reject(f"SQLite cannot compute it ({value.error})")
    if isinstance(value, int | float):
        return json_text(value)
    check_json_size(value)
    found = document_of(value)
    return jsonb_text(value) if found is None else found


def _escaped(value: Value) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | BadText):
        raise misfit(value, "text")
    if size_of(value) > MAX_ROW_BYTES:
        raise Reject(OVERSIZED)
    if isinstance(value, BadText) or "\0" in value:
        check_json_size(value)  # it is kept in ``_original``
    shown = value if isinstance(value, str) else value.raw.decode(errors="replace")
    return shown.replace("\0", SHOWN_NUL)


def _bytes(value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, Uncomputed):
        raise Reject(f"SQLite cannot compute it ({value.error})")
    if isinstance(value, BadText):
        check_json_size(value)  # it is kept in ``_original``
    if size_of(value) > MAX_ROW_BYTES:
        raise Reject(OVERSIZED)
    return "\\x" + shown_bytes(value).hex()


def _moment(value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, Uncomputed):
        raise misfit(value, "timestamptz")
    if isinstance(value, int | float):
        return times.of_number(value)
    check_json_size(value)  # it is kept in ``_original``
    try:
        return times.of_text(value) if isinstance(value, str) else None
    except ValueError:
        return None


def shown_bytes(value: str | bytes | BadText | int | float) -> bytes:
    """The bytes that a column with the codec ``bytes`` shows of a value."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, BadText):
        return value.raw
    return (value if isinstance(value, str) else json_text(value)).encode()


#: By codec.
ENCODERS: dict[str, Encoder] = {
    "document": _document,
    "escaped": _escaped,
    "bytes": _bytes,
    "moment": _moment,
}
