"""What is kept of columns with their types in ``mirror.tables``, also over renames, and tables made again.

How they came to be jsonb, of which nothing is kept where they are declared so; and which of those that are declared
JSON have values that are no JSON.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from mirror.core.tables import ANY_VALUE, ColumnType
from mirror.postgres.signals import Seen
from mirror.postgres.target import Conn, Target, TargetColumn, Widening, save_target

#: The codec of a column that is declared JSON (:mod:`mirror.postgres.originals`).
DOCUMENT = "document"
#: By source table and column: the values that did not fit.
Misfits = Mapping[tuple[str, str], Seen]


def continued(target: Target, before: Target, misfits: Misfits) -> Target:
    """The target with what is known of its columns. ``before``: what the same table was stored as."""
    held = {column.source: column for column in before.columns}
    columns = tuple(_continued(target.source, column, held.get(column.source), misfits) for column in target.columns)
    return replace(target, columns=columns)


def _continued(table: str, column: TargetColumn, before: TargetColumn | None, misfits: Misfits) -> TargetColumn:
    if column.codec == DOCUMENT and before is not None and before.codec == DOCUMENT and before.not_json:
        column = replace(column, not_json=True)
    if column.type != ANY_VALUE:
        return replace(column, widened=None) if column.widened else column
    if before is None or column.widened is not None:
        return column
    if before.type == ANY_VALUE:
        return replace(column, widened=before.widened)
    return replace(column, widened=_widening(table, column, before.pg_type, misfits))


def of_made(target: Target, declared: Mapping[str, ColumnType], before: Target | None, misfits: Misfits) -> Target:
    """The target of a table that was made, with columns that are jsonb at once.

    ``declared``: by source column, their types without any values. ``before``: the table in whose place it was made.
    """
    known = {} if before is None else {column.source: column.widened for column in before.columns}
    columns = []
    for column in target.columns:
        own = declared[column.source]
        if column.type == ANY_VALUE != own:
            widening = known.get(column.source) or _widening(target.source, column, own.pg_type, misfits)
            column = replace(column, widened=widening)
        columns.append(column)
    return replace(target, columns=tuple(columns))


def note_not_json(
    conn: Conn, source_id: int, targets: dict[str, Target], table: str, columns: Collection[str], *, whole: bool = False
) -> None:
    """Save that source columns of documents have values that are none. ``whole``: and that no other has any."""
    target = targets[table]
    noted = tuple(
        replace(column, not_json=column.source in columns or (column.not_json and not whole))
        if column.codec == DOCUMENT
        else column
        for column in target.columns
    )
    if [column.not_json for column in noted] != [column.not_json for column in target.columns]:
        targets[table] = replace(target, columns=noted)
        save_target(conn, source_id, targets[table])


def not_json(targets: Mapping[str, Target]) -> frozenset[tuple[str, str]]:
    """The source tables and columns of documents that have values that are none."""
    return frozenset((name, each.source) for name in targets for each in targets[name].columns if each.not_json)


def _widening(table: str, column: TargetColumn, was: str, misfits: Misfits) -> Widening:
    return Widening(time.time(), was, *misfits.get((table, column.source), Seen()))
