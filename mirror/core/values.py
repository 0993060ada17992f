"""One SQLite value, and one row of them.

``None``, ``int``, ``float``, ``str`` and ``bytes`` stand for SQLite's storage classes (https://sqlite.org/datatype3.html).
Two more classes stand for values that cannot be read as one of these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadText:
    """A TEXT value of which the bytes, ``raw``, are not valid in the database's encoding."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Uncomputed:
    """A virtual generated column's value where its expression fails with ``error``: SQLite cannot read it either."""

    error: str


#: One SQLite value as the decoder gives it.
Value = None | int | float | str | bytes | BadText | Uncomputed


#: One row: the values in the order of :attr:`Table.columns`.
Row = tuple[Value, ...]


def identical(before: Row, after: Row) -> bool:
    """Whether two rows are the same to the bit: 1 is not 1.0, -0.0 is not 0.0."""
    if before != after:
        return False
    for one, other in zip(before, after, strict=True):
        if type(one) is not type(other) or (type(one) is float and one == 0.0 and str(one) != str(other)):
            return False
    return True
