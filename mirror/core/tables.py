"""Tables of the source, and how they are stored in Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

from mirror.core.values import Value, identical

Affinity = Literal["INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a source table. With the default 1.0 it is another one than with 1: rows have other values."""

    name: str
    declared_type: str
    """The type as written in CREATE TABLE, ``""`` when there is none."""
    affinity: Affinity
    """SQLite's affinity of the declared type (https://sqlite.org/datatype3.html, 3.1)."""
    not_null: bool = False
    default: Value = None
    """The value of this column in records written before ADD COLUMN added it."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Column):
            return NotImplemented
        rest = self.name, self.declared_type, self.affinity, self.not_null
        return rest == (other.name, other.declared_type, other.affinity, other.not_null) and identical(
            (self.default,), (other.default,)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.declared_type))


def begin_alike(olds: Sequence[Column], news: Sequence[Column]) -> bool:
    """Whether the first of the new columns are the old ones, one by one, but for their names."""
    alike = (replace(old, name=new.name) == new for old, new in zip(olds, news, strict=False))
    return len(news) >= len(olds) and all(alike)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the source, as its schema declares it at some position."""

    name: str
    root: int
    """Page number of the root of the table's b-tree."""
    columns: tuple[Column, ...]
    """In declared order; virtual generated columns too, except those of :attr:`left_out` and :attr:`omitted`."""
    primary_key: tuple[str, ...]
    """Names of the declared primary key's columns in key order; empty when there is none."""
    rowid_alias: str | None
    """The INTEGER PRIMARY KEY column that is an alias of the rowid, if there is one."""
    without_rowid: bool
    storage: tuple[int, ...]
    """Indexes into ``columns`` (those of :attr:`whole`, if there is one) in the order in which records store them;
    virtual columns are not stored."""
    collations: tuple[str, ...] = ()
    """WITHOUT ROWID only: collation of each primary-key column, in key order."""
    definition: str = ""
    """The CREATE statement, if ``columns`` has virtual ones: it contains their expressions."""
    left_out: tuple[str, ...] = ()
    """Virtual columns that only the source's own program can compute."""
    by_version: tuple[str, ...] = ()
    """Virtual columns of ``columns`` with values that may depend on the version of the SQLite that computes them."""
    omitted: tuple[str, ...] = ()
    """Columns that a rule leaves out."""
    whole: Table | None = None
    """The table with all columns, as its records have them, where ``columns`` are only some; else None."""
    places: tuple[int, ...] = ()
    """With :attr:`whole`: its index of each column."""
    virtual: str | None = None
    """The virtual table of which it has the data."""
    unpacked: tuple[tuple[str, str], ...] = ()
    """Of a table with data of vec0: the columns of the virtual table that can be told from it and its like, as
    :func:`~mirror.core.virtual.vector_columns` gives them."""
    inherited: tuple[tuple[str, str], ...] = ()
    """Those of :attr:`omitted` that no rule names, with the rule that each is left out for: see
    :mod:`mirror.core.inherited`."""

    @property
    def declared(self) -> Table:
        """The table as the source declares it."""
        return self.whole or self

    def position(self, column: str) -> int:
        """Index of the named column in ``columns``; raises ``KeyError``."""
        for index, candidate in enumerate(self.columns):
            if candidate.name == column:
                return index
        raise KeyError(column)

    def same_shape(self, other: Table) -> bool:
        """Whether rows of both tables mean the same: all but name and root are equal.

        A table with virtual columns has another shape under another name, because its definition names it.
        """
        return (
            self.columns == other.columns
            and self.primary_key == other.primary_key
            and self.rowid_alias == other.rowid_alias
            and self.without_rowid == other.without_rowid
            and self.definition == other.definition
            and self.places == other.places
            and (self.whole is other.whole or self.declared.same_shape(other.declared))
        )


class ColumnType(NamedTuple):
    """A type in Postgres, and how values of SQLite are stored in it."""

    pg_type: str
    codec: str = ""
    """As in :class:`ColumnMapping`."""


#: Any value, in the lossless encoding; the type of a column with values that do not fit its own.
ANY_VALUE = ColumnType("jsonb")
#: Any text, also with NUL or invalid in the database's encoding.
ANY_TEXT = ColumnType("text", "escaped")


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Where one column of the source goes in Postgres."""

    name: str
    pg_type: str
    """bigint, double precision, text, bytea, boolean, numeric, jsonb; with a codec also a time or ``vector``."""
    not_null: bool = False
    codec: str = ""
    """Empty: by the type alone, and jsonb if a value does not fit. Else its type is fixed: see postgres/typed.py and
    postgres/originals.py."""


@dataclass(frozen=True, slots=True)
class TableMapping:
    """How one source table is stored in Postgres."""

    table: Table
    schema: str
    name: str
    """Name of the Postgres table."""
    columns: tuple[ColumnMapping, ...]
    """In the order of ``table.columns``."""
    key: tuple[str, ...] | None
    """Key columns; None: the key is the extra column ``_rowid bigint``. Without ``agent_id``, which leads it."""
    curated: bool = False
    """Whether a migration of the profile makes the table."""


class MapTable(Protocol):
    """A profile's function: how is this table stored in Postgres?"""

    def __call__(
        self,
        table: Table,
        schema: str,
        *,
        overrides: Mapping[str, ColumnType] = ...,
        rowid_key: bool = ...,
        of_agent: bool = ...,
    ) -> TableMapping:
        """See :func:`mirror.postgres.profiles.generic.map_table`."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What SQLite enforces while programs write to it, and Postgres must enforce once they write to Postgres."""

    table: str
    name: str
    columns: tuple[str, ...]
    referred: str = ""
    """The table that a foreign key refers to; empty for a unique constraint."""
    referred_columns: tuple[str, ...] = ()
    on_delete: Literal["", "cascade", "set null"] = ""
    """What happens to a row when the row that it refers to is deleted; empty: the delete is refused."""
    set_null: tuple[str, ...] = ()
    """The columns that then become NULL, if not all do."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A way to store a source's tables in Postgres."""

    name: str
    map_table: MapTable
    migrations: str = ""
    """The folder under ``sql/profiles/`` that makes the tables; empty: only the tables of the sources exist."""
    constraints: tuple[Constraint, ...] = ()
    """The same as ``constraints.sql`` in that folder, which is run after a cutover: a test holds the two equal."""
    derived: frozenset[str] = frozenset()
    """Virtual tables of which the program makes the data out of its other tables, and Postgres its own."""
