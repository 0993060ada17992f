"""Columns with a type that a profile fixes, turned back into SQLite's values in SQL, without the apply side's codecs.

A row of such a table has ``_original``: by source column, SQLite's text where the typed value cannot be turned back
into it. Otherwise the value is the canonical form: of a time, ``YYYY-MM-DD HH:MM:SS`` for a whole second, else
``…T…Z`` with milliseconds (or all six digits); of JSON, the compact form in jsonb's order of members.

Queries see the typed value. So where there is an original, Postgres also checks that the typed value is the original
converted; if not, what is selected equals no value of SQLite's.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any, LiteralString

from mirror.parity.values import Cell, Foreign

#: A time in the canonical form.
TIME: LiteralString = (
    "CASE WHEN NOT isfinite({c}) OR {c} < '0001-01-01 00:00:00+00' THEN 'no time of SQLite: ' || {c}::text"
    " ELSE to_char({c} AT TIME ZONE 'UTC', CASE"
    " WHEN date_trunc('second', {c}) = {c} THEN 'YYYY-MM-DD HH24:MI:SS'"
    " WHEN date_trunc('milliseconds', {c}) = {c} THEN 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'"
    ' ELSE \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\' END) END'
)

#: The moment that an original is. Digits after the sixth of a second are cut off, where a cast would round; minutes
#: with a fraction get their seconds, because Postgres reads them as minutes and seconds; and an offset is subtracted,
#: because Postgres takes none of sixteen hours or more.
_MOMENT: LiteralString = (
    "(regexp_replace(regexp_replace(regexp_replace(_original ->> {s}, '(Z|[+-][0-9]{{2}}:?[0-5][0-9])$', ''),"
    " '([.][0-9]{{6}})[0-9]+', '\\1'), '([T ][0-9]{{2}}:[0-9]{{2}})[.]', '\\1:00.')::timestamp AT TIME ZONE 'UTC'"
    " - make_interval("
    "hours => coalesce(substring(_original ->> {s} from '([+-][0-9]{{2}}):?[0-5][0-9]$')::int, 0), "
    "mins => coalesce((substring(_original ->> {s} from '([+-])[0-9]{{2}}:?[0-5][0-9]$')"
    " || substring(_original ->> {s} from '[+-][0-9]{{2}}:?([0-5][0-9])$'))::int, 0)))"
)

#: By codec: what to select for column {c}, of which {s} is the name in ``_original``. The session's time zone is UTC.
EXPRESSIONS: dict[str, LiteralString] = {
    "time": (
        "CASE WHEN _original ->> {s} IS NULL THEN "
        + TIME
        + " WHEN {c} IS NOT DISTINCT FROM "
        + _MOMENT
        + " THEN _original ->> {s}"
        " ELSE 'kept as ' || (_original ->> {s}) || ', but ' || coalesce(" + TIME + ", 'NULL') END"
    ),
    "millis": "trim_scale(extract(epoch FROM {c}) * 1000)::text",
    # The first character: ``~`` the typed value, ``=`` the original, ``!`` a typed value that is not the original.
    "json": (
        "CASE WHEN _original ->> {s} IS NULL THEN '~' || {c}::text"
        " WHEN (_original ->> {s})::jsonb::text IS NOT DISTINCT FROM {c}::text THEN '=' || (_original ->> {s})"
        " ELSE '!' || coalesce({c}::text, 'NULL') END"
    ),
    "vector": "{c}::text",
}


class _Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


def _from_json(text: str | None) -> Cell:
    if text is None:
        return None
    if text[0] == "=":
        return text[1:]
    if text[0] == "!":
        return Foreign(text[1:])
    return written_json(text[1:])


def written_json(text: str) -> str:
    """The canonical text of a document: compact, its members as jsonb orders them, numbers as they are written."""
    return _written(json.loads(text, parse_int=_Number, parse_float=_Number))


def posted_json(text: str) -> str:
    """What :data:`EXPRESSIONS` select for a text of JSON, as far as it can be computed without Postgres."""
    try:
        value = json.loads(text, parse_int=_Number, parse_float=_Number)
        given_back = _written(_in_order(value)) == text
    except (ValueError, RecursionError):
        return f"={text}"
    return f"~{_written(value, ' ')}" if given_back else f"={text}"


def _in_order(value: Any) -> Any:
    """The value with the members of objects in jsonb's order: by their names' length in bytes, then byte by byte."""
    match value:
        case list():
            return [_in_order(item) for item in value]
        case dict():
            names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
            return {name: _in_order(value[name]) for name in names}
        case _:
            return value


def _written(value: Any, space: str = "") -> str:
    match value:
        case _Number():
            return str(value)
        case list():
            return f"[{f',{space}'.join(_written(item, space) for item in value)}]"
        case dict():
            members = (f"{_text(name)}:{space}{_written(item, space)}" for name, item in value.items())
            return f"{{{f',{space}'.join(members)}}}"
        case _:
            return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _from_millis(text: str | None) -> Cell:
    if text is None:
        return None
    return int(text) if text.removeprefix("-").isdecimal() else Foreign(text)


def _from_vector(text: str | None) -> Cell:
    if text is None:
        return None
    numbers = json.loads(text, parse_int=float)  # an integer would lose the sign of -0
    try:
        return struct.pack(f"<{len(numbers)}f", *numbers) if math.isfinite(sum(numbers)) else Foreign(text)
    except OverflowError:  # beyond what a float32 holds
        return Foreign(text)


#: By codec: how the text that Postgres sends becomes a value.
CONVERTERS: dict[str, Callable[[str | None], Cell]] = {
    "millis": _from_millis,
    "json": _from_json,
    "vector": _from_vector,
}
