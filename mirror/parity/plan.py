"""How one table is read: its mapping, its definition in the source, and the common order of its keys.

A table is compared chunk by chunk where a range of keys means the same rows on both sides. SQLite
orders by storage class (numbers, text, blobs) and collation; Postgres by type. Each
:class:`KeyColumn` has the Postgres expressions that sort as SQLite does:

================ =====================================================================
type             expressions
================ =====================================================================
bigint, double   the column
precision,
numeric, boolean
bytea            the column
text             the column in byte order; folded first for NOCASE and RTRIM
jsonb            rank of the storage class, number, bytes of the text, blob
================ =====================================================================

A column of an application's own table (see :mod:`mirror.parity.adopted`) has such an order where its values have that
of SQLite's: integers, text in byte order, bytes, and uuids that SQLite has in one form. If a key has another form after
all, the table is read as a whole.

Where no such expression exists (text of a UTF-16 database, other collations, mixed directions) the
table is read as a whole, with the reason in :attr:`Plan.unordered`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import LiteralString, NamedTuple

from mirror.core.adopted import form_of_codec, is_adopted
from mirror.parity.values import Cell, Cells

#: The types that a mirrored column may have.
KNOWN_TYPES = frozenset({"bigint", "double precision", "text", "bytea", "boolean", "numeric", "jsonb"})

#: The codecs of columns of other types, see :mod:`mirror.parity.typed` and :mod:`mirror.parity.originals`.
KNOWN_CODECS = frozenset({"time", "millis", "json", "vector", "document", "escaped", "bytes", "moment"})

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER_CASE = str.maketrans(_UPPER, _UPPER.lower())

# In the collation "C" lower() folds ASCII only, as NOCASE does; and it is much faster than translate().
_FOLDED: LiteralString = 'lower({c} COLLATE "C")'
_TRIMMED: LiteralString = "rtrim({c}, ' ') COLLATE \"C\""

_BOUND_TYPES: dict[str, LiteralString] = {
    "bigint": "int8",
    "double precision": "float8",
    "numeric": "numeric",
    "boolean": "bool",
    "bytea": "bytea",
    "uuid": "uuid",
}

_JSONB_ORDER: tuple[tuple[LiteralString, LiteralString], ...] = (
    (
        "(CASE jsonb_typeof({c}) WHEN 'number' THEN 1 WHEN 'string' THEN 2"
        " ELSE CASE WHEN {c} ? 'real' THEN 1 WHEN {c} ? 'utf8' THEN 2 ELSE 3 END END)",
        "int4",
    ),
    (
        "(CASE WHEN jsonb_typeof({c}) = 'number' THEN ({c} #>> '{{}}')::numeric"
        " WHEN {c} ->> 'real' IN ('-0.0', 'Infinity', '-Infinity') THEN ({c} ->> 'real')::numeric"
        " ELSE 0 END)",
        "numeric",
    ),
    # In bytes, because text with NUL is kept in them.
    (
        "(CASE WHEN jsonb_typeof({c}) = 'string' THEN convert_to({c} #>> '{{}}', 'UTF8')"
        " WHEN {c} ? 'utf8' THEN decode({c} ->> 'utf8', 'base64') ELSE '' END)",
        "bytea",
    ),
    ("coalesce(decode({c} ->> 'blob', 'base64'), '')", "bytea"),
)


class MappedColumn(NamedTuple):
    """One column as the mirror stores it."""

    source: str
    """Its name in the source."""
    name: str
    """Its name in Postgres."""
    pg_type: str
    codec: str = ""
    """How a column of a fixed type stores SQLite's values; empty or ``strict``: as the generic mapping does."""


_ROWID = MappedColumn("", "_rowid", "bigint")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One row of ``mirror.tables``."""

    source_table: str
    target_schema: str
    target_table: str
    columns: tuple[MappedColumn, ...]
    """In the order of the source's columns."""
    key: tuple[str, ...] | None
    """Postgres names; None: the extra column ``_rowid``."""
    agent: str | None = None
    """The agent that owns the source's rows, in a table that other agents have rows in."""
    omitted: tuple[str, ...] = ()
    """Columns of the source that a rule leaves out."""
    virtual: str | None = None
    """The virtual table of the source of which it has the data."""
    form: str = ""
    """As in :data:`mirror.parity.proof.FORMS`."""

    @property
    def adopted(self) -> bool:
        """Whether the table is an application's own: canonical values are compared (:mod:`mirror.parity.adopted`)."""
        return any(is_adopted(column.codec) for column in self.columns)


