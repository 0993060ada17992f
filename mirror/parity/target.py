"""The Postgres side: snapshots at a known position, the mirror's catalog, ranges of rows.

Rows are fetched in binary form through a server-side cursor, so that neither a range nor a table has to fit
into memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from mirror.core.adopted import is_adopted
from mirror.core.errors import SinkError
from mirror.core.positions import Lsn
from mirror.core.rules import NO_RULES, Rules
from mirror.parity import digests
from mirror.parity.plan import MappedColumn, Mapping, Plan
from mirror.parity.proof import FORMS
from mirror.parity.selected import converters_of, identifier, selected
from mirror.parity.values import Cells

#: Rows in one round trip.
FETCH_ROWS = 4000

# row_security = off makes a policy that would hide rows an error instead of missing rows.
_BEGIN = """
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL row_security = off;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL TimeZone = 'UTC';
SET LOCAL search_path = pg_catalog
"""

_SOURCES = "SELECT source_id, path, schema_name FROM mirror.sources"

_POSITION = "SELECT generation, frame FROM mirror.sources WHERE source_id = %s"

# As for the refusals: the last columns may be missing.
_TABLES = """
SELECT t.source_table, t.target_schema, t.target_table, t.columns::text, t.key::text, s.agent_id,
       coalesce(to_jsonb(t) -> 'omitted', '[]')::text, to_jsonb(t) ->> 'virtual_table'
FROM mirror.tables t JOIN mirror.sources s USING (source_id) WHERE source_id = %s
"""

# The last column may be missing while a mirror of an earlier version still runs.
_REFUSALS = """
SELECT source_table, reason, next_step, coalesce((to_jsonb(r) ->> 'own_schema')::boolean, false)
FROM mirror.refusals r WHERE source_id = %s
"""

# Other schemas that the source's path is recorded with, and whether they are at the position of the mirror.
_ELSEWHERE = """
SELECT o.schema_name, (o.generation, o.frame) IS NOT DISTINCT FROM (%s::bigint, %s::bigint)
FROM mirror.sources o JOIN mirror.sources s USING (path)
WHERE s.source_id = %s AND o.source_id <> s.source_id
"""

#: Patterns of the tables that an adoption leaves out.
_EXCLUDED = """
    SELECT (decisions -> 'excluded' || (decisions -> 'kept'))::text FROM mirror.adoptions WHERE source_id = %s
