"""What mirror.json says of single columns and tables: the type of a column, and what is mirrored at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from types import MappingProxyType

#: The rule of a column that is not mirrored.
OMIT = "omit"
#: The rule of a virtual table of which the data are mirrored.
ROWS = "rows"

_NONE: Mapping[str, str] = MappingProxyType({})
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by the source's names. They are for the tables of one source: not for those that agents share."""

    columns: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """By ``table.column``: a type, or :data:`OMIT`."""
    tables: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """By the name of a virtual table: :data:`ROWS`."""

    def __bool__(self) -> bool:
        return bool(self.columns or self.tables)

    def of_column(self, table: str, column: str) -> str:
        """The rule for a column; empty if there is none."""
        return _found(self.columns, f"{table}.{column}")

    def omits(self, table: str, column: str) -> bool:
        """Whether a column is not mirrored."""
        return self.of_column(table, column) == OMIT

    def carries(self, table: str) -> bool:
        """Whether the data of a virtual table are mirrored."""
        return _found(self.tables, table) == ROWS

    def of(self, profile: str | None, agent: str | None) -> Rules:
        """The rules that are followed for a source that is stored by this profile and belongs to this agent."""
        return self if agent is None and profile in (None, "generic") else NO_RULES


def folded(name: str) -> str:
    """A name as SQLite compares names: without the case of ASCII letters (``sqlite3StrICmp``)."""
    return name.translate(_FOLD)


def _found(rules: Mapping[str, str], name: str) -> str:
    if name in rules:
        return rules[name]
    wanted = folded(name)
    return next((rule for each, rule in rules.items() if folded(each) == wanted), "")


NO_RULES = Rules()
