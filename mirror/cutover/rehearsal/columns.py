"""Which column of a table may have another value, so that the mirror has something to carry."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from mirror.postgres.target import Target, TargetColumn
from mirror.replica.declared import Declared

#: By type: what makes another value of {c}, and of that the first one again, in SQLite and in Postgres.
_TOGGLES: dict[str, tuple[str, str]] = {
    "bigint": (
        "{c} = CASE WHEN typeof({c}) <> 'integer' THEN {c} WHEN {c} % 2 = 0 THEN {c} + 1 ELSE {c} - 1 END",
        "{c} = CASE WHEN {c} % 2 = 0 THEN {c} + 1 ELSE {c} - 1 END",
    ),
    "text": (
        "{c} = CASE WHEN typeof({c}) <> 'text' OR instr({c}, char(0)) THEN {c}"
        " WHEN substr({c}, -1) = ' ' THEN substr({c}, 1, length({c}) - 1) ELSE {c} || ' ' END",
        "{c} = CASE WHEN right({c}, 1) = ' ' THEN left({c}, -1) ELSE {c} || ' ' END",
    ),
}
_AFFINITIES = {"bigint": "INTEGER", "text": "TEXT"}
#: Codecs of columns that show the very value.
_PLAIN = ("", "strict")


class Toggle(NamedTuple):
    """What to set, with ``{c}`` for the column."""

    sqlite: str
    postgres: str
    column: TargetColumn


def toggled(target: Target, table: Declared, columns: Collection[str], bound_columns: Collection[str]) -> Toggle | None:
    """What to set; None if constraints may be about each column.

    ``columns``: those of the source that have values of their own. ``bound_columns``: those of Postgres that
    constraints of a profile are about.
    """
    unique = [index for index in table.indexes if index.unique]
    parts = [part.column for index in unique for part in index.parts]
    if None in parts or any(index.partial for index in unique):
        return None  # an expression, or a condition, may be about any column
    taken = {str(name).lower() for name in parts} | {name.lower() for name in table.primary_key}
    taken |= {name.lower() for reference in table.references for name in reference.columns}
    for pg_type, texts in _TOGGLES.items():
        for column in target.columns:
            declared = table.columns.get(column.source.lower())
            if (
                column.pg_type == pg_type
                and column.codec in _PLAIN
                and column.source in columns
                and column.source.lower() not in taken
                and column.name not in bound_columns
                and declared is not None
                and declared.affinity == _AFFINITIES[pg_type]
            ):
                return Toggle(*texts, column)
    return None
