"""Finding rows in Postgres that a constraint would not allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Literal

#: Rows that are named as examples.
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Breaches:
    """Rows, or groups of rows, that break a constraint."""

    count: int
    named: str
    """The values of some of them."""

    def __bool__(self) -> bool:
        return self.count > 0


def rows_without(
    connection: psycopg.Connection[Any],
    table: Composable,
    keys: Sequence[Composable],
    owned: Composable,
    referred: Composable,
    joined: Sequence[Composable],
    shown: Sequence[Composable] | None = None,
) -> Breaches:
    """Rows that refer to none: those ``owned`` rows of ``table`` (alias t) of which no key is NULL.

    ``joined``: conditions between t and the ``referred`` table (alias r). ``shown``: by what a row is named; None: by
    ``keys``. Raises psycopg's errors.
    """
    rows = SQL("FROM {} AS t WHERE {} AND {} AND NOT EXISTS (SELECT FROM {} AS r WHERE {})").format(
        table, owned, _given(keys), referred, SQL(" AND ").join(joined)
    )
    return _found(connection, keys if shown is None else shown, rows)


def repeated(
    connection: psycopg.Connection[Any], table: Composable, keys: Sequence[Composable], owned: Composable
) -> Breaches:
    """Keys without NULL that more than one ``owned`` row of ``table`` (alias t) has. Raises psycopg's errors."""
    listed = SQL(", ").join(keys)
    rows = SQL("FROM {} AS t WHERE {} AND {} GROUP BY {} HAVING count(*) > 1").format(
        table, owned, _given(keys), listed
    )
    return _found(connection, keys, rows)


def longest(
    connection: psycopg.Connection[Any], table: Composable, columns: Sequence[Composable], owned: Composable
) -> int:
    """The most bytes that the columns of one ``owned`` row of ``table`` (alias t) have, as they are stored.

    Raises psycopg's errors.
    """
    sizes = SQL(" + ").join(SQL("coalesce(pg_catalog.pg_column_size({}), 0)").format(column) for column in columns)
    row = connection.execute(SQL("SELECT max({}) FROM {} AS t WHERE {}").format(sizes, table, owned)).fetchone()
    return int((row and row[0]) or 0)


def _given(keys: Sequence[Composable]) -> Composable:
    return SQL(" AND ").join(SQL("{} IS NOT NULL").format(key) for key in keys)


def _found(connection: psycopg.Connection[Any], keys: Sequence[Composable], rows: Composable) -> Breaches:
    listed = SQL(", ").join(keys)
    query = SQL("SELECT count(*) OVER (), {} {} ORDER BY {} LIMIT {}").format(listed, rows, listed, Literal(_EXAMPLES))
    examples = connection.execute(query).fetchall()
    named = "; ".join(", ".join(map(str, example[1:])) for example in examples)
    return Breaches(examples[0][0] if examples else 0, named)
