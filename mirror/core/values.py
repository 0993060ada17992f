"""One SQLite value, and one row of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadText:
    """A TEXT value whose bytes are not valid in the database's encoding."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Uncomputed:
    """A virtual generated column's value where its expression fails, so that SQLite cannot read the row either."""

    error: str


#: One SQLite value as the decoder gives it.
Value = None | int | float | str | bytes | BadText | Uncomputed


#: One row: the values in the order of :attr:`Table.columns`.
Row = tuple[Value, ...]
