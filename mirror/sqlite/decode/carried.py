"""Virtual tables of which a rule has the data mirrored: the tables of a source that hold them.

An FTS5 table keeps its rows in ``<name>_content``, with the columns ``c0``, ``c1``, ...: it is read as a table of its
own name and columns. A vec0 table keeps vectors in chunks, over several tables: these are mirrored as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import apsw

from mirror.core.rules import Rules
from mirror.core.tables import Column, Table
from mirror.core.virtual import SHADOWS, VirtualTable, vector_columns

#: Modules of which the data can be mirrored.
TEXTS, VECTORS = "fts5", "vec0"
_CONTENT = re.compile(r"c(\d+)")


def obstacle(table: VirtualTable, rules: Rules) -> str | None:
    """Why the data of a virtual table are not mirrored; None if they are, "" if no rule asks for them."""
    if not rules.carries(table.name):
        return ""
    if table.module not in (TEXTS, VECTORS):
        return f"of a table of {table.module or 'an unknown module'} the data cannot be mirrored"
    if not table.holds_data:
        return "it has no data of its own: they are in the table of its content=, or nowhere"
    return None


def owner_of(name: str, carried: Iterable[VirtualTable]) -> VirtualTable | None:
    """The virtual table for which an ordinary one has data, as the one of this name does; None: for none."""
    lower = name.lower()
    for table in carried:
        owner = table.name.lower() + "_"
        wanted = "content" if table.module == TEXTS else SHADOWS[VECTORS]
        if lower.startswith(owner) and re.fullmatch(wanted, lower[len(owner) :]):
            return table
    return None


def carried_table(content: Table, owner: VirtualTable, statement: str) -> Table | None:
    """The table that is mirrored in place of one with data of a virtual table; None if its columns are not known.

    ``statement``: the CREATE statement of the virtual table.
    """
    if owner.module == VECTORS:
        return replace(content, virtual=owner.name, unpacked=vector_columns(statement))
    names = _names(owner.name, statement)
    places = tuple(at for at, column in enumerate(content.columns) if _CONTENT.fullmatch(column.name))
    if [content.columns[at].name for at in places] != [f"c{number}" for number in range(len(names))]:
        return None  # it needs what only the program has, or keeps a part of its columns
    columns = tuple(Column(name, "TEXT", "TEXT") for name in names)
    return Table(
        owner.name, content.root, columns, (), None, False, (), whole=content, places=places, virtual=owner.name
    )


def _names(name: str, statement: str) -> list[str]:
    """The columns of an FTS5 table; none where SQLite cannot make it without the program."""
    database = apsw.Connection(":memory:")
    try:
        database.execute(statement)
        found = database.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (name,)).fetchall()
        return [str(column) for (column,) in found]
    except apsw.Error:
        return []
    finally:
        database.close()
