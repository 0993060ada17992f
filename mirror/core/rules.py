"""What mirror.json says of single columns and tables: the type of a column, and what is mirrored at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: The rule of a column that is not mirrored.
OMIT = "omit"
#: The rule of a virtual table of which the data are mirrored.
ROWS = "rows"

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by the source's names. They are for the tables of one source: not for those that agents share."""

    columns: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """By ``table.column``: a type, or :data:`OMIT`."""
    tables: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """By the name of a virtual table: :data:`ROWS`."""

    def __bool__(self) -> bool:
        return bool(self.columns or self.tables)

    def omits(self, table: str, column: str) -> bool:
        """Whether a column is not mirrored."""
        return self.columns.get(f"{table}.{column}") == OMIT

    def carries(self, table: str) -> bool:
        """Whether the data of a virtual table are mirrored."""
        return self.tables.get(table) == ROWS

    def of(self, profile: str | None, agent: str | None) -> Rules:
        """The rules that are followed for a source that is stored by this profile and belongs to this agent."""
        return self if agent is None and profile in (None, "generic") else NO_RULES


NO_RULES = Rules()
