"""The values that SQLite gets for what Postgres has.

Where the mirror wrote a row, its values become what SQLite had, to the bit: ``_original`` has what the typed value
alone does not give back. A program that writes in Postgres knows nothing of ``_original``, so what is kept there may be
of an earlier value. It counts only as long as it stands for what the column shows; else SQLite gets the canonical form
of that (see :mod:`mirror.postgres.typed` and :mod:`mirror.postgres.originals`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, LiteralString

from psycopg import sql

from mirror.core.adopted import is_adopted
from mirror.core.values import BadText, Value
from mirror.parity.plan import MappedColumn
from mirror.parity.selected import converter, identifier, selected
from mirror.parity.typed import TIME, written_json
from mirror.parity.values import Foreign
from mirror.postgres import times
from mirror.postgres.codecs import real_text
from mirror.postgres.kinds import FOUND
from mirror.postgres.target import TargetColumn
from mirror.reverse import adopted
from mirror.reverse.inexact import Inexact

Convert = Callable[[Any], Value]

#: By codec, where parity's expression does not do: it gives nothing back where the original is of an earlier value.
#: The first character: ``~`` the value that is shown, alone; ``=`` the original, a line feed, and what is shown.
_EXPRESSIONS: dict[str, LiteralString] = {
    "time": (
        "CASE WHEN _original ->> {s} IS NULL THEN '~' || " + TIME + " ELSE '=' || (_original ->> {s}) || E'\\n'"
        " || coalesce(" + TIME + ", '') END"
    ),
    "json": (
        "CASE WHEN _original ->> {s} IS NULL THEN '~' || {c}::text ELSE '=' || (_original ->> {s}) || E'\\n'"
        " || coalesce({c}::text, '') END"
    ),
    # Whole milliseconds: what is finer has no place in SQLite's integer.
    "millis": "CASE WHEN isfinite({c}) THEN floor(extract(epoch FROM {c}) * 1000)::text ELSE {c}::text END",
}


def expression(column: TargetColumn) -> sql.Composed:
    """What to select for a column, in the session that :mod:`mirror.postgres.sessions` makes."""
    if is_adopted(column.codec):
        return adopted.expression(MappedColumn(*_parts(column)))
    if column.codec in _EXPRESSIONS:
        source = sql.Literal(column.source.replace("%", "%%"))
        return sql.SQL(_EXPRESSIONS[column.codec]).format(c=identifier(column.name), s=source)
    return selected(MappedColumn(*_parts(column)))


def converting(column: TargetColumn) -> Convert:
    """What makes a value for SQLite of what :func:`expression` selects, fetched in binary form."""
    if is_adopted(column.codec):
        return adopted.converting(MappedColumn(*_parts(column)))
    if column.codec == "time":
        return _time
    if column.codec == "json":
        return _json
    convert = converter(MappedColumn(*_parts(column)))
    if convert is None:
        return _not_nan if column.pg_type == "double precision" else _as_it_is
    if column.pg_type in ("numeric", "jsonb") and column.codec in ("", FOUND):
        return lambda selected_: _exact(selected_, _known(convert, selected_))
    return lambda selected_: _known(convert, selected_)


def _parts(column: TargetColumn) -> tuple[str, str, str, str]:
    return column.source, column.name, column.pg_type, column.codec


def _as_it_is(value: Any) -> Value:
    return value  # type: ignore[no-any-return]


def _not_nan(value: Any) -> Value:
    return Inexact("NaN") if isinstance(value, float) and math.isnan(value) else value


def _exact(text: str | None, value: Value) -> Value:
    """``value``, unless a number is shown that is not exactly that; ``text``: what Postgres shows."""
    if text is None or not isinstance(value, float | str):
        return value
    try:
        number = Decimal(text)
    except InvalidOperation:
        return value
    if isinstance(value, str):
        return Inexact(text) if value == text else value
    exact = number == Decimal(real_text(value)) if math.isfinite(value) else number.is_infinite()
    return value if exact else Inexact(text)


def _known(convert: Callable[[Any], Any], selected_: Any) -> Value:
    """A value; where it stands for none of SQLite's, the one of what the column shows, at last its text."""
    found = convert(selected_)
    if not isinstance(found, Foreign):
        return found  # type: ignore[no-any-return]
    head = selected_[:1]
    if head in ("=", b"="):
        separator, empty = ("\n", "") if isinstance(selected_, str) else (b"\n", b"")
        shown = selected_.partition(separator)[2]
        if shown in (empty, "NULL"):
            return None if shown == "NULL" else shown
        found = convert((b"~" if isinstance(selected_, bytes) else "~") + shown)
        if not isinstance(found, Foreign):
            return found  # type: ignore[no-any-return]
    return found.text.removeprefix("~")


def _time(text: str | None) -> Value:
    if text is None:
        return None
    if text[0] == "~":
        return text[1:].removeprefix("no time of SQLite: ")
    kept, _, shown = text[1:].rpartition("\n")
    try:
        fits = times.canonical(times.of_text(kept)) == shown
    except ValueError:
        fits = False
    return kept if fits else shown.removeprefix("no time of SQLite: ") or None


def _json(text: str | None) -> Value:
    if text is None:
        return None
    if text[0] == "~":
        return written_json(text[1:])
    # jsonb's text has no line feed; the original may.
    kept, _, shown = text[1:].rpartition("\n")
    if not shown:
        return None
    try:
        fits = _document(kept) == _document(shown)
    except (ValueError, RecursionError):
        fits = False
    return kept if fits else written_json(shown)


def _document(text: str) -> Any:
    return json.loads(text, parse_int=_number, parse_float=_number)


def _number(text: str) -> tuple[str, Decimal]:
    return "number", Decimal(text)  # a bare one would equal true


def bound(value: Value) -> Any:
    """A value as APSW takes it, for the SQL of :func:`placeholder`."""
    return value.raw if isinstance(value, BadText) else value


def placeholder(value: Value) -> str:
    """The SQL for a value: text that is not valid is made of its bytes, in the database's encoding."""
    return "CAST(? AS TEXT)" if isinstance(value, BadText) else "?"
