"""What is selected for a column in Postgres, and how that becomes the value that SQLite had, or the canonical one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psycopg import sql

from mirror.core.adopted import is_adopted
from mirror.parity import adopted_selected, kinds, originals, typed
from mirror.parity.plan import MappedColumn
from mirror.parity.values import CONVERTERS, Cell

_EXPRESSIONS = typed.EXPRESSIONS | originals.EXPRESSIONS | kinds.EXPRESSIONS
_CODEC_CONVERTERS = typed.CONVERTERS | originals.CONVERTERS | {"number": kinds.number}
_CASTS = {
    "boolean": "{c}::int4::int8",
    "numeric": "{c}::text",
    "jsonb": "{c}::text",
}


def selected(column: MappedColumn) -> sql.Composed:
    """The expression to select for a column, over its names and ``_original``; to be fetched in binary form."""
    name = identifier(column.name)
    if is_adopted(column.codec):
        return sql.SQL(adopted_selected.expression(column.codec)).format(c=name)
    if column.codec in _EXPRESSIONS:
        source = sql.Literal(column.source.replace("%", "%%"))
        return sql.SQL(_EXPRESSIONS[column.codec]).format(c=name, s=source)
    return sql.SQL(_CASTS.get(column.pg_type, "{c}")).format(c=name)


def identifier(*names: str) -> sql.Identifier:
    """A quoted name, for a query with parameters: psycopg looks for placeholders in names, too."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def converter(column: MappedColumn) -> Callable[[Any], Cell] | None:
    """What makes the value of what was selected for a column; None: it is the value.

    Of an adopted column it is the canonical one: see :mod:`mirror.parity.adopted`.
    """
    if is_adopted(column.codec):
        return adopted_selected.converter(column.codec)
    if column.codec in _EXPRESSIONS:
        return _CODEC_CONVERTERS.get(column.codec)
    return CONVERTERS.get(column.pg_type)


def converters_of(columns: Sequence[MappedColumn]) -> list[tuple[int, Callable[[Any], Cell]]]:
    """By the place of a column, its :func:`converter`, where it has one."""
    found = ((at, converter(column)) for at, column in enumerate(columns))
    return [(at, convert) for at, convert in found if convert is not None]
