"""SQL for the source by which a rejected row can be found, and, where that can be known, mended.

Of text with NUL or with bytes that are not UTF-8 the value is known without them, and so is the statement. It is given
as a literal: SQLite's ``replace(v, char(0), '')`` changes nothing, because the pattern counts as empty.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from mirror.core.quote import quoted
from mirror.postgres.codecs import BAD_TEXT, NUL_TEXT

#: Characters; a longer statement is not given.
_LONGEST = 2000
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


def key_columns(columns: Sequence[Mapping[str, Any]], key: Sequence[str] | None) -> list[str] | None:
    """The source's names of the key columns, by what ``mirror.tables`` has of a table; None: the key is its rowid."""
    if key is None:
        return None
    names = {column["name"]: column.get("source", column["name"]) for column in columns}
    return [names[name] for name in key if name in names]


def find(table: str, names: Sequence[str] | None, key: Any, row: Mapping[str, Any]) -> str | None:
    """``SELECT`` for a row; None if it cannot be made.

    ``names``: as :func:`key_columns` gives them. ``key``, ``row``: as ``mirror.rejects`` has them, decoded.
    """
    where = _where(names, key, row)
    return None if where is None else _short_enough(f"SELECT * FROM {quoted(table)} WHERE {where};")


def mend(table: str, names: Sequence[str] | None, key: Any, row: Mapping[str, Any], reason: str) -> str | None:
    """``UPDATE`` that makes of a row one that Postgres holds; None if it is not known what that is."""
    where, fixed = _where(names, key, row), _fixed(row, reason)
    if where is None or fixed is None:
        return None
    column, value = fixed
    return _short_enough(f"UPDATE {quoted(table)} SET {quoted(column)} = {value} WHERE {where};")


def _fixed(row: Mapping[str, Any], reason: str) -> tuple[str, str] | None:
    """The column, and its new value as a literal."""
    for column, value in row.items():
        if reason == f"{column}: {NUL_TEXT}" and isinstance(value, str):
            return column, _text(value.replace("\0", ""))
        if reason == f"{column}: {BAD_TEXT}" and isinstance(value, dict) and "text" in value:
            text = base64.b64decode(value["text"]).decode(errors="replace")
            return column, _text(text.replace("\0", ""))
    return None


def _where(names: Sequence[str] | None, key: Any, row: Mapping[str, Any]) -> str | None:
    if isinstance(key, dict) or names is None:
        number = key.get("rowid") if isinstance(key, dict) else key[0]
        taken = {name.lower() for name in row}
        free = [name for name in _ROWID_NAMES if name not in taken]
        return f"{free[0]} = {number}" if free else None
    if not names or len(names) != len(key):
        return None
    values = [_literal(value) for value in key]
    if None in values:
        return None
    return " AND ".join(f"{quoted(name)} = {value}" for name, value in zip(names, values, strict=True))


def _literal(value: Any) -> str | None:
    """A value in its lossless JSON encoding, as a literal of SQLite; None for one that has none."""
    match value:
        case str():
            return _text(value)
        case int() | float():
            return repr(value)
        case {"blob": str(data)}:
            return f"x'{base64.b64decode(data).hex()}'"
        case {"text": str(data)}:
            return f"CAST(x'{base64.b64decode(data).hex()}' AS TEXT)"
        case {"real": str(text)}:
            return {"Infinity": "9e999", "-Infinity": "-9e999"}.get(text, text)
    return None


def _text(value: str) -> str:
    """A literal that is one printable line."""
    parts = []
    for printable, characters in groupby(value, str.isprintable):
        if printable:
            quoted = "".join(characters).replace("'", "''")
            parts.append(f"'{quoted}'")
        else:
            parts.append(f"char({', '.join(str(ord(each)) for each in characters)})")
    return " || ".join(parts) or "''"


def _short_enough(statement: str) -> str | None:
    """What is printed has to be one line that can be pasted whole."""
    return statement if len(statement) <= _LONGEST and statement.isprintable() else None
