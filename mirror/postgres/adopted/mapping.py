"""Which columns of an application's own table the columns of a source's table go to, and what their values become.

Pure: what Postgres has, what the source declares and what was decided, in; a mapping, or what keeps it from being one,
out. Names are found exactly, or else in other letters if only one is alike.

The key by which rows are found is the first of these: the primary key of the table in Postgres, another unique key of
it that is NOT NULL, the source's rowid (in an extra column ``_rowid``, as scaffolding). A key of Postgres is taken only
where the source has the same columns unique: else two of its rows would become one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from mirror.core.adopted import INTEGERS, MANY_FORMS, Form, Kind
from mirror.core.rules import folded
from mirror.core.tables import ColumnMapping, Table, TableMapping
from mirror.postgres.adopted.decisions import Decisions, of_name
from mirror.postgres.adopted.found import FoundTable, FoundType
from mirror.postgres.profiles.generic import ORIGINAL
from mirror.postgres.target import ROWID

#: The kind of each type that has a fixed number (``pg_type.dat`` of Postgres' sources).
KINDS: Mapping[int, Kind] = {
    16: "boolean",
    17: "bytea",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    114: "json",
    650: "cidr",
    700: "float4",
    701: "float8",
    869: "inet",
    1042: "char",
    1043: "varchar",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}
#: Types of extensions, which have no number of their own, by name.
_OF_EXTENSIONS: Mapping[str, Kind] = {"citext": "citext", "vector": "vector", "halfvec": "halfvec"}
#: Kinds in which numbers are times, so that they have a unit.
TIMES: frozenset[Kind] = frozenset(("timestamptz", "timestamp", "date"))
#: Kinds with a zone for what has no offset.
_ZONED = TIMES
#: Kinds that keep some digits of a second.
_DIGITS = frozenset(("timestamptz", "timestamp", "time"))
_VECTORS = frozenset(("vector", "halfvec"))
#: Of an interval's limits: all its fields, and a fraction of six digits.
_ALL_FIELDS, _FULL = 0x7FFF, 0xFFFF
#: What the mirror adds to a table of the application's, and takes away in the end.
_SCAFFOLDING = frozenset((ROWID, ORIGINAL))

Level = Literal["blocker", "question", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a table from being adopted, or must be known before."""

    level: Level
    table: str
    """Of the source, or, where it has none of this name, of Postgres."""
    column: str
    """Empty: the table as a whole."""
    detail: str
    next_step: str = ""


@dataclass(slots=True)
class Mapped:
    """How one table of the source goes into one of Postgres."""

    mapping: TableMapping | None
    """None: it cannot be mirrored, for one of the problems."""
    problems: list[Problem] = field(default_factory=list)
    only_in_postgres: tuple[str, ...] = ()
    """Columns that are left to their defaults."""
    computed: tuple[str, ...] = ()
    """Columns of the source that Postgres computes itself."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which tables go together."""

    tables: dict[str, str]
    """By source table, the one in Postgres."""
    left_out: dict[str, str]
    """By source table, why it is not mirrored: ``excluded`` or ``kept``."""
    only_in_source: tuple[str, ...]
    only_in_postgres: tuple[str, ...]
    """But for those that are left out."""
    problems: tuple[Problem, ...]


def pair_tables(source: Iterable[str], found: Collection[str], decisions: Decisions) -> Pairs:
    """Take the names of tables on both sides; return which go together."""
    tables: dict[str, str] = {}
    left_out: dict[str, str] = {}
    missing: list[str] = []
    problems: list[Problem] = []
    for name in source:
        if reason := decisions.left_out(name):
            left_out[name] = reason
        elif given := decisions.target_of(name):
            if given in found:
                tables[name] = given
            else:
                detail = f"it was mapped to {given}, and there is no such table in the schema {decisions.schema}"
                problems.append(Problem("blocker", name, "", detail, "correct --map"))
        elif (alike := _alike(name, found)) is None:
            missing.append(name)
            detail = f"Postgres has no table of this name in the schema {decisions.schema}"
            step = f"run the application's migrations there; or --map {name}=TABLE, or --exclude {name}"
            problems.append(Problem("blocker", name, "", detail, step))
        else:
            tables[name] = alike
    taken: dict[str, str] = {}
    for name, target in tables.items():
        if (other := taken.setdefault(target, name)) != name:
            detail = f"{other} and it would both go to {target}"
            problems.append(Problem("blocker", name, "", detail, f"--map {name}=TABLE, or --exclude {name}"))
    rest = tuple(sorted(name for name in found if name not in taken and not decisions.left_out(name)))
    return Pairs(tables, left_out, tuple(missing), rest, tuple(problems))


