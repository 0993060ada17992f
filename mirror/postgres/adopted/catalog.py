"""Reads an application's tables from the catalogue of Postgres. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from psycopg.sql import SQL, Identifier

from mirror.postgres.adopted.found import Check, ForeignKey, FoundColumn, FoundTable, FoundType, UniqueKey
from mirror.postgres.adopted.full_names import in_full
from mirror.postgres.kept import COUNTED_BYTES
from mirror.postgres.migrate import statement
from mirror.postgres.row_security import Secured, secured
from mirror.postgres.target import Conn


class _Type(NamedTuple):
    """A row of ``adopted_types.sql``."""

    oid: int
    name: str
    schema: str
    kind: str
    base: int
    typmod: int
    element: int
    labels: list[str]
    not_null: bool
    checks: list[str]
    sql: str


def read_tables(conn: Conn, schema: str, *, count: bool = True) -> dict[str, FoundTable]:
    """The tables of a schema by name, without those that mirrors have made. Raises psycopg's errors.

    ``conn``: with the mirror's settings (:func:`mirror.postgres.sessions.connect`, raw). ``count``: the rows of small
    tables are counted.
    """
    rows = in_full(conn, statement("adopted_tables"), (schema,))
    used = sorted({column["type"] for row in rows for column in row[6]})
    types = _read_types(conn, used)
    own = _mirrors_own(conn, schema)
    policies = {each.name: each for each in secured(conn, [(schema, row[0]) for row in rows])}
    return {
        row[0]: _table(conn, schema, row, types, policies.get(row[0]), count=count) for row in rows if row[0] not in own
    }


def _mirrors_own(conn: Conn, schema: str) -> frozenset[str]:
    """The tables of the schema that a mirror fills already and has made itself."""
    if conn.execute("SELECT to_regclass('mirror.tables') IS NULL").fetchone() == (True,):
        return frozenset()
    found = conn.execute(
        "SELECT target_table FROM mirror.tables WHERE target_schema = $1::text AND columns::text NOT LIKE $2::text",
        (schema, '%"codec": "adopted %'),
    )
    return frozenset(str(name) for (name,) in found.fetchall())


def _read_types(conn: Conn, oids: Iterable[int]) -> dict[int, _Type]:
    listed = "{" + ",".join(map(str, oids)) + "}"
    return {row[0]: _Type(*row) for row in in_full(conn, statement("adopted_types"), (listed,))}


def _table(
    conn: Conn,
    schema: str,
    row: tuple[Any, ...],
    types: Mapping[int, _Type],
    policies: Secured | None,
    *,
    count: bool,
) -> FoundTable:
    name, partitioned, inherited, excludes, estimate, size, columns, uniques, refs, checks, triggers = row
    return FoundTable(
        schema,
        name,
        tuple(_column(column, types) for column in columns),
        tuple(
            UniqueKey(
                key["name"],
                tuple(key["columns"]),
                key["primary"],
                key["immediate"],
                key["nulls_equal"],
                key["condition"] or "",
            )
            for key in uniques
        ),
        tuple(
            ForeignKey(
                ref["name"],
                tuple(ref["columns"]),
                ref["schema"],
                ref["referred"],
                tuple(ref["referred_columns"]),
                ref["deferrable"],
                ref["deferred"],
                ref["validated"],
                ref["definition"],
            )
            for ref in refs
        ),
        tuple(Check(check, expression, tuple(names)) for check, expression, names in checks),
        tuple(triggers),
        partitioned,
        inherited,
        excludes,
        _rows(conn, schema, name, estimate, size) if count and policies is None else None,
        policies,
    )


def _rows(conn: Conn, schema: str, name: str, estimate: int, size: int) -> int | None:
    """How many rows a table has; of a large one Postgres' estimate, None where it has none."""
    if size > COUNTED_BYTES:
        return estimate if estimate >= 0 else None
    found = conn.execute(SQL("SELECT count(*) FROM {}").format(Identifier(schema, name))).fetchone()
    return 0 if found is None else int(found[0])


def _column(column: Mapping[str, Any], types: Mapping[int, _Type]) -> FoundColumn:
    own = types[column["type"]]
    return FoundColumn(
        column["name"],
        _type(column["type"], column["typmod"], types),
        column["not_null"] or _is_required(own, types),
        column["default"],
        column["generated"],
        column["identity"],
        bool(column["by_bytes"]),
        column["sequence"] or "",
    )


def _is_required(own: _Type, types: Mapping[int, _Type]) -> bool:
    """Whether a domain, or one that it is of, takes no NULL."""
    return own.not_null or (own.base != 0 and _is_required(types[own.base], types))


def _type(oid: int, typmod: int, types: Mapping[int, _Type]) -> FoundType:
    sql, own = types[oid].sql, types[oid]
    checks: list[str] = []
    while own.base:  # the limits of a domain are those that it names, or else of the domain that it is of
        checks += own.checks
        typmod = own.typmod if typmod < 0 else typmod
        own = types[own.base]
    element = _type(own.element, typmod, types) if own.element else None  # its elements have the limits of an array
    return FoundType(own.oid, own.name, sql, own.sql, typmod, tuple(own.labels), element, tuple(checks))
