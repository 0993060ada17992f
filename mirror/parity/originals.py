"""Generic columns that keep originals, turned back into SQLite's values without the apply side's codecs.

Such a column shows a readable value. The row's ``_original`` has a member for it, by its name in the source, where
SQLite's value is not the canonical one of what it shows: that value in the lossless encoding; or ``true`` where a
column of documents has that encoding itself. Queries see what the column shows, so that is compared as well, with what
the original calls for; if it is not that, the value is a :class:`~mirror.parity.values.Foreign`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, LiteralString

from mirror.core.values import BadText
from mirror.parity.typed import TIME, posted_json, written_json
from mirror.parity.values import Cell, Foreign, from_jsonb, literal

#: By codec: what to select for column {c}, of which {s} is the name in ``_original``. The first character: ``~`` the
#: value that is shown, alone; ``=`` the original, a line feed (which no jsonb has in its text), and what is shown.
EXPRESSIONS: dict[str, LiteralString] = {
    "document": (
        "CASE WHEN _original -> {s} IS NULL THEN '~' || {c}::text"
        " ELSE '=' || (_original -> {s})::text || E'\\n' || coalesce({c}::text, 'NULL') END"
    ),
    "moment": (
        "CASE WHEN _original -> {s} IS NULL THEN '~' || " + TIME + " ELSE '=' || (_original -> {s})::text || E'\\n'"
        " || coalesce(" + TIME + ", 'NULL') END"
    ),
    "escaped": (
        "CASE WHEN _original -> {s} IS NULL THEN '~' || {c}"
        " ELSE '=' || (_original -> {s})::text || E'\\n' || coalesce({c}, '') END"
    ),
}

#: The same in bytes.
EXPRESSIONS["bytes"] = (
    "CASE WHEN _original -> {s} IS NULL THEN '~'::bytea || {c}"
    " ELSE convert_to('=' || (_original -> {s})::text || E'\\n', 'UTF8') || coalesce({c}, '') END"
)

#: What is shown for a NUL.
_SHOWN_NUL = {0: "\u2400"}
#: What jsonb takes is limited, in levels, digits and exponents, so that every server agrees.
_DEEPEST, _LONGEST_NUMBER = 200, 1000
_NUMBER = re.compile(r"([-0-9.]+)(?:[eE]([+-]?\d+))?")


def _document(text: str | None) -> Cell:
    if text is None:
        return None
    if text[0] == "~":
        shown = text[1:]
        if shown[0] == "-" or shown[0].isdigit():
            return from_jsonb(shown)
        try:
            return written_json(shown)
        except RecursionError:  # none of the mirror's
            return Foreign(shown)
    kept, _, shown = text[1:].partition("\n")
    value = from_jsonb(shown if kept == "true" else kept)
    document = _document_in(value)
    right = document is None if kept == "true" else document is not None and shown != "NULL"
    if not right or (document is not None and _compared(document) != _compared(shown)):
        return Foreign(f"{shown}, kept as {kept}")
    return value


def _document_in(value: Cell) -> str | None:
    """The JSON text that a value is; None: it is none."""
    if isinstance(value, bytes):
        if not re.match(rb"[ \t\n\r\v\f]*[{\[]", value):
            return None
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    if not isinstance(value, str):
        return None
    try:
        parsed = _compared(value)
    except (ValueError, RecursionError):
        return None
    return value if _is_storable(parsed) else None


def _compared(text: str) -> Any:
    """A document in a form in which equal ones are equal; raises ``ValueError``, ``RecursionError``."""
    return json.loads(text, parse_constant=_number, parse_int=_number, parse_float=_number)


def _number(text: str) -> tuple[str, Decimal]:
    match = _NUMBER.fullmatch(text)
    if match is None or len(match[1]) > _LONGEST_NUMBER or abs(int((match[2] or "0")[:8])) > _LONGEST_NUMBER:
        raise ValueError(text)
    return "number", Decimal(text)


def _is_storable(document: Any) -> bool:
    """Whether jsonb surely holds a document; one level after the other, because it may have very many."""
    level = [document]
    for _ in range(_DEEPEST + 1):
        texts = [part for part in level if isinstance(part, str)] + [
            name for part in level if isinstance(part, dict) for name in part
        ]
        if any(letter == "\0" or 0xD800 <= ord(letter) < 0xE000 for text in texts for letter in text):
            return False
        level = [inner for part in level for inner in _parts(part)]
        if not level:
            return True
    return False


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _escaped(text: str | None) -> Cell:
    if text is None:
        return None
    if text[0] == "~":
        return text[1:]
    kept, _, shown = text[1:].partition("\n")
    value = from_jsonb(kept)
    if isinstance(value, BadText):
        letters = str(value.raw, "utf-8", "replace")
    elif isinstance(value, str):
        letters = value
    else:
        letters = None
    right = letters is not None and shown == letters.translate(_SHOWN_NUL) != value
    return value if right else Foreign(f"{shown}, kept as {kept}")


_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LEAST_MILLISECONDS = 10**11
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(?:[.]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?)?"
)


def _moment(text: str | None) -> Cell:
    if text is None:
        return None
    if text[0] == "~":
        return text[1:] if moment_shown(text[1:]) == text[1:] else Foreign(text[1:])
    kept, _, shown = text[1:].partition("\n")
    value = from_jsonb(kept)
    called_for = moment_shown(value) or "NULL"
    right = value is not None and not isinstance(value, Foreign) and called_for == shown != value
    return value if right else Foreign(f"{shown}, kept as {kept}")


def moment_shown(value: Cell) -> str | None:
    """What is selected for the time that a value is shown as, without an original; None: it is shown as NULL."""
    if isinstance(value, str):
        micros = _iso_microseconds(value)
    elif isinstance(value, int | float) and math.isfinite(value):
        micros = math.floor(Fraction(value) * (1000 if abs(value) >= _LEAST_MILLISECONDS else 10**6))
    else:
        return None
    if micros is None:
        return None
    seconds, rest = divmod(micros, 10**6)
    days, clock = divmod(seconds, 86_400)
    if not 1 <= days + _EPOCH_DAY <= date.max.toordinal():
        return None
    day = date.fromordinal(days + _EPOCH_DAY).isoformat()
    time = f"{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}"
    if not rest:
        return f"{day} {time}"
    return f"{day}T{time}.{rest:06}Z" if rest % 1000 else f"{day}T{time}.{rest // 1000:03}Z"


def _iso_microseconds(text: str) -> int | None:
    """Microseconds since 1970 of a text in ISO 8601."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, hours, minutes, seconds, fraction, sign, off_hours, off_minutes = match.groups()
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    h, m, s, oh, om = (int(part or 0) for part in (hours, minutes, seconds, off_hours, off_minutes))
    if h > 23 or m > 59 or s > 59 or oh > 23 or om > 59:
        return None
    offset = (oh * 3600 + om * 60) * (-1 if sign == "-" else 1)
    return (days * 86_400 + h * 3600 + m * 60 + s - offset) * 10**6 + int((fraction or "")[:6].ljust(6, "0"))


def _bytes(data: bytes | None) -> Cell:
    if data is None:
        return None
    mark, rest = data[:1], data[1:]
    if mark == b"~":
        try:
            return rest.decode()
        except UnicodeDecodeError:
            return Foreign(f"\\x{rest.hex()}")
    kept, _, shown = rest.partition(b"\n")
    if kept == b"true":
        return shown
    value = from_jsonb(kept.decode())
    if isinstance(value, BadText):
        right = value.raw == shown
    else:
        right = isinstance(value, int | float) and literal(value).encode() == shown
    return value if right else Foreign(f"\\x{shown.hex()}, kept as {kept.decode()}")


#: By codec: how what Postgres sends becomes a value.
CONVERTERS: dict[str, Callable[[Any], Cell]] = {
    "document": _document,
    "escaped": _escaped,
    "bytes": _bytes,
    "moment": _moment,
}


def document_alone(value: Cell) -> str | None:
    """What :data:`EXPRESSIONS` select for a document of the source that is shown without an original.

    None: there is an original, or it cannot be computed without Postgres.
    """
    if isinstance(value, str) and (document := _document_in(value)) is not None:
        posted = posted_json(document)
        return posted if posted[0] == "~" and posted[1] != "-" and not posted[1].isdigit() else None
    return None
