"""Columns of an application's own tables on the way back: see :mod:`mirror.postgres.adopted.giving_back`.

What is written to the file is a value that becomes just what Postgres has, if the file is mirrored again; where there
is none, the row is one that the file does not take. So two values of SQLite are equal here if they become one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from psycopg import sql

from mirror.core.adopted import form_of_codec
from mirror.core.values import Value
from mirror.parity.adopted import canonical
from mirror.parity.plan import MappedColumn
from mirror.parity.selected import converter, identifier, selected
from mirror.parity.values import Cell, Foreign, same
from mirror.postgres.adopted.giving_back import offers
from mirror.reverse.inexact import NoForm

#: Whether two values of SQLite become one.
Alike = Callable[[Value, Value], bool]


def expression(column: MappedColumn) -> sql.Composed:
    """What to select for a column; to be fetched in binary form."""
    chosen = selected(column)
    if form_of_codec(column.codec).kind != "array":
        return chosen
    # Without line feeds: those of texts are escaped.
    return sql.SQL("to_json({})::text || E'\\n' || {}").format(identifier(column.name), chosen)


def converting(column: MappedColumn) -> Callable[[Any], Value]:
    """What makes a value for SQLite of what :func:`expression` selects."""
    codec, form, read = column.codec, form_of_codec(column.codec), converter(column)
    offer = offers(form)
    as_text = form.kind in ("array", "jsonb")

    def convert(chosen: Any) -> Value:
        if chosen is None:
            return None
        shown, _, rest = chosen.partition("\n") if form.kind == "array" else (chosen, "", chosen)
        wanted = rest if read is None else read(rest)
        if not isinstance(wanted, Foreign) and wanted == wanted:  # NaN becomes NULL in SQLite
            for value in offer(shown if as_text else cast("Value", wanted)):
                if same(canonical(codec, cast("Cell", value)), wanted):
                    return value
        return NoForm(f"{column.source} has no form for {wanted.text if isinstance(wanted, Foreign) else shown}")

    return convert


def alike(codec: str) -> Alike:
    """Whether two values of a column become one. Raises ``ValueError`` for another codec."""

    def are_alike(mine: Value, theirs: Value) -> bool:
        return same(canonical(codec, cast("Cell", mine)), canonical(codec, cast("Cell", theirs)))

    return are_alike
