"""The conditions of partial indexes, as Postgres writes them: those that mean the same in both.

That is IS NULL, IS NOT NULL, and the comparison of a column with a number or a text, joined by AND.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from psycopg.sql import SQL, Composable, Identifier, Literal

from mirror.core.sql_words import Token
from mirror.cutover.held import Held
from mirror.postgres import kinds

_NUMBER = re.compile(r"[0-9]{1,9}")


class Condition(NamedTuple):
    """A condition."""

    sql: Composable
    """For rows of a table; columns have no alias."""
    stored: str
    """As Postgres writes one that an index has."""


def translated(held: Held, listed: Sequence[Token]) -> Condition | None:
    """What a condition of SQLite is in Postgres; None if that is not known."""
    try:
        parts = _conjunction(held, list(listed))
    except (KeyError, IndexError):
        return None
    if not parts:
        return None
    joined = parts[0].stored if len(parts) == 1 else f"({' AND '.join(part.stored for part in parts)})"
    return Condition(SQL(" AND ").join(part.sql for part in parts), joined)


def _conjunction(held: Held, listed: list[Token]) -> list[Condition]:
    """Raises ``KeyError`` or ``IndexError`` for anything else."""
    found: list[Condition] = []
    while listed:
        if found and not listed.pop(0).is_word("AND"):
            raise KeyError
        if listed[0].text == "(":
            end = _closing(listed)
            inner, listed = listed[1:end], listed[end + 1 :]
            found += _conjunction(held, inner)
        else:
            condition, used = _test(held, listed)
            found.append(condition)
            listed = listed[used:]
            if listed == [] or listed[0].is_word("AND"):
                continue
            raise KeyError
    return found


def _closing(listed: Sequence[Token]) -> int:
    depth = 0
    for at, token in enumerate(listed):
        if token.kind == "sign":
            depth += (token.text == "(") - (token.text == ")")
        if not depth:
            return at
    raise IndexError


def _test(held: Held, listed: Sequence[Token]) -> tuple[Condition, int]:
    """The first test, and how many tokens it has."""
    if listed[0].kind not in ("word", "name"):
        raise KeyError(listed[0].text)
    source = listed[0].value
    column = held.column(source)
    rest = [token.text.upper() for token in listed[1:4]]
    for words, null in _NULL_TESTS:
        if rest[: len(words)] == words:
            test = SQL("{} IS NULL") if null else SQL("{} IS NOT NULL")
            stored = f"({held.columns[column]['quoted']} IS {'' if null else 'NOT '}NULL)"
            return Condition(test.format(Identifier(column)), stored), len(words) + 1
    if rest[0] not in ("=", "=="):
        raise KeyError(rest[0])
    literal, shown = _literal(held, source, column, listed[2])
    stored = f"({held.columns[column]['quoted']} = {shown})"
    return Condition(SQL("{} = {}").format(Identifier(column), literal), stored), 3


_NULL_TESTS = (
    (["IS", "NOT", "NULL"], False),
    (["NOT", "NULL"], False),
    (["NOTNULL"], False),
    (["IS", "NULL"], True),
    (["ISNULL"], True),
)


def _literal(held: Held, source: str, column: str, token: Token) -> tuple[Composable, str]:
    kind, codec = held.type_of(column), held.codecs.get(column, "")
    compared = held.compared(source)
    if token.kind == "number" and _NUMBER.fullmatch(token.text):
        number = int(token.text)
        if kind == "bigint" and codec in ("", kinds.FOUND):
            return Literal(number), str(number)
        if kind == "boolean" and not codec and number in (0, 1):
            return Literal(bool(number)), str(bool(number)).lower()
    if token.kind == "text" and token.text.startswith("'"):
        plain = kind == "text" and codec in ("", kinds.FOUND) and "\\" not in token.text
        if plain and compared.affinity == "TEXT" and compared.collation == "BINARY":
            return Literal(token.value), f"{token.text}::text"
    raise KeyError(token.text)
