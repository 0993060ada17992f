"""What a column of SQLite makes of a value that is written to it.

A column of numbers makes 1 of 1.0 and 3.0 of 3, by its affinity, and one of REAL has no negative zero: SQLite stores a
whole number there as an integer (https://sqlite.org/datatype3.html, sections 3 and 3.4). So of what Postgres has, the
file may have another form, which SQLite, and Postgres, too, find equal to it. That is no difference. In a column of an
application's own table it may have any form that becomes that value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from mirror.core.adopted import is_adopted
from mirror.core.values import Value
from mirror.parity.values import Cell, same
from mirror.reverse.adopted import alike


def is_stored_as(theirs: Value, mine: Value, equals: Callable[[], bool], codec: str = "") -> bool:
    """Whether a value of the file is what its column makes of one of Postgres.

    ``equals``: whether SQLite finds both equal, by the column's affinity; it is asked of a text and a number.
    ``codec``: that of the column.
    """
    if same(cast("Cell", mine), cast("Cell", theirs)):
        return True
    if is_adopted(codec):
        return alike(codec)(mine, theirs)
    kinds = {type(mine), type(theirs)}
    if kinds <= {int, float}:
        return mine == theirs
    return kinds in ({str, int}, {str, float}) and equals()
