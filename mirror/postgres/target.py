"""How one source table is stored in Postgres, as ``mirror.tables`` records it.

A :class:`Target` is a :class:`~mirror.core.tables.TableMapping` without the source's definition, which is
not known yet when a mirror starts.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from mirror.core.adopted import MANY_FORMS, form_of_codec, is_adopted
from mirror.core.errors import NameTakenError, RefusedError, SinkError
from mirror.core.inherited import Known
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, Table, TableMapping
from mirror.core.words import RENAME
from mirror.postgres import kinds
from mirror.postgres.migrate import statement
from mirror.postgres.names import make_way
from mirror.postgres.profiles.generic import AGENT, MAX_COLUMNS, ORIGINAL
from mirror.postgres.typed import LOSSY

#: A connection as the sink uses it: autocommit, native placeholders, plain tuples.
Conn = psycopg.Connection[tuple[Any, ...]]

#: Name of the key column of tables without a usable declared key.
ROWID = "_rowid"
#: How often a name is asked for that has just become free.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Widening:
    """That a column is jsonb because of a value, and which was the first, as far as it was seen."""

    since: float
    """Unix time."""
    was: str = ""
    """Its type in Postgres before; or, of a column that was made so, the one that it is declared with."""
    kind: str = ""
    """What the value is, without its contents."""
    value: str = ""
    """The value for people, maybe shortened."""
    key: str = ""
    """Of its row, as ``mirror.rejects`` has keys."""


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """One column: its name in the source, its name and its type in Postgres."""

    source: str
    name: str
    pg_type: str
    codec: str = ""
    widened: Widening | None = field(default=None, compare=False)
    """How it came to be jsonb; None: it is so declared, or it is not known, or it is not jsonb."""
    not_json: bool = field(default=False, compare=False)
    """Whether it is one of documents, and has had values that are none since all rows were sent."""

    @property
    def widenable(self) -> bool:
        """Whether it becomes jsonb when a value does not fit."""
        return (self.codec in ("", ANY_TEXT.codec) or self.codec in kinds.CODECS) and self.pg_type != "jsonb"

    @property
    def unique(self) -> bool:
        """Whether it is of a unique key of an adopted table, beside the table's key."""
        return is_adopted(self.codec) and form_of_codec(self.codec).unique

    @property
    def type(self) -> ColumnType:
        """Its type and its codec."""
        return ColumnType(self.pg_type, self.codec)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of one source table are."""

    source: str
    """Name of the source table."""
    schema: str
    name: str
    columns: tuple[TargetColumn, ...]
    """In the source's column order; without ``_rowid``."""
    key: tuple[str, ...] | None
    """Postgres names of the key columns, without ``agent_id``; None: the extra column ``_rowid``."""
    agent: str | None = None
    """The agent that owns the rows, in a table shared with others; None: the table is the source's alone."""
    curated: bool = False
    """Whether a migration of the profile makes the table."""
    omitted: tuple[str, ...] = ()
    """Columns of the source that a rule leaves out."""
    virtual: str | None = None
    """The virtual table of the source of which it has the data."""
    inherited: tuple[tuple[str, str], ...] = ()
    """Those of :attr:`omitted` that no rule names, with the rule that each is left out for."""

    @classmethod
    def of(cls, mapping: TableMapping, agent: str | None) -> Target:
        """Take a mapping; return the part of it that ``mirror.tables`` records."""
        columns = tuple(
            TargetColumn(column.name, held.name, held.pg_type, held.codec)
            for column, held in zip(mapping.table.columns, mapping.columns, strict=True)
        )
        table = mapping.table
        return cls(
            table.name,
            mapping.schema,
            mapping.name,
            columns,
            mapping.key,
            agent,
            mapping.curated,
            table.omitted,
            table.virtual,
            table.inherited,
        )

    def require_columns(self, table: Table) -> None:
        """Raise :class:`SinkError` if the columns of the source's definition are not those of this target."""
        if tuple(c.name for c in table.columns) != tuple(c.source for c in self.columns):
            raise SinkError("map a table", self.source, "its columns are not those stored in Postgres")

    @property
    def known(self) -> Known:
        """What is known of the source's table."""
        rules = dict(self.inherited)
        omitted = {name: rules.get(name, f"{self.source}.{name}") for name in self.omitted}
        return Known(self.source, tuple(column.source for column in self.columns), omitted)

    @property
    def jsonb_columns(self) -> frozenset[str]:
        """Source names of the columns that are jsonb, and so can have any value."""
        return frozenset(c.source for c in self.columns if c.pg_type == "jsonb" and not c.codec)

    @property
    def overrides(self) -> dict[str, ColumnType]:
        """By source column, the types that values may have made necessary."""
        return {c.source: c.type for c in self.columns if c.type in (ANY_VALUE, ANY_TEXT) or c.codec in kinds.CODECS}

    def may_be_any_text(self, column: TargetColumn) -> bool:
        """Whether a column becomes :data:`~mirror.core.tables.ANY_TEXT` for a text that it cannot hold.

        Not one of the key, of which Postgres and SQLite must agree on the order; nor one that other agents write too;
        nor one of a table that has as many columns as Postgres takes.
        """
        is_text = column.pg_type == "text" and column.codec in ("", kinds.FOUND) and self.has_room
        return is_text and self.agent is None and column.name not in (self.key or ())

    @property
    def without_kinds(self) -> bool:
        """Whether no column takes the kind of its values: other agents write the table too, or a view of the mirror
        reads it."""
        return self.agent is not None or self.virtual is not None

    @property
    def has_room(self) -> bool:
        """Whether there is, or can be, a column ``_original``."""
        width = len(self.columns) + (self.key is None) + (self.agent is not None)
        return width < MAX_COLUMNS or self.keeps_original

    @property
    def keeps_original(self) -> bool:
        """Whether there is a column ``_original``."""
        return any(c.codec in LOSSY for c in self.columns)

    @property
    def stored(self) -> tuple[tuple[str, str], ...]:
        """Name and type of the columns that are written: ``agent_id`` and ``_rowid`` first, ``_original`` last."""
        agent = () if self.agent is None else ((AGENT, "text"),)
        rowid = () if self.key is not None else ((ROWID, "bigint"),)
        original = ((ORIGINAL, "jsonb"),) if self.keeps_original else ()
        return (*agent, *rowid, *((c.name, c.pg_type) for c in self.columns), *original)

    @property
    def adopted(self) -> bool:
        """Whether the table is the application's own, and the mirror never makes, changes or drops it."""
        return any(is_adopted(column.codec) for column in self.columns)

    @property
    def unique_columns(self) -> tuple[str, ...]:
        """Postgres names of the columns of unique keys of an adopted table, beside its key."""
        return tuple(column.name for column in self.columns if column.unique)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Source names of the key's columns in an adopted table of which it is not decided how they are written.

        Two of SQLite's keys could become one there.
        """
        key = self.key or ()
        forms = ((each, form_of_codec(each.codec)) for each in self.columns if each.name in key and self.adopted)
        return tuple(each.source for each, form in forms if form.kind in MANY_FORMS and not form.only)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Postgres names of the key's columns, also ``agent_id`` and ``_rowid``."""
        own = self.key if self.key is not None else (ROWID,)
        return own if self.agent is None else (AGENT, *own)

    def with_types(self, types: Mapping[str, ColumnType]) -> Target:
        """Return this target with other types, by source column."""
        columns = (TargetColumn(c.source, c.name, *types.get(c.source, c.type)) for c in self.columns)
        return replace(self, columns=tuple(columns))