def map_table(table: Table, found: FoundTable, decisions: Decisions, uniques: Collection[Sequence[str]] = ()) -> Mapped:
    """Return how the rows of ``table`` are stored in the table that Postgres has.

    ``table``: as it is read by :attr:`Decisions.rules`. ``uniques``: columns of the source's unique indexes without a
    condition or an expression; its primary key is known. They decide a key that was not decided yet.
    """
    mapped = Mapped(None)
    if found.partitioned or found.inherited:
        # What others write in a part of it is not noticed, and a DELETE reaches rows of tables that inherit from it.
        detail = "it is partitioned in Postgres" if found.partitioned else "other tables inherit from it in Postgres"
        step = f"--exclude {table.name}; or let a migration make a plain table of it, until the move is over"
        mapped.problems.append(Problem("blocker", table.name, "", f"{detail}, which is not supported", step))
    if found.secured is not None:
        mapped.problems.append(Problem("blocker", table.name, "", found.secured.detail, found.secured.next_step))
    names = _pair_columns(table, found, decisions, mapped)
    _note_the_rest(table, found, names, mapped)
    key = _key(table, found, decisions, names, uniques, mapped)
    columns: list[ColumnMapping] = []
    for column in table.columns:
        if (name := names.get(column.name)) is None:
            continue
        target = found.column(name)
        form = form_of_column(target.type, table.name, column.name, decisions)
        if form is None:
            detail = f"no value of SQLite is written as {target.type.sql} ({name} in Postgres)"
            step = f"--drop-column {table.name}.{column.name}, or --exclude {table.name}"
            mapped.problems.append(Problem("blocker", table.name, column.name, detail, step))
            continue
        if key is not None and name in key and form.kind in MANY_FORMS:
            form = replace(form, only=decisions.only_of(table.name, column.name))
        if not form.only:
            form = replace(form, written=decisions.written_of(table.name, column.name))
        columns.append(ColumnMapping(name, target.type.sql, target.not_null, form.codec))
    if not any(problem.level == "blocker" for problem in mapped.problems):
        mapped.mapping = TableMapping(table, found.schema, found.name, tuple(columns), key)
    return mapped


def _pair_columns(table: Table, found: FoundTable, decisions: Decisions, mapped: Mapped) -> dict[str, str]:
    """By source column, the one in Postgres that it is written to."""
    names: dict[str, str] = {}
    computed: list[str] = []
    there = [column.name for column in found.columns if column.name not in _SCAFFOLDING]
    dropped = {folded(name) for name in of_name(decisions.dropped, table.name) or ()}

    def block(column: str, detail: str, step: str) -> None:
        mapped.problems.append(Problem("blocker", table.name, column, detail, step))

    for column in table.columns:
        drop = f"--drop-column {table.name}.{column.name}"
        if folded(column.name) in dropped:
            block(column.name, "a column of its primary key cannot be left out", f"--exclude {table.name}")
            continue
        given = decisions.target_column(table.name, column.name)
        name = given if given in there else None if given else _alike(column.name, there)
        if name is None:
            detail = f"{found.name} in Postgres has no column {given or column.name}"
            step = f"--map {table.name}.{column.name}={found.name}.COLUMN, or {drop}"
            block(column.name, detail, step)
        elif found.column(name).generated:
            computed.append(column.name)
        elif name in names.values():
            block(column.name, f"it and another column would both go to {name}", drop)
        else:
            names[column.name] = name
    known = {folded(column.name) for column in table.declared.columns}
    for name in (*(of_name(decisions.columns, table.name) or {}), *(of_name(decisions.dropped, table.name) or ())):
        if folded(name) not in known:
            block(name, "there is no such column in the source", "correct --map or --drop-column")
    mapped.computed = tuple(computed)
    return names


def _note_the_rest(table: Table, found: FoundTable, names: Mapping[str, str], mapped: Mapped) -> None:
    """The columns that only Postgres has."""
    rest = [
        column
        for column in found.columns
        if column.name not in names.values() and not column.generated and column.name not in _SCAFFOLDING
    ]
    mapped.only_in_postgres = tuple(column.name for column in rest)
    for column in rest:
        if not column.fills_itself:
            detail = f"the column {column.name} in Postgres is NOT NULL, has no default, and the source lacks it"
            step = f"give it a default in Postgres, or --map {table.name}.COLUMN={found.name}.{column.name}"
            mapped.problems.append(Problem("blocker", table.name, column.name, detail, step))


