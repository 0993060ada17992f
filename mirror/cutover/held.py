"""A table of the source beside what Postgres has of it, and what a guard rail finds out about constraints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.typed import LOSSY
from mirror.replica.declared import Declared, DeclaredColumn


@dataclass(frozen=True, slots=True)
class Held:
    """A table of the source, and where and how Postgres has it."""

    name: str
    target: str
    names: Mapping[str, str]
    """By the name in the source, lower case: the name in Postgres."""
    codecs: Mapping[str, str]
    """By the name in Postgres."""
    declared: Declared
    columns: Mapping[str, Mapping[str, Any]]
    """By the name in Postgres: as ``enforced.sql`` describes them."""
    indexes: Sequence[Mapping[str, Any]]
    refs: Sequence[Mapping[str, Any]]
    shared: bool = False
    """Whether other sources fill it, too."""

    def column(self, source: str) -> str:
        """The name in Postgres of a column of the source; raises ``KeyError``."""
        name = self.names[source.lower()]
        if name not in self.columns:
            raise KeyError(source)
        return name

    def type_of(self, column: str) -> str:
        """The type of a column of Postgres."""
        return str(self.columns[column]["type"])

    def is_lossy(self, column: str) -> bool:
        """Whether different values of the source may be the same in a column of Postgres."""
        return self.codecs.get(column, "") in LOSSY

    def compared(self, source: str) -> DeclaredColumn:
        """How SQLite compares values of a column; raises ``KeyError``."""
        return self.declared.columns[source.lower()]


@dataclass(slots=True)
class Rail:
    """What one guard rail has found."""

    total: int = 0
    """Constraints that SQLite has."""
    broken: list[str] = field(default_factory=list)
    """Rows that break one, and what could not be looked at."""
    missing: list[str] = field(default_factory=list)
    """Constraints that Postgres does not have; with the reason, where no statement makes it."""
    statements: list[str] = field(default_factory=list)
    """They make what is missing, and run in this order, after those of the guard rails before."""
    unmade: int = 0
    """How many of those that are missing no statement makes."""

    @property
    def makeable(self) -> bool:
        """Whether statements make all that is missing, as the rows are now."""
        return not self.broken and not self.unmade

    def cannot(self, label: str, reason: str) -> None:
        """Add one that is missing and that no statement makes."""
        self.missing.append(f"{label}: {reason}")
        self.unmade += 1

    def make(self, label: str, *statements: str) -> None:
        """Add one that is missing, and what makes it."""
        self.missing.append(label)
        self.statements += [each for each in statements if each not in self.statements]


class Place:
    """Where the source's rows are in Postgres."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, agent: str | None) -> None:
        """``agent``: the owner of the source's rows, None if its tables are its own."""
        self.connection = connection
        self._schema = schema
        self.owned: Composable = (
            SQL("true") if agent is None else SQL("t.{} = {}").format(Identifier(AGENT), Literal(agent))
        )
        """Condition on a table with the alias t."""
        self.led = [] if agent is None else [AGENT]
        """The columns that lead each key."""

    def table(self, held: Held) -> Identifier:
        """Its qualified name."""
        return Identifier(self._schema, held.target)

    def sql(self, composed: Composed) -> str:
        """The text of a statement."""
        return composed.as_string(self.connection)


def names(listed: Iterable[str]) -> Composed:
    """Quoted names, separated by commas."""
    return SQL(", ").join(map(Identifier, listed))


def folded(column: Composable, collation: str) -> Composable:
    """A column of type text, with equal values where SQLite finds them equal by a collation; raises ``KeyError``."""
    return _FOLDED[collation].format(column)


#: NOCASE folds ASCII only, as lower() does in the collation "C" alone.
_FOLDED = {"BINARY": SQL("{}"), "NOCASE": SQL('lower({} COLLATE "C")'), "RTRIM": SQL("rtrim({}, ' ')")}