def load_targets(conn: Conn, source_id: int, agent: str | None) -> dict[str, Target]:
    """Return the targets of a source, which belongs to an agent, by the name of the source table."""
    rows = conn.execute(
        "SELECT source_table, target_schema, target_table, columns, key, curated, omitted, virtual_table, inherited"
        " FROM mirror.tables WHERE source_id = $1::bigint",
        (str(source_id),),
    )
    targets = {}
    for source, schema, name, columns, key, curated, omitted, virtual, inherited in rows:
        held = tuple(
            TargetColumn(
                c.get("source", c["name"]),
                c["name"],
                c["type"],
                c.get("codec", ""),
                Widening(**c["widened"]) if "widened" in c else None,
                c.get("not_json", False),
            )
            for c in columns
        )
        keyed = None if key is None else tuple(key)
        left_out = tuple(omitted), virtual, tuple((column, rule) for column, rule in inherited)
        targets[source] = Target(source, schema, name, held, keyed, agent, curated, *left_out)
    return targets


def save_target(conn: Conn, source_id: int, target: Target) -> None:
    """Save a target, in place of an earlier one of its source table."""
    forget_target(conn, source_id, target.source)
    columns = [
        {"name": c.name, "type": c.pg_type, "source": c.source}
        | ({"codec": c.codec} if c.codec else {})
        | ({"widened": asdict(c.widened)} if c.widened else {})
        | ({"not_json": True} if c.not_json else {})
        for c in target.columns
    ]
    conn.execute(
        statement("table_save"),
        (str(source_id), target.source, target.schema, target.name, json.dumps(columns),
         json.dumps(target.key), "t" if target.curated else "f", target.agent, json.dumps(target.omitted),
         target.virtual, json.dumps(target.inherited)),
    )  # fmt: skip


