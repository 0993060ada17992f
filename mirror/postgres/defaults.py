"""Defaults of columns that are added to tables with rows: those rows show them in SQLite, and so also in Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mirror.core.errors import RefusedError
from mirror.core.tables import ANY_VALUE, ColumnType, Table
from mirror.core.values import BadText
from mirror.postgres import kinds
from mirror.postgres.codecs import Misfit, Reject
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.target import Target, TargetColumn
from mirror.postgres.typed import encoder


def shown_default(
    table: Table, index: int, mapped: Target, overrides: Mapping[str, ColumnType] = NO_OVERRIDES
) -> tuple[TargetColumn, str | None]:
    """A new column, of the type of its default where that would not fit or none is declared, and the default as text.

    ``overrides``: columns of which the type is known. Raises ``RefusedError``.
    """
    column, default = mapped.columns[index], table.columns[index].default
    if column.type == ANY_VALUE and column.source not in overrides and not isinstance(default, BadText):
        seen = kinds.Kinds(kinds.choices(column.type, of_key=False, shared=mapped.without_kinds))
        seen.see(default)
        column = replace(column, **seen.of_values(column.type, fits=True)._asdict())
    try:
        return column, encoder(column.pg_type, column.codec)(default)
    except Misfit:
        seen = kinds.Kinds(kinds.choices(column.type, of_key=False, shared=mapped.without_kinds))
        seen.see(default)
        column = TargetColumn(column.source, column.name, *seen.becomes)
        return column, encoder(column.pg_type, column.codec)(default)
    except Reject as reject:
        raise RefusedError(
            "add a column",
            f"{table.name}.{column.source}",
            f"default value of {column.source}: {reject.reason}",
            next_step="give the column another default in SQLite",
        ) from reject
