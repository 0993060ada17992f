"""What mirror.json says of single columns and tables: the type of a column, and what is mirrored at all."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from string import ascii_lowercase, ascii_uppercase
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

#: The rule of a column that is not mirrored.
OMIT = "omit"
#: The rule of a virtual table of which the data are mirrored.
ROWS = "rows"

_NONE: Mapping[str, str] = MappingProxyType({})
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


class Rules(msgspec.Struct, frozen=True):
    """Rules by the source's names. They are for the tables of one source: not for those that agents share."""

    columns: Mapping[str, str] = msgspec.field(default_factory=lambda: _NONE)
    """By ``table.column``: a type, or :data:`OMIT`."""
    tables: Mapping[str, str] = msgspec.field(default_factory=lambda: _NONE)
    """By the name of a virtual table: :data:`ROWS`."""
    inherited: Mapping[str, str] = msgspec.field(default_factory=lambda: _NONE)
    """Columns (``table.column``) without a rule that have, or may have, the values of one that was left out, each with
    the name of the rule for that one: they are left out as well. See :mod:`mirror.core.inherited`."""
    excluded: tuple[str, ...] = ()
    """Names of tables that are not mirrored, as patterns of the shell (``django_*``)."""

    def __bool__(self) -> bool:
        return bool(self.columns or self.tables or self.excluded)

    def of_column(self, table: str, column: str) -> str:
        """The rule for a column; empty if there is none."""
        return _found(self.columns, f"{table}.{column}")

    def omits(self, table: str, column: str) -> bool:
        """Whether a column is not mirrored."""
        rule = self.of_column(table, column)
        return rule == OMIT if rule else bool(self.inherits(table, column))

    def inherits(self, table: str, column: str) -> str:
        """The name of the rule that a column without a rule is left out for; empty if there is none."""
        return "" if self.of_column(table, column) else _found(self.inherited, f"{table}.{column}")

    def omission(self, table: str, column: str) -> str:
        """The name, as it is written, of the rule that leaves a column out; empty if none does."""
        name = f"{table}.{column}"
        if self.of_column(table, column) != OMIT:
            return self.inherits(table, column)
        return name if name in self.columns else next(each for each in self.columns if folded(each) == folded(name))

    def with_inherited(self, inherited: Mapping[str, str]) -> Rules:
        """These rules, with columns that inherit one of them; not those of which the rule is not there any more."""
        found = {name: rule for name, rule in inherited.items() if _found(self.columns, rule) == OMIT}
        return replace(self, inherited={name: rule for name, rule in found.items() if not _found(self.columns, name)})

    def carries(self, table: str) -> bool:
        """Whether the data of a virtual table are mirrored."""
        return _found(self.tables, table) == ROWS

    def excludes(self, table: str) -> bool:
        """Whether a table is not mirrored."""
        return any(fnmatchcase(folded(table), folded(pattern)) for pattern in self.excluded)

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