@dataclass(frozen=True, slots=True)
class SourceKey:
    """One column of the source's primary-key index."""

    name: str
    collation: str
    """In upper case; of the index, which may differ from the column's."""
    descending: bool
    own_collation: bool
    """Whether the column itself has that collation, so that it need not be written."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One table of the source as its schema declares it."""

    columns: tuple[str, ...]
    """In declared order, except those of ``left_out``."""
    rowid: str | None
    """A name of the rowid that no column hides; None if there is no such name, and for a WITHOUT ROWID table."""
    key: tuple[SourceKey, ...]
    """The primary key in index order; empty without one and for an INTEGER PRIMARY KEY."""
    integer_key: str | None
    """The INTEGER PRIMARY KEY column."""
    left_out: tuple[str, ...] = ()
    """Virtual generated columns that only the source's program can compute."""
    generated: tuple[str, ...] = ()
    """All other generated columns."""
    unique: tuple[tuple[SourceKey, ...], ...] = ()
    """The columns of each unique index of whole columns and all rows, the primary key's too."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One key column of a common order."""

    name: str
    pg_type: str
    collation: str
    write_collation: bool

    def fits(self, value: object) -> bool:
        """Whether Postgres can hold this value in this key column (a row with another value is not in Postgres)."""
        match value:
            case int():
                return self.pg_type in ("bigint", "numeric", "jsonb") or (self.pg_type == "boolean" and value in (0, 1))
            case float():
                return self.pg_type in ("double precision", "numeric", "jsonb")
            case str():
                return self.pg_type in ("jsonb", "uuid") or (self.pg_type == "text" and "\0" not in value)
            case bytes():
                return self.pg_type in ("bytea", "jsonb")
            case _:
                return False

    def order(self, *, bytewise: bool) -> tuple[tuple[LiteralString, LiteralString], ...]:
        """Postgres expressions (``{c}`` is the column) and the types of their bounds.

        ``bytewise``: Postgres orders the column by bytes by default.
        """
        match self.pg_type:
            case "text" if self.collation == "NOCASE":
                return ((_FOLDED, "text"),)
            case "text" if self.collation == "RTRIM":
                return ((_TRIMMED, "text"),)
            case "text":
                return (("{c}" if bytewise else '{c} COLLATE "C"', "text"),)
            case "jsonb":
                return _JSONB_ORDER
            case other:
                return (("{c}", _BOUND_TYPES[other]),)

    def bound(self, value: Cell) -> tuple[object, ...]:
        """A value that fits, as parameters for the expressions of :meth:`order`."""
        match self.pg_type:
            case "text" if isinstance(value, str):
                if self.collation == "NOCASE":
                    return (value.translate(_LOWER_CASE),)
                return (value.rstrip(" ") if self.collation == "RTRIM" else value,)
            case "boolean":
                return (bool(value),)
            case "numeric":
                return (Decimal(repr(value)),)
            case "jsonb":
                if isinstance(value, str):
                    return (2, Decimal(0), value.encode(), b"")
                if isinstance(value, bytes):
                    return (3, Decimal(0), b"", value)
                return (1, _decimal(value), b"", b"")
            case _:
                return (value,)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read one table on both sides, and in which order."""

    mapping: Mapping
    shape: Shape
    order: tuple[KeyColumn, ...]
    """The common order of the keys; empty when there is none."""
    unordered: str
    """Why there is no common order."""

    @property
    def key_positions(self) -> tuple[int, ...]:
        """Indexes of the key in a row; the rowid, where it is the key, is the row's first value."""
        if self.mapping.key is None:
            return (0,)
        names = [column.name for column in self.mapping.columns]
        return tuple(names.index(name) for name in self.mapping.key)

    @property
    def row_columns(self) -> tuple[MappedColumn, ...]:
        """The columns of a row's values, in order."""
        if self.mapping.key is None:
            return (_ROWID, *self.mapping.columns)
        return self.mapping.columns

    @property
    def adopted(self) -> bool:
        """Whether the table is an application's own: canonical values are compared (:mod:`mirror.parity.adopted`)."""
        return self.mapping.adopted

    @property
    def skips_null_keys(self) -> bool:
        """Whether rows with NULL in their key are not read: among several agents' rows they are always rejected."""
        return self.mapping.agent is not None and self.mapping.key is not None

    @property
    def key_sources(self) -> tuple[str, ...]:
        """The source's names of the key columns; empty where the rowid is the key."""
        names = {column.name: column.source for column in self.mapping.columns}
        return tuple(names[name] for name in self.mapping.key or ())

    def without_order(self, reason: str) -> Plan:
        """The same plan for a table that must be read as a whole."""
        return replace(self, order=(), unordered=reason)

    def fits(self, key: Sequence[object]) -> bool:
        """Whether Postgres can hold a row with this key."""
        return all(column.fits(value) for column, value in zip(self.order, key, strict=True))


def computed(mapping: Mapping, shape: Shape) -> tuple[str, ...]:
    """Generated columns that an application's own table has, too: Postgres computes them, and nothing is written."""
    mirrored = {column.source for column in mapping.columns}
    return tuple(name for name in shape.generated if mapping.adopted and name not in mirrored)