def _key(
    table: Table,
    found: FoundTable,
    decisions: Decisions,
    names: Mapping[str, str],
    uniques: Collection[Sequence[str]],
    mapped: Mapped,
) -> tuple[str, ...] | None:
    """Postgres' names of the key's columns; None: the rowid."""
    known = [table.primary_key, *uniques] if table.primary_key else [*uniques]
    unique_there = [{names[column] for column in key} for key in known if all(column in names for column in key)]
    usable = [key for key in found.keys if any(each and each <= set(key) for each in unique_there)]
    usable = [key for key in usable if set(key) <= set(names.values())]
    if table.name in decisions.keys:  # the source's other unique keys are not known any more
        decided = decisions.keys[table.name]
        if decided is None and not table.without_rowid:
            return None
        wanted = {names.get(column) for column in decided or ()}
        usable = [key for key in found.keys if set(key) == wanted] or usable
    if usable:
        return usable[0]
    if table.without_rowid:
        have = ", ".join(" + ".join(key) for key in found.keys) or "none"
        detail = (
            f"no unique key of {found.name} in Postgres ({have}) has columns that the source has unique, and the source"
            " has no rowid, because it is WITHOUT ROWID"
        )
        step = f"add a unique key on {', '.join(table.primary_key)} in Postgres, or --exclude {table.name}"
        mapped.problems.append(Problem("blocker", table.name, "", detail, step))
    return None


def form_of_column(found: FoundType, table: str, column: str, decisions: Decisions) -> Form | None:
    """What a column of this type takes of a column of the source; None: no kind is for it."""
    form = _plain_form(found, decisions)
    if form is None:
        return None
    if form.kind in INTEGERS and decisions.rounds(table, column):
        return replace(form, scale=0)
    unit = decisions.unit_of(table, column)
    inner = form
    while inner.element is not None:
        inner = inner.element
    if unit and form.element is None and (inner.kind in TIMES or inner.kind == "interval"):
        return replace(form, unit=unit)
    return form


def _plain_form(found: FoundType, decisions: Decisions) -> Form | None:
    """The form by the type alone."""
    if found.element is not None:
        element = _plain_form(found.element, decisions)
        return (
            None
            if element is None or element.kind in _VECTORS
            else Form("array", element=element, empty_is_null=decisions.empty_is_null)
        )
    typmod, kind = found.typmod, kind_of(found)
    if kind is None:
        return None
    form = Form(kind, empty_is_null=decisions.empty_is_null)
    if kind in _ZONED:
        form = replace(form, zone=decisions.zone)
    if kind in _DIGITS and typmod >= 0:
        form = replace(form, digits=typmod)
    if kind == "interval" and typmod >= 0:
        if typmod >> 16 & _ALL_FIELDS != _ALL_FIELDS:
            return None  # only some of its fields, as in INTERVAL YEAR TO MONTH
        form = replace(form, digits=None if typmod & _FULL == _FULL else typmod & _FULL)
    if kind == "numeric":
        form = replace(form, real_digits=decisions.real_digits)
        if typmod >= 4:
            # Eleven bits with a sign, since Postgres 15.
            scale = ((typmod - 4 & 0x7FF) ^ 1024) - 1024
            form = replace(form, precision=typmod - 4 >> 16 & 0xFFFF, scale=scale)
    if kind in ("varchar", "char") and typmod >= 4:
        form = replace(form, length=typmod - 4)
    if kind in _VECTORS and typmod >= 0:
        form = replace(form, length=typmod)
    return replace(form, labels=found.labels) if kind == "enum" else form


def kind_of(found: FoundType) -> Kind | None:
    """The kind of a type; None: there is none."""
    if found.labels:
        return "enum"
    if (extension := _OF_EXTENSIONS.get(found.name)) is not None:
        return extension
    return KINDS.get(found.oid)


def _alike(name: str, names: Iterable[str]) -> str | None:
    """The name that is equal, or else the only one that is so but for capitals; None: there is none, or several."""
    listed = list(names)
    if name in listed:
        return name
    found = list(_lower(name, listed))
    return found[0] if len(found) == 1 else None


def _lower(name: str, names: Iterable[str]) -> Iterator[str]:
    wanted = name.lower()
    return (each for each in names if each.lower() == wanted)