def forget_target(conn: Conn, source_id: int, source_table: str) -> None:
    """Delete the record of where a source table is stored."""
    conn.execute(
        "DELETE FROM mirror.tables WHERE source_id = $1::bigint AND source_table = $2::text",
        (str(source_id), source_table),
    )


def _reserve(conn: Conn, schema: str, name: str) -> tuple[bool, str | None]:
    """Reserve a name until the caller's transaction ends; whether that was done, and else the source that has it."""
    for _ in range(_TRIES):
        if conn.execute(statement("name_reserve"), (schema, name)).fetchone() == (True,):
            return True, None
        if (holder := conn.execute(statement("name_holder"), (schema, name)).fetchone()) is not None:
            return False, str(holder[0])
        # It has ended between the two questions.
    return False, None


def step_beside(conn: Conn, source_id: int, path: str, otherwise: str) -> str:
    """The next step where a table belongs to the source ``path``: its renaming, if that file is not there any more."""
    if Path(path).exists():
        return otherwise
    row = conn.execute("SELECT path FROM mirror.sources WHERE source_id = $1::bigint", (str(source_id),)).fetchone()
    return otherwise if row is None else f"{RENAME}{shlex.quote(path)} {shlex.quote(str(row[0]))}"


def require_free(conn: Conn, source_id: int, schema: str, name: str) -> None:
    """Raise :class:`NameTakenError`, with the owner and what to do, if ``schema.name`` is taken.

    ``source_id``: of the source that needs it. Else the name is reserved: until the caller's transaction ends, no other
    mirror creates such a table. What a mirror made and only has to have some name is renamed.
    """
    place = f"{schema}.{name}"
    reserved, holder = _reserve(conn, schema, name)
    if not reserved:
        owner = f"of another source, {holder}" if holder is not None else "of another source"
        raise NameTakenError(
            "create a table",
            place,
            f"{place} is being created at this moment for a table {owner}",
            next_step="give this source a schema of its own with --schema",
        )
    row = conn.execute(statement("target_owner"), (schema, name)).fetchone()
    owner, path = row if row is not None else (None, None)
    if owner is not None:
        raise NameTakenError(
            "create a table",
            place,
            f"{place} mirrors another source, {path}",
            next_step=step_beside(conn, source_id, str(path), "give this source a schema of its own with --schema"),
        )
    make_way(conn, schema, name)


def oid_of(conn: Conn, target: Target) -> object:
    """The oid of the table that has a target's name now, which stays when it is renamed; None: there is none."""
    place = sql.Identifier(target.schema, target.name).as_string(conn)
    row = conn.execute("SELECT to_regclass($1::text)::oid", (place,)).fetchone()
    return None if row is None else row[0]


def is_intact(conn: Conn, target: Target) -> bool | None:
    """Whether the table in Postgres still has the columns and the key of its target; None if it is gone."""
    row = conn.execute(statement("target_shape"), (target.schema, target.name)).fetchone()
    if row is None:
        return None
    types, uniques, nullable = row
    if target.adopted:
        names, kinds_ = zip(*target.stored, strict=True)
        (same,) = conn.execute(
            statement("adopted_shape"), (target.schema, target.name, list(names), list(kinds_))
        ).fetchone() or (False,)
        return bool(same) and sorted(target.key_columns) in uniques
    if set(target.key_columns) & set(nullable):
        return False
    return sorted(target.key_columns) in uniques and all(types.get(name) == kind for name, kind in target.stored)


def require_intact(conn: Conn, target: Target) -> None:
    """Raise :class:`RefusedError` if the table of a target was dropped or altered by hand."""
    if not is_intact(conn, target):
        place = f"{target.schema}.{target.name}"
        raise RefusedError("write to a table", place, f"{place} was dropped or altered by hand; it is copied again")