def obstacle(mapping: Mapping, shape: Shape) -> str:
    """Why the source's table is not what the mirror stores; empty when it is."""
    mirrored = tuple(column.source for column in mapping.columns)
    skipped = {*mapping.omitted, *computed(mapping, shape)}
    wanted = tuple(name for name in shape.columns if name not in skipped)
    if mirrored == wanted:
        return ""
    absent = [name for name in wanted if name not in mirrored]
    surplus = [name for name in mirrored if name not in wanted]
    if absent or surplus:
        parts = [f"not mirrored: {', '.join(absent)}"] if absent else []
        parts += [f"not in the source: {', '.join(surplus)}"] if surplus else []
        return f"columns differ ({'; '.join(parts)})"
    return "columns differ (another order)"


def unreadable(mapping: Mapping, shape: Shape) -> str:
    """Why rows of this table cannot be compared; empty when they can."""
    kinds = {(column.codec or column.pg_type, column.pg_type) for column in mapping.columns}
    unknown = sorted(
        kind for codec, kind in kinds if codec not in KNOWN_CODECS and kind not in KNOWN_TYPES and not is_adopted(codec)
    )
    if unknown:
        return f"unknown column type {', '.join(unknown)}"
    if mapping.key is None:
        return "" if shape.rowid is not None else "every name of the rowid is taken by a column"
    names = {column.name for column in mapping.columns}
    outside = [name for name in mapping.key if name not in names]
    return f"key column {', '.join(outside)} is not mirrored" if outside else ""


def make_plan(mapping: Mapping, shape: Shape, *, bytewise_text: bool) -> Plan:
    """Plan the comparison of a table; ``bytewise_text``: both databases keep text as UTF-8."""
    if mapping.key is None and shape.rowid is not None:
        rowid = KeyColumn(shape.rowid, "bigint", "BINARY", write_collation=False)
        return Plan(mapping, shape, (rowid,), "")
    held = {column.name: column for column in mapping.columns}
    key = [held[name] for name in mapping.key or ()]
    names = tuple(column.source for column in key)
    if shape.integer_key is not None and names == (shape.integer_key,):
        column = KeyColumn(names[0], _ordered_as(key[0]), "BINARY", write_collation=False)
        reason = _no_order((column,), bytewise_text=True)
        return Plan(mapping, shape, () if reason else (column,), reason)
    adopted = is_adopted(key[0].codec) if key else False
    indexed = shape.key
    if adopted and names != tuple(part.name for part in indexed):
        indexed = next((index for index in shape.unique if names == tuple(part.name for part in index)), indexed)
    if names != tuple(part.name for part in indexed):
        return Plan(mapping, shape, (), "the mirror's key is not the source's primary key")
    order = tuple(
        KeyColumn(part.name, _ordered_as(column), part.collation, not part.own_collation)
        for part, column in zip(indexed, key, strict=True)
    )
    reason = _no_order(order, bytewise_text=bytewise_text)
    if not reason and len({part.descending for part in indexed}) > 1:
        reason = "the key mixes ascending and descending columns"
    return Plan(mapping, shape, () if reason else order, reason)


def _ordered_as(column: MappedColumn) -> str:
    """The type in the table of the module of which a key column has the order; empty: none."""
    if not is_adopted(column.codec):
        return column.pg_type
    form = form_of_codec(column.codec)
    match form.kind:
        case "int2" | "int4" | "int8":
            return "bigint"
        case "text" | "varchar":
            return "text"
        case "bytea":
            return "bytea"
        case "uuid" if form.only:
            return "uuid"
        case _:
            return ""


def _no_order(key: tuple[KeyColumn, ...], *, bytewise_text: bool) -> str:
    for column in key:
        if not column.pg_type:
            return f"{column.name} has another order in Postgres"
        if column.pg_type not in ("text", "jsonb", "uuid"):
            continue
        if not bytewise_text and column.pg_type != "uuid":
            return f"text of {column.name} is not UTF-8 on both sides"
        if column.collation not in ("BINARY", "NOCASE", "RTRIM"):
            return f"{column.name} has the collation {column.collation}"
        if column.collation != "BINARY" and column.pg_type == "jsonb":
            return f"{column.name} mixes types and has the collation {column.collation}"
    return ""


def _decimal(value: Cell) -> Decimal:
    # As the encoding writes numbers: whole doubles below 1e19 digit by digit, others in shortest form.
    # Postgres compares with those numbers, so the bound must be the same number.
    if isinstance(value, float) and not (value.is_integer() and abs(value) < 1e19):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int | float) else Decimal(0)


def key_of(row: Cells, positions: tuple[int, ...]) -> Cells:
    """The key of a row."""
    return tuple(row[position] for position in positions)