"""
_REJECTED = """
SELECT DISTINCT key FROM mirror.rejects WHERE source_id = %s AND source_table = %s AND key = ANY(%s)
"""

# Which columns Postgres orders by bytes already: an explicit COLLATE "C" would hide their index.
_BYTEWISE = """
SELECT a.attname
FROM pg_attribute a
JOIN pg_class t ON t.oid = a.attrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_collation c ON c.oid = a.attcollation
JOIN pg_database d ON d.datname = current_database()
WHERE n.nspname = %s AND t.relname = %s AND a.attnum > 0
  AND (c.collname IN ('C', 'POSIX') OR c.collprovider = 'b'
    OR (c.collprovider = 'd'
        AND (d.datlocprovider = 'b' OR (d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX')))))
"""

# The types as the mirror names them: without modifiers (-1: bpchar, for which SQL's name has one), and pgvector's
# without its schema.
_COLUMNS = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, -1), a.attnotnull
FROM pg_attribute a
JOIN pg_class t ON t.oid = a.attrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = %s AND t.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""

_VECTORS = """
SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""

#: A part of a type's name, with quotes or without; the brackets of an array are one, too.
_PARTS = re.compile(r'"((?:[^"]|"")+)"|([^".\[]+|\[\])')

#: Alias of a table in a query.
_ROW = "mirror_row"


@dataclass(frozen=True, slots=True)
class Range:
    """Keys to read: after ``lower``, up to and including ``upper``; None: no bound."""

    lower: Cells | None
    upper: Cells | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Postgres does not take a table as it is."""

    reason: str
    next_step: str
    own_schema: bool
    """Whether a schema of its own for the source helps."""


class Target:
    """One source's tables in Postgres. The connection must be idle, and is left idle."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._source_id: Any = None
        self._vectors: str | None = None
        self._nullable: dict[tuple[str, str], list[str]] = {}
        """Columns of a table's key that may be NULL, because they were altered by hand."""
        self._bytewise: dict[tuple[str, str], frozenset[str]] = {}

    @contextmanager
    def connected(self, source: Path, schema: str) -> Iterator[None]:
        """Use the connection for one source; raises :class:`SinkError` where that is not possible."""
        if self._conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            raise SinkError("compare with Postgres", schema, "the connection is not idle")
        autocommit = self._conn.autocommit
        self._conn.autocommit = True
        try:
            self._source_id = self._find(source, schema)
            self._vectors = next((row[0] for row in self._query(_VECTORS, ())), None)
            yield
        finally:
            self.end()
            if not self._conn.closed:
                self._conn.autocommit = autocommit

    def _find(self, source: Path, schema: str) -> Any:
        known = [row for row in self._query(_SOURCES, ()) if Path(row[1]).resolve() == source]
        found = [source_id for source_id, _, name in known if name == schema]
        if len(found) == 1:
            return found[0]
        problem = "no mirror of this source is recorded" if not found else "several mirrors are recorded"
        others = sorted(name for _, _, name in known if name != schema)
        step = "start it with this schema: mirror up --schema"
        if others and not found:
            problem += " for this schema"
            step = f"it is mirrored into {', '.join(others)}: say --schema {others[0]}"
        raise SinkError("find the mirror", schema, f"{problem}: {source}", next_step=step)

    @property
    def utf8(self) -> bool:
        """Whether the database keeps text as UTF-8."""
        return self._conn.info.parameter_status("server_encoding") == "UTF8"

    @property
    def gone(self) -> bool:
        """Whether the connection is lost."""
        return bool(self._conn.closed)

    def begin(self, expected: Lsn) -> None:
        """Take a snapshot and prove that it shows the state at ``expected``; raises :class:`SinkError`."""
        self._conn.execute(_BEGIN)
        rows = self._query(_POSITION, (self._source_id,))
        found = Lsn(*rows[0]) if rows else None
        if found != expected:
            others = self._query(_ELSEWHERE, (expected.generation, expected.frame, self._source_id))
            self.end()
            step = "make sure that the mirror and parity use the same Postgres, and no replica"
            if schemas := [name for name, there in others if there]:
                step = f"the mirror writes into another schema: say --schema {schemas[0]}"
            raise SinkError(
                "compare at a position",
                "mirror.sources",
                f"Postgres shows {found}, the mirror said {expected}",
                next_step=step,
            )

    def end(self) -> None:
        """End the snapshot, if there is one."""
        if self._conn.closed:
            return
        if self._conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._conn.execute("ROLLBACK")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run the block in a savepoint, so that an error in it leaves the snapshot usable."""
        with self._conn.transaction():
            yield

    def mappings(self) -> dict[str, Mapping]:
        """The mirror's tables in this snapshot by their names in the source."""
        result = {}
        forms = dict(self._query(FORMS, (self._source_id,)))
        for source_table, schema, table, columns, key, agent, omitted, virtual in self._query(
            _TABLES, (self._source_id,)
        ):
            result[source_table] = Mapping(
                source_table=source_table,
                target_schema=schema,
                target_table=table,
                # Without "source" both sides have the same name.
                columns=tuple(
                    MappedColumn(
                        column.get("source", column["name"]), column["name"], column["type"], column.get("codec", "")
                    )
                    for column in json.loads(columns)
                ),
                key=_key(key),
                agent=agent,
                omitted=tuple(json.loads(omitted)),
                virtual=virtual,
                form=forms[source_table],
            )
        return result

    def adoption(self) -> Rules:
        """What is not mirrored of a source that was adopted; no rules for one that was not."""
        if self._query("SELECT to_regclass('mirror.adoptions')", ()) == [(None,)]:
            return NO_RULES
        for (names,) in self._query(_EXCLUDED, (self._source_id,)):
            return Rules(excluded=tuple(json.loads(names)))
        return NO_RULES

    def refusals(self) -> dict[str, Refusal]:
        """The tables that Postgres does not take as they are, by source table."""
        return {table: Refusal(*rest) for table, *rest in self._query(_REFUSALS, (self._source_id,))}

    def rejected(self, table: str, keys: Collection[str]) -> set[str]:
        """Those of the keys (in the rejects' encoding) that ``mirror.rejects`` has."""
        if not keys:
            return set()
        return {row[0] for row in self._query(_REJECTED, (self._source_id, table, list(keys)))}

    def altered(self, plan: Plan) -> str:
        """How the table differs from what the mirror made; empty: not at all. Its rows may then mean something else."""
        found = self._columns(plan.mapping)
        names = [plan.row_columns[position].name for position in plan.key_positions]
        place = plan.mapping.target_schema, plan.mapping.target_table
        self._nullable[place] = [name for name in names if name in found and not found[name][1]]
        if not found:
            return "the table is missing in Postgres"
        for column in plan.row_columns:
            pg_type, _ = found.get(column.name, ("", False))
            if not pg_type:
                return f"the column {column.name} is missing in Postgres"
            if not _same_type(pg_type, column):
                return f"the column {column.name} is {pg_type} in Postgres, not {column.pg_type}"
        return ""

    def null_keys(self, plan: Plan) -> int:
        """How many rows have NULL in their key: the mirror writes no such row, and no range of keys includes one.

        To be called after :meth:`altered`.
        """
        mapping = plan.mapping
        nullable = self._nullable[mapping.target_schema, mapping.target_table]
        if not plan.order or not nullable:
            return 0
        conditions: list[sql.Composable] = [
            sql.SQL("({})").format(
                sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(identifier(name)) for name in nullable)
            )
        ]
        parameters: list[object] = []
        if mapping.agent is not None:
            conditions.append(sql.SQL("agent_id = %s"))
            parameters.append(mapping.agent)
        table = identifier(mapping.target_schema, mapping.target_table)
        query = sql.SQL("SELECT count(*) FROM {}").format(table) + _where(conditions)
        with psycopg.Cursor(self._conn, row_factory=tuple_row) as cursor:
            row = cursor.execute(query, parameters).fetchone()
        return int(row[0]) if row is not None else 0

    def _columns(self, mapping: Mapping) -> dict[str, tuple[str, bool]]:
        """The types of the table's columns, and whether they refuse NULL."""
        rows = self._query(_COLUMNS, (mapping.target_schema, mapping.target_table))
        return {name: (pg_type, not_null) for name, pg_type, not_null in rows}

    def rows(self, plan: Plan, wanted: Range, together: int = FETCH_ROWS) -> Iterator[list[Cells]]:
        """Rows of a range in the common key order (any order where there is none), in batches of ``together``."""
        query, parameters = self._select(plan, wanted)
        converters = converters_of(plan.row_columns)
        with psycopg.ServerCursor(self._conn, "mirror_parity", row_factory=tuple_row) as cursor:
            cursor.execute(query, parameters, binary=True)
            while batch := cursor.fetchmany(together):
                yield _converted(batch, converters) if converters else batch

    def digest(self, plan: Plan, wanted: Range) -> bytes:
        """The digest of the rows of a range in the common key order, which Postgres makes.

        See :mod:`~mirror.parity.digests`.
        """
        held, keys, parameters = self._range(plan, wanted)
        image = sql.SQL(" || ").join(map(self._image, plan.row_columns))
        query = sql.SQL("SELECT sha256(coalesce(string_agg({}, ''::bytea ORDER BY {}), ''::bytea))").format(image, keys)
        with psycopg.Cursor(self._conn, row_factory=tuple_row) as cursor:
            found = cursor.execute(query + held, parameters, binary=True).fetchone()
        assert found is not None
        return bytes(found[0])

    def _image(self, column: MappedColumn) -> sql.Composed:
        name, vectors = identifier(column.name), sql.Identifier(self._vectors) if self._vectors else sql.SQL("")
        return sql.SQL(digests.expression(column)).format(e=selected(column), c=name, v=vectors)

    def _query(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        # Not conn.cursor(): the connection's own factory may want other placeholders.
        with psycopg.Cursor(self._conn, row_factory=tuple_row) as cursor:
            return cursor.execute(query.encode(), parameters).fetchall()

    def _bytewise_columns(self, mapping: Mapping) -> frozenset[str]:
        place = (mapping.target_schema, mapping.target_table)
        if place not in self._bytewise:
            self._bytewise[place] = frozenset(row[0] for row in self._query(_BYTEWISE, place))
        return self._bytewise[place]

    def _select(self, plan: Plan, wanted: Range) -> tuple[sql.Composed, list[object]]:
        held, keys, parameters = self._range(plan, wanted)
        query = sql.SQL("SELECT {}").format(sql.SQL(", ").join(map(selected, plan.row_columns))) + held
        return query + sql.SQL(" ORDER BY ") + keys if plan.order else query, parameters

    def _range(self, plan: Plan, wanted: Range) -> tuple[sql.Composed, sql.Composed, list[object]]:
        """FROM and WHERE of a range, the keys to order it by, and the parameters."""
        mapping = plan.mapping
        held = sql.SQL(" FROM {} AS {}").format(
            identifier(mapping.target_schema, mapping.target_table), sql.Identifier(_ROW)
        )
        conditions: list[sql.Composable] = []
        parameters: list[object] = []
        if mapping.agent is not None:
            conditions.append(sql.SQL("agent_id = %s"))
            parameters.append(mapping.agent)
        if not plan.order:
            return held + _where(conditions), sql.Composed([]), parameters
        for name in self._nullable.get((mapping.target_schema, mapping.target_table), ()):
            conditions.append(sql.SQL("{} IS NOT NULL").format(_of_row(name)))
        bytewise = self._bytewise_columns(mapping)
        expressions: list[sql.Composable] = []
        types: list[sql.Composable] = []
        for position, column in zip(plan.key_positions, plan.order, strict=True):
            name = plan.row_columns[position].name
            for expression, bound_type in column.order(bytewise=name in bytewise):
                # Qualified: a bare name would mean the selected expression of that name, which may sort differently.
                expressions.append(sql.SQL(expression).format(c=_of_row(name)))
                types.append(sql.SQL("%s::" + bound_type))
        keys = sql.SQL(", ").join(expressions)
        marks = sql.SQL(", ").join(types)
        for operator, bound in (("> ", wanted.lower), ("<=", wanted.upper)):
            if bound is not None:
                conditions.append(sql.SQL("({}) " + operator + " ({})").format(keys, marks))
                for column, value in zip(plan.order, bound, strict=True):
                    parameters += column.bound(value)
        return held + _where(conditions), keys, parameters


def _same_type(found: str, column: MappedColumn) -> bool:
    """Whether a type is the one of a column: an adopted one may lie in any schema, and counts with it."""
    if is_adopted(column.codec):
        return _named(found) == _named(column.pg_type)
    return found.rpartition(".")[2] == column.pg_type


def _named(type_: str) -> tuple[str, ...]:
    """The parts of a type's name, without quotes."""
    return tuple(whole or quoted.replace('""', '"') for quoted, whole in _PARTS.findall(type_))


def _of_row(name: str) -> sql.Identifier:
    return sql.Identifier(_ROW, name.replace("%", "%%"))


def _where(conditions: list[sql.Composable]) -> sql.Composed:
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.Composed([])


def _key(text: str | None) -> tuple[str, ...] | None:
    names = None if text is None else json.loads(text)
    return None if names is None else tuple(names)


def _converted(rows: list[Cells], converters: list[tuple[int, Any]]) -> list[Cells]:
    columns: list[Any] = list(zip(*rows, strict=True))
    for index, convert in converters:
        columns[index] = [convert(value) for value in columns[index]]
    return list(zip(*columns, strict=True))
