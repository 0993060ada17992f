"""What Postgres has of an application's tables: columns with their types, keys, references. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.postgres.row_security import Secured


@dataclass(frozen=True, slots=True)
class FoundType:
    """The type of a column, of the elements of an array, or of what a domain is made of."""

    oid: int
    """Of the type itself; of a domain, that of the type that it is of in the end."""
    name: str
    """``typname`` of it, as ``timestamptz``; of a domain, likewise of its base."""
    sql: str
    """How SQL names the column's own type, a domain included, without limits and with its schema."""
    base: str
    """Likewise the type that a domain is of in the end; else the same."""
    typmod: int = -1
    """Its limits, as Postgres packs them; -1: none."""
    labels: tuple[str, ...] = ()
    """Of an enum, in order."""
    element: FoundType | None = None
    """Of an array."""
    checks: tuple[str, ...] = ()
    """The names of a domain's own constraints."""


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """One column."""

    name: str
    type: FoundType
    not_null: bool = False
    """Also by its domain."""
    has_default: bool = False
    generated: str = ""
    """``s``: computed and stored; ``v``: computed when it is read; empty: it is written."""
    identity: str = ""
    """``a``: ALWAYS, ``d``: BY DEFAULT; empty: none."""
    by_bytes: bool = False
    """Whether its texts are compared by their bytes (the collation C), as SQLite compares them."""
    sequence: str = ""
    """The sequence that it owns, quoted and with its schema; empty: none."""

    @property
    def fills_itself(self) -> bool:
        """Whether a row that names no value for it can be inserted."""
        return not self.not_null or self.has_default or bool(self.identity or self.generated)


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index."""

    name: str
    columns: tuple[str | None, ...]
    """None: an expression."""
    primary: bool = False
    immediate: bool = True
    """Whether it is checked at once: ON CONFLICT takes no other."""
    nulls_equal: bool = False
    condition: str = ""
    """Of a partial one."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A reference to another table."""

    name: str
    columns: tuple[str, ...]
    schema: str
    referred: str
    referred_columns: tuple[str, ...]
    deferrable: bool = False
    deferred: bool = False
    validated: bool = True
    definition: str = ""
    """As ``pg_get_constraintdef`` writes it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint."""

    name: str
    expression: str
    """In SQL, without its table's name."""
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundTable:
    """One table."""

    schema: str
    name: str
    columns: tuple[FoundColumn, ...]
    uniques: tuple[UniqueKey, ...] = ()
    """The primary key first."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[Check, ...] = ()
    triggers: tuple[str, ...] = ()
    """Those of users that are on."""
    partitioned: bool = False
    inherited: bool = False
    """Whether other tables inherit from it, and so are read and deleted from with it."""
    excludes: bool = False
    """Whether it has an EXCLUDE constraint."""
    rows: int | None = 0
    """None: not known, the table is large, or policies keep them from the mirror."""
    secured: Secured | None = None
    """What is to be said where policies of row-level security apply to the mirror's role."""

    def column(self, name: str) -> FoundColumn:
        """The column of a name; raises ``KeyError``."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Its columns; empty: there is none."""
        return next((columns for key in self.uniques if key.primary and (columns := plain(key)) is not None), ())

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The columns of each unique key by which a row can be found and replaced: the primary key first.

        All of them are NOT NULL columns, it is checked at once, and has no condition.
        """
        required = {column.name for column in self.columns if column.not_null}
        return tuple(
            columns
            for key in self.uniques
            if key.immediate and not key.condition and (columns := plain(key)) is not None and set(columns) <= required
        )


def plain(key: UniqueKey) -> tuple[str, ...] | None:
    """The columns of a key that has no expression; else None."""
    columns = tuple(column for column in key.columns if column is not None)
    return columns if len(columns) == len(key.columns) else None
