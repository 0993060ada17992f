"""The values that the stages hand to each other: frozen, without I/O.

Every stage imports this module and :mod:`mirror.errors` and nothing of its neighbours;
:mod:`mirror.pipeline` alone wires them together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

#: Called with the names of places where a kill is of interest.
Faults = Callable[[str], None]


def no_fault(name: str) -> None:
    """The fault seam of everyday: no kill."""


@dataclass(frozen=True, slots=True, order=True)
class Lsn:
    """A position in the history of one source: ``(generation, frame)``.

    ``generation`` counts WAL resets and re-diffs since the mirror first saw the source, ``frame``
    is the WAL frame number (1-based) of the last commit frame at or before the position; 0 is the
    start of a generation. Positions of one source are totally ordered and never go back.
    """

    generation: int
    frame: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.frame}"

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Turn ``"12:345"`` into a position; raises ``ValueError`` for any other form."""
        generation, colon, frame = text.partition(":")
        if not (colon and generation.isdecimal() and frame.isdecimal()):
            raise ValueError(f"not a position (generation:frame): {text!r}")
        return cls(int(generation), int(frame))


class Salts(NamedTuple):
    """The two salt values of a WAL generation (WAL header bytes 16..23, big-endian)."""

    salt1: int
    salt2: int


@dataclass(frozen=True, slots=True)
class BadText:
    """A TEXT value whose bytes are not valid in the database's encoding."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Uncomputed:
    """A virtual generated column's value where its expression fails, so that SQLite cannot read the row either."""

    error: str


Affinity = Literal["INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC"]

#: One SQLite value as the decoder gives it.
Value = None | int | float | str | bytes | BadText | Uncomputed

#: One row: the values in the order of :attr:`Table.columns`.
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a source table."""

    name: str
    declared_type: str
    """The type as written in CREATE TABLE, ``""`` when there is none."""
    affinity: Affinity
    """SQLite's affinity of the declared type (https://sqlite.org/datatype3.html, 3.1)."""
    not_null: bool = False
    default: Value = None
    """The value of this column in records written before ADD COLUMN added it."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the source, as its schema declares it at some position."""

    name: str
    root: int
    """Page number of the root of the table's b-tree."""
    columns: tuple[Column, ...]
    """In declared order; virtual generated columns too, but for those of :attr:`left_out`."""
    primary_key: tuple[str, ...]
    """Names of the declared primary key's columns in key order; empty when there is none."""
    rowid_alias: str | None
    """The INTEGER PRIMARY KEY column that stands for the rowid, if there is one."""
    without_rowid: bool
    storage: tuple[int, ...]
    """Indexes into ``columns`` in the order in which records store them; virtual columns are not stored."""
    collations: tuple[str, ...] = ()
    """WITHOUT ROWID only: collation of each primary-key column, in key order."""
    definition: str = ""
    """The CREATE statement, if ``columns`` has virtual ones: it says how to compute them."""
    left_out: tuple[str, ...] = ()
    """Virtual columns that only the source's program can compute."""

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
        )


class RowChange(NamedTuple):
    """What a batch did to one row: inserted (no before), deleted (no after) or updated (both)."""

    rowid: int | None
    """None for WITHOUT ROWID tables."""
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What a batch did to one table's definition.

    ``create``: only ``after``. ``drop``: only ``before``. ``rename``: the name alone differs.
    ``columns``: columns were renamed, dropped, or added at the end, see ``carried``; rows that the batch
    did not touch show the new columns' defaults, and the befores of the others have the columns of ``after``.
    ``rebuild``: anything else; the batch's :class:`TableChanges` of this table then hold *all* rows of
    ``after`` as inserts.
    """

    kind: Literal["create", "drop", "rename", "columns", "rebuild"]
    before: Table | None
    after: Table | None
    carried: tuple[int | None, ...] = ()
    """``columns``: for each column of ``after`` its index in ``before``, None for a new one."""


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The row changes of one table in one batch.

    Because both sides of the comparison are states that SQLite committed, each key stands at most
    once among the befores and at most once among the afters. ``rows`` can be read once.
    """

    table: Table
    rows: Iterator[RowChange]


@dataclass(frozen=True, slots=True)
class Position:
    """A commit of the source, with what proves that a WAL continues it."""

    lsn: Lsn
    salts: Salts
    committed_at: float
    """When capture saw the commit (seconds since the epoch)."""

    def is_same(self, other: Position) -> bool:
        """Whether both name one commit, not two that were given the same number because a power cut took the first.

        The time tells them apart, to the microsecond that Postgres keeps of it.
        """
        return self.lsn == other.lsn and abs(self.committed_at - other.committed_at) < 2e-6


@dataclass(frozen=True, slots=True)
class Batch:
    """One or more whole source commits, to be applied in one Postgres transaction."""

    position: Position
    commits: int
    schema_changes: tuple[SchemaChange, ...]
    tables: Iterable[TableChanges]


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Where one column of the source goes in Postgres."""

    name: str
    pg_type: str
    """bigint, double precision, text, bytea, boolean, numeric, jsonb; with a codec also a time or ``vector``."""
    not_null: bool = False
    codec: str = ""
    """Empty: by the type alone, and jsonb should a value not fit. Else its type is fixed: see postgres/typed.py."""


@dataclass(frozen=True, slots=True)
class TableMapping:
    """How one source table is held in Postgres."""

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
    """A profile's function: how is this table held in Postgres?"""

    def __call__(
        self,
        table: Table,
        schema: str,
        *,
        jsonb_columns: Collection[str] = ...,
        rowid_key: bool = ...,
        tenant: bool = ...,
    ) -> TableMapping:
        """See :func:`mirror.profiles.generic.map_table`."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What SQLite enforces while it is written, and Postgres has to from the day that it is written itself."""

    table: str
    name: str
    columns: tuple[str, ...]
    referred: str = ""
    """The table that a foreign key refers to; empty for a unique constraint."""
    referred_columns: tuple[str, ...] = ()
    on_delete: Literal["", "cascade", "set null"] = ""
    """What becomes of a row whose referred row is deleted; empty: that is refused."""
    set_null: tuple[str, ...] = ()
    """The columns that then become NULL, where not all do."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A way to hold a source's tables in Postgres."""

    name: str
    map_table: MapTable
    migrations: str = ""
    """The folder under ``sql/`` that makes the tables; empty: there are none but those of the sources."""
    constraints: tuple[Constraint, ...] = ()
    """Those of ``constraints.sql`` in that folder, which is for the day after: a test holds the two equal."""


@dataclass(frozen=True, slots=True)
class TableResult:
    """How many rows of one table a transaction wrote, removed and rejected."""

    table: str
    upserted: int
    deleted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One row of which hook and WAL tell different things, as ``mirror.discrepancies`` has it."""

    generation: int
    frame: int
    """With ``generation``: the position up to which both were compared."""
    source_table: str
    key: str
    kind: Literal["only the WAL", "only the hook", "different"]
    wal: str | None
    """The row afterwards, as JSON; None: deleted."""
    hook: str | None
    writer: str


@dataclass(slots=True)
class Writes:
    """What one process committed for one agent in about a second, as ``mirror.writes`` has it."""

    first_at: float
    last_at: float
    first_generation: int
    first_frame: int
    """With ``first_generation``: the position behind which the first of the commits was made."""
    last_generation: int
    last_frame: int
    commits: int
    agent: str | None
    pid: int
    program: str
