"""The types of the columns of tables that a batch makes, by the rows that come with them."""

from __future__ import annotations

from collections.abc import Collection

from mirror.core.errors import RefusedError
from mirror.core.rows import Batch
from mirror.core.tables import ColumnType
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.retype import overrides_for
from mirror.postgres.schema import SchemaEditor


def made_by(batch: Batch) -> set[str]:
    """The source tables that a batch makes, or makes again, and of which it has all rows."""
    return {
        change.after.name for change in batch.schema_changes if change.kind in ("create", "rebuild") and change.after
    }


def types_of_made(editor: SchemaEditor, batch: Batch, names: Collection[str]) -> dict[tuple[str, str], ColumnType]:
    """By source table and column: types that the rows of these tables ask for in place of the declared ones.

    The batch's rows are read, as far as that takes.
    """
    found: dict[tuple[str, str], ColumnType] = {}
    left = set(names)
    for changes in batch.tables:
        name = changes.table.name
        if name in left:
            left.remove(name)
            try:
                declared = editor.mapped(changes.table, NO_OVERRIDES, rowid_key=False)
            except RefusedError:
                continue  # so is the table
            if declared.agent is None:
                types = overrides_for(declared, changes.rows)
                found.update({(name, column): kind for column, kind in types.items()})
        if not left:
            break
    return found
