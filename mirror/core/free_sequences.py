"""Which rows have the numbers of a sequence of Postgres that no column has.

Postgres knows which columns a sequence belongs to where they own it, or have it in their default. Of one that a program
asks by its name only the program knows: mirror.json says it (``cutover.sequences``), and what is known of a program is
kept with its adoption.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Numbers(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column whose values are numbers that a sequence has given, or hold them."""

    column: str
    """``table.column``, as the source names them."""
    negated: bool = False
    """Whether the program turns their sign, so that they count down from -1; other values are not the sequence's."""
    pattern: str = ""
    """Of a column of texts: a regular expression, as Postgres reads them, whose first group is the number, of up to 18
    decimal digits. Other texts have none."""
    where: tuple[str, str] | None = None
    """Only in rows in which this other column of the table has this text."""

    @property
    def table(self) -> str:
        """The table's part of :attr:`column`."""
        return self.column.rpartition(".")[0]


#: By the name of a sequence, in any letters, where its numbers are; nowhere: there is nothing to set it above.
FreeSequences = Mapping[str, tuple[Numbers, ...]]
