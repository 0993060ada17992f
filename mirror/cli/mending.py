"""SQL for the source by which a rejected row can be found, and, where that can be known, mended.

Of text with NUL or with bytes that are not UTF-8 the value is known without them, and so is the statement. It is given
as a literal: SQLite's ``replace(v, char(0), '')`` changes nothing, because the pattern counts as empty.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mirror.core.literals import literal, text_literal
from mirror.core.quote import quoted
from mirror.core.values import BadText, Value
from mirror.postgres.codecs import BAD_TEXT, MAX_KEY_BYTES, NUL_TEXT, from_json

#: Characters; a longer statement is not given.
_LONGEST = 2000
#: Characters or bytes of a part of a key; what is no longer is compared whole.
_PART = 40
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


def key_columns(columns: Sequence[Mapping[str, Any]], key: Sequence[str] | None) -> list[str] | None:
    """The source's names of the key columns, by what ``mirror.tables`` has of a table; None: the key is its rowid."""
    if key is None:
        return None
    names = {column["name"]: column.get("source", column["name"]) for column in columns}
    return [names[name] for name in key if name in names]


def alike(key: Any) -> object:
    """What a key, as ``mirror.rejects`` has it, has in common with those that only parts tell from it."""
    if not isinstance(key, list):
        return None
    parts = [next(iter(value.values())) if isinstance(value, dict) else value for value in key]
    return tuple((len(part), part[:_PART]) if isinstance(part, str) else part for part in parts)


def find(
    table: str, names: Sequence[str] | None, key: Any, row: Mapping[str, Any], others: Sequence[Any] = ()
) -> str | None:
    """``SELECT`` for a row; None if it cannot be made.

    ``names``: as :func:`key_columns` gives them. ``key``, ``row``: as ``mirror.rejects`` has them, decoded. ``others``:
    the keys of the rejected rows of the table that are :func:`alike`. A key that is too long to be pasted is found by
    its length and by parts of it that no other has.
    """
    for where in _wheres(names, key, row, others):
        if (statement := _short_enough(f"SELECT * FROM {quoted(table)} WHERE {where};")) is not None:
            return statement
    return None


def mend(
    table: str, names: Sequence[str] | None, key: Any, row: Mapping[str, Any], reason: str, others: Sequence[Any] = ()
) -> str | None:
    """``UPDATE`` that makes of a row one that Postgres holds; None if it is not known what that is.

    ``others``: as for :func:`find`. No other row is changed: what has as long a key is rejected as well.
    """
    if (fixed := _fixed(row, reason)) is None:
        return None
    column, value = fixed
    for where in _wheres(names, key, row, others, sure=True):
        statement = _short_enough(f"UPDATE {quoted(table)} SET {quoted(column)} = {value} WHERE {where};")
        if statement is not None:
            return statement
    return None


def _fixed(row: Mapping[str, Any], reason: str) -> tuple[str, str] | None:
    """The column, and its new value as a literal."""
    for column, value in row.items():
        if reason == f"{column}: {NUL_TEXT}" and isinstance(value, str):
            return column, text_literal(value.replace("\0", ""))
        if reason == f"{column}: {BAD_TEXT}" and isinstance(value, dict) and "text" in value:
            text = base64.b64decode(value["text"]).decode(errors="replace")
            return column, text_literal(text.replace("\0", ""))
    return None


def _wheres(
    names: Sequence[str] | None, key: Any, row: Mapping[str, Any], others: Sequence[Any], *, sure: bool = False
) -> Iterator[str]:
    """The conditions by which a row can be found, the best first. ``sure``: only those that hold for no other row."""
    if isinstance(key, dict) or names is None:
        number = key.get("rowid") if isinstance(key, dict) else key[0]
        taken = {name.lower() for name in row}
        free = [name for name in _ROWID_NAMES if name not in taken]
        if free:
            yield f"{free[0]} = {number}"
        return
    if not names or len(names) != len(key):
        return
    try:
        values = [from_json(value) for value in key]
    except ValueError:
        return
    if None in values:  # nothing equals it
        return
    yield " AND ".join(f"{quoted(name)} = {literal(value)}" for name, value in zip(names, values, strict=True))
    contents = [_content(value) for value in values]
    # Whoever has as many characters or bytes in these columns has too many for Postgres, and is rejected.
    alone = sum(map(len, filter(None, contents))) > MAX_KEY_BYTES and not any(map(_is_odd, values))
    if alone or not sure:
        yield _by_parts(names, values, contents, [list(map(from_json, other)) for other in others if other != key])


def _by_parts(
    names: Sequence[str], values: Sequence[Value], contents: Sequence[str | bytes | None], rivals: list[list[Value]]
) -> str:
    """The condition by the lengths of values that are long, their beginnings, and what tells them from ``rivals``."""
    conditions = []
    cut: list[tuple[int, int]] = []
    for at, (name, value, content) in enumerate(zip(names, values, contents, strict=True)):
        if content is None or len(content) <= _PART:
            conditions.append(f"{quoted(name)} = {literal(value)}")
            rivals = [rival for rival in rivals if rival[at] == value]
        else:
            conditions.append(f"length({_expression(name, value)}) = {len(content)}")
            cut.append((at, 0))
            if isinstance(content, bytes) and not isinstance(value, bytes):
                conditions.append(f"typeof({quoted(name)}) = 'text'")
                cut.append((at, _odd_at(content)))
    while cut:
        at, begin = cut.pop()
        content = contents[at]
        assert content is not None
        part = content[begin : begin + _PART]
        conditions.append(f"substr({_expression(names[at], values[at])}, {begin + 1}, {_PART}) = {literal(part)}")
        rivals = [rival for rival in rivals if _has(rival[at], values[at], begin, part)]
        if not cut and rivals:
            cut.append(_difference(values, contents, rivals[0]))
    return " AND ".join(conditions)


def _is_odd(value: Value) -> bool:
    """Whether it is a text that SQLite's ``length`` and ``substr`` do not see whole: with NUL, or not valid."""
    return isinstance(value, BadText) or (isinstance(value, str) and "\0" in value)


def _odd_at(content: bytes) -> int:
    """Where such a text has what no other has."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.start
    return content.index(0)


def _content(value: Value) -> str | bytes | None:
    """What ``length`` and ``substr`` count in :func:`_expression`; None: it is no text or blob."""
    if isinstance(value, BadText):
        return value.raw
    if isinstance(value, str):
        return value.encode() if _is_odd(value) else value
    return value if isinstance(value, bytes) else None


def _expression(name: str, value: Value) -> str:
    return f"CAST({quoted(name)} AS BLOB)" if _is_odd(value) else quoted(name)


def _has(rival: Value, value: Value, begin: int, part: str | bytes) -> bool:
    """Whether another value has the same part, and the same length, as far as that is seen in SQL."""
    content, own = _content(rival), _content(value)
    if type(content) is not type(own) or content is None or own is None:
        return False
    return len(content) == len(own) and content[begin : begin + _PART] == part


def _difference(values: Sequence[Value], contents: Sequence[str | bytes | None], rival: list[Value]) -> tuple[int, int]:
    """The column in which another key differs, and where that begins."""
    for at, content in enumerate(contents):
        other = _content(rival[at])
        if content is not None and other is not None and rival[at] != values[at]:
            return at, next(n for n, (own, their) in enumerate(zip(content, other, strict=True)) if own != their)
    raise AssertionError("two keys are one")


def _short_enough(statement: str) -> str | None:
    """What is printed has to be one line that can be pasted whole."""
    return statement if len(statement) <= _LONGEST and statement.isprintable() else None
