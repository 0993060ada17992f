"""What becomes of a value of SQLite in a column of an application's own table: see :mod:`mirror.parity.adopted`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mirror.parity.values import Cell, Foreign


class Misfit(Exception):  # noqa: N818 - not an error
    """A value that the form of its column does not take; the text says why."""


@dataclass(frozen=True, slots=True)
class Lossy:
    """A value that is taken, and not given back as it was."""

    cell: Cell
    lost: str
    """How, to be read after "65 values"."""


class Unfit(Foreign):
    """Stands in a row for a value that its column does not take; ``text`` says why. It equals nothing."""

    __slots__ = ()


#: Makes the canonical value of one that is not NULL, or raises :class:`Misfit`.
Decode = Callable[[Any], Cell | Lossy]


def lossy(cell: Cell, *lost: str) -> Cell | Lossy:
    """The value, with what is lost of it, as far as that is not empty."""
    found = " and ".join(filter(None, lost))
    return Lossy(cell, found) if found else cell


def places(digits: int) -> str:
    """How a value is rounded."""
    return f"rounded to {digits} {'place' if digits == 1 else 'places'}"
