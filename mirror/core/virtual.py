"""Virtual tables of a source: which of them hold data that is nowhere else in the file.

A virtual table keeps its data in the file only in ordinary tables of its own (its shadow tables). Those of well-known
modules are no use without the module, so they are not mirrored; those of any other module are, like all tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

#: Endings, after ``<name>_``, of the names of the tables in which well-known modules keep a virtual table.
SHADOWS = {
    "fts3": r"content|segments|segdir|docsize|stat",
    "fts4": r"content|segments|segdir|docsize|stat",
    "fts5": r"data|idx|content|docsize|config",
    "rtree": r"node|rowid|parent",
    "rtree_i32": r"node|rowid|parent",
    "geopoly": r"node|rowid|parent",
    "vec0": r"info|chunks|rowids|auxiliary|vector_chunks\d+|metadatachunks\d+|metadatatext\d+",
}
#: Modules of text search: a table of theirs holds its texts unless it was made with ``content=``, and then, and only
#: then, it has a shadow table ``<name>_content``.
_TEXTS = frozenset(("fts3", "fts4", "fts5"))
_MODULE = re.compile(r"\s*CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+[\"'`\[]?(\w+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class VirtualTable:
    """A virtual table of the source."""

    name: str
    module: str
    """Lower case; empty if it could not be found in the CREATE statement."""
    holds_data: bool
    """Whether it holds data that is in no other table of the source."""
    obstacle: str | None = ""
    """Why its data are not mirrored, where a rule asks for them; None: they are."""

    def __str__(self) -> str:
        """For people: the name, and the module in brackets."""
        return f"{self.name} ({self.module})" if self.module else self.name


#: An argument of a vec0 table that is a column: ``+`` before a name, the name, its type, what follows.
_VECTOR = re.compile(r"\s*(\+?)\s*([A-Za-z_]\w*)\s+(\w+)\s*(\[?)(.*)", re.DOTALL)
_VECTOR_TYPES = frozenset(("float", "f32", "int8", "i8", "bit"))
_METADATA = {"boolean": "boolean", "bool": "boolean", "text": "text"}
_METADATA |= dict.fromkeys(("int", "integer", "int64", "integer64"), "integer")
_METADATA |= dict.fromkeys(("float", "double", "float64", "f64"), "float")


def vector_columns(statement: str) -> tuple[tuple[str, str], ...]:
    """The columns of a vec0 table in their order, by its CREATE statement: the name of each, and where its data are.

    That is ``vectors`` and ``partition`` with the number in two digits (``vectors00``), ``value`` likewise for those
    written with ``+``; of metadata ``integer``, ``float``, ``boolean`` and ``text``, with one series of numbers for
    all; and for a primary key ``rowid`` if it is an integer, else ``id``. Empty: not known.
    """
    arguments = statement.partition("(")[2].rpartition(")")[0]
    found: list[tuple[str, str]] = []
    numbers = {"vectors": 0, "partition": 0, "value": 0, "metadata": 0}
    for argument in re.split(r",(?![^(\[]*[)\]])", arguments):
        column = _VECTOR.fullmatch(argument)
        if column is None:
            continue  # an option, as chunk_size=8
        plus, name, kind, dimensions, rest = column.groups()
        series = ""
        if plus:
            place = "value"
        elif dimensions and kind.lower() in _VECTOR_TYPES:
            place = "vectors"
        elif re.search(r"\bpartition\s+key\b", rest, re.IGNORECASE):
            place = "partition"
        elif re.search(r"\bprimary\s+key\b", rest, re.IGNORECASE):
            found.append((name, "rowid" if _METADATA.get(kind.lower()) == "integer" else "id"))
            continue
        else:
            place, series = _METADATA.get(kind.lower(), ""), "metadata"
        found.append((name, place and f"{place}{numbers[series or place]:02}"))
        numbers[series or place] += 1
    return tuple(found)


def module_of(statement: str | None) -> str:
    """The module of a virtual table, lower case, by its CREATE statement; empty if there is none to be found."""
    found = _MODULE.match(statement or "")
    return found.group(1).lower() if found else ""


def virtual_tables(virtual: Iterable[tuple[str, str | None]], names: Iterable[str]) -> tuple[VirtualTable, ...]:
    """The virtual tables, in the order of their names.

    ``virtual``: name and CREATE statement of each. ``names``: those of all tables of the source, also shadow tables.
    """
    there = {name.lower() for name in names}
    return tuple(_described(name, module_of(statement), there) for name, statement in sorted(virtual))


def _described(name: str, module: str, there: Collection[str]) -> VirtualTable:
    if module in _TEXTS:
        return VirtualTable(name, module, f"{name.lower()}_content" in there)
    # What a module that is not known keeps in the file is in ordinary tables, which are mirrored.
    return VirtualTable(name, module, module in SHADOWS)


def left_out(found: Iterable[VirtualTable], derived: Collection[str] = ()) -> list[str]:
    """Those that hold data, which so is not in Postgres, as text for people.

    ``derived``: as :attr:`~mirror.core.tables.Profile.derived`; these are no loss.
    """
    return [
        str(table) for table in found if table.holds_data and table.obstacle is not None and table.name not in derived
    ]
